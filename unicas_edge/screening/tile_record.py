"""What is known of every tile of the grid: 17 bytes each, whatever the slide."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

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
