"""The table of a slide's planned tiles: what `SlideResult.tiles` holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.reading import Reading
from unicas_edge.aggregator.aggregator import Explanation
from unicas_edge.result import TILE_COLUMNS
from unicas_edge.screening.tile_record import Status
from unicas_edge.tiles.grid import Cell, Grid

#: A tile whose sharpness, Laplacian variance per share of cellular pixels, is below this share of
#: the slide's median is out of focus. On three real ThinPrep slides the 1st percentile lies at 0.45
#: to 0.65 of the median (125 to 190 against 220 to 310); blur of 0.5 um sigma brings the 75th
#: percentile to 42 to 60, of 1 um to 10 to 15.
FOCUS_SHARE = 0.25


def tile_table(
    grid: Grid,
    cells: list[Cell],
    seen: NDArray[np.void],
    focus_floor: float,
    reading: Reading | None = None,
) -> NDArray[np.void]:
    """Return a row of `TILE_COLUMNS` for every planned tile, in canonical order.

    `cells` are the planned tiles, `seen` a `MEASURED` array [rows, cols] of the whole grid,
    `focus_floor` the least sharpness that the bundle calls in focus, and `reading` what the tokens
    of the encoded tiles show, in the same order.
    """
    rows, cols = np.array(cells, dtype=np.int64).reshape(-1, 2).T
    seen = seen[rows, cols]
    table = np.zeros(len(cells), dtype=TILE_COLUMNS)
    origins = np.array([grid.origin(cell) for cell in cells], dtype=np.int64).reshape(-1, 2)
    table["minx"], table["miny"] = origins.T
    table["width"] = table["height"] = round(grid.step)
    table["field"] = [grid.field_of(cell) for cell in cells]
    table["rank"] = np.arange(len(cells))
    status = np.where(seen["status"] == Status.UNSEEN, Status.FAILED, seen["status"])
    table["status"] = np.array([s.name.lower() for s in Status])[status]
    token = np.cumsum(status == Status.ENCODED) - 1
    table["token"] = np.where(status == Status.ENCODED, token, -1)
    for column in ("score", "cellular", "focus"):
        table[column] = seen[column]
    table["in_focus"] = _in_focus(table, focus_floor)
    if reading is not None:
        table["kind"][table["token"] >= 0] = reading.kinds
    return table


def _in_focus(table: NDArray[np.void], floor: float) -> NDArray[np.bool_]:
    """Judge sharpness against the slide's own median, and against the bundle's floor.

    Per cellular pixel, so that a tile with one sharp cell on empty glass is not called blurred.
    """
    encoded = np.asarray(table["status"] == "encoded")
    if not encoded.any():
        return encoded
    sharpness = table["focus"] / np.maximum(table["cellular"], 1e-6)
    usual = float(np.median(sharpness[encoded]))
    return np.asarray(encoded & (sharpness >= max(floor, FOCUS_SHARE * usual)), dtype=np.bool_)


def with_attention(
    table: NDArray[np.void],
    tasks: list[str],
    explanation: Explanation | None,
    reading: Reading | None = None,
) -> NDArray[np.void]:
    """Return the table with a ``prob_<task>`` column a task.

    0 for tiles without a token, and for those that the aggregator was not shown.
    """
    dtype = [*TILE_COLUMNS, *((f"prob_{name}", "f4") for name in tasks)]
    full = np.zeros(len(table), dtype=dtype)
    for column, _ in TILE_COLUMNS:
        full[column] = table[column]
    shown = np.flatnonzero(table["token"] >= 0)
    if reading is not None:
        shown = shown[reading.aggregated]
    for number, name in enumerate(tasks):
        if explanation is not None:
            full[f"prob_{name}"][shown] = explanation.attention[number]
    return full
