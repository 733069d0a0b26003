"""What is known of every tile of the grid: 17 bytes each, whatever the slide."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import SessionError
from unicas_edge.tiles.grid import Cell, Grid
from unicas_edge.tiles.quality import Measures

#: Causes of failed tiles that are kept word for word.
MAX_CAUSES = 10_000


class Status(IntEnum):
    """What became of a grid tile; the names are those in tiles.csv."""

    UNSEEN = 0
    ENCODED = 1
    BACKGROUND = 2
    SPARSE = 3
    FAILED = 4


#: What a session keeps of every grid tile.
MEASURED = np.dtype([("status", "u1"), ("score", "f8"), ("cellular", "f4"), ("focus", "f4")])


class TileRecord:
    """Records each tile once. `seen` is a `MEASURED` array [rows, cols], `failures` the causes."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.seen = np.zeros((grid.rows, grid.cols), dtype=MEASURED)
        self.failures: dict[Cell, str] = {}

    def record(
        self,
        cell: Cell,
        status: Status,
        score: float = 0.0,
        measures: Measures | None = None,
        cause: str | None = None,
    ) -> None:
        """Enter a tile; `SessionError` for one entered before or a score that is no score."""
        if self.seen[cell]["status"] != Status.UNSEEN:
            x, y = self._grid.origin(cell)
            raise SessionError(f"the tile at level-0 ({x}, {y}) was pushed twice")
        if not np.isfinite(score) or score < 0:
            raise SessionError(f"a content score must be finite and not negative, not {score}")
        cellular, focus = (measures.cellular, measures.focus) if measures else (0.0, 0.0)
        self.seen[cell] = (status, score, cellular, focus)
        if cause is not None and len(self.failures) < MAX_CAUSES:
            self.failures[cell] = cause

    def field_score(self, number: int) -> float:
        """Return the sum of a field's scores, added in the order of `tiles.field_scores`."""
        total = 0.0
        for cell in self._grid.field_cells(number):
            total += float(self.seen[cell]["score"])
        return total

    def scores(self) -> NDArray[np.float64] | None:
        """Return the score of every grid tile, float64 [rows, cols]; None while some are unseen."""
        if (self.seen["status"] == Status.UNSEEN).any():
            return None
        return np.ascontiguousarray(self.seen["score"])

    def unread_share(self, expected: Collection[Cell] | None, scored_tiles: int) -> float:
        """Return the share of all tiles, planned or not, that failed or never came.

        All tiles are those of the grid, or where `expected` is given those and the ones entered,
        or the `scored_tiles` that were read before, whichever are more.
        """
        status = self.seen["status"]
        failed = int((status == Status.FAILED).sum())
        if expected is None:
            return (failed + int((status == Status.UNSEEN).sum())) / status.size
        missing = sum(1 for cell in expected if status[cell] == Status.UNSEEN)
        heard = int((status != Status.UNSEEN).sum())
        return (failed + missing) / max(1, heard + missing, scored_tiles)
