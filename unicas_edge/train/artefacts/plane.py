"""The plane that artefacts are drawn on, seen through windows of a tile's size.

An artefact is a layer: a function that changes the light of any window of an endless plane, so that
a stroke of ink that leaves one tile goes on in the next. Light is float32 [256, 256, 3] in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.train.compose.sources import TILE

Rng = np.random.Generator
#: light, masks and places: float32 unless a number of numpy's made it wider
Light = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
#: points a side of the random grid that noise is interpolated in, a power of two: noise repeats
#: after so many
_LATTICE = 128
#: brings interpolated noise to a deviation of about 1
_SPREAD = np.float32(2.1)


@dataclass(frozen=True)
class Window:
    """A tile's place on the plane: pixels of its upper left corner."""

    top: int = 0
    left: int = 0

    @property
    def y(self) -> Light:
        """The rows' places on the plane, float32 [256, 1]."""
        return np.arange(self.top, self.top + TILE, dtype=np.float32)[:, None]

    @property
    def x(self) -> Light:
        """The columns' places on the plane, float32 [1, 256]."""
        return np.arange(self.left, self.left + TILE, dtype=np.float32)[None]


#: (light, window) -> light
Layer = Callable[[Light, Window], Light]


class Noise:
    """Smooth noise of mean 0 and deviation about 1 all over the plane."""

    def __init__(self, rng: Rng) -> None:
        self._lattice = rng.standard_normal((_LATTICE, _LATTICE), np.float32)

    def over(self, window: Window, period: float, stretch: float = 1.0) -> Light:
        """Return a window's noise, float32 [256, 256]; `stretch` draws it out along the rows."""
        down = _spline(window.y[:, 0] / np.float32(period))
        across = _spline(window.x[0] / np.float32(period * stretch))
        # no matrix product: its threads wait for each other where every core is busy
        rows = sum(weight[:, None] * self._lattice[place] for place, weight in down)
        columns = np.ascontiguousarray(np.asarray(rows).T)
        found = sum(weight[:, None] * columns[place] for place, weight in across)
        return np.ascontiguousarray(np.asarray(found).T) * _SPREAD

    def octaves(self, window: Window, period: float, count: int, fall: float = 0.5) -> Light:
        """Return noise of `count` periods, each half the one before and `fall` times as strong."""
        total = self.over(window, period)
        for k in range(1, count):
            shifted = Window(window.top + 977 * k, window.left + 1831 * k)
            total += np.float32(fall**k) * self.over(shifted, period / 2**k)
        return total / np.float32(math.sqrt(sum(fall ** (2 * k) for k in range(count))))

    def at(self, v: Light, u: Light) -> Light:
        """Return the noise at any places (v, u) of period 1, linear between its points."""
        v0, u0 = np.floor(v), np.floor(u)
        fv, fu = v - v0, u - u0
        fv, fu = fv * fv * (3 - 2 * fv), fu * fu * (3 - 2 * fu)
        i, j = v0.astype(np.int32), u0.astype(np.int32)
        mask = _LATTICE - 1  # a power of two: faster than a remainder
        row, down, right = (i & mask) * _LATTICE, (i + 1 & mask) * _LATTICE, j + 1 & mask
        j &= mask
        flat = self._lattice.ravel()
        above, below = flat.take(row + j), flat.take(down + j)
        above += (flat.take(row + right) - above) * fu
        below += (flat.take(down + right) - below) * fu
        found: Light = (above + (below - above) * fv) * np.float32(1.4)
        return found


def _spline(places: Light) -> list[tuple[NDArray[np.int64], Light]]:
    """Return the four points of the lattice beside each place, and their B-spline weights."""
    whole = np.floor(places).astype(np.int64)
    f = (places - whole).astype(np.float32)
    parts = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    return [((whole + k) % _LATTICE, part / np.float32(6)) for k, part in enumerate(parts)]


