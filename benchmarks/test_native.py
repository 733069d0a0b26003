"""The kernels on one 224-pixel crop of a 256-pixel tile, one thread, per variant, beside NumPy.

The variant None is what each kernel takes by itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from unicas_edge import _native

TILE, CROP = 256, 224
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
RNG = np.random.default_rng(0)
CROPPED = RNG.integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)[16:-16, 16:-16]
#: The mean of 4 x 4 pixels of noise, at half its contrast: as many JPEG bytes as real tiles have.
BLURRED = (
    sum(np.roll(CROPPED, (y, x), (0, 1)).astype(float) for y in range(4) for x in range(4)) / 32
    + 64
).astype(np.uint8)
MAPS = {
    "colour": RNG.normal(0, 0.01, 12).astype(np.float32),
    "mean-std": np.column_stack([np.diag(1 / (255 * STD)), -MEAN / STD]).astype(np.float32).ravel(),
    "copy": np.eye(3, 4, dtype=np.float32).ravel(),
}
CASES = [
    (dtype, kind)
    for dtype in ("float32", "float16", "uint8")
    for kind in ("colour", "mean-std", "copy")
    if (kind == "copy") == (dtype == "uint8") or kind == "colour"
]


@pytest.mark.parametrize("variant", [None, *_native.variants()])
@pytest.mark.parametrize(("dtype", "kind"), CASES)
def test_normalise(benchmark, variant: str | None, dtype: str, kind: str) -> None:
    out = np.empty((3, CROP, CROP), dtype)
    benchmark(_native.normalise, CROPPED, MAPS[kind], out, variant)


@pytest.mark.parametrize("variant", [None, *_native.variants()])
def test_measure(benchmark, variant: str | None) -> None:
    benchmark(_native.measure, CROPPED, 217, 32, variant)


@pytest.mark.parametrize("variant", [None, *_native.variants()])
def test_content_score(benchmark, variant: str | None) -> None:
    benchmark(_native.content_score, BLURRED, variant)


def test_simplejpeg_content_score(benchmark) -> None:
    """The same bytes by NumPy's luma and libjpeg-turbo."""
    weights = np.float32([0.299, 0.587, 0.114])

    def score() -> int:
        luma = (BLURRED.astype(np.float32) @ weights + 0.5).astype(np.uint8)
        return len(simplejpeg.encode_jpeg(luma[..., None], 75, "GRAY", "Gray"))

    benchmark(score)


def test_numpy_normalise(benchmark) -> None:
    """The same mean and std, plane by plane, without temporaries of the whole tile."""
    out = np.empty((3, CROP, CROP), np.float32)

    def planes() -> None:
        for c in range(3):
            np.multiply(CROPPED[..., c], 1 / (255 * STD[c]), out=out[c], dtype=np.float32)
            out[c] -= MEAN[c] / STD[c]

    benchmark(planes)


def test_numpy_measure(benchmark) -> None:
    def measures() -> tuple[int, NDArray[np.float64]]:
        green = CROPPED[..., 1].astype(np.int32)
        inner = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:]
        return int((CROPPED.min(axis=2) < 217).sum()), (inner - 4 * green[1:-1, 1:-1]).var()

    benchmark(measures)
