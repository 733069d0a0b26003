"""Bubbles of air in the mounting medium: dark rims where light is bent away, bright lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unicas_edge.train.artefacts.plane import (
    Layer,
    Light,
    Noise,
    Rng,
    Window,
    log_uniform,
    mix,
    soften,
    step,
)
from unicas_edge.train.compose.sources import TILE

#: red, green and blue are bent a little differently: pixels that their rims lie apart
_FRINGE = 0.9
#: at most so many bubbles are drawn in a window
_MOST = 400
#: a rim's profile begins so many widths inside, and has so many values a width
_FROM, _FINE = -12, 64


@dataclass(frozen=True)
class Rim:
    """How rims look: width (share of the radius, and at most pixels), darkness, lines beside.

    They are `uneven` by so much of the radius, by `waves` pixels at most.
    """

    share: float
    most: float
    dark: float
    shine: float
    lift: float
    tint: tuple[float, float, float]
    soft: float
    uneven: float
    waves: float

    @classmethod
    def draw(cls, rng: Rng) -> Rim:
        """Return a rim as one slide's bubbles have it."""
        grey = rng.uniform(-0.06, 0.06)
        return cls(
            share=rng.uniform(0.06, 0.55),
            most=log_uniform(rng, 5, 55),
            dark=rng.uniform(0.35, 0.98),
            shine=rng.uniform(0.0, 0.35),
            lift=rng.uniform(0.0, 0.07),
            tint=(1 - grey, 1.0, 1 + grey),
            soft=log_uniform(rng, 0.12, 0.6),
            uneven=rng.uniform(0, 0.035),
            waves=log_uniform(rng, 1, 9),
        )

    def edge(self, radius: float, noise: Light) -> Light:
        """Return how far from the middle the rim lies, by the noise at each pixel."""
        edge: Light = np.float32(radius) + np.float32(min(self.uneven * radius, self.waves)) * noise
        return edge


def large(rng: Rng, side: float, count: int = 1) -> Layer:
    """Return bubbles larger than a tile whose rims pass through the square 0..side, or its inside.

    What lies under one is out of focus; some hold droplets.
    """
    circles = []
    for _ in range(count):
        radius = log_uniform(rng, 120, 2000)
        angle = rng.uniform(-math.pi, math.pi)
        y, x = rng.uniform(0.1 * side, 0.9 * side, 2)
        circles.append((y + radius * math.sin(angle), x + radius * math.cos(angle), radius))
    rims = _circles(rng, np.array(circles), inner_blur=rng.uniform(0, 5))
    if rng.random() < 0.4:
        return _both(rims, many(rng, side, sizes=(2, 14), share=0.03))
    return rims


def many(
    rng: Rng, side: float, sizes: tuple[float, float] = (6, 90), share: float | None = None
) -> Layer:
    """Return many bubbles in the square 0..side, which take about `share` of it."""
    low = log_uniform(rng, sizes[0], sizes[1] / 2)
    high = rng.uniform(low, sizes[1])
    share = rng.uniform(0.08, 0.9) if share is None else share
    count = int(np.clip(share * side * side / (math.pi * low * high), 2, 4000))
    radii = np.exp(rng.uniform(math.log(low), math.log(high), count))
    places = rng.uniform(0, side, (count, 2))
    grouped = rng.uniform(0, side, (5, 2))[rng.integers(0, 5, count)]
    near = rng.random(count) < rng.uniform(0, 0.7)
    spread = rng.normal(0, side / 8, (count, 2))
    places = np.where(near[:, None], grouped + spread, places)
    return _circles(rng, np.column_stack([places, radii]), inner_blur=0.0)


def rings(rng: Rng, side: float) -> Layer:
    """Return thin round outlines that lie over each other: bubbles far from focus."""
    count = int(max(3, side * side / log_uniform(rng, 4e3, 6e4)))
    radii = np.exp(rng.uniform(math.log(15), math.log(150), min(count, 4000)))
    places = rng.uniform(-0.1 * side, 1.1 * side, (len(radii), 2))
    rim = Rim(
        0.05, log_uniform(rng, 1.5, 5), rng.uniform(0.3, 0.7), 0.15, 0.0, (1, 1, 1), 0.4, 0, 0
    )
    return _circles(rng, np.column_stack([places, radii]), 0.0, rim)


