"""Glass with nothing on it to judge: lamps, tints, grain, edges, what a fluid left."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from unicas_edge.train.artefacts.plane import (
    Colour,
    Layer,
    Light,
    Noise,
    Rng,
    Window,
    absorb,
    log_uniform,
    step,
    times,
)
from unicas_edge.train.compose.sources import TILE


@lru_cache(maxsize=1)
def _noise() -> Light:
    """Return noise of deviation 1 that windows are cut from: drawing it anew takes longer."""
    return np.random.default_rng(0).standard_normal((4 * TILE, 4 * TILE, 3), np.float32)


def grain(rng: Rng) -> Light:
    """Return a camera's noise of deviation 1, float32 [256, 256, 3]."""
    top, left = (int(v) for v in rng.integers(0, 3 * TILE, 2))
    return _noise()[top : top + TILE, left : left + TILE]


def sheet(rng: Rng, low: float = 0.82) -> Light:
    """Return evenly lit glass as light [256, 256, 3], with a tint and a camera's noise."""
    level = rng.uniform(low, 0.995)
    tint = rng.normal(0, 0.012, 3).clip(-0.04, 0.04)
    colour = np.asarray((level + tint).clip(0, 1), np.float32)
    return colour + grain(rng) * np.float32(rng.uniform(0, 0.008))


def clean(rng: Rng, side: float) -> Layer:
    """Return glass as it is."""
    del rng, side
    return lambda light, _window: light


def tinted(rng: Rng, side: float) -> Layer:
    """Return glass that a dried dye or an old mounting medium has coloured, unevenly."""
    colours: tuple[Colour, ...] = (
        (0.02, 0.08, 0.35),
        (0.3, 0.1, 0.02),
        (0.02, 0.3, 0.15),
        (0.2, 0.2, 0.05),
        (0.15, 0.25, 0.02),
    )
    colour, noise = colours[int(rng.integers(len(colours)))], Noise(rng)
    amount, uneven = rng.uniform(0.2, 1.6), rng.uniform(0, 0.5)
    del side

    def layer(light: Light, window: Window) -> Light:
        dense = amount * (1 + uneven * noise.octaves(window, 260, 3))
        return absorb(light, dense.clip(0, None), colour)

    return layer


def shaded(rng: Rng, side: float) -> Layer:
    """Return a lamp that is not centred: brightness falls off to one side of every field."""
    y, x = rng.uniform(-0.6, 1.6, 2) * TILE
    fall, reach = rng.uniform(0.1, 0.7), rng.uniform(0.9, 2.2) * TILE
    warm = np.asarray([1, rng.uniform(0.95, 1.05), rng.uniform(0.9, 1.1)], np.float32)
    del side

    def layer(light: Light, window: Window) -> Light:
        del window  # the lamp is the scanner's: every field is lit alike
        frame = Window()
        u = np.hypot(frame.y - np.float32(y), frame.x - np.float32(x)) / np.float32(reach)
        return times(light, 1 - fall * (u.clip(0, 1) ** 2)[..., None] * warm)

    return layer


def dusty(rng: Rng, side: float) -> Layer:
    """Return dust on a lens or on the other side of the glass: large soft discs with a ring."""
    count = int(np.clip(rng.integers(1, 7) * (side / TILE) ** 2, 1, 4000))
    places = rng.uniform(0, side, (count, 2))
    radii = np.exp(rng.uniform(math.log(8), math.log(60), count))
    dark = rng.uniform(0.03, 0.3, count)

    def layer(light: Light, window: Window) -> Light:
        change = np.ones((TILE, TILE), np.float32)
        gaps = np.abs(places - (window.top + TILE / 2, window.left + TILE / 2)).max(axis=1)
        for k in np.flatnonzero(gaps < radii * 1.5 + TILE / 2):
            u = np.hypot(window.y - np.float32(places[k, 0]), window.x - np.float32(places[k, 1]))
            u = u / np.float32(radii[k])
            change -= np.float32(dark[k]) * step(1 - u, 0.35)
            change += np.float32(0.25 * dark[k]) * np.exp(-(((u - 1.1) * 7) ** 2))
        return times(light, change.clip(0.2, 1.2))

    return layer


def frosted(rng: Rng, side: float) -> Layer:
    """Return the ground end of a slide: fine grey grain, dark pits and bright facets."""
    noise, fine = Noise(rng), log_uniform(rng, 1.2, 6)
    depth, pits = rng.uniform(0.05, 0.3), rng.uniform(0, 0.4)
    grey = np.asarray(rng.uniform(0.55, 0.95) + rng.normal(0, 0.012, 3), np.float32)
    del side

    def layer(light: Light, window: Window) -> Light:
        grain = noise.octaves(window, fine * 4, 3, 0.9)
        dark = step(noise.over(window, fine * 3) - 1.1, 0.5) * np.float32(pits)
        change = (1 + depth * grain - dark).clip(0.1, 1.7)
        return times(light, change[..., None] * grey)

    return layer


def edge(rng: Rng, side: float) -> Layer:
    """Return the edge of a cover slip, or of the medium under it, through the square 0..side."""
    noise, angle = Noise(rng), rng.uniform(-math.pi, math.pi)
    y, x = rng.uniform(0.1 * side, 0.9 * side, 2)
    wavy = 0.0 if rng.random() < 0.5 else log_uniform(rng, 2, 25)
    width, dark = log_uniform(rng, 1.5, 28), rng.uniform(0.2, 0.9)
    shine, beyond = rng.uniform(0, 0.25), rng.uniform(0.72, 1.06)
    medium: Colour = (0.01, 0.03, float(rng.uniform(0.02, 0.25)))
    c, s = math.cos(angle), math.sin(angle)

    def layer(light: Light, window: Window) -> Light:
        across = (window.y - np.float32(y)) * np.float32(c) + (
            window.x - np.float32(x)
        ) * np.float32(s)
        across = across + np.float32(wavy) * noise.octaves(window, 130, 2)
        u = across / np.float32(width)
        change = 1 + (beyond - 1) * step(across, 2)
        change = change - dark * np.exp(-(u**2)) + shine * np.exp(-((u - 1.8) ** 2))
        change += 0.4 * shine * np.exp(-((u + 2.2) ** 2))
        return absorb(times(light, change.clip(0.03, 1.4)), step(-across, 3), medium)

    return layer


def dried(rng: Rng, side: float) -> Layer:
    """Return marks that a drying fluid left: rings of residue, one in another."""
    noise, period = Noise(rng), log_uniform(rng, 80, 700)
    steps, dark = rng.uniform(1.5, 6), rng.uniform(0.05, 0.45)
    colour: Colour = (0.7, 0.8, 1.0) if rng.random() < 0.6 else (1.0, 0.7, 0.5)
    sharp, top = log_uniform(rng, 12, 50), int(rng.integers(4096))
    del side

    def layer(light: Light, window: Window) -> Light:
        high = noise.octaves(Window(window.top + top, window.left + top), period, 3, 0.35) * steps
        inner = high - np.floor(high)
        line = np.exp(-inner * sharp) + 0.15 * (1 - inner)
        return absorb(light, line * dark * (1 + 0.4 * noise.over(window, 6)).clip(0, None), colour)

    return layer
