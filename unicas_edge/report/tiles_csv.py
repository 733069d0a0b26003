"""``tiles.csv``: one row for every tile that was looked at, in WSInfer's layout.

WSInfer's columns come first, ``minx,miny,width,height,prob_<class>...``; here ``prob_<task>`` is
the tile's share of the task's attention mass. Our own columns follow.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.files import atomic_write
from unicas_edge.result import TILE_COLUMNS

TILES = "tiles.csv"
FRAME = ("minx", "miny", "width", "height")
PROBABILITY = "prob_"

#: Rows formatted at a time: the file is streamed, whatever the size of the slide.
CHUNK_ROWS = 4096


def columns(tiles: NDArray[np.void]) -> list[str]:
    """Return the columns of the file: WSInfer's, then ours, then any the caller has added."""
    names = list(tiles.dtype.names or ())
    probabilities = [name for name in names if name.startswith(PROBABILITY)]
    ours = [name for name, _ in TILE_COLUMNS if name not in FRAME]
    known = {*FRAME, *probabilities, *ours}
    return [*FRAME, *probabilities, *ours, *(name for name in names if name not in known)]


def write_tiles_csv(path: Path, tiles: NDArray[np.void]) -> None:
    """Write `tiles` (columns `TILE_COLUMNS` and ``prob_<task>``) to `path`; `OutputError` if not.

    Floats are written with the fewest digits that read back as the same number, NaN as an empty
    cell, booleans as 1 and 0.
    """
    names = columns(tiles)
    with atomic_write(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for start in range(0, len(tiles), CHUNK_ROWS):
            writer.writerows(_rows(tiles[start : start + CHUNK_ROWS], names))
        text.detach()  # the handle is closed by its owner


def _rows(tiles: NDArray[np.void], names: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each row."""
    return zip(*(_cells(tiles[name]) for name in names), strict=True)


def _cells(column: NDArray[Any]) -> list[str]:
    """Return one column as text."""
    if column.dtype.kind == "b":
        return ["1" if value else "0" for value in column]
    if column.dtype.kind == "f":
        return ["" if value != value else str(value) for value in column]  # noqa: PLR0124  (NaN)
    return [str(value) for value in column]
