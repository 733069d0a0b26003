"""Which tiles are screened, in canonical order: with all scores known, or field by field.

`plan` needs every score at once. `BestFields` makes the same choice from fields that arrive one at
a time: after every field has been offered, the kept ones are exactly those `plan` would have
chosen; a field that was once evicted can never return.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from unicas_edge.tiles.grid import Cell, Grid


def field_scores(grid: Grid, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the score of every field, float64 [field_rows * field_cols]: the sum of its tiles'.

    Added tile by tile in row-major order, so that a session that sees the tiles one at a time
    arrives at the same bits.
    """
    total = np.zeros((grid.field_rows, grid.field_cols))
    for row in range(grid.field):
        for col in range(grid.field):
            part = scores[row :: grid.field, col :: grid.field]
            total[: part.shape[0], : part.shape[1]] += part
    return total.ravel()


def rank_fields(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return field numbers by falling score, lowest number first among equals, int64 [fields]."""
    return np.argsort(-scores, kind="stable").astype(np.int64)


def plan(grid: Grid, scores: NDArray[np.float64] | None, max_tiles: int | None) -> list[Cell]:
    """Return the first `max_tiles` (None: all) tiles in canonical order.

    `scores` is float64 [rows, cols], one content score a tile (compressed bytes, or luma scores);
    None takes all as equal.
    """
    if scores is None:
        scores = np.zeros((grid.rows, grid.cols))
    cells: list[Cell] = []
    for number in rank_fields(field_scores(grid, scores)):
        if max_tiles is not None and len(cells) >= max_tiles:
            break
        cells.extend(grid.field_cells(int(number)))
    return cells if max_tiles is None else cells[:max_tiles]


class BestFields:
    """Keeps the best-scored fields that together hold at least `max_tiles` tiles (None: all)."""

    def __init__(self, grid: Grid, max_tiles: int | None) -> None:
        self._grid = grid
        self._max_tiles = max_tiles
        # The worst field is on top: lowest score, and of equals the highest number.
        self._heap: list[tuple[float, int]] = []
        self._sizes: dict[int, int] = {}
        self._total = 0

    def offer(self, field: int, score: float) -> list[int]:
        """Take a field in and return the fields this pushes out, itself perhaps among them."""
        size = sum(1 for _ in self._grid.field_cells(field))
        heapq.heappush(self._heap, (score, -field))
        self._sizes[field] = size
        self._total += size
        evicted = []
        while self._max_tiles is not None and self._total - self._worst_size() >= self._max_tiles:
            worst = -heapq.heappop(self._heap)[1]
            self._total -= self._sizes.pop(worst)
            evicted.append(worst)
        return evicted

    def _worst_size(self) -> int:
        return self._sizes[-self._heap[0][1]] if self._heap else 0

    @property
    def full(self) -> bool:
        """Whether the kept fields hold `max_tiles` tiles already."""
        return self._max_tiles is not None and self._total >= self._max_tiles

    def __contains__(self, field: int) -> bool:
        return field in self._sizes

    def cells(self) -> list[Cell]:
        """Return the first `max_tiles` tiles of the kept fields in canonical order."""
        ranked = sorted(self._heap, key=lambda entry: (-entry[0], -entry[1]))
        cells = [cell for _, field in ranked for cell in self._grid.field_cells(-field)]
        return cells[: self._max_tiles]
