"""Colour correction of a slide, as one 3 x 4 matrix fitted on a sample of its pixels.

Papanicolaou stain has five dyes, so methods that separate two (Macenko, Vahadane) are ill-posed
here. `white-balance` makes the background neutral; `reinhard` brings the CIELAB mean and standard
deviation of tissue pixels to a target (Reinhard et al., IEEE CG&A 2001), as the least-squares
affine map of that correction, so that it costs nothing in the normalise kernel. The map is fitted
on tissue and on glass, which is kept neutral: fitted on tissue alone it gives pale slides cyan
glass. Between six real ThinPrep slides it misses the correction itself by 1.4 to 8.5 grey levels on
average, where the correction changes 5 to 36 (0.4 to 3.9 if fitted on tissue alone), and by 1.4 to
5.2 towards the default target. On these slides the encoder's mean token of the two whose stain no
encoder had seen then lay 0.8 and 0.2 within-slide variances away, not 1.9 and 1.1 as uncorrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import UnicasError
from unicas_edge.tiles.normalise import IDENTITY
from unicas_edge.tiles.quality import CELLULAR_BELOW

#: `icc` is done by the slide itself (`slide.icc`), before anything is fitted.
ICC = "icc"
MODES = ("none", "white-balance", "reinhard", ICC)
_UNFITTED = frozenset({"none", ICC})
WHITE = 245.0  # where a background lies that is bright but not clipped
MIN_PIXELS = 256
#: Tiles of a slide that are enough to fit on, and every how many of their pixels.
SAMPLE_TILES = 32
_STRIDE = 4
#: Tissue that varies less than coding noise, in CIELAB units, would only have its noise enlarged;
#: on three real ThinPrep slides L*, a*, b* vary by 18 to 21, 13 to 22 and 6.
_LEAST_STD = 0.5
_BACKGROUND_ABOVE = 160
_BACKGROUND_SPREAD = 40  # between a background pixel's channels: more is stain
#: IEC 61966-2-1 (sRGB) to CIE XYZ, divided by the D65 white point.
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])
_LAB = np.array([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]])


class Target(Protocol):
    """CIELAB statistics to bring a slide to."""

    @property
    def mean(self) -> Sequence[float]:
        """Of L*, a*, b*."""

    @property
    def std(self) -> Sequence[float]:
        """Of L*, a*, b*."""


@dataclass(frozen=True)
class ColourFit:
    """`matrix` float64 [3, 4] maps (R, G, B, 1) to corrected RGB, in grey levels."""

    mode: str
    matrix: NDArray[np.float64]
    pixels_used: int
    warnings: tuple[str, ...] = ()


#: Colours as they are.
UNCHANGED = ColourFit("none", IDENTITY, 0)


def fit_tiles(mode: str, tiles: Iterable[UInt8Image], target: Target | None = None) -> ColourFit:
    """Return `fit` on every 4th pixel, along and down, of `tiles` uint8 [n, n, 3], if need be."""
    needed = () if mode in _UNFITTED else tiles
    sample = [tile[::_STRIDE, ::_STRIDE].reshape(-1, 3) for tile in needed]
    return fit(mode, np.concatenate(sample) if sample else np.empty((0, 3), np.uint8), target)


def fit(mode: str, pixels: NDArray[np.uint8], target: Target | None = None) -> ColourFit:
    """Return the correction of `mode` fitted on `pixels` uint8 [n, 3].

    Too few usable pixels, or pixels that are all alike, give the identity and a warning.
    `UnicasError` for an unknown mode, or for `reinhard` without a target.
    """
    if mode not in MODES:
        raise UnicasError(f"no colour mode {mode!r}; known: {', '.join(MODES)}")
    if mode in _UNFITTED:
        return ColourFit(mode, IDENTITY.copy(), 0)
    if mode == "white-balance":
        return _white_balance(pixels)
    if target is None:
        raise UnicasError(
            "colour mode reinhard needs a target, and this bundle has none; use another"
        )
    return _reinhard(pixels, target)


def _white_balance(pixels: NDArray[np.uint8]) -> ColourFit:
    low, high = pixels.min(axis=1).astype(int), pixels.max(axis=1).astype(int)
    glass = pixels[(low >= _BACKGROUND_ABOVE) & (high - low <= _BACKGROUND_SPREAD)]
    if len(glass) < MIN_PIXELS:
        return _unfitted("white-balance", f"only {len(glass)} background pixels in the sample")
    light = glass.sum(axis=1, dtype=np.int64)
    clearest = glass[light >= np.median(light)]  # the other half may be pale cytoplasm
    matrix = np.zeros((3, 4))
    np.fill_diagonal(matrix, WHITE / np.median(clearest, axis=0))
    return ColourFit("white-balance", matrix, len(clearest))


def _reinhard(pixels: NDArray[np.uint8], target: Target) -> ColourFit:
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
    return ColourFit("reinhard", np.ascontiguousarray(solution.T), len(tissue))


def _unfitted(mode: str, why: str) -> ColourFit:
    return ColourFit(
        mode, IDENTITY.copy(), 0, (f"colour mode {mode} did not change the colours: {why}",)
    )


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
