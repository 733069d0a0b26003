"""What an encoder is shown while it is trained: pictures changed as `augment` can change them.

- `crop` for pre-training: two views of a tile that the student must say the same of;
- `fine_tuning` for distillation: a tile or a cell as another slide might show it;
- `cell_view`, `tile_view` and `restained` for adaptation, where a slide that comes tomorrow has
  another stain, scanner, focus and magnification than those here.

The first two draw from the global generators, the others from the generator they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.train.encoder.augment import (
    Jpeg,
    Middle,
    Pair,
    QuarterTurn,
    StainJitter,
    blurred,
    coarser,
    colours,
    compressed,
    turned,
)

Rng = np.random.Generator

#: Rotating a square enlarged to 1 / 0.6 needs sqrt(2) / 0.6 = 2.36 of its side: 0.7 on each side.
_MARGIN = 0.7
#: How far a cell's view is enlarged, squeezed (natural logarithms) and moved (of its side).
_ZOOM, _SQUEEZE, _SHIFT = 0.35, 0.12, 0.08
#: How far hues are turned at most, radians.
_HUE = 0.5
#: The least share of a tile's side in a view: what was put into a tile must stay in it.
_TILE_SHARE = 200 / 256

#: What spoils a share of the views of adaptation, by how much.
_SPOILERS: tuple[tuple[float, Callable[[Image.Image, Any], Image.Image], Callable[[Rng], Any]], ...]
_SPOILERS = (
    (0.25, blurred, lambda rng: rng.uniform(0.3, 1.8)),
    (0.2, coarser, lambda rng: rng.uniform(0.35, 0.8)),
    (0.25, compressed, lambda rng: int(rng.integers(25, 90))),
)


def crop(size: int, scale: Pair, jitter: Any) -> v2.Transform:  # noqa: ANN401 - a transform
    """Return a pre-training crop: [3, H, W] -> [3, size, size], uint8.

    `scale` is the share of the tile's area (bicubic, antialiased); then flips, quarter turns and
    `jitter` (`colours`).
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                size, scale, interpolation=v2.InterpolationMode.BICUBIC, antialias=True
            ),
            v2.RandomHorizontalFlip(),
            QuarterTurn(),
            jitter,
        ]
    )


def fine_tuning(
    size: int, scale: Pair = (0.6, 1.6), *, quality: tuple[int, int] = (40, 95)
) -> v2.Transform:
    """Return what makes an image [3, H, W] uint8 of any size one of [3, size, size], uint8.

    Its middle, magnified by `scale` at a random angle, going on as its mirror image where it ends;
    flipped; in other stains and colours, brighter or darker; for a part of them blurred, and
    compressed as JPEG of `quality`. For cells and tiles that a head or an encoder is fitted to.
    """
    margin = int(size * _MARGIN)
    return v2.Compose(
        [
            Middle(size + 2 * margin),
            v2.RandomAffine(180, scale=scale, interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(size),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([StainJitter()], 0.8),
            colours(0.25, 0.25, 0.2, 0.04, 0.8),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 1.5))], 0.3),
            v2.RandomApply([Jpeg(quality)], 0.4),
        ]
    )


def cell_view(image: UInt8Image, size: int, rng: Rng, inner: float = 1.0) -> UInt8Image:
    """Return a cell, uint8 [size, size, 3]: enlarged or with more around it, squeezed, moved.

    `inner` is the share of the picture's sides that is the region itself. Where the picture ends
    no more can be shown, so such views are enlarged only.
    """
    height, width = image.shape[:2]
    zoom, squeeze = math.exp(rng.uniform(-_ZOOM, _ZOOM)), math.exp(rng.uniform(-_SQUEEZE, _SQUEEZE))
    wide = min(width, width * inner * zoom * squeeze)
    high = min(height, height * inner * zoom / squeeze)
    left = _placed(width, wide, rng.uniform(-_SHIFT, _SHIFT) * width * inner)
    top = _placed(height, high, rng.uniform(-_SHIFT, _SHIFT) * height * inner)
    return _spoilt(image, (left, top, left + wide, top + high), size, rng)


