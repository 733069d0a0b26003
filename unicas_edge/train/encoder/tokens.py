"""Tokens of many tiles in torch: those of the engines up to rounding, in less time.

For training, where batches may be large; what screens is measured through its own engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.tiles.normalise import centre_crop
from unicas_edge.train.encoder.augment import normalise
from unicas_edge.train.encoder.files import load_encoder
from unicas_edge.train.encoder.model import VisionTransformer

_BATCH = 64


@dataclass(frozen=True)
class TileEncoder:
    """An encoder with its input's mean and standard deviation; `bf16` says how it multiplies."""

    module: VisionTransformer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bf16: bool = False

    @classmethod
    def load(cls, path: Path, architecture: str, *, bf16: bool = False) -> TileEncoder:
        """Return the encoder of a checkpoint; errors as `load_encoder` has them."""
        module, kind, _ = load_encoder(path, architecture)
        return cls(module, kind.mean, kind.std, bf16)

    def __call__(self, tiles: Iterable[UInt8Image]) -> Float32:
        """Return the tokens float32 [n, width] of the middles of tiles uint8 [h, w, 3]."""
        size = self.module.vit.size
        stream = (centre_crop(tile, size) for tile in tiles)
        shown = normalise(self.mean, self.std)
        found: list[Float32] = [np.empty((0, self.module.vit.out_width), np.float32)]
        while some := list(islice(stream, _BATCH)):
            pixels = torch.from_numpy(np.stack(some).transpose(0, 3, 1, 2).copy())
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, self.bf16):
                found.append(self.module(shown(pixels)).float().numpy())
        return np.concatenate(found)
