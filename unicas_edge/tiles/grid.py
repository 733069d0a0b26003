"""Stage 2: where the tiles lie, and in which order they matter.

A slide is covered by a grid of tiles at the bundle's um/px; `field` x `field` tiles make a field
(1024 pixels for 256-pixel tiles), the unit the published pipeline ranks by compressed bytes. The
canonical order of tiles, which is also the order of tokens on the aggregator's grid, is: fields by
falling score (ties: row-major), then row-major inside a field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unicas_edge.errors import SessionError

if TYPE_CHECKING:
    from unicas_edge.bundle import Bundle
    from unicas_edge.bundle.manifest import TileSpec

#: (row, col) of a tile on the grid
Cell = tuple[int, int]
#: How many tiles to encode: a number, all of them, or None for what the bundle says.
Limit = int | Literal["all"] | None

MAX_GRID_TILES = 4_000_000
#: 2 % of magnification is below what separates one scanner's "20x" from another's.
SNAP = 0.02


@dataclass(frozen=True)
class Grid:
    """The tile grid of one slide; lengths in level-0 pixels unless named otherwise.

    `downsample` is level-0 pixels per tile pixel, `tile` and `crop` are tile pixels (the encoder
    sees the central `crop`), `field` is tiles per field side.
    """

    width: int
    height: int
    downsample: float
    tile: int = 256
    crop: int = 224
    field: int = 4

    @property
    def step(self) -> float:
        """Level-0 pixels from one tile to the next."""
        return self.tile * self.downsample

    @property
    def cols(self) -> int:
        """Tiles in a row; the last may reach past the slide and is padded with white."""
        return max(1, math.ceil(self.width / self.step - 1e-9))

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return max(1, math.ceil(self.height / self.step - 1e-9))

    def origin(self, cell: Cell) -> tuple[int, int]:
        """Return the level-0 (x, y) of a tile's top left corner."""
        return round(cell[1] * self.step), round(cell[0] * self.step)

    def cell_at(self, x: int, y: int) -> Cell:
        """Return the (row, col) of the tile at level-0 (x, y); `SessionError` off the grid."""
        cell = round(y / self.step), round(x / self.step)
        inside = 0 <= cell[0] < self.rows and 0 <= cell[1] < self.cols
        if not inside or self.origin(cell) != (x, y):
            raise SessionError(
                f"no tile begins at level-0 ({x}, {y}): tiles lie every {self.step:g} pixels from "
                f"(0, 0), {self.cols} x {self.rows} of them"
            )
        return cell

    def field_of(self, cell: Cell) -> int:
        """Return the row-major number of the field a tile belongs to."""
        return (cell[0] // self.field) * self.field_cols + cell[1] // self.field

    @property
    def field_cols(self) -> int:
        """Fields in a row."""
        return -(-self.cols // self.field)

    @property
    def field_rows(self) -> int:
        """Rows of fields."""
        return -(-self.rows // self.field)

    def field_cells(self, number: int) -> Iterator[Cell]:
        """Yield the tiles of a field, row-major; fields at the edges have fewer."""
        top, left = (self.field * k for k in divmod(number, self.field_cols))
        for row in range(top, min(top + self.field, self.rows)):
            for col in range(left, min(left + self.field, self.cols)):
                yield row, col


def tile_limit(bundle: Bundle, limit: Limit) -> int | None:
    """Return the most tiles to take, None for no limit; `SessionError` for less than one."""
    if limit == "all":
        return None
    chosen = bundle.manifest.tile.max_tiles if limit is None else limit
    if chosen < 1:
        raise SessionError(f"max_tiles is {chosen}; use at least 1, or 'all'")
    return chosen


def grid_for(bundle: Bundle, width: int, height: int, um_px: float) -> Grid:
    """Return the tile grid of a slide of `width` x `height` level-0 pixels of `um_px` each.

    A spacing within `SNAP` of the bundle's times a power of two is taken as that, so that a 0.499
    um/px slide is read as it is and a 0.2527 um/px one at exactly half scale. `SessionError` for a
    size that is not positive or a grid beyond `MAX_GRID_TILES`.
    """
    return grid_of(bundle.manifest.tile, width, height, um_px)


def grid_of(spec: TileSpec, width: int, height: int, um_px: float) -> Grid:
    """Return the tile grid of `grid_for` where there is a tile's specification and no bundle."""
    if width < 1 or height < 1 or not 0.01 <= um_px <= 100:
        raise SessionError(f"a slide of {width} x {height} pixels at {um_px} um/px is not possible")
    downsample = _snapped(spec.um_px / um_px)
    grid = Grid(width, height, downsample, spec.size_px, spec.crop_px, spec.field_tiles)
    if grid.rows * grid.cols > MAX_GRID_TILES:
        raise SessionError(f"{grid.rows} x {grid.cols} tiles are more than {MAX_GRID_TILES:,}")
    return grid


def _snapped(downsample: float) -> float:
    power = 2.0 ** round(math.log2(downsample))
    return power if abs(downsample / power - 1) <= SNAP else downsample