@dataclass(frozen=True)
class Arc:
    """A nearly straight line over the plane: a large circle's rim, and a point that lies on it."""

    y: float
    x: float
    radius: float
    start: float

    @classmethod
    def through(cls, rng: Rng, side: float, least: float = 900.0, most: float = 2e4) -> Arc:
        """Return an arc through a random point of the square 0..side, of such a radius."""
        radius = math.exp(rng.uniform(math.log(least), math.log(most)))
        angle = rng.uniform(-math.pi, math.pi)
        y, x = rng.uniform(0, side, 2)
        middle = y - radius * math.sin(angle), x - radius * math.cos(angle)
        return cls(*middle, radius, angle)

    def gap(self, window: Window) -> float:
        """Return how many pixels the line is away from a window at least; 0 if it may cross it."""
        y, x = window.top + TILE / 2 - self.y, window.left + TILE / 2 - self.x
        return max(0.0, abs(math.hypot(y, x) - self.radius) - TILE / math.sqrt(2))

    def places(self, window: Window) -> tuple[Light, Light]:
        """Return (along, across) in pixels, float32 [256, 256]; the point is (0, 0)."""
        dy, dx = window.y - np.float32(self.y), window.x - np.float32(self.x)
        across = np.hypot(dy, dx) - np.float32(self.radius)
        # the circle is turned until the point lies far from where an angle jumps
        c, s = np.float32(math.cos(self.start)), np.float32(math.sin(self.start))
        along = np.arctan2(dy * c - dx * s, dx * c + dy * s) * np.float32(self.radius)
        return along, across


def light_of(tile: UInt8Image) -> Light:
    """Return a tile's grey levels as light, float32 in 0..1."""
    return tile.astype(np.float32) * np.float32(1 / 255)


def grey_of(light: Light) -> UInt8Image:
    """Return light as grey levels, uint8; what is too bright is white."""
    return (light * np.float32(255) + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def step(values: Light, soft: float) -> Light:
    """Return 0 below and 1 above zero, smooth over +-`soft`, float32."""
    share = (values * np.float32(0.5 / max(soft, 1e-3)) + np.float32(0.5)).clip(0, 1)
    smooth: Light = share * share * (3 - 2 * share)
    return smooth


def times(light: Light, change: Light) -> Light:
    """Return light where `change` [256, 256] or [256, 256, 3] of it is let through."""
    planes = change if change.ndim == 3 else change[..., None]
    passed: Light = light * planes.astype(np.float32, copy=False)
    return passed


def absorb(light: Light, amount: Light, colour: Colour) -> Light:
    """Return the light behind `amount` [256, 256] of a dye of optical density `colour`."""
    dense = amount[..., None].astype(np.float32, copy=False) * -np.asarray(colour, np.float32)
    return times(light, np.exp(dense))


def mix(one: Light, other: Light, share: Light) -> Light:
    """Return `one` where `share` [256, 256] is 0 and `other` where it is 1."""
    mixed: Light = one + (other - one) * share[..., None].astype(np.float32, copy=False)
    return mixed


def power(light: Light, exponent: float) -> Light:
    """Return light as what lies `exponent` times as thick lets it through; black is not quite."""
    table = (np.arange(256, dtype=np.float32) / np.float32(255)).clip(0.03, 1)
    return (table ** np.float32(exponent)).take(grey_of(light))


def soften(light: Light, sigma: float) -> Light:
    """Return light out of focus by a Gaussian of `sigma` pixels."""
    shown = Image.fromarray(grey_of(light)).filter(ImageFilter.GaussianBlur(sigma))
    return light_of(np.asarray(shown))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number between the two whose logarithm is evenly drawn."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def jitter(rng: Rng, colour: Colour, amount: float = 0.12) -> Colour:
    """Return a colour whose three numbers are each changed by up to a share `amount`."""
    r, g, b = (float(c * rng.uniform(1 - amount, 1 + amount)) for c in colour)
    return r, g, b
