"""The native session (``csrc/intake``) in the terms of the pipeline: cells, tokens, errors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unicas_edge import _native
from unicas_edge.aggregator.aggregator import MOST_TILES, Aggregator, Explanation
from unicas_edge.core.arrays import Float32
from unicas_edge.engines import Encoder
from unicas_edge.errors import AggregatorError, SessionError
from unicas_edge.screening.tile_record import MEASURED
from unicas_edge.tiles.grid import Cell, Grid
from unicas_edge.tiles.normalise import Normaliser
from unicas_edge.tiles.quality import BACKGROUND_SHARE, CELLULAR_BELOW, DARK_BELOW

#: What the native session raises.
REFUSED = (ValueError, OverflowError, MemoryError)


class Limits(NamedTuple):
    """How much a session holds.

    `ready` tiles may wait for the encoder (0: as memory allows), `pixels` bytes of crops be in
    memory, and `open_tiles` lie in fields that are still incomplete.
    """

    ready: int
    pixels: int
    open_tiles: int


class Spool(NamedTuple):
    """A file that keeps what a killed process would lose, and the SHA-256 of whose it is."""

    path: Path
    key: bytes


class Progress(NamedTuple):
    """Tiles of a session so far.

    `seen` were pushed, skipped or failed; `held` are in memory as pixels, of which `ready` wait for
    the encoder alone; `encoding` are on their way through it, and `encoded` came back.
    """

    seen: int
    held: int
    ready: int
    encoding: int
    encoded: int


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the native session refuses into `SessionError`."""
    try:
        yield
    except REFUSED as error:
        raise SessionError(str(error)) from error


def numbers(grid: Grid, cells: Iterable[Cell]) -> NDArray[np.uint32]:
    """Return the native numbers uint32 [n] of cells: row * columns + column.

    `SessionError` for a cell that is off the grid.
    """
    places = np.array(list(cells), np.int64).reshape(-1, 2)
    if ((places < 0) | (places >= (grid.rows, grid.cols))).any():
        raise SessionError(f"a tile lies off the grid of {grid.rows} rows, {grid.cols} columns")
    return (places[:, 0] * grid.cols + places[:, 1]).astype(np.uint32)


class Core:
    """A native session, its bag, and what they come to; `native` takes tiles in."""

    def __init__(
        self,
        grid: Grid,
        max_tiles: int | None,
        aggregator: Aggregator,
        encoder: Encoder,
        normaliser: Normaliser,
        limits: Limits,
        spool: Spool | None = None,
    ) -> None:
        self._grid = grid
        cells = grid.rows * grid.cols
        self._capacity = min(max_tiles or cells, cells, MOST_TILES)
        self._bag = aggregator.bag(self._capacity)
        with refusals():
            self.native = _native.Intake(
                self._bag.native,
                capacity=self._capacity,
                width=grid.width,
                height=grid.height,
                downsample=grid.downsample,
                tile=grid.tile,
                crop=grid.crop,
                field=grid.field,
                max_tiles=max_tiles or 0,
                token_width=self._bag.width,
                batch=encoder.batch_size,
                most_ready=limits.ready,
                most_held=max(1, limits.pixels // (3 * grid.crop**2)),
                most_open=limits.open_tiles,
                cellular_below=CELLULAR_BELOW,
                dark_below=DARK_BELOW,
                background_share=BACKGROUND_SHARE,
                affine=normaliser.affine,
                dtype=normaliser.dtype.name,
                spool=os.fsencode(spool.path) if spool else None,
                spool_key=spool.key if spool else bytes(32),
            )

    def planned(self) -> list[Cell]:
        """Return the planned tiles in canonical order, after the end."""
        found = np.empty(self._grid.rows * self._grid.cols, np.uint32)
        with refusals():
            return self._cells(found[: self.native.order(found)])

    def encoded(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return those of the cells that have a token; the tokens of all others are forgotten.

        `AggregatorError` where they are more than a bag holds.
        """
        has = np.empty(len(cells), np.uint8)
        with refusals():
            self.native.keep(numbers(self._grid, cells), has)
        found = [cell for cell, there in zip(cells, has.tolist(), strict=True) if there]
        if len(found) > self._capacity:
            raise AggregatorError(
                f"{len(found):,} tiles, and a bag holds {self._capacity:,}; lower --max-tiles"
            )
        return found

    def tokens(self, cells: Sequence[Cell]) -> Float32:
        """Return the tokens float32 [n, D] of cells that have one."""
        tokens = np.empty((len(cells), self._bag.width), np.float32)
        with refusals():
            self.native.tokens(numbers(self._grid, cells), tokens)
        return tokens

    def explain(self, cells: Sequence[Cell]) -> Explanation | None:
        """Return what the tokens of cells, in that order, come to; None for no cells.

        `AggregatorError` where the logits are not finite.
        """
        if not cells:
            return None
        places = np.empty(len(cells), np.uintp)
        with refusals():
            self.native.places(numbers(self._grid, cells), places)
        self._bag.arrange(places)
        return Explanation(self._bag.finish(), self._bag.attention())

    def so_far(self) -> tuple[list[Cell], Float32]:
        """Return the best tiles so far that have a token, in canonical order, and the tokens."""
        room = 0
        while True:
            cells = np.empty(room, np.uint32)
            tokens = np.empty((room, self._bag.width), np.float32)
            with refusals():
                count = self.native.so_far(cells, tokens)
            if count <= room:
                return self._cells(cells[:count]), tokens[:count]
            room = count

    def seen(self) -> NDArray[np.void]:
        """Return what is known of every tile, `MEASURED` [rows, cols]."""
        count = self._grid.rows * self._grid.cols
        status, score = np.empty(count, np.uint8), np.empty(count, np.float64)
        cellular, focus = np.empty(count, np.float32), np.empty(count, np.float32)
        with refusals():
            self.native.records(status, score, cellular, focus, count)
        seen = np.empty(count, MEASURED)
        parts = {"status": status, "score": score, "cellular": cellular, "focus": focus}
        for name, values in parts.items():
            seen[name] = values
        return seen.reshape(self._grid.rows, self._grid.cols)

    def progress(self) -> Progress:
        """Return how far the session is."""
        with refusals():
            return Progress(*self.native.progress())

    def _cells(self, numbers: NDArray[np.uint32]) -> list[Cell]:
        rows, cols = np.divmod(numbers, np.uint32(self._grid.cols))
        return list(zip(rows.tolist(), cols.tolist(), strict=True))
