"""The table of a slide's planned tiles: what `SlideResult.tiles` holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.reading import Reading
from unicas_edge.result import TILE_COLUMNS
from unicas_edge.screening.tile_record import Status

#: `ue_tile` of ``unicas_edge_session.h``; `kind` is a number of the bundle's kinds, -1 for none.
NATIVE_TILE = np.dtype(
    [
        *((name, "i8") for name in ("minx", "miny", "side", "field", "token")),
        ("score", "f8"),
        *((name, "f4") for name in ("cellular", "focus")),
        *((name, "i4") for name in ("status", "in_focus", "kind")),
    ],
    align=True,
)


def tile_table(
    tiles: NDArray[np.void],
    attention: NDArray[np.float32],
    tasks: list[str],
    reading: Reading | None,
) -> NDArray[np.void]:
    """Return a row of `TILE_COLUMNS` and a ``prob_<task>`` a task for every planned tile.

    `tiles` are of `NATIVE_TILE`, in canonical order; `attention` [tasks, n] is their share of each
    task's, 0 for what the aggregator was not shown; `reading` is what their tokens show.
    """
    columns = [*TILE_COLUMNS, *((f"prob_{name}", "f4") for name in tasks)]
    table = np.zeros(len(tiles), dtype=columns)
    for column in ("minx", "miny", "field", "token", "score", "cellular", "focus", "in_focus"):
        table[column] = tiles[column]
    table["width"] = table["height"] = tiles["side"]
    table["rank"] = np.arange(len(tiles))
    table["status"] = np.array([s.name.lower() for s in Status])[tiles["status"]]
    if reading is not None:
        table["kind"][table["token"] >= 0] = reading.kinds
    for name, shares in zip(tasks, attention, strict=True):
        table[f"prob_{name}"] = shares
    return table
