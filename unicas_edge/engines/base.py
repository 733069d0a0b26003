"""What every engine does alike: check a batch, run it, check what came back; plan its batches."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Backend, Precision
from unicas_edge.core.machine import available_bytes, usable_cores
from unicas_edge.core.process import Process
from unicas_edge.engines.options import EngineOptions
from unicas_edge.errors import EngineError

#: The embedded encoder is as fast at 1 to 8 tiles, slower from 16 on (the one CPU tried).
MAX_AUTO_BATCH = 4
MAX_BATCH = 4096
DEFAULT_MEMORY_BYTES = 1 << 30
#: A batch of one tile takes a ViT-L some seconds on the slowest machine tried.
BATCH_SECONDS = 300.0
_FINEST_PATCH_PX = 14


@dataclass(frozen=True)
class Candidate:
    """One form of a bundle's encoder: who runs `path`, and in which precision."""

    backend: Backend
    precision: Precision
    path: Path


class Encoder(Protocol):
    """An engine, loaded. `encode` may be called from `workers` threads at once.

    `threads` is the number it keeps busy in all, `dtype` what it takes (float32 or float16),
    `width` the length of a token, `unverified` why it should not screen (None: it may). The same
    tile gives the same bits in any row of any batch.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int
    workers: int
    batch_size: int
    width: int
    unverified: str | None
    dtype: np.dtype[Any]

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the tokens float32 [B, width] of a batch [B, 3, S, S] with B == `batch_size`.

        The batch is C-contiguous and of type `dtype`; pad it, never shorten it. `EngineError` for
        another shape or type, and for a token that is not finite, naming its row.
        """
        ...

    def close(self) -> None:
        """Free the engine; encoding afterwards is an `EngineError`."""
        ...


