"""Which tiles are screened, in canonical order, where all scores are known.

A session (``csrc/intake``) makes the same choice from fields that arrive one at a time: after all
have come, the kept ones are exactly those `plan` would have chosen; a field that was once
dropped can never return.
"""

from __future__ import annotations

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
