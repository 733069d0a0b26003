"""Stage 4: batches in, CLS tokens out. One module per engine, imported only when it is chosen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import EngineError

if TYPE_CHECKING:
    from unicas_edge.bundle import Bundle

AUTO = "auto"
BACKENDS = ("onnxruntime",)


class Encoder(Protocol):
    """Turns batches into CLS tokens. The same tile gives the same bits wherever it stands.

    `workers` is how many `encode` calls should run at once to keep the machine busy; `threads` is
    how many processor threads they use in all.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int
    workers: int
    batch_size: int
    width: int
    dtype: np.dtype[np.generic]

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return float32 [B, width] for a batch [B, 3, S, S]; callable from several threads."""

    def close(self) -> None:
        """Release the model."""


def open_encoder(
    bundle: Bundle,
    backend: str = AUTO,
    *,
    threads: int | None = None,
    batch_size: int | None = None,
    memory_mb: int | None = None,
) -> Encoder:
    """Return the encoder of a bundle on `backend` (``auto``: the best one that is here).

    `threads` None uses every core this process may use. `batch_size` None fits the activations of
    all workers into `memory_mb` (None: a quarter of the machine's memory, at most 2 GiB).
    `EngineError` for an unknown backend or a model that does not load.
    """
    if backend not in (AUTO, *BACKENDS):
        raise EngineError(f"no engine {backend!r}; known: {', '.join((AUTO, *BACKENDS))}")
    if threads is not None and threads < 1:
        raise EngineError(f"{threads} threads cannot encode; use at least 1")
    from unicas_edge.engines.ort import OrtEncoder  # noqa: PLC0415 - 0.2 s to import

    return OrtEncoder(bundle, threads or usable_cores(), batch_size, memory_mb)


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and, on Linux, the cgroup's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123
            quota, period = file.read().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or quota "max"
        pass
    return max(1, cores)
