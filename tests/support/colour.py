"""The colour fit in NumPy, by which csrc/colour is judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unicas_edge.tiles.colour import Target
from unicas_edge.tiles.quality import CELLULAR_BELOW

WHITE = 245.0
MIN_PIXELS = 256
_LEAST_STD = 0.5
_BACKGROUND_ABOVE = 160
_BACKGROUND_SPREAD = 40
#: IEC 61966-2-1 (sRGB) to CIE XYZ, divided by the D65 white point.
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])
_LAB = np.array([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]])


class Found(NamedTuple):
    matrix: NDArray[np.float64]
    pixels_used: int
    warnings: tuple[str, ...] = ()


def white_balance(pixels: NDArray[np.uint8]) -> Found:
    low, high = pixels.min(axis=1).astype(int), pixels.max(axis=1).astype(int)
    glass = pixels[(low >= _BACKGROUND_ABOVE) & (high - low <= _BACKGROUND_SPREAD)]
    if len(glass) < MIN_PIXELS:
        return _unfitted("white-balance", f"only {len(glass)} background pixels in the sample")
    light = glass.sum(axis=1, dtype=np.int64)
    clearest = glass[light >= np.median(light)]  # the other half may be pale cytoplasm
    matrix = np.zeros((3, 4))
    np.fill_diagonal(matrix, WHITE / np.median(clearest, axis=0))
    return Found(matrix, len(clearest))


def reinhard(pixels: NDArray[np.uint8], target: Target) -> Found:
    tissue = pixels[pixels.min(axis=1) < CELLULAR_BELOW]
    if len(tissue) < MIN_PIXELS:
        return _unfitted("reinhard", f"only {len(tissue)} tissue pixels in the sample")
    lab = to_lab(tissue)
    mean, std = lab.mean(axis=0), lab.std(axis=0)
    if (std < _LEAST_STD).any():
        return _unfitted("reinhard", "the tissue pixels of the sample are all alike")
    wanted = to_rgb((lab - mean) / std * np.asarray(target.std) + np.asarray(target.mean))
    glass = pixels[pixels.min(axis=1) >= CELLULAR_BELOW]
    known = np.concatenate([tissue, glass]).astype(np.float64)
    wanted = np.concatenate([wanted, np.full(glass.shape, WHITE)])
    solution, _, rank, _ = np.linalg.lstsq(
        np.column_stack([known, np.ones(len(known))]), wanted, rcond=None
    )
    if rank < 4:
        return _unfitted("reinhard", "the pixels of the sample lie in one plane")
    return Found(np.ascontiguousarray(solution.T), len(tissue))


def _unfitted(mode: str, why: str) -> Found:
    return Found(np.eye(3, 4), 0, (f"colour mode {mode} did not change the colours: {why}",))


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return CIELAB (D65) float64 [n, 3] of sRGB pixels in grey levels (CIE 15, IEC 61966-2-1)."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ.T
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.asarray(cube @ _LAB.T - np.array([16.0, 0, 0]))


def to_rgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sRGB grey levels float64 [n, 3], clipped to 0..255, of CIELAB (D65) colours."""
    cube = (lab + np.array([16.0, 0, 0])) @ np.linalg.inv(_LAB).T
    xyz = np.where(cube > 6 / 29, cube**3, 3 * (6 / 29) ** 2 * (cube - 4 / 29))
    linear = np.clip(xyz @ np.linalg.inv(_XYZ).T, 0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.clip(value, 0, 1) * 255)
