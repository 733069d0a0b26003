"""Stage 4: engines that turn batches of normalised tiles into CLS tokens.

To add one: a module with a class that fits `Encoder`, and an entry in `_ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.engines.machine import available_bytes, usable_cores
from unicas_edge.errors import EngineError

__all__ = ["Encoder", "EngineOptions", "open_encoder", "plan_batches", "usable_cores"]

#: Backend -> module and class, whose `open(bundle, options)` returns an `Encoder`.
_ENGINES = {"onnxruntime": ("unicas_edge.engines.ort", "OrtEncoder")}
_AUTO = "onnxruntime"

#: The embedded encoder is as fast at 1 to 8 tiles, slower from 16 on (the one CPU tried).
MAX_AUTO_BATCH = 4
MAX_BATCH = 4096
DEFAULT_MEMORY_BYTES = 1 << 30


class Encoder(Protocol):
    """An engine, loaded. `encode` may be called from `workers` threads at once.

    `threads` is the number it keeps busy in all, `dtype` what it takes (float32 or float16),
    `width` the length of a token. The same tile gives the same bits in any row of any batch.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int
    workers: int
    batch_size: int
    width: int
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


@dataclass(frozen=True)
class EngineOptions:
    """What the user left to the engine (None) or decided; `memory_bytes` is for activations."""

    threads: int | None
    batch_size: int | None
    memory_bytes: int


def open_encoder(
    bundle: Bundle,
    backend: str = "auto",
    threads: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    memory_mb: int | None = None,
) -> Encoder:
    """Return the bundle's encoder, ready to run.

    `threads` None takes every usable core; `batch_size` None or "auto" fits the batches of all
    workers into `memory_mb` (default: a quarter of the free memory, at most 1 GiB). `EngineError`
    for an unknown backend, one that is not installed, or a model it cannot load.
    """
    name = _AUTO if backend == "auto" else backend
    if name not in _ENGINES:
        raise EngineError(f"unknown backend {backend!r}; there are: auto, {', '.join(_ENGINES)}")
    size = None if batch_size in (None, "auto") else int(batch_size)
    for what, value, most in (("threads", threads, 1024), ("batch size", size, MAX_BATCH)):
        if value is not None and not 1 <= value <= most:
            raise EngineError(f"{what} is {value}; choose 1 to {most}")
    memory = _memory_budget() if memory_mb is None else memory_mb << 20
    module, attribute = _ENGINES[name]
    engine: Callable[[Bundle, EngineOptions], Encoder] = getattr(import_module(module), attribute)
    return engine(bundle, EngineOptions(threads, size, memory))


def _memory_budget() -> int:
    free = available_bytes()
    return DEFAULT_MEMORY_BYTES if free is None else min(DEFAULT_MEMORY_BYTES, free // 4)


def plan_batches(cores: int, tile_bytes: int, options: EngineOptions) -> tuple[int, int, int]:
    """Return (workers, threads of each, batch size) for a tile that needs `tile_bytes`.

    One worker a core, for the reason given in `engines.ort`; fewer workers with more threads
    where memory does not hold a batch for each.
    """
    affordable = max(1, options.memory_bytes // tile_bytes)
    workers = max(1, min(cores, affordable // (options.batch_size or 1)))
    auto = max(1, min(MAX_AUTO_BATCH, affordable // workers))
    return workers, max(1, cores // workers), options.batch_size or auto