def memory_budget() -> int:
    """Return how many bytes activations may take by default: a quarter of what is free."""
    free = available_bytes()
    return DEFAULT_MEMORY_BYTES if free is None else min(DEFAULT_MEMORY_BYTES, free // 4)


def activation_bytes(size: int, width: int) -> int:
    """Return about how many bytes encoding one tile of `size` pixels takes, beside the weights.

    For a vision transformer with T tokens: two copies of the pixels, 16 T `width` for the residual
    stream, the projections and the hidden layer, and two score matrices T x T a head of 64
    channels, in float32. T is for 14-pixel patches, the finest in use. Measured with the default
    bundle (16-pixel patches): 3.6 MB per tile, where this says 5.9.
    """
    tokens = (size // _FINEST_PATCH_PX) ** 2 + 1
    pixels, stream = 2 * 3 * size * size, 16 * tokens * width
    return 4 * (pixels + stream + 2 * tokens * tokens * max(1, width // 64))


def plan_batches(
    cores: int, tile_bytes: int, memory_bytes: int, batch_size: int | None = None
) -> tuple[int, int, int]:
    """Return (workers, threads of each, batch size) for a tile that needs `tile_bytes`.

    One worker a core, for the reason given in `engines.onnxruntime`; fewer workers with more
    threads where `memory_bytes` do not hold a batch for each. `batch_size` None: as many as fit.
    """
    affordable = max(1, memory_bytes // tile_bytes)
    workers = max(1, min(cores, affordable // (batch_size or 1)))
    auto = max(1, min(MAX_AUTO_BATCH, affordable // workers))
    return workers, max(1, cores // workers), batch_size or auto


class CheckedEncoder(ABC):
    """An `Encoder` but for `_run`; it plans its workers and batches from the options.

    A subclass loads `self._path` in its `__init__`, sets `version` and `digests`, the SHA-256 of
    the files that it runs by their names in the manifest, and may replace `batch_size`.
    """

    name: str
    version: str
    digests: dict[str, str]
    device = "cpu"
    unverified: str | None = None
    #: After so long without its batch the encoder has failed (`EncodeQueue`): models may loop.
    batch_seconds = BATCH_SECONDS

    def __init__(self, bundle: Bundle, candidate: Candidate, options: EngineOptions) -> None:
        self.name = candidate.backend
        self._path, self.precision = candidate.path, str(candidate.precision)
        self._size = bundle.manifest.tile.crop_px
        self.width = bundle.manifest.encoder.width
        self.dtype: np.dtype[Any] = np.dtype(bundle.manifest.input.dtype)
        cores = options.threads or usable_cores()
        memory = memory_budget() if options.memory_mb is None else options.memory_mb << 20
        self.workers, self._threads_each, self.batch_size = plan_batches(
            cores, activation_bytes(self._size, self.width), memory, options.batch_size
        )
        self.threads = self.workers * self._threads_each
        self._closed = False
        self._interrupts: dict[int, Callable[[], None]] = {}  # of runs under way, by thread
        self._process = Process()
        _LIVE.add(self)

    @classmethod
    def missing(cls, backend: str) -> str | None:
        """Return what `backend` lacks although its package is installed; None: nothing."""
        del backend  # one package is one engine here
        return None

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the tokens float32 [B, width] of a full batch; see `Encoder.encode`."""
        if self._closed:
            raise EngineError(f"{self._path}: the encoder is closed; open it again")
        self._process.require(EngineError, f"{self._path}: the encoder")
        shape = (self.batch_size, 3, self._size, self._size)
        if batch.shape != shape or batch.dtype != self.dtype or not batch.flags.c_contiguous:
            raise EngineError(
                f"a batch must be contiguous {self.dtype} {list(shape)}, not {batch.dtype} "
                f"{list(batch.shape)}; pad the last batch to the full size"
            )
        try:
            tokens = self._run(batch)
        except Exception as error:  # the runtimes' exceptions share no narrower base
            raise EngineError(f"{self._path}: {self.name} failed: {error}") from error
        finally:
            self._interrupts.pop(threading.get_ident(), None)
        if tokens.shape != (self.batch_size, self.width):
            raise EngineError(
                f"{self._path}: returned {list(tokens.shape)}, not "
                f"{[self.batch_size, self.width]}; correct encoder.width or export it again"
            )
        return np.asarray(tokens, dtype=np.float32)

    def interrupt(self, thread: int) -> None:
        """Make the run under way in the thread of that `threading.get_ident` fail, if there is one.

        A runtime looks between two steps of its model, so it may take a while, or for ever.
        """
        stop = self._interrupts.get(thread)
        if stop is not None:
            stop()

    def _interruptible(self, stop: Callable[[], None]) -> None:
        """Say how to end the run that this thread is about to begin."""
        self._interrupts[threading.get_ident()] = stop

    def close(self) -> None:
        """Free the engine; a run under way in another thread ends first.

        In a process made by fork the parent's is left alone: a runtime that frees it there waits
        for threads that the child does not have.
        """
        self._closed = True
        if self._process.here:
            self._free()

    @abstractmethod
    def _free(self) -> None:
        """Drop what the runtime holds."""

    @abstractmethod
    def _run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        """Return the tokens of a batch that was checked; called by several threads at once."""

    def _check_ports(
        self, given: tuple[Any, list[Any]], out: tuple[Any, list[Any]], *, count: tuple[int, int]
    ) -> None:
        """Compare the model's input and output, each (type or None, shape), with the manifest.

        A type of None is one that the manifest cannot name; a dimension that is no number may be
        of any size.
        """
        if count != (1, 1):
            raise EngineError(
                f"{self._path}: {count[0]} inputs and {count[1]} outputs, not one of each; "
                "export the encoder alone"
            )
        dtype, shape = given
        if dtype != self.dtype or not _fits(shape, [3, self._size, self._size]):
            raise EngineError(
                f"{self._path}: takes {dtype} {shape}, the manifest says {self.dtype} "
                f"[batch, 3, {self._size}, {self._size}]; correct input.dtype or tile.crop_px"
            )
        dtype, shape = out
        if dtype not in (np.float32, np.float16) or not _fits(shape, [self.width]):
            raise EngineError(
                f"{self._path}: gives {dtype} {shape}, the manifest says [batch, {self.width}]; "
                "correct encoder.width or export the CLS token alone"
            )


_LIVE: weakref.WeakSet[CheckedEncoder] = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """Keep the engines that a fork inherited for ever, so that their runtimes never free them."""
    for encoder in list(_LIVE):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(encoder))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def _fits(shape: list[Any], wanted: list[int]) -> bool:
    return len(shape) == len(wanted) + 1 and all(
        not isinstance(found, int) or found == want
        for found, want in zip(shape[1:], wanted, strict=True)
    )
