"""The CLS tokens of the tiles that matter so far: as the encoder gave them, and embedded already.

A token passes the aggregator's first layer soon after it arrives, so that after the last tile only
the blocks are left to compute. It is kept as it was, too, for ``features.h5``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from unicas_edge.aggregator.aggregator import MOST_TILES, Aggregator, Explanation
from unicas_edge.errors import AggregatorError
from unicas_edge.tiles.grid import Cell

#: Tokens embedded together: one alone costs as much memory traffic as all of them.
TOGETHER = 24


class TokenStore:
    """Holds a token a cell; safe to call from several threads.

    `capacity` is how many cells a result may have. What is held beyond that, for fields that may
    still be outranked, waits to be embedded until there is room.
    """

    def __init__(self, aggregator: Aggregator, capacity: int) -> None:
        self._capacity = min(capacity, MOST_TILES)
        self._bag = aggregator.bag(self._capacity)
        self._lock = threading.Lock()
        self._tokens: dict[Cell, NDArray[np.float32]] = {}
        self._places: dict[Cell, int] = {}
        self._used = 0  # places from here on were never taken
        self._returned: list[int] = []
        self._waiting: dict[Cell, None] = {}

    def put(self, cell: Cell, token: NDArray[np.float32]) -> None:
        """Keep the token float32 [D] of a cell; once a cell, unless it was dropped."""
        with self._lock:
            self._tokens[cell] = token
            self._waiting[cell] = None
            if len(self._waiting) >= TOGETHER:
                self._embed()

    def drop(self, cells: Iterable[Cell]) -> None:
        """Forget the tokens of cells that are out of the running, where there are any."""
        with self._lock:
            for cell in cells:
                self._tokens.pop(cell, None)
                place = self._places.pop(cell, None)
                if place is not None:
                    self._returned.append(place)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._tokens

    def finish(self, cells: Sequence[Cell]) -> NDArray[np.float32]:
        """Return the tokens float32 [n, D] of `cells`, in that order; all others are forgotten.

        `AggregatorError` for more cells than a bag holds.
        """
        if len(cells) > self._capacity:
            raise AggregatorError(
                f"{len(cells):,} tiles, and a bag holds {self._capacity:,}; lower --max-tiles"
            )
        wanted = set(cells)
        self.drop([cell for cell in self._tokens if cell not in wanted])
        with self._lock:
            tokens = np.empty((len(cells), self._bag.width), dtype=np.float32)
            for row, cell in enumerate(cells):
                tokens[row] = self._tokens[cell]
            return tokens

    def explain(self, cells: Sequence[Cell]) -> Explanation | None:
        """Return what the tokens of `cells`, in that order, come to, after `finish`; None for none.

        `AggregatorError` where the logits are not finite.
        """
        with self._lock:
            self._embed()
            if not cells:
                return None
            self._bag.arrange([self._places[cell] for cell in cells])
            return Explanation(self._bag.finish(), self._bag.attention())

    def _embed(self) -> None:
        """Embed what waits and is still wanted, as far as there is room, in runs of places."""
        waiting = [cell for cell in self._waiting if cell in self._tokens]
        room = self._capacity - self._used + len(self._returned)
        taken, self._waiting = waiting[:room], dict.fromkeys(waiting[room:])
        for cell in taken:
            self._places[cell] = self._place()
        taken.sort(key=self._places.__getitem__)
        begin = 0
        for end in range(1, len(taken) + 1):
            if end == len(taken) or self._places[taken[end]] != self._places[taken[end - 1]] + 1:
                run = taken[begin:end]
                self._bag.push(self._places[run[0]], np.stack([self._tokens[c] for c in run]))
                begin = end

    def _place(self) -> int:
        if self._returned:
            return self._returned.pop()
        self._used += 1
        return self._used - 1
