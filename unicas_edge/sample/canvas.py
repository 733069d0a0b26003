"""Shapes and textures in micrometres, from which a cell is drawn as optical density."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Float = NDArray[np.float32]
Points = NDArray[np.float64]
Rng = np.random.Generator
#: optical density (log10) of 1 unit of stain in red, green, blue
Stain = tuple[float, float, float]
OVERSAMPLING = 2


class Canvas:
    """A square `side_um` wide whose middle is (0, 0); masks are float32 [side, side] in 0..1."""

    def __init__(self, rng: Rng, side_um: float, um_px: float) -> None:
        self.rng = rng
        self.um_px = um_px
        self.side = max(4, math.ceil(side_um / um_px))
        self.density: Float = np.zeros((self.side, self.side, 3), np.float32)

    def stain(self, amount: Float | Points, colour: Stain) -> None:
        """Add `amount` (float [side, side]) of a stain."""
        self.density += amount.astype(np.float32)[..., None] * np.asarray(colour, np.float32)

    def polygon(self, points: Points) -> Float:
        """Return the anti-aliased mask of a polygon, vertices in um, float64 [n, 2]."""
        image, draw = self._sheet()
        draw.polygon(self._pixels(points), fill=255)
        return self._mask(image)

    def path(self, points: Points, width_um: float) -> Float:
        """Return the anti-aliased mask of a line through `points` (um, float64 [n, 2])."""
        image, draw = self._sheet()
        width = max(1, round(width_um / self.um_px * OVERSAMPLING))
        draw.line(self._pixels(points), fill=255, width=width, joint="curve")
        return self._mask(image)

    def dots(self, points: Points, diameter_um: Points) -> Float:
        """Return the mask of discs around `points` (um, float64 [n, 2])."""
        image, draw = self._sheet()
        radius = diameter_um / self.um_px * OVERSAMPLING / 2
        for (x, y), r in zip(self._pixels(points), radius, strict=True):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        return self._mask(image)

    def noise(self, grain_um: float, stretch: float = 1.0) -> Float:
        """Return smooth noise of mean about 0 and deviation about 1, float32 [side, side].

        `grain_um` is its period; `stretch` draws it out along a random direction.
        """
        long = max(grain_um, self.um_px) * stretch
        across = max(grain_um, self.um_px)
        reach = self.side * self.um_px * 1.5
        shape = (max(3, math.ceil(reach / across)), max(3, math.ceil(reach / long)))
        coarse = Image.fromarray(self.rng.standard_normal(shape, np.float32))
        wide = math.ceil(self.side * 1.5)
        image = coarse.resize((wide, wide), Image.Resampling.BICUBIC)
        if stretch != 1.0:
            image = image.rotate(self.rng.uniform(0, 180), Image.Resampling.BILINEAR)
        cut = (wide - self.side) // 2
        pixels = np.asarray(image, np.float32)
        return pixels[cut : cut + self.side, cut : cut + self.side] * np.float32(1.4)

    def ridges(self, grain_um: float, sharpness: float, stretch: float = 1.0) -> Float:
        """Return thin bright curves, float32 [side, side] in 0..1: where the noise crosses zero."""
        return np.exp(-np.abs(self.noise(grain_um, stretch)) * np.float32(sharpness))

    def blur(self, mask: Float, sigma_um: float) -> Float:
        """Return `mask` smoothed."""
        return smooth(mask[..., None], sigma_um / self.um_px)[..., 0]

    def _sheet(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        image = Image.new("L", (self.side * OVERSAMPLING,) * 2)
        return image, ImageDraw.Draw(image)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        scaled = (points / self.um_px + self.side / 2) * OVERSAMPLING
        return [(float(x), float(y)) for x, y in scaled]

    def _mask(self, image: Image.Image) -> Float:
        small = image.reduce(OVERSAMPLING)
        return np.asarray(small, np.float32) / np.float32(255)


def smooth(planes: Float, sigma_px: float) -> Float:
    """Return float32 [H, W, C] after a near-Gaussian blur: three box averages a direction."""
    half = round(sigma_px)  # three boxes of width 2h + 1 have a variance of h(h + 1)
    width = 2 * half + 1
    for k in range(6 if half else 0):
        # float32 sums of a few hundred values below 10 lose nothing that a grey level shows
        padded = np.pad(planes, ((half + 1, half), (0, 0), (0, 0)))
        total = np.cumsum(padded, axis=0, dtype=np.float32)
        planes = (total[width:] - total[:-width]) * np.float32(1 / width)
        if k in (2, 5):
            planes = planes.swapaxes(0, 1)
    return np.ascontiguousarray(planes)


def angular_outline(rng: Rng, radius: float, aspect: float = 1.0) -> Points:
    """Return a squamous outline: a polygon of 5 to 9 corners, cut twice (Chaikin), um [n, 2]."""
    corners = int(rng.integers(5, 10))
    angles = np.sort((np.arange(corners) + rng.uniform(-0.32, 0.32, corners)) * 2 * np.pi / corners)
    reach = radius * rng.uniform(0.8, 1.08, corners)
    points = np.stack([reach * np.cos(angles), reach * aspect * np.sin(angles)], axis=1)
    for _ in range(3):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.78 * points + 0.22 * after, 0.22 * points + 0.78 * after], axis=1)
        points = points.reshape(-1, 2)
    return turned(rng, wobbled(rng, points, radius * 0.02, 14))


def round_outline(rng: Rng, radius: float, aspect: float = 1.0, roughness: float = 0.04) -> Points:
    """Return a closed, roughly elliptic outline; `roughness` is its relative unevenness."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    points = np.stack([radius * np.cos(angles), radius * aspect * np.sin(angles)], axis=1)
    return turned(rng, wobbled(rng, points, radius * roughness, 3))


def wobbled(rng: Rng, points: Points, amount: float, harmonics: int) -> Points:
    """Return `points` moved in or out by a few random harmonics of about `amount` um."""
    phase = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    order = np.arange(2, 2 + harmonics)
    waves = np.cos(order[:, None] * phase + rng.uniform(0, 2 * np.pi, harmonics)[:, None])
    radial = (rng.normal(0, 1, harmonics) / np.sqrt(order)) @ waves * amount
    length = np.linalg.norm(points, axis=1, keepdims=True) + 1e-9
    moved: Points = points + points / length * radial[:, None]
    return moved


def turned(rng: Rng, points: Points) -> Points:
    """Return `points` rotated about (0, 0) by a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    rotated: Points = points @ np.array([[c, s], [-s, c]])
    return rotated
