"""The table of a slide's planned tiles: what `SlideResult.tiles` holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.reading import Reading
from unicas_edge.aggregator.aggregator import Explanation
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


def tile_table(tiles: NDArray[np.void], reading: Reading | None) -> NDArray[np.void]:
    """Return a row of `TILE_COLUMNS` for every planned tile, in canonical order.

    `tiles` are of `NATIVE_TILE`, and `reading` is what their tokens show.
    """
    table = np.zeros(len(tiles), dtype=TILE_COLUMNS)
    for column in ("minx", "miny", "field", "token", "score", "cellular", "focus", "in_focus"):
        table[column] = tiles[column]
    table["width"] = table["height"] = tiles["side"]
    table["rank"] = np.arange(len(tiles))
    table["status"] = np.array([s.name.lower() for s in Status])[tiles["status"]]
    if reading is not None:
        table["kind"][table["token"] >= 0] = reading.kinds
    return table


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
