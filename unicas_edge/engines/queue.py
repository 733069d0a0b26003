"""Stages 3 and 4 joined: tiles in, CLS tokens out, through a fixed set of batch buffers.

The buffers are all there is: `put` waits for a free one while the encoder is behind, so memory is
bounded by `encoder.workers + spare` batches whatever the slide. Tiles are normalised by the thread
that puts them, straight into their place in a batch.
"""

from __future__ import annotations

import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from unicas_edge.engines.base import BATCH_SECONDS, Encoder
from unicas_edge.engines.crew import Crew, Job, JobQueue, Source
from unicas_edge.errors import EngineError
from unicas_edge.tiles.normalise import Normaliser

Key = TypeVar("Key", bound=Hashable)
_LINE = 64
_POLL_SECONDS = 0.1  # how soon a waiting thread notices that a worker has failed


@dataclass
class _Batch(Generic[Key]):
    pixels: NDArray[np.generic]
    keys: list[Key] = field(default_factory=list)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[np.generic]:
    """Return an array of zeros that begins a cache line: the kernels store whole lines.

    Normalising into one that does not takes 45 us a tile in place of 15 (AVX-512, float32).
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(dtype).reshape(shape)


class _Encoding(Generic[Key]):
    """What the threads work on: the encoder, and where batches and tokens go."""

    def __init__(
        self, encoder: Encoder, deliver: Callable[[Key, NDArray[np.float32]], None]
    ) -> None:
        self.encoder, self._deliver = encoder, deliver
        self.free: queue.Queue[_Batch[Key]] = queue.Queue()
        self._counters = threading.Lock()
        self.encoded = 0
        self.busy_seconds = 0.0

    def encode(self, batch: _Batch[Key]) -> None:
        """Encode a batch, hand its tokens over and free its buffer."""
        begin = time.perf_counter()
        tokens = self.encoder.encode(batch.pixels)
        seconds = time.perf_counter() - begin
        for key, token in zip(batch.keys, tokens, strict=False):  # the rest is padding
            self._deliver(key, token.copy())
        with self._counters:
            self.encoded += len(batch.keys)
            self.busy_seconds += seconds
        batch.keys.clear()
        self.free.put(batch)


def encoding_crew(encoder: Encoder, source: Source[Job], work: Callable[[Job], None]) -> Crew[Job]:
    """Return `encoder.workers` threads that do the work, and are late as the encoder says.

    A batch that takes more than `encoder.batch_seconds` (`base.BATCH_SECONDS` where it has none) is
    an `EngineError`; `encoder.interrupt`, where there is one, ends it.
    """

    def late(seconds: float) -> EngineError:
        return EngineError(
            f"the encoder has not returned a batch of {encoder.batch_size} tiles for "
            f"{seconds:g} s; lower the batch size, try another --backend, or export the model again"
        )

    seconds = getattr(encoder, "batch_seconds", BATCH_SECONDS)
    interrupt = getattr(encoder, "interrupt", lambda _: None)
    return Crew(encoder.workers, source, work, seconds, late, interrupt)


def check_crew(crew: Crew[Any], what: str) -> None:
    """Raise what stopped a crew; `EngineError` where it ended, or in a process made by fork."""
    crew.process.require(EngineError, what)
    failure = crew.failure()
    if failure is not None:
        raise failure
    if crew.stopped:
        raise EngineError(f"{what} is closed")


class EncodeQueue(Generic[Key]):
    """Encodes tiles in full batches on `encoder.workers` threads and hands each token to `deliver`.

    `deliver(key, token float32 [width])` is called from the worker threads, and must not hold the
    queue: one that is forgotten without `close` ends its threads when it is collected. `put` may be
    called from several threads at once. A failure in a worker is raised by the next `put` or
    `flush`; so is an `EngineError` for a late batch (`encoding_crew`), and for use in a process
    made by fork.
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
        self._normaliser = normaliser
        self._lock = threading.Lock()
        self._current: _Batch[Key] | None = None
        self._buffers = encoder.workers + spare
        self._encoding = _Encoding(encoder, deliver)
        for _ in range(self._buffers):
            shape = (encoder.batch_size, 3, crop, crop)
            self._encoding.free.put(_Batch(aligned(shape, encoder.dtype)))
        self._jobs = JobQueue[_Batch[Key]](encoder.workers)
        self._crew = encoding_crew(encoder, self._jobs, self._encoding.encode)
        weakref.finalize(self, self._crew.stop).atexit = False  # the crew's own end waits for it

    @property
    def encoded(self) -> int:
        """Tiles encoded so far."""
        return self._encoding.encoded

    @property
    def busy_seconds(self) -> float:
        """Seconds spent in the encoder, added up over its threads."""
        return self._encoding.busy_seconds

    def put(self, key: Key, crop: NDArray[np.uint8]) -> None:
        """Queue one crop uint8 [S, S, 3]; waits while every buffer is taken."""
        self._check()  # before a lock that, in a fork, nobody might ever release
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
        self._check()
        with self._lock:
            if self._current is not None:
                self._dispatch()
            held = [self._take_free() for _ in range(self._buffers)]
            for batch in held:
                self._encoding.free.put(batch)
            self._check()

    def close(self) -> None:
        """Stop the workers; tokens not yet delivered are dropped. Safe to call twice.

        Waits for batches being encoded, but not for one that is late. In a process made by fork,
        which has none of the threads, it does nothing.
        """
        self._crew.stop()
        self._crew.join()

    def _dispatch(self) -> None:
        batch, self._current = self._current, None
        if batch is not None:
            self._jobs.put(batch)

    def _take_free(self) -> _Batch[Key]:
        while True:
            self._check()
            try:
                return self._encoding.free.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def _check(self) -> None:
        check_crew(self._crew, "the encoder queue")
