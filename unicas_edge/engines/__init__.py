"""Stage 4: engines that turn batches of normalised tiles into CLS tokens.

To add one: a module with a class that fits `Encoder`, and an entry in `_ENGINES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.core.machine import usable_cores
from unicas_edge.engines.base import MAX_BATCH, EngineOptions, Model, memory_budget, plan_batches
from unicas_edge.engines.choice import choose, objection
from unicas_edge.errors import EngineError

__all__ = [
    "Encoder",
    "EngineOptions",
    "Model",
    "choose",
    "open_encoder",
    "open_model",
    "plan_batches",
    "usable_cores",
]

#: Backend -> module and class, called with (bundle, model, options); returns an `Encoder`.
_ENGINES = {
    "onnxruntime": ("unicas_edge.engines.onnxruntime", "OrtEncoder"),
    "onnxruntime-cuda": ("unicas_edge.engines.onnxruntime", "OrtEncoder"),
    "onnxruntime-tensorrt": ("unicas_edge.engines.onnxruntime", "OrtEncoder"),
    "openvino": ("unicas_edge.engines.openvino.engine", "OpenVinoEncoder"),
}


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


def open_encoder(
    bundle: Bundle,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    memory_mb: int | None = None,
    *,
    allow_unverified: bool = False,
) -> Encoder:
    """Return the bundle's encoder, ready to run, in an engine and precision that may screen.

    See `choose` for which that is. `threads` None takes every usable core; `batch_size` None or
    "auto" fits the batches of all workers into `memory_mb` (default: a quarter of the free memory,
    at most 1 GiB). `EngineError` for an unknown backend or precision, one that is not installed or
    did not pass the bundle's gate, or a model it cannot load.
    """
    model = choose(bundle, backend, precision, allow_unverified=allow_unverified)
    return open_model(bundle, model, threads, batch_size, memory_mb)


def open_model(
    bundle: Bundle,
    model: Model,
    threads: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    memory_mb: int | None = None,
) -> Encoder:
    """Return the encoder of one model of the bundle, whatever its gate says; see `open_encoder`."""
    size = None if batch_size in (None, "auto") else int(batch_size)
    for what, value, most in (("threads", threads, 1024), ("batch size", size, MAX_BATCH)):
        if value is not None and not 1 <= value <= most:
            raise EngineError(f"{what} is {value}; choose 1 to {most}")
    memory = memory_budget() if memory_mb is None else memory_mb << 20
    module, attribute = _ENGINES[model.backend]
    encoder: Encoder = getattr(import_module(module), attribute)(
        bundle, model, EngineOptions(threads, size, memory)
    )
    encoder.unverified = objection(bundle, model)
    return encoder
