"""Debris on glass: what falls on a slide or dries on it, each drawn once and laid on the light."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from unicas_edge.train.artefacts.particles import SIZES, sprite
from unicas_edge.train.artefacts.plane import (
    Arc,
    Colour,
    Layer,
    Light,
    Noise,
    Rng,
    Window,
    absorb,
    jitter,
    log_uniform,
    step,
    times,
)
from unicas_edge.train.compose.pixels import turned
from unicas_edge.train.compose.sources import TILE

_MOST = 20_000
#: Optical densities of fibres: hair, cotton, blue, red and dark textile, wood
_FIBRES: tuple[Colour, ...] = (
    (0.45, 0.75, 1.0),
    (0.12, 0.12, 0.14),
    (1.2, 0.7, 0.15),
    (0.2, 1.1, 0.9),
    (1.3, 1.3, 1.2),
    (0.2, 0.4, 0.9),
)


def particles(rng: Rng, side: float, kind: str, per_tile: float | None = None) -> Layer:
    """Return particles of one kind in the square 0..side, one of them at least."""
    low, high, dense = SIZES[kind]
    per_tile = log_uniform(rng, 0.5, dense) if per_tile is None else per_tile
    count = int(np.clip(rng.poisson(per_tile * (side / TILE) ** 2), 1, _MOST))
    places = rng.uniform(0, side, (count, 2))
    size = log_uniform(rng, low, high)
    seeds, turns = rng.integers(0, 12, count), rng.integers(0, 8, count)
    base = int(rng.integers(2**31))

    @lru_cache(maxsize=12)
    def drawn(seed: int) -> Light:
        own = np.random.default_rng([base, seed])
        return sprite(kind, own, size * math.exp(own.uniform(-0.35, 0.35)))

    def layer(light: Light, window: Window) -> Light:
        light = light.copy()
        reach = 4 * size + 40
        inside = (
            np.abs(places - (window.top + TILE / 2, window.left + TILE / 2)) < reach + TILE
        ).all(axis=1)
        for k in np.flatnonzero(inside):
            _stamp(light, turned(drawn(int(seeds[k])), int(turns[k])), places[k], window)
        return light

    return layer


def _stamp(light: Light, picture: Light, place: Light, window: Window) -> None:
    """Lay what a particle lets through [h, w, 3] on the light in place, its middle at `place`."""
    y = int(place[0]) - picture.shape[0] // 2 - window.top
    x = int(place[1]) - picture.shape[1] // 2 - window.left
    part = light[max(0, y) : max(0, y + picture.shape[0]), max(0, x) : max(0, x + picture.shape[1])]
    if part.size:
        part *= picture[max(0, -y) :, max(0, -x) :][: part.shape[0], : part.shape[1]]


def fibres(rng: Rng, side: float) -> Layer:
    """Return hairs and threads that wind through the square 0..side."""
    made = [_fibre(rng, side) for _ in range(1 + int(rng.random() < 0.35) + int(side // 1500))]

    def layer(light: Light, window: Window) -> Light:
        for one in made:
            light = one(light, window)
        return light

    return layer


def _fibre(rng: Rng, side: float) -> Layer:
    """Return one fibre: its walls are dark, its inside paler and mottled."""
    colour = jitter(rng, _FIBRES[int(rng.integers(len(_FIBRES)))], 0.25)
    width, noise = log_uniform(rng, 4, 46), Noise(rng)
    line = _winding(rng, side)
    soft, wall = log_uniform(rng, 0.4, 6), rng.uniform(0.08, 0.22)
    mottle, hollow = rng.uniform(0.05, 0.6) / max(1.0, soft), rng.uniform(0.15, 0.8)
    amount = rng.uniform(0.7, 1.5)

    def layer(light: Light, window: Window) -> Light:
        whole = _traced(line, width, window, soft)
        if not whole.any():
            return light
        inner = _traced(line, width * (1 - 2 * wall), window, soft)
        body = (whole - inner) + inner * (1 - hollow)
        body = body * (1 + mottle * noise.over(window, 3.5) + 0.3 * noise.over(window, 25))
        return absorb(light, body.clip(0, None) * amount, colour)

    return layer


def _winding(rng: Rng, side: float) -> Light:
    """Return a smooth line [n, (x, y)] through the square that leaves it on both sides."""
    half, stride = 60 + int(side // 12), 12.0
    wind = rng.uniform(0.01, 0.16)
    turns = np.convolve(rng.normal(0, wind, 2 * half + 12), np.ones(12) / 4, "valid")[: 2 * half]
    angles = np.cumsum(turns) + rng.uniform(0, 2 * math.pi)
    line = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * stride, axis=0)
    middle = rng.uniform(0.2 * side, 0.8 * side, 2)
    placed: Light = line - line[half] + middle
    return placed


def _traced(line: Light, width: float, window: Window, soft: float) -> Light:
    """Return a line's mask in a window, its edge smooth over `soft` pixels, float32 [256, 256]."""
    margin = math.ceil(3 * soft) + 1  # a blur takes in what lies beside the window
    side = TILE + 2 * margin
    places = (line - (window.left - margin, window.top - margin)) * 2
    near = np.flatnonzero((np.abs(places - side) < 2 * side).all(axis=1))
    if not near.size:
        return np.zeros((TILE, TILE), np.float32)
    image = Image.new("L", (2 * side, 2 * side))
    # a line that leaves and comes back is drawn in parts
    for part in np.split(near, np.flatnonzero(np.diff(near) > 1) + 1):
        points = [(round(float(x)), round(float(y))) for x, y in places[part]]
        wide = max(1, round(2 * width))
        ImageDraw.Draw(image).line(points, fill=255, width=wide, joint="curve")
    small = image.reduce(2).filter(ImageFilter.GaussianBlur(soft))
    cut = np.asarray(small, np.float32)[margin:-margin, margin:-margin]
    return cut * np.float32(1 / 255)


