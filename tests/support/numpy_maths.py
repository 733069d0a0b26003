"""The numerical pieces the aggregator is made of: float32 in, float32 out."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

#: 1 - erf(4) = 1.5e-8, a quarter of float32's step below 1.
_ERF_LIMIT = 4.0
_ERF_DEGREE = 18
#: Elements handled at once, so that float64 temporaries stay in the second-level cache.
_CHUNK = 16_384


def _erf_coefficients() -> list[float]:
    """Fit erf(x) / x, an even entire function, in v = 2 (x / limit)^2 - 1; lowest power first.

    Chebyshev interpolation of `math.erf` at degree 18 is 1e-8 from it, below float32's rounding.
    """

    def quotient(v: NDArray[np.float64]) -> NDArray[np.float64]:
        x = _ERF_LIMIT * np.sqrt((v + 1) / 2)
        return np.array([math.erf(value) / value for value in x])

    fitted = Chebyshev.interpolate(quotient, _ERF_DEGREE).convert(kind=np.polynomial.Polynomial)
    return [float(c) for c in fitted.coef]


_ERF = _erf_coefficients()


def erf(x: Float32) -> Float32:
    """Return the error function of a float32 array of any shape, within 5e-8 of `math.erf`."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.shape, dtype=np.float32)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        np.clip(part, -_ERF_LIMIT, _ERF_LIMIT, out=part)
        v = part * part * (2 / _ERF_LIMIT**2) - 1
        value = np.full_like(v, _ERF[-1])
        for coefficient in _ERF[-2::-1]:
            value *= v
            value += coefficient
        out[start : start + _CHUNK] = value * part
    return out.reshape(x.shape)


def gelu(x: Float32) -> Float32:
    """Return x Phi(x), the exact (erf) GELU, in the shape of `x`."""
    half = np.float32(0.5)
    gated: Float32 = half * x * (1 + erf(x * np.float32(math.sqrt(0.5))))
    return gated


def layer_norm(x: Float32, weight: Float32, bias: Float32, eps: float) -> Float32:
    """Return the rows of `x` [rows, C] at mean 0 and variance 1, times `weight` plus `bias` [C]."""
    centred: Float32 = x - x.mean(axis=1, keepdims=True)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    centred /= np.sqrt(variance + np.float32(eps))
    centred *= weight
    centred += bias
    return centred


def softmax(x: Float32, axis: int = -1) -> Float32:
    """Return exp(x) normalised along `axis`; the maximum is taken off first."""
    powers: Float32 = np.exp(x - x.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


def top_m(scores: Float32, m: int) -> NDArray[np.intp]:
    """Return the indices of the `m` largest of `scores` [N] (all, if fewer), ascending.

    Equal scores: the lowest index comes first. `argpartition` promises no such thing, so the m-th
    largest value is found first, then everything above it, then ties from the left.
    """
    if m >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - m)[len(scores) - m]
    above = np.flatnonzero(scores > least)
    ties = np.flatnonzero(scores == least)[: m - len(above)]
    return np.sort(np.concatenate([above, ties]))


def depthwise(grid: Float32, kernel: Float32, bias: Float32) -> Float32:
    """Return the depth-wise cross-correlation of `grid` [rows, cols, C], zero-padded to its size.

    `kernel` [k, k, C] with k odd, `bias` [C]. One output row at a time, which stays in cache.
    """
    rows, cols, _ = grid.shape
    size = len(kernel)
    margin = size // 2
    padded = np.pad(grid, ((margin, margin), (margin, margin), (0, 0)))
    out = np.empty_like(grid)
    product = np.empty_like(grid[0])
    for row in range(rows):
        out[row] = bias
        for dy in range(size):
            for dx in range(size):
                np.multiply(padded[row + dy, dx : dx + cols], kernel[dy, dx], out=product)
                out[row] += product
    return out
