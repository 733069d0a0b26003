"""Folds: a band where what lies there lies twice, and rises out of the plane of focus."""

from __future__ import annotations

import numpy as np

from unicas_edge.train.artefacts.plane import (
    Arc,
    Layer,
    Light,
    Noise,
    Rng,
    Window,
    absorb,
    log_uniform,
    mix,
    power,
    soften,
    step,
)
from unicas_edge.train.compose.sources import TILE


def band(rng: Rng, side: float, width: tuple[float, float] = (30, 170)) -> Layer:
    """Return one fold through the square 0..side, with a dark crease at one or both edges."""
    arc, noise = Arc.through(rng, side, 90, 3000), Noise(rng)
    wide, soft = log_uniform(rng, *width), rng.uniform(2, 10)
    twice, blur = rng.uniform(0.7, 1.5), rng.uniform(1.5, 6)
    creases = rng.uniform(0.1, 0.9, 2)
    film = (0.10 * rng.random(), 0.12 * rng.random(), 0.05 + 0.1 * rng.random())
    wave = rng.uniform(0.05, 0.3) * wide
    # on one tile other cells of it are folded over; over many the band must go on as it is
    whole = side > TILE

    def layer(light: Light, window: Window) -> Light:
        if arc.gap(window) > wide / 2 + 5 * wave + 20:
            return light
        _, across = arc.places(window)
        across = across + wave * noise.over(window, 90)
        inside = wide / 2 - np.abs(across)
        cover = step(inside, soft)
        over = soften(light, blur)
        again = over if whole else over[::-1].swapaxes(0, 1)
        doubled = over * power(again, twice)
        light = mix(light, doubled, cover)
        lines = sum(
            c * np.exp(-(((across + s * wide / 2) / 4) ** 2))
            for c, s in zip(creases, (-1, 1), strict=True)
        )
        dense = cover * (1 + 0.5 * noise.octaves(window, 60, 3)) + 3 * np.asarray(lines, np.float32)
        return absorb(light, dense, _tinted(film))

    return layer


def wrinkles(rng: Rng, side: float) -> Layer:
    """Return several narrow folds that run beside each other through the square 0..side."""
    arc, noise = Arc.through(rng, side, 150, 4000), Noise(rng)
    apart, thin = log_uniform(rng, 20, 150), rng.uniform(0.12, 0.5)
    bend, amount = rng.uniform(0.4, 1.6), rng.uniform(0.4, 1.3)
    reach, blur = log_uniform(rng, 60, 400), rng.uniform(1, 4)

    def layer(light: Light, window: Window) -> Light:
        if arc.gap(window) > 2 * reach:
            return light
        along, across = arc.places(window)
        phase = across / apart + bend * noise.over(window, 110) + 0.3 * np.sin(along / 200)
        ridge = step(np.sin(phase * 2 * np.pi) - 1 + 2 * thin, 0.5)
        cover = ridge * step(reach - np.abs(across), reach / 4)
        over = soften(light, blur)
        light = mix(light, over * power(over[:, ::-1], amount), cover)
        return absorb(light, cover * step(noise.over(window, 30), 2), (0.12, 0.15, 0.1))

    return layer


def _tinted(film: tuple[float, float, float]) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in film)
    return r, g, b
