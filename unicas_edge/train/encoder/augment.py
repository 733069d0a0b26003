"""What may be done to a picture in training: each change stands here once.

Cells have no up and no down, and their stain, scanner, focus and magnification vary: those are what
is changed. Functions are told how much; the transforms draw it from the global generators
(`feed.seed_all`). `views` puts them together to what each training is shown. What torchvision and
Pillow have is theirs.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torchvision.transforms import v2

from unicas_edge.core.arrays import UInt8Image

Triple = tuple[float, float, float]
Pair = tuple[float, float]

#: Optical densities (R, G, B) of haematoxylin, eosin and DAB: Ruifrok & Johnston, Anal. Quant.
#: Cytol. Histol. 2001. Papanicolaou's counterstains are not eosin; the rows only span the colours.
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


def as_tensor(tile: UInt8Image) -> Tensor:
    """Return an image [H, W, 3] uint8 as a tensor [3, H, W] uint8."""
    return torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)))


def normalise(mean: Triple, std: Triple) -> v2.Transform:
    """Return what turns uint8 [..., 3, H, W] into the float32 that an encoder takes."""
    scale = v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([scale, v2.Normalize(list(mean), list(std))])


# ---- functions of a picture and an amount -------------------------------------------------------


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    """Return an image out of focus by `sigma` pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def coarser(image: Image.Image, share: float) -> Image.Image:
    """Return an image whose sides were `share` as many pixels on the way."""
    small = (round(image.width * share), round(image.height * share))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Return what comes back of an image as JPEG of `quality`, chroma at half resolution."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def turned(image: UInt8Image, quarters: int, *, mirrored: bool) -> UInt8Image:
    """Return an image [H, W, 3] turned by quarters of a circle, then mirrored."""
    found = np.rot90(image, quarters)
    return np.ascontiguousarray(found[:, ::-1] if mirrored else found)


# ---- transforms that draw their amounts ---------------------------------------------------------


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
    """Compresses a tile [3, H, W] uint8 as JPEG (`compressed`) of a random quality."""

    def __init__(self, quality: tuple[int, int]) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, tile: Tensor) -> Tensor:
        """Return what comes back."""
        low, high = self.quality
        shown = Image.fromarray(tile.permute(1, 2, 0).contiguous().numpy())
        back = compressed(shown, int(torch.randint(low, high + 1, ())))
        return as_tensor(np.asarray(back))


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


def colours(brightness: float, contrast: float, saturation: float, hue: float, share: float) -> Any:  # noqa: ANN401
    """Return colour jitter for a `share` of the tiles; amounts are torchvision's."""
    return v2.RandomApply([v2.ColorJitter(brightness, contrast, saturation, hue)], share)
