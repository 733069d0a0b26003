"""Stage 3: pixels become model input in one pass of one kernel.

The colour matrix, the scaling to [0, 1], mean and standard deviation fold into one affine map. It
is not clamped to 0..255 in between, which is what lets a model take the same map into its patch
embedding; a colour matrix may therefore push a bright pixel slightly past white.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unicas_edge import _native

#: The 3 x 4 matrix that leaves colours alone.
IDENTITY: NDArray[np.float64] = np.eye(3, 4)


class Normaliser:
    """out = (M [R G B 1] / 255 - mean) / std, planar; `matrix` M is 3 x 4, in grey levels.

    With `dtype` uint8 mean and std are left to the model, and the output is M [R G B 1], rounded to
    even and saturated. `affine` is the folded map, float32 [12], row-major.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        matrix: ArrayLike | None = None,
        dtype: str = "float32",
    ) -> None:
        self.matrix = np.array(IDENTITY if matrix is None else matrix, dtype=np.float64)
        self.dtype = np.dtype(dtype)
        folded = self.matrix.copy()
        if self.dtype != np.uint8:
            folded /= 255
            folded[:, 3] -= np.asarray(mean, dtype=np.float64)
            folded /= np.asarray(std, dtype=np.float64)[:, None]
        self.affine: NDArray[np.float32] = folded.astype(np.float32).ravel()

    def into(self, tile: NDArray[np.uint8], out: NDArray[np.generic]) -> None:
        """Fill `out` [3, h, w], C-contiguous, from `tile` uint8 [h, w, 3] with any row stride.

        `ValueError` where shapes or types do not fit.
        """
        _native.normalise(tile, self.affine, out)


def centre_crop(tile: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the central [size, size, 3] view of a tile, of the upper left one where two are."""
    top, left = (tile.shape[0] - size) // 2, (tile.shape[1] - size) // 2
    return tile[top : top + size, left : left + size]
