"""The threads that encode a session's tiles: they hold its core, and nothing that holds them."""

from __future__ import annotations

import queue
import threading
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unicas_edge._native import Intake
from unicas_edge.engines import Encoder
from unicas_edge.engines.queue import aligned
from unicas_edge.errors import EngineError
from unicas_edge.tiles.grid import Grid

#: How long a thread waits inside the core before it looks whether it is still wanted.
POLL_MS = 100


class Batch(NamedTuple):
    """A buffer in which so many `tiles` wait, and their cells uint32 [batch]."""

    planes: NDArray[np.generic]
    cells: NDArray[np.uint32]
    tiles: int


class Encoding:
    """A crew's `Source` of batches, the best tiles of a session first, and its work on them."""

    def __init__(self, core: Intake, encoder: Encoder, grid: Grid) -> None:
        self._core, self._encoder, self._grid = core, encoder, grid
        self._free: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        shape = (encoder.batch_size, 3, grid.crop, grid.crop)
        for _ in range(encoder.workers):
            cells = np.zeros(encoder.batch_size, np.uint32)
            self._free.put(Batch(aligned(shape, encoder.dtype), cells, 0))
        self._counters = threading.Lock()
        self.busy_seconds = 0.0

    def take(self) -> Batch | None:
        """Return the next batch; see `Source`."""
        batch = self._free.get()
        while (count := self._core.take(batch.planes, batch.cells, POLL_MS)) == 0:
            pass
        return None if count is None else batch._replace(tiles=count)

    def stop(self) -> None:
        """See `Source`."""
        self._core.cancel()

    def encode(self, batch: Batch) -> None:
        """Encode a batch, hand its tokens over and free its buffer."""
        begin = time.perf_counter()
        tokens = self._encoder.encode(batch.planes)
        seconds = time.perf_counter() - begin
        self._deliver(batch.cells[: batch.tiles], tokens)
        with self._counters:
            self.busy_seconds += seconds
        self._free.put(batch)

    def _deliver(self, cells: NDArray[np.uint32], tokens: NDArray[np.float32]) -> None:
        bad = self._core.deliver(cells, np.ascontiguousarray(tokens, np.float32))
        if bad is not None:
            x, y = self._grid.origin(divmod(int(cells[bad]), self._grid.cols))
            raise EngineError(
                f"the encoder gave a token that is not finite for the tile at level-0 ({x}, {y}); "
                "this engine or precision does not work here; try another --backend or --precision"
            )