def _both(one: Layer, other: Layer) -> Layer:
    return lambda light, window: other(one(light, window), window)


def _circles(rng: Rng, circles: np.ndarray, inner_blur: float, rim: Rim | None = None) -> Layer:
    """Return bubbles [n, (y, x, radius)] with one kind of rim."""
    rim, noise = rim or Rim.draw(rng), Noise(rng)

    def layer(light: Light, window: Window) -> Light:
        gaps = np.hypot(
            np.maximum(np.abs(circles[:, 0] - window.top - TILE / 2) - TILE / 2, 0),
            np.maximum(np.abs(circles[:, 1] - window.left - TILE / 2) - TILE / 2, 0),
        )
        near = circles[gaps < circles[:, 2] * 1.1 + 8][:_MOST]
        waves = noise.over(window, 120)
        inside = _inside(near, window, rim, waves) if inner_blur > 0.8 else None
        light = light.copy() if inside is None else mix(light, soften(light, inner_blur), inside)
        for y, x, radius in near.tolist():
            _rim(light, window, (y, x, radius), rim, waves)
        return light

    return layer


def _inside(circles: Light, window: Window, rim: Rim, waves: Light) -> Light | None:
    """Return the mask of what lies in any of the larger bubbles, None if nothing does."""
    found: Light | None = None
    for y, x, radius in circles[circles[:, 2] > TILE / 3].tolist():
        distance = np.hypot(window.y - np.float32(y), window.x - np.float32(x))
        one = step(rim.edge(radius, waves) - distance, 6)
        found = one if found is None else np.maximum(found, one)
    return found


def _rim(
    light: Light, window: Window, circle: tuple[float, float, float], rim: Rim, waves: Light
) -> None:
    """Draw a bubble into the light in place."""
    y, x, radius = circle
    reach = radius * 1.15 + 6
    rows, columns = (
        slice(max(0, int(m - reach - o)), max(0, min(TILE, int(m + reach - o) + 1)))
        for m, o in ((y, window.top), (x, window.left))
    )
    part = light[rows, columns]
    if not part.size:
        return
    ys, xs = window.y[rows] - np.float32(y), window.x[:, columns] - np.float32(x)
    distance = np.hypot(ys, xs) - rim.edge(radius, waves[rows, columns])
    width = max(1.6, min(rim.share * radius, rim.most))
    table = _profile(rim)
    for channel in range(3):
        u = (distance + (channel - 1) * _FRINGE) * np.float32(_FINE / width)
        places = (u - _FROM * _FINE).clip(0, len(table) - 1).astype(np.int32)
        part[..., channel] *= table[:, channel].take(places)


@lru_cache(maxsize=64)
def _profile(rim: Rim) -> Light:
    """Return the light that a rim lets through, float32 [n, 3], by the distance from it.

    In widths of the rim from `_FROM`, inside, to 3, outside, `_FINE` values a width.
    """
    u = np.arange(_FROM, 3, 1 / _FINE, dtype=np.float32)
    dark = step(1 + u, rim.soft) * step(-u, min(0.3, rim.soft))  # from -1 to 0
    bright = np.exp(-(((u - 0.3) * 4) ** 2)) + np.exp(-(((u + 1.35) * 3.5) ** 2))
    inner = step(-u - 1, 0.5)
    shade = 0.3 * np.exp(-((u.clip(None, -1) + 1) ** 2) / 6) * inner
    tint = np.asarray(rim.tint, np.float32)
    change = 1 - (rim.dark * (dark + shade))[:, None] * tint
    change += (rim.shine * bright + rim.lift * inner)[:, None]
    profile: Light = np.ascontiguousarray(change.clip(0.02, 1.6), np.float32)
    return profile
