"""Compressed bytes as a measure of content: spread over the tile grid, or recognised as mute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unicas_edge.slide.geometry import overlaps
from unicas_edge.tiles.grid import Grid

if TYPE_CHECKING:
    from unicas_edge.slide.tiff.index import TileTable

#: Below this coefficient of variation all tiles are as good as equally large: the compressor held
#: the rate, and bytes say nothing about content. Measured: rate-controlled JPEG 2000 of cytology
#: tiles 0.003-0.008, JPEG of tiles picked for being full of cells 0.07-0.13, a JPEG slide 0.9.
MUTE_VARIATION = 0.02


def content_of(table: TileTable, grid: Grid) -> NDArray[np.float64] | None:
    """Return the bytes under each grid tile, float64 [rows, cols]; None where all are equal."""
    counts = table.stored_bytes()
    if not carries_information(counts):
        return None
    return bytes_on_grid(counts, table.tile_width, table.tile_height, grid)


def carries_information(counts: NDArray[np.float64]) -> bool:
    """Return whether byte counts (any shape, 0: empty) differ enough to rank tiles by them."""
    stored = counts[counts > 0]
    return len(stored) < 2 or float(stored.std()) > MUTE_VARIATION * float(stored.mean())


def bytes_on_grid(
    counts: NDArray[np.float64], tile_width: int, tile_height: int, grid: Grid
) -> NDArray[np.float64]:
    """Return the bytes under each grid tile, float64 [rows, cols], by overlapped area.

    `counts` is float64 [down, across], bytes of the level-0 source tiles, `tile_width` by
    `tile_height` pixels; of a tile that reaches past the slide all bytes belong to what is inside.
    Takes O(tiles) time and memory. Under 0 lies nothing at all.
    """
    rows = _shares(grid.rows, grid.step / tile_height, grid.height / tile_height, counts.shape[0])
    cols = _shares(grid.cols, grid.step / tile_width, grid.width / tile_width, counts.shape[1])
    half = np.zeros((grid.rows, counts.shape[1]))
    for index, share in zip(*rows, strict=True):
        half += counts[index] * share[:, None]
    total = np.zeros((grid.rows, grid.cols))
    for index, share in zip(*cols, strict=True):
        total += half[:, index] * share[None, :]
    return total


def _shares(
    count: int, step: float, extent: float, tiles: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which source tiles lie under each of `count` steps, and which share of each.

    Lengths in source tiles; the slide ends at `extent`.
    """
    edges: NDArray[np.float64] = np.minimum(np.arange(tiles + 1.0), extent)
    low = np.arange(float(count)) * step
    index, length = overlaps(low, low + step, edges)
    return index, length / np.maximum(np.diff(edges)[index], 1e-9)