def scratches(rng: Rng, side: float) -> Layer:
    """Return scratches of the glass that pass through the square 0..side: dark and bright lines."""
    count = int(rng.integers(1, 9)) + int(side // 600)
    angle_spread = rng.uniform(0, 0.5)
    first = rng.uniform(-math.pi, math.pi)
    lines = []
    for _ in range(min(count, 64)):
        angle = first + rng.normal(0, angle_spread)
        y, x = rng.uniform(0, side, 2)
        lines.append((math.cos(angle), math.sin(angle), y, x, log_uniform(rng, 0.7, 7)))
    noise, dark, shine = Noise(rng), rng.uniform(0.1, 0.6), rng.uniform(0, 0.25)

    def layer(light: Light, window: Window) -> Light:
        change = np.ones((TILE, TILE), np.float32)
        bend = noise.over(window, 400) * 6
        gaps = step(noise.over(window, 60) + 1, 0.8)
        for c, s, y, x, width in lines:
            across = (window.y - y) * c - (window.x - x) * s + bend
            change -= gaps * dark * np.exp(-((across / width) ** 2))
            change += gaps * shine * np.exp(-(((across - 1.8 * width) / width) ** 2))
        return times(light, change.clip(0.05, 1.3))

    return layer


def strands(rng: Rng, side: float) -> Layer:
    """Return strands of mucus or dried medium over the plane: pale, drawn out, granular."""
    noise, arc = Noise(rng), Arc.through(rng, side, 400, 4000)
    thick, long = log_uniform(rng, 8, 60), rng.uniform(6, 25)
    level, amount = rng.uniform(-0.1, 0.8), rng.uniform(0.15, 0.8)
    colour = jitter(
        rng, ((0.5, 0.35, 0.2), (0.35, 0.5, 0.3), (0.5, 0.45, 0.2))[int(rng.integers(3))]
    )

    def layer(light: Light, window: Window) -> Light:
        along, across = arc.places(window)
        flow = noise.at(along / (thick * long), across / thick + noise.over(window, 150))
        body = step(flow - level, 0.6) * (1 + 0.35 * noise.octaves(window, 10, 2))
        return absorb(light, body.clip(0, None) * amount, colour)

    return layer
