"""How many squamous cells a slide has, and how many it needs: density times area, as Bethesda asks.

The Bethesda System (3rd ed. 2015, chapter 1) wants an estimated 5,000 well-visualised squamous
cells on a liquid-based preparation, estimated from fields of view and the area of the preparation.
Here every encoded tile is a field; what was not encoded is judged by its content score, as a tile's
compressed bytes above those of an empty one grow with its cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.pixels import Looked
from unicas_edge.adequacy.reading import Reading
from unicas_edge.adequacy.words import percent
from unicas_edge.bundle.knowledge import KnowledgeSpec
from unicas_edge.result import Squamous
from unicas_edge.tiles.grid import Cell, Grid


@dataclass(frozen=True)
class Count:
    """Squamous cells of the whole slide: `estimate`, and `how`; `needed`, and what `asked` that."""

    estimate: int
    needed: int
    how: str
    asked: str

    @property
    def record(self) -> Squamous:
        """The count as a result holds it."""
        method = f"{self.how}; needed: {self.asked}"
        return Squamous(estimate=self.estimate, needed=self.needed, method=method)


def count_squamous(looked: Looked, reading: Reading, spec: KnowledgeSpec) -> Count:
    """Return the estimate for the whole slide, what it needs, and how both were found.

    Where the content scores of the whole grid are not known, tiles that were not planned count
    nothing. A scan of a part of the preparation needs its share.
    """
    grid, seen = looked.grid, float(reading.cells.sum())
    others = grid.rows * grid.cols - len(looked.planned)
    how = f"counted from the tokens of {len(reading.kind):,} tiles"
    if others and looked.scores is not None:
        seen += _elsewhere(seen, looked.planned, looked.scores, grid)
        how += f", and in the {others:,} others by their content scores"
    elif others:
        how += f", none in the {others:,} others, whose content scores are not known"
    if spec.cell_error is not None:
        how += f" (error as measured: {percent(spec.cell_error)})"
    needed, asked = _needed(grid, looked.slide.um_px, spec)
    return Count(round(seen), needed, how, asked)


def _needed(grid: Grid, um_px: float, spec: KnowledgeSpec) -> tuple[int, str]:
    """Return how many cells a scan of this size needs, and what asks for them."""
    scanned = grid.width * grid.height * um_px**2 / 1e6
    share = min(1.0, scanned / spec.preparation_mm2)
    asked = f"{spec.min_squamous_cells:,} on a preparation of {spec.preparation_mm2:g} mm2"
    if share < 1:
        asked += f", {percent(share)} of which was scanned"
    return math.ceil(spec.min_squamous_cells * share - 1e-9), asked


def _elsewhere(
    seen: float, planned: Sequence[Cell], scores: NDArray[np.float64], grid: Grid
) -> float:
    """Return the cells of the tiles that were not planned: as many per score as of those that were.

    A score counts from that of an empty tile on.
    """
    above = np.maximum(scores - _empty(scores, grid), 0)
    rows, cols = np.array(planned, dtype=np.int64).reshape(-1, 2).T
    looked_at = float(above[rows, cols].sum())
    if not looked_at:
        return 0.0
    above[rows, cols] = 0
    return seen / looked_at * float(above.sum())


def _empty(scores: NDArray[np.float64], grid: Grid) -> float:
    """Return the score of an empty tile: the least of the grid.

    Of tiles that lie on the slide wholly and are stored at all: a sliver at the edge has fewer
    bytes than empty glass, and 0 is a tile that is not there or could not be read.
    """
    rows, cols = (max(1, int(side / grid.step + 1e-9)) for side in (grid.height, grid.width))
    whole = scores[:rows, :cols]
    stored = whole[whole > 0]
    return float(stored.min()) if stored.size else 0.0
