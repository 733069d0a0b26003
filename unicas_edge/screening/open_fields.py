"""The fields of which some tiles are still to come, and the pixels that wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.tiles.grid import Cell, Grid


@dataclass
class _OpenField:
    waiting: int
    taken: int = 0
    pixels: dict[Cell, UInt8Image] = field(default_factory=dict)


class OpenFields:
    """Which fields are open, in the order in which they were opened.

    `tiles` counts what came of all of them, `pending_bytes` the pixels that are held. Only `in` may
    be asked from other threads than the one that changes it.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._fields: dict[int, _OpenField] = {}
        self.tiles = 0
        self.pending_bytes = 0

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def __iter__(self) -> Iterator[int]:
        return iter(self._fields)

    def take(self, cell: Cell, crop: UInt8Image | None) -> bool:
        """Enter a tile, holding a copy of `crop` if given; return whether its field is complete."""
        number = self._grid.field_of(cell)
        entry = self._fields.get(number)
        if entry is None:
            size = sum(1 for _ in self._grid.field_cells(number))
            entry = self._fields[number] = _OpenField(size)
        entry.waiting -= 1
        entry.taken += 1
        self.tiles += 1
        if crop is not None:
            entry.pixels[cell] = crop.copy()
            self.pending_bytes += crop.size
        return entry.waiting == 0

    def close(self, number: int) -> dict[Cell, UInt8Image]:
        """Forget a field, complete or not, and return the pixels that it still holds."""
        entry = self._fields.pop(number, None) or _OpenField(0)
        self.tiles -= entry.taken
        self.pending_bytes -= sum(crop.size for crop in entry.pixels.values())
        return entry.pixels

    def release(self) -> tuple[Cell, UInt8Image]:
        """Return the oldest pixels, which are then no longer held; some must be."""
        entry = next(entry for entry in self._fields.values() if entry.pixels)
        cell = next(iter(entry.pixels))
        crop = entry.pixels.pop(cell)
        self.pending_bytes -= crop.size
        return cell, crop
