"""Augmentation on uint8 RGB tiles, drawn from the global generators (`feed.seed_all`).

Cells have no up and no down, and their stain, scanner and magnification vary: those are what is
drawn. torchvision does the work; what it lacks, the jitter of stains, is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

Triple = tuple[float, float, float]
Pair = tuple[float, float]
Augment = Callable[[Tensor], Tensor]

#: Optical densities (R, G, B) of haematoxylin, eosin and DAB: Ruifrok & Johnston, Anal. Quant.
#: Cytol. Histol. 2001. Papanicolaou's counterstains are not eosin; the rows only span the colours.
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))

#: Rotating a square enlarged to 1 / 0.6 needs sqrt(2) / 0.6 = 2.36 of its side: 0.7 on each side.
_MARGIN = 0.7


class StainJitter(nn.Module):
    """Changes how much of each stain a tile [3, H, W] uint8 holds (Tellez et al., MedIA 2019).

    Each stain's optical density is multiplied by 1 +- `amount` and shifted by +- `shift`.
    """

    def __init__(self, amount: float = 0.15, shift: float = 0.02) -> None:
        super().__init__()
        self.amount, self.shift = amount, shift
        rows = torch.tensor(_STAINS)
        self.stains = rows / rows.norm(dim=1, keepdim=True)

    def forward(self, tile: Tensor) -> Tensor:
        """Return the tile with other amounts of stain, uint8."""
        density = -((tile.float() + 1) / 256).log()
        factor = 1 + self.amount * (2 * torch.rand(3) - 1)
        # one 3 x 3 map does it: density -> stains, scaled -> density
        mixed = torch.linalg.inv(self.stains) @ torch.diag(factor) @ self.stains
        offset = (self.shift * (2 * torch.rand(3) - 1)) @ self.stains
        changed = torch.einsum("chw,cd->dhw", density, mixed) + offset[:, None, None]
        return ((-changed).exp() * 256 - 1).round().clamp(0, 255).to(torch.uint8)


class QuarterTurn(nn.Module):
    """Turns a tile [3, H, W] by a random multiple of 90 degrees, without interpolation."""

    def forward(self, tile: Tensor) -> Tensor:
        """Return the tile, turned."""
        return torch.rot90(tile, int(torch.randint(4, ())), (1, 2))


class Jpeg(nn.Module):
    """Compresses a tile [3, H, W] uint8 as JPEG of a random quality, chroma at half resolution."""

    def __init__(self, quality: tuple[int, int]) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, tile: Tensor) -> Tensor:
        """Return what comes back."""
        low, high = self.quality
        pixels = tile.permute(1, 2, 0).contiguous().numpy()
        data = simplejpeg.encode_jpeg(pixels, int(torch.randint(low, high + 1, ())), "RGB", "420")
        return as_tensor(simplejpeg.decode_jpeg(data))


def as_tensor(tile: NDArray[np.uint8]) -> Tensor:
    """Return an image [H, W, 3] uint8 as a tensor [3, H, W] uint8."""
    return torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)))


def normalise(mean: Triple, std: Triple) -> v2.Transform:
    """Return what turns uint8 [..., 3, H, W] into the float32 that an encoder takes."""
    scale = v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([scale, v2.Normalize(list(mean), list(std))])


def colours(brightness: float, contrast: float, saturation: float, hue: float, share: float) -> Any:  # noqa: ANN401
    """Return colour jitter for a `share` of the tiles; amounts are torchvision's."""
    return v2.RandomApply([v2.ColorJitter(brightness, contrast, saturation, hue)], share)


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


class Middle(nn.Module):
    """Takes the middle `side` x `side` of an image, which goes on as its mirror image."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        """Return the middle of [3, H, W]: [3, side, side]."""
        rows, columns = (_mirrored(length, self.side) for length in image.shape[1:])
        return image[:, rows][:, :, columns]


def _mirrored(length: int, side: int) -> Tensor:
    """Return which of `length` pixels lie at `side` places around their middle, mirrored."""
    places = torch.arange(side) - side // 2 + length // 2
    folded = places % (2 * length)
    return torch.where(folded < length, folded, 2 * length - 1 - folded)
