"""What pre-training and distillation share: their share of a batch, tiles held out, and the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unicas_edge.errors import TrainingError
from unicas_edge.models.checkpoint import digest
from unicas_edge.train.encoder.augment import Middle, as_tensor
from unicas_edge.train.encoder.files import save_encoder
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.encoder.tile_sources import TileSource
from unicas_edge.train.loop.config import Optimisation
from unicas_edge.train.loop.fit import History, Trainable, fit
from unicas_edge.train.loop.processes import place


def share_of_batch(batch: int) -> int:
    """Return how many tiles of a step this process takes; `TrainingError` if they do not divide."""
    world = place().world
    if batch % world or batch // world < 2:
        raise TrainingError(
            f"batch = {batch} cannot be shared by {world} processes, at least 2 tiles each"
        )
    return batch // world


def middles(source: TileSource, count: int, side: int) -> Tensor:
    """Return the middles of `count` random tiles, uint8 [count, 3, side, side]."""
    middle = Middle(side)
    return torch.stack([middle(as_tensor(tile)) for tile in source.draw(count)])


def run(
    command: str,
    model: Trainable,
    encoder: VisionTransformer,
    batches: Callable[[int], Any],
    optimisation: Optimisation,
    folder: Path,
    *,
    identity: Mapping[str, Any],
    start: Path | None,
    resume: bool,
    device: str,
    workers: int,
    title: str,
) -> History:
    """Train `model` and leave the `encoder` that is part of it in ``folder/encoder.safetensors``.

    `command` of ``unicas-edge train`` is told in the file, `start` is the checkpoint that was begun
    with. Errors are `loop.fit`'s.
    """
    history = fit(
        model,
        batches,
        optimisation.settings(),
        folder,
        resume=resume,
        identity={**identity, "start": None if start is None else digest(start)},
        device=device,
        workers=workers,
        title=title,
    )
    if place().rank == 0:
        save_encoder(folder, encoder, f"unicas-edge train {command}, {history.steps} steps")
    return history
