"""Particles as pictures of the light they let through, float32 [h, w, 3], 1 where nothing is.

Sizes are radii in pixels of 0.5 um: dust of any size, starch of gloves 8 to 15 um, pollen 12 to
35 um, red cells 3.5 um, granules of pigment and of precipitated stain about 1 um.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from unicas_edge.train.artefacts.plane import Colour, Light, Rng, jitter, step

#: kind -> least and largest radius in pixels, and how many there may be on a tile
SIZES: dict[str, tuple[float, float, float]] = {
    "dust": (1.5, 26, 30),
    "crystal": (6, 60, 10),
    "starch": (12, 32, 10),
    "talc": (6, 40, 12),
    "pollen": (24, 70, 2.5),
    "pigment": (8, 60, 8),
    "precipitate": (10, 90, 8),
    "blood": (6, 9, 160),
}


def sprite(kind: str, rng: Rng, size: float) -> Light:
    """Return one particle of a kind, whose radius is `size` pixels."""
    return _DRAW[kind](rng, size)


def _disc(size: float, margin: float = 4) -> tuple[Light, Light, Light]:
    """Return (y, x, distance) from the middle of a square that holds a radius and a margin."""
    half = math.ceil(size + margin)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    return y, x, np.hypot(y, x)


def _through(amount: Light, colour: Colour) -> Light:
    """Return the light that passes `amount` [h, w] of a colour."""
    passed: Light = np.exp(-amount[..., None] * np.asarray(colour, np.float32))
    return passed


def _mask(points: np.ndarray, half: int, blur: float) -> Light:
    """Return the mask of a polygon [n, (x, y)] about the middle, float32 [2 half + 1] twice."""
    image = Image.new("L", (4 * half + 2, 4 * half + 2))
    ImageDraw.Draw(image).polygon(
        [(float(2 * x + 2 * half), float(2 * y + 2 * half)) for x, y in points], fill=255
    )
    small = image.reduce(2).filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(small, np.float32) * np.float32(1 / 255)


def _outline(rng: Rng, size: float, corners: int, rough: float, aspect: float) -> np.ndarray:
    """Return an uneven closed outline [corners, (x, y)]."""
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    reach = size * np.exp(rng.normal(0, rough, corners)).clip(0.3, 1.6)
    turn = rng.uniform(0, math.pi)
    x, y = reach * np.cos(angles), reach * np.sin(angles) * aspect
    return np.stack(
        [x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], axis=1
    )


def _dust(rng: Rng, size: float) -> Light:
    half = math.ceil(1.7 * size + 8)
    outline = _outline(rng, size, int(rng.integers(8, 24)), 0.3, rng.uniform(0.4, 1))
    body = _mask(outline, half, rng.uniform(0.4, 0.35 * size + 0.5))
    grain = rng.standard_normal(body.shape, np.float32) * np.float32(0.2)
    brown = jitter(rng, (1.1, 1.25, 1.45), 0.12)
    return _through(body * (1 + grain) * np.float32(rng.uniform(0.4, 2.2)), brown)


def _crystal(rng: Rng, size: float) -> Light:
    half = math.ceil(1.7 * size + 6)
    outline = _outline(rng, size, int(rng.integers(3, 8)), 0.15, rng.uniform(0.15, 0.9))
    blur = rng.uniform(0.4, 1.2)
    body, soft = _mask(outline, half, blur), _mask(outline, half, blur + rng.uniform(1, 3))
    edge = np.abs(body - soft) * 2
    facet = _mask(outline * rng.uniform(0.3, 0.7) + rng.normal(0, size / 8, 2), half, blur)
    shine = jitter(rng, (1.08, 1.08, 1.06), 0.06)
    light = _through(edge, jitter(rng, (1.9, 1.9, 1.9), 0.15))
    light *= 1 + (body - 0.4 * facet)[..., None] * (np.asarray(shine, np.float32) - 1)
    return light * _through(facet * body, jitter(rng, (0.15, 0.12, 0.2), 0.8))


def _starch(rng: Rng, size: float) -> Light:
    y, x, distance = _disc(1.15 * size)
    angle = np.arctan2(y, x)
    turn = rng.uniform(0, math.pi)
    distance = distance * (1 + 0.08 * np.cos(2 * (angle - turn)) + 0.03 * np.cos(5 * angle))
    u = distance / size
    rim = np.exp(-(((u - 0.93) * 12) ** 2))
    cross = np.abs(np.sin(2 * (angle - turn))) ** 0.5
    dark = np.float32(rng.uniform(0, 0.6)) * (1 - cross) * step(0.85 - u, 0.2)
    middle = np.exp(-((u * rng.uniform(5, 12)) ** 2)) * rng.uniform(0.3, 1.2)
    glow = step(0.85 - u, 0.15) * np.float32(rng.uniform(0, 0.07))
    tint = jitter(rng, (0.9, 1.0, 1.15), 0.2)
    return _through((rim * 1.1 + dark + middle - glow).astype(np.float32), tint)


def _talc(rng: Rng, size: float) -> Light:
    half = math.ceil(1.7 * size + 6)
    outline = _outline(rng, size, int(rng.integers(6, 12)), 0.2, rng.uniform(0.4, 1))
    body = _mask(outline, half, 0.6)
    edge = np.abs(body - _mask(outline, half, rng.uniform(1.5, 3)))
    layers = _mask(outline * 0.6 + rng.normal(0, size / 6, 2), half, 0.8)
    return _through(
        body * 0.18 + 1.3 * edge + 0.15 * layers * body, jitter(rng, (0.8, 0.8, 1.2), 0.25)
    )


def _pollen(rng: Rng, size: float) -> Light:
    y, x, distance = _disc(1.35 * size)
    angle = np.arctan2(y, x)
    spikes = int(rng.choice([0, 0, 3, 14, 22, 30]))
    height = rng.uniform(0.04, 0.16) if spikes > 3 else rng.uniform(0.05, 0.1)
    outer = 1 + height * np.abs(np.cos(angle * spikes / 2)) ** rng.uniform(2, 8) * bool(spikes)
    u = distance / (size * outer)
    body = step(1 - u, 0.04)
    wall = np.exp(-(((u - 0.88) * rng.uniform(7, 12)) ** 2)) * rng.uniform(0.8, 1.6)
    small = rng.standard_normal((len(u) // 4 + 2,) * 2, np.float32)
    grain = np.asarray(Image.fromarray(small).resize(u.shape, Image.Resampling.BICUBIC))
    inside = body * (0.35 + 0.2 * grain) + wall + 0.3 * body * (1 - u)
    return _through(inside.clip(0, None).astype(np.float32), jitter(rng, (0.25, 0.55, 1.5), 0.3))


def _granules(
    rng: Rng, size: float, count: int, radius: tuple[float, float], colour: Colour
) -> Light:
    half = math.ceil(2.2 * size + 6)
    image = Image.new("L", (4 * half + 2, 4 * half + 2))
    draw = ImageDraw.Draw(image)
    places = rng.normal(0, size * 0.6, (count, 2)).clip(-2 * size, 2 * size) * 2 + 2 * half
    for (x, y), r in zip(places.tolist(), rng.uniform(*radius, count).tolist(), strict=True):
        draw.ellipse((x - 2 * r, y - 2 * r, x + 2 * r, y + 2 * r), fill=int(rng.integers(110, 256)))
    small = image.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    return _through(np.asarray(small, np.float32) * np.float32(1 / 255 * 1.6), colour)


def _pigment(rng: Rng, size: float) -> Light:
    count = int(np.clip(size * size / 14, 6, 150))
    return _granules(rng, size, count, (0.9, 3.2), jitter(rng, (0.45, 0.9, 1.7), 0.25))


def _precipitate(rng: Rng, size: float) -> Light:
    colours = ((1.7, 1.9, 0.9), (2.2, 1.7, 0.7), (1.8, 1.8, 1.6), (0.6, 1.7, 1.1))
    count = int(np.clip(size * size / 16, 8, 260))
    high = rng.uniform(0.9, 2.6)
    return _granules(rng, size, count, (0.4, high), jitter(rng, colours[int(rng.integers(4))]))


def _blood(rng: Rng, size: float) -> Light:
    y, x, distance = _disc(1.3 * size)
    turn, flat = rng.uniform(0, math.pi), rng.uniform(0.75, 1)
    along = y * np.float32(math.sin(turn)) + x * np.float32(math.cos(turn))
    u = np.hypot(distance, along * np.float32(1 / flat - 1) * 2) / size
    body = step(1 - u, 0.18) * (0.35 + 0.65 * u.clip(0, 1) ** 2)
    ghost = rng.uniform(0.25, 1.0)
    return _through((body * ghost).astype(np.float32), jitter(rng, (0.12, 0.55, 0.6), 0.3))


_DRAW: dict[str, Callable[[Rng, float], Light]] = {
    "dust": _dust,
    "crystal": _crystal,
    "starch": _starch,
    "talc": _talc,
    "pollen": _pollen,
    "pigment": _pigment,
    "precipitate": _precipitate,
    "blood": _blood,
}
