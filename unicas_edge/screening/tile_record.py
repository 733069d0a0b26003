"""What is known of every tile of the grid: 17 bytes each, whatever the slide."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from unicas_edge.tiles.grid import Cell

#: Causes of failed tiles that are kept word for word.
MAX_CAUSES = 10_000


class Status(IntEnum):
    """What became of a grid tile; the names are those in tiles.csv (``ue_tile_status``)."""

    UNSEEN = 0
    ENCODED = 1
    BACKGROUND = 2
    SPARSE = 3
    FAILED = 4


#: What a session keeps of every grid tile.
MEASURED = np.dtype([("status", "u1"), ("score", "f8"), ("cellular", "f4"), ("focus", "f4")])


def scores_of(seen: NDArray[np.void]) -> NDArray[np.float64] | None:
    """Return the score of every grid tile, float64 [rows, cols]; None while some are unseen."""
    if (seen["status"] == Status.UNSEEN).any():
        return None
    return np.ascontiguousarray(seen["score"])


def unread_share(
    seen: NDArray[np.void], expected: Collection[Cell] | None, scored_tiles: int
) -> float:
    """Return the share of all tiles, planned or not, that failed or never came.

    All tiles are those of the grid, or where `expected` is given those and the ones entered, or the
    `scored_tiles` that were read before, whichever are more.
    """
    status = seen["status"]
    failed = int((status == Status.FAILED).sum())
    if expected is None:
        return (failed + int((status == Status.UNSEEN).sum())) / status.size
    missing = sum(1 for cell in expected if status[cell] == Status.UNSEEN)
    heard = int((status != Status.UNSEEN).sum())
    return (failed + missing) / max(1, heard + missing, scored_tiles)
