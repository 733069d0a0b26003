"""Attention guided by tiles whose truth is known, before an aggregator learns from slides alone.

A slide's label says that one tile in a hundred decides it, and not which; from a few hundred slides
no attention is learnt that finds it. Of composed slides it is known. So the first block's scores,
which say what a task attends to, are trained as classifiers of tiles, one a head: on tiles that
decide a task and decoys, and on all tiles of slides that are negative for it. What it then makes of
what it attends to, slides teach it (`fit_aggregator`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.core.arrays import Float32
from unicas_edge.train.aggregator.bags import BagSet
from unicas_edge.train.aggregator.model import MultiTaskAggregator
from unicas_edge.train.loop.fit import Settings, fit

#: Tiles of a step: of known truth, and of a slide.
_KNOWN, _OF_SLIDE = 128, 128
#: Tokens are left out of at random by so much of their channels, and scores are pushed less far.
_DROP, _SMOOTHING = 0.2, 0.05


class Known(NamedTuple):
    """Tokens float32 [n, width], what each decides float32 [n, tasks] or NaN, their chances [n]."""

    tokens: Float32
    labels: Float32
    chances: NDArray[np.float64]


@dataclass(frozen=True)
class GuideSettings:
    """How the first block's attention is trained; a step sees 256 tiles."""

    steps: int = 1500
    lr: float = 1e-3
    seed: int = 0

    def loop(self) -> Settings:
        """Return the settings of the loop."""
        return Settings(
            steps=self.steps,
            lr=self.lr,
            warmup_steps=self.steps // 20,
            weight_decay=0.05,
            clip_norm=1.0,
            seed=self.seed,
        )


def guide(
    model: MultiTaskAggregator,
    known: Known,
    bags: BagSet,
    settings: GuideSettings,
    folder: Path,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Train the attention of `model`'s first block in place; the run is left in `folder`.

    Places mean nothing on composed slides, so the position encoding begins as none. Errors are
    `loop.fit`'s.
    """
    for parameter in model.model.pos_layer.parameters():
        nn.init.zeros_(parameter)
    training = _Guide(model, known, bags)
    history = fit(
        training,
        training.batch,
        settings.loop(),
        folder,
        resume=resume,
        identity={"guide": settings.__dict__, "known": len(known.tokens)},
        title="guided attention",
    )
    tell(f"attention guided by {len(known.tokens):,} tiles for {history.steps} steps")


class _Guide:
    """`loop.Trainable` of what the first block's scores depend on."""

    def __init__(self, model: MultiTaskAggregator, known: Known, bags: BagSet) -> None:
        self.modules: dict[str, nn.Module] = {"aggregator": model}
        self.model, self.known, self.bags = model.model, known, bags

    def parameters(self) -> Iterable[Any]:
        """Return the first layer, the task tokens, and what makes queries and keys of them."""
        first = self.model.blocks[0]
        parts = (self.model.layer1, first.norm1, first.attn.qs, first.attn.kv)
        return [self.model.task_tokens, *(p for part in parts for p in part.parameters())]

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens [n, width], labels [n, tasks], and which of these are known [n, tasks]."""
        del step
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        chosen = rng.choice(len(self.known.tokens), _KNOWN, p=self.known.chances)
        bag = int(rng.integers(len(self.bags)))
        tokens = self.bags.tokens(bag)
        some = rng.permutation(len(tokens))[:_OF_SLIDE]
        labels = np.zeros((len(some), len(self.bags.tasks)), np.float32)
        negative = self.bags.labels[bag] == 0
        told = self.known.labels[chosen]
        known = np.concatenate([~np.isnan(told), np.tile(negative, (len(some), 1))])
        return (
            torch.from_numpy(np.concatenate([self.known.tokens[chosen], tokens[some]])),
            torch.from_numpy(np.concatenate([np.nan_to_num(told), labels])),
            torch.from_numpy(known),
        )

    def loss(self, batch: tuple[Tensor, Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """Return the cross entropy of each head's scores, over the tiles whose truth is known."""
        del step
        tokens, labels, known = batch
        x = self.model.begun(functional.dropout(tokens, _DROP)[None])
        first = self.model.blocks[0]
        scores, _ = first.attn.scores(first.norm1(x))
        found = scores[0, :, :, : len(tokens)].permute(0, 2, 1)  # [H, n, t]; padding left out
        wanted = (labels * (1 - _SMOOTHING) + _SMOOTHING / 2).expand_as(found)
        each = functional.binary_cross_entropy_with_logits(found, wanted, reduction="none")
        mask = known.expand_as(each)
        return {"loss": (each * mask).sum() / mask.sum()}

    def after_step(self, step: int) -> None:
        """Do nothing."""

    def validate(self) -> dict[str, float]:
        """Return nothing."""
        return {}
