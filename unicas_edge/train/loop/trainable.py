"""What `loop.fit` trains, and what follows a step of many trainings: a moving average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Trainable(Protocol):
    """What `fit` trains."""

    #: Everything to save: student, teacher, heads, losses that keep a centre.
    modules: dict[str, nn.Module]

    def parameters(self) -> Iterable[Any]:
        """Return parameters, or groups ``{"params": [...]}`` of them, always in one order.

        A group may scale the learning rate and the weight decay (``lr_scale``, ``wd_scale``, 1),
        and stay as it is for its first ``frozen_steps`` (0).
        """

    def loss(self, batch: Any, step: int) -> dict[str, Tensor]:  # noqa: ANN401
        """Return scalars; the one named "loss" is differentiated, all are logged."""

    def after_step(self, step: int) -> None:
        """Do what follows an optimiser's step, such as moving an average of the weights."""

    def validate(self) -> dict[str, float]:
        """Return figures by name, {} for none."""


def follow(average: nn.Module, module: nn.Module, keep: float) -> None:
    """Move the parameters of `average` towards `module`'s, keeping a share `keep` of themselves."""
    with torch.no_grad():
        for mine, now in zip(average.parameters(), module.parameters(), strict=True):
            mine.lerp_(now, 1 - keep)
