"""One-dimensional overlaps of two interval grids, the base of area averaging and byte spreading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlaps(
    low: NDArray[np.float64], high: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which source intervals lie under each output interval, and how much of each.

    Output interval i is [low[i], high[i]); source interval j is [edges[j], edges[j + 1]), edges
    rising by 1 but for the last, which may be shorter. Returns indices intp [K, n] and the
    overlapped lengths float64 [K, n], K being the most source intervals under any output; unused
    places have length 0. Time and memory are O(K n), never a dense matrix.
    """
    last = len(edges) - 2
    first = np.clip(np.floor(low), 0, last).astype(np.intp)
    stop = np.clip(np.ceil(high), first + 1, last + 1).astype(np.intp)
    index = first + np.arange(int((stop - first).max()))[:, None]
    inside = np.minimum(index, last)
    length = np.minimum(high, edges[inside + 1]) - np.maximum(low, edges[inside])
    length[(index > last) | (length < 0)] = 0
    return inside, length
