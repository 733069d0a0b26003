"""What is asked of an engine: by a user, by a profile, or by default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOptions:
    """Which engine, and what it may take. "auto" and None leave a setting to bundle and machine.

    `threads` None takes every usable core. `batch_size` None fits the batches of all workers into
    `memory_mb`, which bounds the activations (None: a quarter of the free memory, at most 1 GiB).
    `allow_unverified` lets an engine run that did not pass the bundle's gate.
    """

    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    memory_mb: int | None = None
    allow_unverified: bool = False
