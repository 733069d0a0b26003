"""Linear probing, as the paper does it: a two-layer network on CLS tokens that are computed once.

Methods, region-level analysis: hidden layer of 768, Adam, batches of 32, 30 epochs, learning rate
1e-4 along a cosine, early stopping; clue cells from 16 patches. Where the paper says nothing: ReLU
between the layers; tokens standardised by mean and standard deviation of the training cases, which
is folded into the first layer afterwards; early stopping by the cross-entropy of a fifth of the
training groups, after 5 epochs without a better one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.core.arrays import Float32
from unicas_edge.errors import TrainingError
from unicas_edge.train.loop.checkpoints import load_weights
from unicas_edge.train.loop.fit import BEST, Settings, fit

Weights = dict[str, Float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Probing:
    """How a head is trained; the defaults are the paper's. `patience` None: no early stopping."""

    hidden: int = 768
    batch: int = 32
    lr: float = 1e-4
    epochs: int = 30
    patience: int | None = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `TrainingError` for sizes that mean nothing."""
        if not (1 <= self.hidden <= 65_536 and self.batch >= 1 and self.epochs >= 1):
            raise TrainingError(
                f"hidden {self.hidden}, batch {self.batch}, epochs {self.epochs}: give at least 1"
            )


@dataclass(frozen=True)
class Probed:
    """A head's weights as `regions.Head` takes them, and the epochs after which it was best."""

    weights: Weights
    epochs: int

    def logits(self, tokens: Float32) -> NDArray[np.float64]:
        """Return the logits of `tokens` [n, width], float64 [n, classes]."""
        w = {key: weight.astype(np.float64) for key, weight in self.weights.items()}
        hidden = np.maximum(tokens @ w["fc1.weight"].T + w["fc1.bias"], 0)
        return np.asarray(hidden @ w["fc2.weight"].T + w["fc2.bias"])


def probe(
    tokens: Float32,
    labels: Indices,
    classes: int,
    probing: Probing,
    folder: Path | None = None,
    *,
    held_out: NDArray[np.bool_] | None = None,
) -> Probed:
    """Return a head trained on `tokens` float32 [n, width] with `labels` int64 [n].

    `held_out` bool [n] marks cases for early stopping, on which nothing else depends; None trains
    for all epochs. The run's log, curves and checkpoints go to `folder`. `TrainingError` for
    tokens that are not finite, fewer than two classes to train on, or a loss that is not finite.
    """
    _check(tokens, labels, held_out)
    task = _Probe(tokens, labels, classes, probing, held_out)
    settings = Settings(
        steps=task.per_epoch * probing.epochs,
        lr=probing.lr,
        seed=probing.seed,
        optimiser="adam",
        validate_every=task.per_epoch if held_out is not None else 0,
        keep=("loss", "min") if held_out is not None else None,
        patience=probing.patience if held_out is not None else None,
    )
    with _folder(folder) as where:
        history = fit(task, task.batch, settings, where, title="linear probing")
        load_weights(where / BEST, task.modules)
    steps = settings.steps if history.best is None else history.best[0] + 1
    return Probed(task.folded(), steps // task.per_epoch)


def _folder(folder: Path | None) -> AbstractContextManager[Path]:
    if folder is not None:
        return nullcontext(folder)
    return _Temporary()


class _Temporary(TemporaryDirectory[str]):
    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def _check(tokens: Float32, labels: Indices, held_out: NDArray[np.bool_] | None) -> None:
    if tokens.ndim != 2 or len(tokens) != len(labels):
        raise TrainingError(f"tokens {list(tokens.shape)} for {len(labels)} labels: not one each")
    bad = np.flatnonzero(~np.isfinite(tokens).all(axis=1))
    if len(bad):
        raise TrainingError(f"the token of image {bad[0]} is not finite; check the encoder")
    seen = labels if held_out is None else labels[~held_out]
    if len(np.unique(seen)) < 2:
        raise TrainingError("fewer than two classes to train on; take more groups, or fewer folds")


@dataclass
class _Probe:
    """What `fit` trains: the two layers, on standardised tokens."""

    tokens: Float32
    labels: Indices
    classes: int
    probing: Probing
    held_out: NDArray[np.bool_] | None
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        train = np.ones(len(self.labels), bool) if self.held_out is None else ~self.held_out
        seen = self.tokens[train].astype(np.float64)
        spread = seen.std(axis=0)
        self.mean, self.std = seen.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)
        self._train = self._tensors(train)
        self._validation = self._tensors(~train)
        self.per_epoch = -(-len(seen) // self.probing.batch)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.probing.seed)
            fc1 = nn.Linear(self.tokens.shape[1], self.probing.hidden)
            fc2 = nn.Linear(self.probing.hidden, self.classes)
        self.layers = nn.Sequential()
        for name, layer in (("fc1", fc1), ("relu", nn.ReLU()), ("fc2", fc2)):
            self.layers.add_module(name, layer)
        self.modules = {"head": self.layers}

    def _tensors(self, chosen: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        standard = (self.tokens[chosen] - self.mean) / self.std
        return torch.from_numpy(standard.astype(np.float32)), torch.from_numpy(self.labels[chosen])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a batch of an epoch's permutation, which depends on seed and epoch alone."""
        epoch, place = divmod(step, self.per_epoch)
        x, y = self._train
        order = np.random.default_rng([self.probing.seed, epoch]).permutation(len(y))
        begin = place * self.probing.batch
        chosen = torch.from_numpy(order[begin : begin + self.probing.batch])
        return x[chosen], y[chosen]

    def parameters(self) -> Iterable[Any]:
        return list(self.layers.parameters())

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        del step
        x, y = batch
        return {"loss": functional.cross_entropy(self.layers(x), y)}

    def after_step(self, step: int) -> None:
        pass

    def validate(self) -> dict[str, float]:
        x, y = self._validation
        if not len(y):
            return {}
        logits = self.layers(x)
        return {
            "loss": float(functional.cross_entropy(logits, y)),
            "accuracy": float((logits.argmax(dim=1) == y).float().mean()),
        }

    def folded(self) -> Weights:
        """Return the weights for tokens as they are: fc1 ((x - mean) / std) is affine in x."""
        state = {key: w.detach().double().numpy() for key, w in self.layers.state_dict().items()}
        first = state["fc1.weight"] / self.std
        state["fc1.bias"] = state["fc1.bias"] - first @ self.mean
        state["fc1.weight"] = first
        return {key: np.ascontiguousarray(w, dtype=np.float32) for key, w in state.items()}
