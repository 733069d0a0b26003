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
_DTYPES = tuple(map(np.dtype, ("float32", "float16", "uint8")))


class Normaliser:
    """out = (M [R G B 1] / 255 - mean) / std, planar; `matrix` M is 3 x 4, in grey levels.

    With `dtype` uint8 mean and std are left to the model, and the output is M [R G B 1], rounded to
    even and saturated. `affine` is the folded map, float32 [12], row-major.

    `ValueError` for another dtype, a wrong shape, a number not finite, or a std not above 0.
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
        if self.dtype not in _DTYPES:
            raise ValueError(f"model input is float32, float16 or uint8, not {self.dtype}")
        folded = _folded(self.matrix, np.asarray(mean), np.asarray(std), self.dtype)
        self.affine: NDArray[np.float32] = folded.astype(np.float32).ravel()

    @property
    def variant(self) -> str:
        """The instruction set of the kernel that `into` runs."""
        return _native.normalise_variant(self.affine, np.empty(1, self.dtype))

    def into(self, tile: NDArray[np.uint8], out: NDArray[np.generic]) -> None:
        """Fill `out` [3, h, w], C-contiguous, from `tile` uint8 [h, w, 3] with any row stride.

        `out` is of the normaliser's dtype. `ValueError` where shapes or types do not fit.
        """
        if out.dtype != self.dtype:
            raise ValueError(f"this normaliser writes {self.dtype}, not {out.dtype}")
        _native.normalise(tile, self.affine, out)


def _folded(
    matrix: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    dtype: np.dtype[np.generic],
) -> NDArray[np.float64]:
    if matrix.shape != (3, 4) or mean.shape != (3,) or std.shape != (3,):
        raise ValueError(
            "the colour matrix is [3, 4], mean and std [3], "
            f"not {list(matrix.shape)}, {list(mean.shape)} and {list(std.shape)}"
        )
    if not (np.isfinite(matrix).all() and np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError("colour matrix, mean and std must be finite")
    if dtype == np.uint8:
        return matrix
    if (std <= 0).any():
        raise ValueError(f"std must be above 0, not {std.tolist()}")
    folded = matrix / 255
    folded[:, 3] -= mean
    return np.asarray(folded / std[:, None])


def centre_crop(tile: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the central [size, size, 3] view of a tile, of the upper left one where two are.

    `ValueError` where the tile is smaller than that.
    """
    top, left = (tile.shape[0] - size) // 2, (tile.shape[1] - size) // 2
    if size < 1 or top < 0 or left < 0:
        raise ValueError(f"cannot crop {size} x {size} from {tile.shape[1]} x {tile.shape[0]}")
    return tile[top : top + size, left : left + size]
