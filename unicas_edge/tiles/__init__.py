"""Stage 2 and 3: where tiles lie, which of them matter, what one holds, and its model input."""

from __future__ import annotations

from unicas_edge.tiles.grid import Cell, Grid, grid_for

__all__ = ["Cell", "Grid", "grid_for"]