def tile_view(image: UInt8Image, size: int, rng: Rng, inner: float = 1.0) -> UInt8Image:
    """Return most of a tile, uint8 [size, size, 3], at 0.86 to 1.1 times its scale."""
    side = rng.uniform(_TILE_SHARE * len(image), len(image)) * inner
    left, top = (rng.uniform(0, n - side) for n in (image.shape[1], image.shape[0]))
    return _spoilt(image, (left, top, left + side, top + side), size, rng)


def _placed(whole: int, part: float, shift: float) -> float:
    return min(max(0.0, (whole - part) / 2 + shift), whole - part)


def _spoilt(
    image: UInt8Image, box: tuple[float, float, float, float], size: int, rng: Rng
) -> UInt8Image:
    """Return a box of an image, turned; for a part of them blurred, coarser, or compressed."""
    shown = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    for share, spoil, amount in _SPOILERS:
        if rng.random() < share:
            shown = spoil(shown, amount(rng))
    quarters = int(rng.integers(4))
    return turned(np.asarray(shown), quarters, mirrored=bool(rng.integers(2)))


def restained(images: Tensor, rng: Rng) -> Tensor:
    """Return uint8 [n, 3, h, w] in other stains, lamps and cameras, from untouched to wild.

    The colours of each image, or its optical densities, are mixed by a random 3 x 3 matrix near
    the identity; then contrast, brightness, gamma and noise.
    """
    n = len(images)
    strength = torch.from_numpy(rng.random((n, 1, 1))).float()

    def drawn(low: float, high: float) -> Tensor:
        return strength * torch.from_numpy(rng.uniform(low, high, (n, 1, 1))).float()

    x = images.flatten(2).float() / 255
    dense = torch.from_numpy(rng.random((n, 1, 1)) < 0.5)
    u = torch.where(dense, -x.clamp_min(0.02).log(), x)
    u = torch.bmm(_mixing(strength, rng), u)
    u = torch.where(dense, (-u.clamp_min(0)).exp(), u)
    middle = u.mean((1, 2), keepdim=True)
    u = (u - middle) * (1 + drawn(-0.2, 0.2)) + middle + drawn(-0.1, 0.1)
    u = u.clamp(1e-4, 1) ** drawn(-0.3, 0.3).exp()
    u = u + drawn(0, 0.03) * torch.from_numpy(rng.standard_normal(u.shape, np.float32))
    return (u.clamp(0, 1) * 255).round().to(torch.uint8).view_as(images)


def _mixing(strength: Tensor, rng: Rng) -> Tensor:
    """Return matrices [n, 3, 3]: hue, saturation, gains and crosstalk of the channels."""
    n, eye = len(strength), torch.eye(3)
    saturation = torch.from_numpy(rng.uniform(0.5, 1.5, (n, 1, 1))).float()
    grey = torch.full((3, 3), 1 / 3)
    crosstalk = torch.from_numpy(rng.normal(0, 0.07, (n, 3, 3))).float()
    gains = torch.diag_embed(torch.from_numpy(rng.normal(0, 0.1, (n, 3))).float())
    hues = _turned_hues(strength.flatten() * torch.from_numpy(rng.uniform(-_HUE, _HUE, n)).float())
    mixed = strength * (saturation * eye + (1 - saturation) * grey - eye + crosstalk + gains)
    return torch.bmm(eye + mixed, hues)


def _turned_hues(angles: Tensor) -> Tensor:
    """Return rotations [n, 3, 3] of colours about grey by `angles` [n] (Rodrigues' formula)."""
    c, s = (f(angles).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    grey = torch.full((3, 3), 1 / 3)
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return c * torch.eye(3) + (1 - c) * grey + s * across
