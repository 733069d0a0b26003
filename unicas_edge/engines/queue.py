"""Stages 3 and 4 joined: tiles in, CLS tokens out, through a fixed set of batch buffers.

The buffers are all there is: `put` waits for a free one while the encoder is behind, so memory is
bounded by `encoder.workers + spare` batches whatever the slide. Tiles are normalised by the thread
that puts them, straight into their place in a batch.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from unicas_edge.engines.base import Encoder
from unicas_edge.errors import EngineError
from unicas_edge.tiles.normalise import Normaliser

Key = TypeVar("Key", bound=Hashable)
_POLL_SECONDS = 0.1  # how soon a waiting thread notices that a worker has failed


@dataclass
class _Batch(Generic[Key]):
    pixels: NDArray[np.generic]
    keys: list[Key] = field(default_factory=list)


class EncodeQueue(Generic[Key]):
    """Encodes tiles in full batches on `encoder.workers` threads and hands each token to `deliver`.

    `deliver(key, token float32 [width])` is called from the worker threads. `put` may be called
    from several threads at once. A failure in a worker is raised by the next `put` or `flush`.
    `spare`, at least 1, is how many batches may wait or fill beside those being encoded.
    """

    def __init__(
        self,
        encoder: Encoder,
        normaliser: Normaliser,
        crop: int,
        deliver: Callable[[Key, NDArray[np.float32]], None],
        spare: int = 1,
    ) -> None:
        self._encoder = encoder
        self._normaliser = normaliser
        self._deliver = deliver
        self._lock = threading.Lock()
        self._counters = threading.Lock()
        self._free: queue.Queue[_Batch[Key]] = queue.Queue()
        self._full: queue.Queue[_Batch[Key] | None] = queue.Queue()
        self._current: _Batch[Key] | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self.encoded = 0
        self.busy_seconds = 0.0
        self._buffers = encoder.workers + spare
        for _ in range(self._buffers):
            shape = (encoder.batch_size, 3, crop, crop)
            self._free.put(_Batch(np.zeros(shape, dtype=encoder.dtype)))
        self._workers = [
            threading.Thread(target=self._work, name=f"encode-{k}", daemon=True)
            for k in range(encoder.workers)
        ]
        for worker in self._workers:
            worker.start()

    def put(self, key: Key, crop: NDArray[np.uint8]) -> None:
        """Queue one crop uint8 [S, S, 3]; waits while every buffer is taken."""
        with self._lock:
            if self._current is None:
                self._current = self._take_free()
            batch = self._current
            self._normaliser.into(crop, batch.pixels[len(batch.keys)])
            batch.keys.append(key)
            if len(batch.keys) == len(batch.pixels):
                self._dispatch()

    def flush(self) -> None:
        """Encode what is left, padding the last batch, and wait until every token is delivered."""
        with self._lock:
            if self._current is not None:
                self._dispatch()
            held = [self._take_free() for _ in range(self._buffers)]
            for batch in held:
                self._free.put(batch)
            self._check()

    def close(self) -> None:
        """Stop the workers; tokens not yet delivered are dropped. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for _ in self._workers:
            self._full.put(None)
        for worker in self._workers:
            worker.join()

    def _dispatch(self) -> None:
        self._full.put(self._current)
        self._current = None

    def _take_free(self) -> _Batch[Key]:
        while True:
            self._check()
            try:
                return self._free.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise EngineError("the encoder queue is closed")

    def _work(self) -> None:
        while (batch := self._full.get()) is not None and not self._closed:
            try:
                self._encode(batch)
            except BaseException as error:
                self._failure = error
                return

    def _encode(self, batch: _Batch[Key]) -> None:
        begin = time.perf_counter()
        tokens = self._encoder.encode(batch.pixels)
        seconds = time.perf_counter() - begin
        for key, token in zip(batch.keys, tokens, strict=False):  # the rest is padding
            self._deliver(key, token.copy())
        with self._counters:
            self.encoded += len(batch.keys)
            self.busy_seconds += seconds
        batch.keys.clear()
        self._free.put(batch)
