"""Batches by step: what a step sees depends on (seed, step, rank) and on nothing before it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


def seed_all(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators from whole numbers >= 0."""
    seeds = np.random.SeedSequence(numbers).generate_state(3, np.uint32)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(int(seeds[2]))


#: Steps that do not repay starting a process.
_FEW = 2
#: The last number of a seed: what is drawn for.
BATCH, LOSS, VALIDATION, SETUP = 0, 1, 2, 3


class StepBatches(Dataset):
    """Batches by step, each made with freshly seeded generators, in this process or a worker."""

    def __init__(self, make: Callable[[int], Any], seed: int, rank: int) -> None:
        self.make, self.seed, self.rank = make, seed, rank

    def __getitem__(self, step: int) -> Any:  # noqa: ANN401
        seed_all(self.seed, step, self.rank, BATCH)
        return self.make(step)


def batches_from(
    make: Callable[[int], Any], steps: range, seed: int, rank: int, workers: int
) -> Iterable[Any]:
    """Return the batches of `steps` in order; `workers` processes make them ahead (0: this one).

    They are spawned and not forked, which decoders' threads do not survive: `make` must pickle.
    A few steps are made in this process, as starting another takes longer; a batch depends on its
    step alone.
    """
    workers = workers if len(steps) > _FEW else 0
    made = StepBatches(make, seed, rank)
    loader: Iterable[Any] = DataLoader(
        made,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    return loader


def moved(batch: Any, device: torch.device) -> Any:  # noqa: ANN401
    """Return a batch with its tensors, in lists, tuples and dictionaries, on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: moved(part, device) for key, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(part, device) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(part, device) for part in batch)
    return batch
