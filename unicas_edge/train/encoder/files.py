"""Encoders in torch from checkpoints and to safetensors, under timm's keys.

What is written here, ``unicas-edge export encoder`` imports.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from unicas_edge.errors import CheckpointError
from unicas_edge.models.architectures import ARCHITECTURES, Architecture, ViT, parameter_shapes
from unicas_edge.models.checkpoint import Checkpoint, check_fit, differences, load
from unicas_edge.models.layouts import as_timm
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.loop.checkpoints import save_weights

NAME = "encoder.safetensors"


def load_encoder(
    path: Path, architecture: str = "auto"
) -> tuple[VisionTransformer, Architecture, str]:
    """Return the encoder of a checkpoint in evaluation mode, what it is, and its name.

    `CheckpointError` for a file that is no encoder of `ARCHITECTURES`, or holds NaN.
    """
    found = as_timm(load(path))
    if architecture == "auto":
        shapes = {name: parameter_shapes(kind.vit) for name, kind in ARCHITECTURES.items()}
        fits = (name for name in shapes if not differences(found.shapes, shapes[name]))
        architecture = next(fits, "")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{path}: is not one of the encoders {known}; give its name")
    kind = ARCHITECTURES[architecture]
    check_fit(found, parameter_shapes(kind.vit), architecture, "Choose another checkpoint")
    return _filled(kind.vit, found).eval(), kind, architecture


def start_from(path: Path, vit: ViT) -> VisionTransformer:
    """Return an encoder of shape `vit` with the weights of a checkpoint; else `CheckpointError`."""
    found = as_timm(load(path))
    step = "Choose a checkpoint of the configuration's encoder, or start without one"
    check_fit(found, parameter_shapes(vit), "the configuration's encoder", step)
    return _filled(vit, found)


def _filled(vit: ViT, found: Checkpoint) -> VisionTransformer:
    with torch.device("meta"):
        module = VisionTransformer(vit)
    state = {
        key: torch.from_numpy(np.require(found.read(key), requirements=["W", "O"]))
        for key in parameter_shapes(vit)
    }
    module.load_state_dict(state, strict=True, assign=True)
    return module


def save_encoder(folder: Path, module: VisionTransformer, made_by: str) -> Path:
    """Write an encoder's weights into `folder`, float32; return the file's path."""
    path = folder / NAME
    save_weights(path, module.state_dict(), {"made_by": made_by})  # two have no fixed order
    return path


def named(vit: ViT) -> str | None:
    """Return the name under which an encoder of this shape can be exported, None if none."""
    return next((name for name, kind in ARCHITECTURES.items() if kind.vit == vit), None)
