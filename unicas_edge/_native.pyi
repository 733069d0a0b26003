"""The kernels of csrc; see csrc/unicas_edge.h for what each computes."""

import numpy as np
from numpy.typing import NDArray

def variants() -> tuple[str, ...]:
    """Return the names of the variants this processor runs, best first."""

def active() -> str:
    """Return the name of the variant used by default."""

def normalise(
    pixels: NDArray[np.uint8],
    affine: NDArray[np.float32],
    out: NDArray[np.generic],
    variant: str | None = None,
) -> None:
    """Fill `out` [3, h, w] from `pixels` uint8 [h, w, 3]; `ValueError` where they do not fit."""

def measure(
    pixels: NDArray[np.uint8], cellular_below: int, dark_below: int, variant: str | None = None
) -> tuple[int, int, int, int, int, int, int, int]:
    """Return cellular, dark, sums of R, G, B, Laplacian sum, squares and count."""
