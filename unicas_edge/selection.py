"""Which fields are among the best so far, when they arrive one at a time.

After every field has been offered, the kept ones are exactly those `tiles.plan` would have chosen
with all scores known; a field that was once evicted can never return.
"""

from __future__ import annotations

import heapq

from unicas_edge.tiles import Cell, Grid


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
