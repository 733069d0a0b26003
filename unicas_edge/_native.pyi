"""The C kernels of ``csrc/unicas_edge.h``, which states their arithmetic. All release the GIL.

`pixels` is uint8 RGB [height, width, 3]; rows may lie any number of bytes apart (a crop, a flip),
but are contiguous themselves. `variant` is one of `variants()`; None is `active()`, the best.
Whatever does not fit raises ValueError (TypeError, BufferError where it is no such buffer at all).
"""

import numpy as np
from numpy.typing import NDArray

def variants() -> tuple[str, ...]:
    """Return the variants that this processor can run, best first, "portable" last."""

def active() -> str:
    """Return the name of the variant that is used unless another is asked for."""

def normalise(
    pixels: NDArray[np.uint8],
    affine: NDArray[np.float32],
    out: NDArray[np.generic],
    variant: str | None = None,
) -> None:
    """Write the affine map (float32 [12], row-major [3, 4]) of every pixel to `out`.

    `out` is C-contiguous [3, height, width] float32, float16 (rounded to nearest even) or uint8
    (likewise, and saturated), and must not overlap `pixels`. Coefficients lie inside +-1e30.
    """

def measure(
    pixels: NDArray[np.uint8],
    cellular_below: int,
    dark_below: int,
    variant: str | None = None,
) -> tuple[int, int, int, int, int, int, int, int]:
    """Return exact counts and sums over the pixels, thresholds 0 to 255.

    In this order: pixels with min(R, G, B) < `cellular_below`; pixels with max(R, G, B) <
    `dark_below`; the sums of R, G and B; and of the Laplacian of G ([0 1 0; 1 -4 1; 0 1 0],
    interior pixels only): its sum, the sum of its squares, and how many pixels it was taken at.
    """
