"""Felt pens and fine liners on the cover slip: above the cells, so often out of focus."""

from __future__ import annotations

import numpy as np

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
)
from unicas_edge.train.compose.sources import TILE

#: Optical density (natural logarithm; R, G, B) of the pens' inks at their full thickness.
INKS: dict[str, tuple[Colour, ...]] = {
    "blue": ((2.2, 1.5, 0.25), (2.6, 2.0, 0.6), (1.7, 0.7, 0.2)),
    "black": ((2.2, 2.2, 2.1), (1.9, 2.1, 1.7), (2.4, 2.2, 1.8)),
    "green": ((2.0, 0.6, 1.5), (1.8, 0.4, 0.9)),
    "red": ((0.15, 1.9, 1.5), (0.3, 2.2, 1.0)),
    "violet": ((1.1, 2.1, 0.5), (0.8, 1.7, 0.3)),
    "orange": ((0.06, 0.8, 1.9), (0.4, 1.1, 2.0)),
}
#: how wide the pens write, pixels of 0.5 um: fine liners, and felt pens of up to 2 mm
_FINE, _FELT = (90, 420), (500, 4000)


def ink(rng: Rng, side: float, colour: str, strokes: int = 1, least: float = 0.3) -> Layer:
    """Return strokes of one pen that pass through the square 0..side, at `least` so dense."""
    fine = rng.random() < 0.3 and side <= TILE  # a whole slide is marked with felt pens
    pen = jitter(rng, INKS[colour][int(rng.integers(len(INKS[colour])))])
    amount = log_uniform(rng, least, max(2.2, 1.3 * least))
    made = [_stroke(rng, side, pen, amount, _FINE if fine else _FELT) for _ in range(strokes)]

    def layer(light: Light, window: Window) -> Light:
        for one in made:
            light = one(light, window)
        return light

    return layer


def _stroke(rng: Rng, side: float, colour: Colour, amount: float, widths: tuple[int, int]) -> Layer:
    """Return one stroke: streaks along it, darker where the ink dried last: at its edges."""
    width = log_uniform(rng, *widths)
    arc, noise = Arc.through(rng, side), Noise(rng)
    # the middle of the square may lie anywhere in the stroke, often near its edge
    shift = float(rng.choice([-0.5, 0.5]) * width * rng.beta(3, 1.2))
    rough, soft = log_uniform(rng, 0.5, 14), log_uniform(rng, 1.5, 30)
    streak, fine = rng.uniform(0.05, 0.55), log_uniform(rng, 5, 60)
    dry = rng.uniform(0.6, 1.6) if rng.random() < 0.3 else None  # a pen that runs out
    border, reach = rng.uniform(0, 0.9), log_uniform(rng, 6, 50)
    blotch = rng.uniform(0, 0.35)

    def layer(light: Light, window: Window) -> Light:
        if arc.gap(window) > width / 2 + abs(shift) + soft + 5 * rough:
            return light
        along, across = arc.places(window)
        across = across + shift
        inside = width / 2 - np.abs(across) + rough * noise.octaves(window, 40, 3)
        lines = noise.at(along / (fine * 25), across / fine)
        dense = 1 + streak * lines + blotch * noise.over(window, 170)
        dense += border * np.exp(-np.maximum(inside, 0) / reach)
        cover = step(inside, soft)
        if dry is not None:
            cover = cover * step(lines + dry * 0.6 + 0.4 * noise.over(window, 9), 0.5)
        return absorb(light, dense.clip(0.05, None) * cover * amount, colour)

    return layer


def dots(rng: Rng, side: float, colour: str) -> Layer:
    """Return blots of ink drawn back into drops as it dried, one of them in the square."""
    pen = jitter(rng, INKS[colour][int(rng.integers(len(INKS[colour])))])
    noise, period = Noise(rng), log_uniform(rng, 25, 260)
    level, amount = rng.uniform(-0.4, 0.5), log_uniform(rng, 0.5, 2.5)
    soft, border = log_uniform(rng, 0.05, 0.3), rng.uniform(0.2, 1.2)
    top, left = (int(v) for v in rng.integers(0, 64 * 64, 2))

    def layer(light: Light, window: Window) -> Light:
        high = noise.octaves(Window(window.top + top, window.left + left), period, 3, 0.4) - level
        cover = step(high, soft)
        dense = 0.7 + border * np.exp(-np.maximum(high, 0) / 0.12) + 0.15 * noise.over(window, 7)
        return absorb(light, (cover * dense * amount).clip(0, None), pen)

    del side  # drops are all over the plane
    return layer
