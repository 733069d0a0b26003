"""One process or many: what ``torchrun`` says of this one, and the group that they form.

``torchrun --nproc-per-node 8 -m unicas_edge train pretrain ...`` starts a process per GPU with its
place in the environment; without it there is one process, and nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unicas_edge.errors import TrainingError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a process stands: `rank` of `world`, the `local`-th on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0


def place() -> Place:
    """Return this process's place, as ``torchrun`` put it into the environment."""
    try:
        found = Place(*(int(os.environ.get(k, d)) for k, d in _VARIABLES.items()))
    except ValueError as error:
        raise TrainingError(f"{', '.join(_VARIABLES)} must be integers: start with torchrun") from (
            error
        )
    if not 0 <= found.rank < found.world:
        raise TrainingError(f"RANK is {found.rank}, but WORLD_SIZE is {found.world}")
    return found


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def device_of(name: str) -> torch.device:
    """Return the device `name` means for this process: of several GPUs, "cuda" is its own.

    "auto" is a GPU where there is one. `TrainingError` where it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"device {name!r}: use cpu, cuda or auto") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"device {name}: PyTorch sees no GPU here; use --device cpu")
    return torch.device("cuda", place().local) if name == "cuda" else device


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[Place]:
    """Form the group of all processes for the block: NCCL between GPUs, gloo between CPUs."""
    here = place()
    mine = here.world > 1 and not dist.is_initialized()
    if mine:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield here
    finally:
        if mine:
            dist.destroy_process_group()


def mean_of_all(values: Tensor) -> Tensor:
    """Return the mean over the processes of `values`, which every process must give."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def first_says(value: T) -> T:
    """Return what the first process gave, so that all of them decide alike."""
    if not dist.is_initialized():
        return value
    told = [value]
    dist.broadcast_object_list(told)
    return told[0]
