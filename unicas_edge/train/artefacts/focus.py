"""Tiles out of focus: by a Gaussian, by the disc that a lens makes, or by a stage that moved."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import fft

from unicas_edge.train.artefacts.plane import Layer, Light, Rng, Window, log_uniform, soften
from unicas_edge.train.compose.sources import TILE

#: sigma in pixels of 0.5 um below which cells may still be judged, and the largest drawn
LEAST, MOST = 2.5, 10.0
_PADDED = 320


def gaussian(rng: Rng, side: float) -> Layer:
    """Return a blur of sigma `LEAST` to `MOST`."""
    sigma = log_uniform(rng, LEAST, MOST)
    del side
    return lambda light, _window: soften(light, sigma)


def disc(rng: Rng, side: float) -> Layer:
    """Return a lens' blur, whose disc has the deviation of a Gaussian of `LEAST` to `MOST`."""
    radius = 2 * log_uniform(rng, LEAST, MOST)  # a disc's deviation along an axis is half of it
    del side
    return lambda light, _window: _convolved(light, _disc(round(radius, 1)))


def moved(rng: Rng, side: float) -> Layer:
    """Return a blur along a line: the stage moved while the picture was taken."""
    length, angle = rng.uniform(14, 40), rng.uniform(0, math.pi)
    wide = rng.uniform(0.6, 2.5)
    y, x = (np.fft.fftfreq(_PADDED, 1 / _PADDED).astype(np.float32) for _ in range(2))
    along = y[:, None] * math.sin(angle) + x[None] * math.cos(angle)
    across = y[:, None] * math.cos(angle) - x[None] * math.sin(angle)
    spread = (np.abs(along) < length / 2) * np.exp(-((across / wide) ** 2))
    kernel = fft.rfft2((spread / spread.sum()).astype(np.float32))
    del side

    def layer(light: Light, window: Window) -> Light:
        del window
        return _convolved(light, kernel)

    return layer


@lru_cache(maxsize=256)
def _disc(radius: float) -> np.ndarray:
    """Return the transform of a disc, complex64 [padded, padded / 2 + 1]."""
    along = np.fft.fftfreq(_PADDED, 1 / _PADDED).astype(np.float32)
    inside = (radius + 0.5 - np.hypot(along[:, None], along[None])).clip(0, 1)
    return np.asarray(fft.rfft2((inside / inside.sum()).astype(np.float32)))


def _convolved(light: Light, kernel: np.ndarray) -> Light:
    """Return light [256, 256, 3] folded with a kernel; beyond its edge lies its mirror image."""
    margin = (_PADDED - TILE) // 2
    wide = np.pad(light.transpose(2, 0, 1), ((0, 0), (margin,) * 2, (margin,) * 2), "symmetric")
    folded = fft.irfft2(fft.rfft2(wide) * kernel, s=(_PADDED, _PADDED))
    cut = folded[:, margin:-margin, margin:-margin].transpose(1, 2, 0)
    return np.ascontiguousarray(cut, np.float32)
