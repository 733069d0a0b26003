"""The same slide, scanned otherwise: colours, focus, JPEG, and a um/px that is stated wrongly.

What happens to a pixel alone (stain, hue, saturation, contrast, brightness, tint) is put together
in one table of colours that a tile is looked up in. Nothing here knows what a slide shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.scale import TILE, Box, scaled, window_of

Triple = tuple[float, float, float]
Matrix = tuple[Triple, Triple, Triple]
Colours = NDArray[np.floating[Any]]

#: What a row of optical densities (R, G, B) is multiplied by, as if a laboratory's dyes absorbed
#: otherwise. Not by way of Papanicolaou's dyes: those of nuclei and of the blue and pink
#: counterstains lie nearly in a plane, and to part a colour into them magnifies noise.
STAINS: dict[str, Matrix] = {
    "violet": ((0.78, 0.24, 0.02), (0.16, 0.92, 0.10), (0.00, 0.12, 0.86)),
    "green": ((1.12, -0.06, 0.14), (-0.12, 0.88, 0.24), (0.04, 0.00, 1.10)),
    "brown": ((0.84, 0.06, 0.20), (0.06, 0.90, 0.24), (0.00, 0.10, 1.12)),
}
#: points a side of the table of colours
_TABLE = 25


@dataclass(frozen=True)
class Scanner:
    """How a scanner and its laboratory differ from those that a slide was made with.

    `hue` in degrees; `brightness`, `saturation` and `contrast` are factors; `stain` is one of
    `STAINS` or a matrix that optical densities (a row R, G, B) are multiplied by; `blurred_share`
    of the tiles, as `seed` draws them, are out of focus by `blur_sigma` pixels; `quality` is JPEG's
    (None: the slide's own); cells appear `scale` times as large; `white` is what glass looks like.
    """

    hue: float = 0.0
    brightness: float = 1.0
    stain: str | Matrix | None = None
    saturation: float = 1.0
    contrast: float = 1.0
    blurred_share: float = 0.0
    blur_sigma: float = 0.0
    quality: int | None = None
    scale: float = 1.0
    white: tuple[int, int, int] = (255, 255, 255)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `TrainingError` for what no scanner does."""
        if isinstance(self.stain, str) and self.stain not in STAINS:
            raise TrainingError(f"no stain {self.stain!r}; known: {', '.join(STAINS)}")
        bounds = {
            "hue": (-180, 180),
            "brightness": (0.2, 2),
            "saturation": (0, 3),
            "contrast": (0.2, 3),
            "blurred_share": (0, 1),
            "blur_sigma": (0, 30),
            "quality": (1, 100),
            "scale": (0.5, 2),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise TrainingError(f"a scanner's {name} is {value}; give {low} to {high}")
        if min(self.white) < 128 or max(self.white) > 255 or self.seed < 0:
            raise TrainingError(f"a scanner's white is 128 to 255, its seed at least 0: {self}")

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float = 1.0) -> Scanner:
        """Return a scanner that might be; one in eight is none at all.

        `strength` 1 reaches about as far as `CHANGES` do, 0 gives the identity alone.
        """
        if rng.random() < 1 / 8 or strength <= 0:
            return cls()
        matrix = _near_identity(rng, 0.12 * strength)
        named = list(STAINS)[int(rng.integers(len(STAINS)))]
        kind = rng.random()
        low = int(np.clip(95 - 65 * strength, 20, 95))
        wide = 0.14 * strength
        return cls(
            hue=float(np.clip(rng.normal(0, 9 * strength), -25, 25)),
            brightness=float(np.clip(1 + strength * rng.uniform(-0.18, 0.1), 0.5, 1.5)),
            stain=matrix if kind < 0.5 else named if kind < 0.5 + 0.2 * min(strength, 1) else None,
            saturation=float(np.clip(1 + strength * rng.uniform(-0.35, 0.35), 0.2, 2)),
            contrast=float(np.clip(1 + strength * rng.uniform(-0.2, 0.2), 0.5, 1.6)),
            blurred_share=float(rng.uniform(0, min(1, 0.3 * strength)) if kind < 0.45 else 0.0),
            blur_sigma=float(rng.uniform(0.5, 3.5)),
            quality=int(rng.integers(low, 96)) if rng.random() < 0.6 else None,
            scale=float(math.exp(np.clip(rng.uniform(-wide, wide), -0.6, 0.6))),
            white=_glass(rng, strength),
            seed=int(rng.integers(2**31)),
        )

    @property
    def colours(self) -> Scanner | None:
        """What it does to a pixel alone, None if that is nothing."""
        alone = replace(self, blurred_share=0.0, blur_sigma=0.0, quality=None, scale=1.0, seed=0)
        return None if alone == Scanner() else alone

    def is_blurred(self, index: int) -> bool:
        """Return whether tile number `index` is one of those out of focus."""
        if not self.blurred_share or not self.blur_sigma:
            return False
        return bool(np.random.default_rng([self.seed, index]).random() < self.blurred_share)

    def placed(self, box: Box) -> Box:
        """Return where what was put into `box` of a tile is seen, cut to the tile."""
        top, left, *_ = window_of((TILE, TILE), self.scale, box)
        x, y, width, height = box
        starts = [max(0, round((v - o) * self.scale)) for v, o in ((x, left), (y, top))]
        ends = [
            min(TILE, round((v - o) * self.scale))
            for v, o in ((x + width, left), (y + height, top))
        ]
        return starts[0], starts[1], ends[0] - starts[0], ends[1] - starts[1]

    def seen(
        self,
        tile: UInt8Image,
        index: int | np.random.Generator = 0,
        box: Box | None = None,
    ) -> UInt8Image:
        """Return a tile as the scanner sees it, before JPEG, uint8 [h, w, 3].

        `index` is the tile's number on its slide, or a generator to draw one; `box` (x, y, width,
        height) is what stays inside where fewer pixels are shown (None: the middle).
        """
        if not isinstance(index, int):
            index = int(index.integers(2**31))
        if self.scale != 1:
            tile = scaled(tile, self.scale, box)
        if self.is_blurred(index):
            shown = Image.fromarray(tile).filter(ImageFilter.GaussianBlur(self.blur_sigma))
            tile = np.asarray(shown)
        colours = self.colours
        if colours is not None:
            tile = np.asarray(Image.fromarray(tile).filter(_table_of(colours)))
        return tile

    def rendered(
        self,
        tile: UInt8Image,
        index: int | np.random.Generator = 0,
        box: Box | None = None,
    ) -> UInt8Image:
        """Return a tile as `seen`, through JPEG of the scanner's quality if it has one."""
        pixels = np.ascontiguousarray(self.seen(tile, index, box))
        if self.quality is None:
            return pixels
        stream = simplejpeg.encode_jpeg(pixels, self.quality, "RGB", "420")
        back: UInt8Image = simplejpeg.decode_jpeg(stream)
        return back


#: What was measured to change decisions: the same slide under each of these must be told the same.
CHANGES: dict[str, Scanner] = {
    "hue +18": Scanner(hue=18),
    "hue -18": Scanner(hue=-18),
    "brightness 0.85": Scanner(brightness=0.85),
    "other stain": Scanner(stain="violet"),
    "blur": Scanner(blurred_share=0.2, blur_sigma=3),
    "JPEG 30": Scanner(quality=30),
    "scale 1.2": Scanner(scale=1.2),
    "scale 0.8": Scanner(scale=0.8),
}


def _near_identity(rng: np.random.Generator, amount: float) -> Matrix:
    """Return what densities are multiplied by where each dye absorbs a little otherwise."""
    matrix = np.diag(np.exp(rng.normal(0, amount, 3))) + rng.normal(0, amount / 2.5, (3, 3))
    rows = matrix.clip(-0.5, 2).tolist()
    return _triple(rows[0]), _triple(rows[1]), _triple(rows[2])


def _glass(rng: np.random.Generator, strength: float) -> tuple[int, int, int]:
    """Return the white of one scanner in two, nearly grey."""
    if rng.random() < 0.5:
        return 255, 255, 255
    level = 255 - strength * rng.uniform(0, 22)
    r, g, b = (int(np.clip(level + strength * rng.normal(0, 4), 150, 255)) for _ in range(3))
    return r, g, b


def _triple(values: list[float]) -> Triple:
    r, g, b = values
    return r, g, b


@lru_cache(maxsize=64)
def _table_of(scanner: Scanner) -> ImageFilter.Color3DLUT:
    """Return the table of colours of a scanner's `colours`."""
    axis = np.linspace(0, 1, _TABLE, dtype=np.float32)
    b, g, r = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    colours = _coloured(np.stack([r, g, b], axis=-1).reshape(-1, 3), scanner)
    return ImageFilter.Color3DLUT(_TABLE, colours.ravel().tolist())


def _coloured(colours: Colours, scanner: Scanner) -> Colours:
    """Return colours [n, 3] in 0..1 as the scanner gives them."""
    if scanner.stain is not None:
        matrix = STAINS[scanner.stain] if isinstance(scanner.stain, str) else scanner.stain
        dense = -np.log((colours * 255 + 1) / 256) @ np.asarray(matrix, np.float32)
        colours = ((256 * np.exp(-np.maximum(dense, 0)) - 1) / 255).clip(0, 1)
    if scanner.hue:
        colours = _turned_hue(colours, scanner.hue)
    grey = colours @ np.asarray([[0.299], [0.587], [0.114]], np.float32)
    colours = grey + (colours - grey) * np.float32(scanner.saturation)
    colours = (colours - 0.5) * np.float32(scanner.contrast) + np.float32(0.5)
    colours = colours.clip(0, 1) * np.float32(scanner.brightness)
    tinted: Colours = colours.clip(0, 1) * (np.asarray(scanner.white, np.float32) / 255)
    return tinted


def _turned_hue(colours: Colours, degrees: float) -> Colours:
    """Return colours [n, 3] with the hue of HSV turned; value and saturation stay."""
    most, least = colours.max(axis=1), colours.min(axis=1)
    span = np.maximum(most - least, 1e-9)
    r, g, b = ((most - colours[:, k]) / span for k in range(3))
    sector = np.where(
        most == colours[:, 0], b - g, np.where(most == colours[:, 1], 2 + r - b, 4 + g - r)
    )
    turned = (sector + degrees / 60) % 6
    parts = [(turned + k) % 6 for k in (5, 3, 1)]
    share = np.stack([np.minimum(np.minimum(p, 4 - p).clip(0, None), 1) for p in parts], axis=1)
    found: Colours = (most[:, None] - (most - least)[:, None] * share).astype(np.float32)
    return found
