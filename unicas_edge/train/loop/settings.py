"""How long and how fast to train: what `loop.fit` is told, and the schedules that follow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from unicas_edge.errors import TrainingError


@dataclass(frozen=True)
class Settings:
    """How long and how fast to train.

    The learning rate rises linearly to `lr` over `warmup_steps` and falls along a cosine to
    `final_lr`; the weight decay goes from `weight_decay` to `final_weight_decay` (None: stays)
    along a cosine. `keep` names the validation figure, and whether its "max" or "min", of the
    weights kept in `BEST`; None keeps the last. Training stops after `patience` validations in a
    row without a better one (None: never). 0 for `save_every` or `validate_every`: only at the end.
    """

    steps: int
    lr: float
    warmup_steps: int = 0
    final_lr: float = 0.0
    weight_decay: float = 0.0
    final_weight_decay: float | None = None
    clip_norm: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    save_every: int = 0
    validate_every: int = 0
    keep: tuple[str, Literal["max", "min"]] | None = None
    patience: int | None = None
    optimiser: Literal["adam", "adamw"] = "adamw"

    def __post_init__(self) -> None:
        """Raise `TrainingError` for values that mean nothing."""
        counts = (
            self.steps - 1,
            self.warmup_steps,
            self.save_every,
            self.validate_every,
            self.seed,
        )
        rates = (self.lr, self.final_lr, self.weight_decay, self.final_weight_decay or 0.0)
        if min(counts) < 0 or not all(0 <= rate < math.inf for rate in rates):
            raise TrainingError(
                "steps must be at least 1, and the seed, the other counts and the rates not "
                f"negative: {self}"
            )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise TrainingError(f"clip_norm is {self.clip_norm}; use a number above 0, or none")
        if self.patience is not None and (self.patience < 1 or self.keep is None):
            raise TrainingError("patience needs at least 1 validation, and a figure to keep")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        return cosine(
            step - self.warmup_steps, self.steps - self.warmup_steps, self.lr, self.final_lr
        )

    def weight_decay_at(self, step: int) -> float:
        """Return the weight decay of a step."""
        final = self.final_weight_decay
        if final is None:
            return self.weight_decay
        return cosine(step, self.steps, self.weight_decay, final)


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Return where a half cosine from `start` (step 0) to `end` (step `steps` - 1) is at `step`."""
    share = min(step / max(1, steps - 1), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def optimiser_of(parameters: Iterable[Any], settings: Settings) -> torch.optim.Optimizer:
    """Return the optimiser of parameters, or groups of them (`loop.Trainable.parameters`)."""
    given = list(parameters)
    groups = [group for group in given if isinstance(group, dict)]
    single = [parameter for parameter in given if not isinstance(parameter, dict)]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    return kind([*groups, *([{"params": single}] if single else [])], lr=settings.lr)


def schedule(groups: list[dict[str, Any]], settings: Settings, step: int) -> dict[str, float]:
    """Set an optimiser's groups for a step; return the rates of a group that scales nothing."""
    lr, decay = settings.lr_at(step), settings.weight_decay_at(step)
    for group in groups:
        frozen = step < group.get("frozen_steps", 0)
        group["lr"] = 0.0 if frozen else lr * group.get("lr_scale", 1.0)
        group["weight_decay"] = decay * group.get("wd_scale", 1.0)
    rates = {"lr": lr}
    return rates if settings.final_weight_decay is None else rates | {"weight_decay": decay}
