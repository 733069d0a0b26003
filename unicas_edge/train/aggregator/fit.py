"""Training on bags: the multi-task aggregator, or one of the baselines, from slides' labels alone.

UniCAS's Methods: Adam, batch 16, learning rate 5e-5, a cosine schedule, the weights that do best on
validation. A task learns only from slides labelled for it (`task_id`). Bags differ in their tiles,
so a batch's gradients are summed bag by bag: only one bag's activations are held at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.core.arrays import softmax
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.bags import MISSING, BagSet, Balanced
from unicas_edge.train.aggregator.baselines.dtfree import DTFree
from unicas_edge.train.aggregator.baselines.mil import BASELINES
from unicas_edge.train.aggregator.model import MultiTaskAggregator
from unicas_edge.train.loop.checkpoints import save_weights
from unicas_edge.train.loop.fit import BEST, History, Settings, fit

WEIGHTS = "aggregator.safetensors"
#: The published configuration (`AggregatorConfig`) but for the tokens' width and the tasks.
PAPER = {
    "embed_dim": 768,
    "depth": 8,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "num_experts": 8,
    "top_m": 256,
}
_NAME = "aggregator"

Logits = list[NDArray[np.float32]]


@dataclass(frozen=True)
class FitSettings:
    """How to train; the first three are the paper's. An epoch is as many bags as there are.

    `drop_tiles` is the largest share of a bag's tiles left out at random each time it is seen, an
    augmentation that the paper does not have (0: none).
    """

    batch: int = 16
    lr: float = 5e-5
    epochs: int = 50
    weight_decay: float = 0.0
    drop_tiles: float = 0.0
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `TrainingError` for values that mean nothing."""
        if self.batch < 1 or self.epochs < 1 or not 0 <= self.drop_tiles < 1:
            raise TrainingError(f"give batch and epochs >= 1 and 0 <= drop_tiles < 1, not {self}")

    def loop(self, bags: int, *, choose: bool = True) -> Settings:
        """Return the settings of the loop for so many bags; `choose` the best epoch, or not."""
        every = -(-bags // self.batch)
        return Settings(
            steps=every * self.epochs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            seed=self.seed,
            validate_every=every if choose else 0,
            save_every=every,
            optimiser="adam",
            keep=("auc", "max") if choose else None,
            patience=self.patience if choose else None,
        )


def aggregator_config(bags: BagSet, **changes: Any) -> AggregatorConfig:  # noqa: ANN401
    """Return the published configuration for these bags, with `changes` to it."""
    content: dict[str, Any] = {
        **PAPER,
        "embed_dim_in": bags.width,
        "num_tasks": len(bags.tasks),
        "classes": bags.classes,
        **changes,
    }
    try:
        return AggregatorConfig(**content)
    except ValueError as error:
        raise TrainingError(f"an aggregator cannot have this shape: {error}") from error


def make_model(bags: BagSet, kind: str = "", **changes: Any) -> nn.Module:  # noqa: ANN401
    """Return a new aggregator for these bags, or the baseline of `BASELINES` that `kind` names."""
    if not kind:
        return MultiTaskAggregator(aggregator_config(bags, **changes))
    if kind not in BASELINES or len(bags.tasks) != 1 or changes:
        raise TrainingError(
            f"{kind!r} cannot learn {len(bags.tasks)} tasks; {', '.join(BASELINES)} take one "
            "task, and no settings of their shape"
        )
    return BASELINES[kind](bags.width, bags.classes[0])


def fit_aggregator(
    model: nn.Module,
    train: BagSet,
    validation: BagSet | None,
    settings: FitSettings,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
) -> History:
    """Train `model`, which then holds the weights best on validation (mean AUC of the tasks).

    Without `validation` it holds those of the last epoch. The run is left in `folder` (`loop.fit`),
    an aggregator as `WEIGHTS` too: what `unicas-edge export aggregator` and `Aggregator.load` read.
    `TrainingError` for a task with one class in either set, and what `loop.fit` raises.
    """
    for what, bags in (("training", train), ("validation", validation)):
        if bags is not None:
            bags.check_classes(what)
    if validation is not None and (train.tasks, train.classes, train.width) != (
        validation.tasks,
        validation.classes,
        validation.width,
    ):
        raise TrainingError("training and validation differ in tasks, classes or width of tokens")
    trained = _BagTraining(model, train, validation, settings)
    history = fit(
        trained,
        trained.batch,
        settings.loop(len(train), choose=validation is not None),
        folder,
        resume=resume,
        device=device,
        identity=trained.identity(),
        title="aggregator",
    )
    _take_best(model, folder / BEST)
    if isinstance(model, MultiTaskAggregator):
        metadata = {"config": model.config.model_dump_json(), "tasks": json.dumps(train.tasks)}
        save_weights(folder / WEIGHTS, model.state_dict(), metadata)
    return history


def _take_best(model: nn.Module, path: Path) -> None:
    tensors = load_file(path)
    model.load_state_dict({k.removeprefix(f"{_NAME}."): v for k, v in tensors.items()})
    model.eval()


class _BagTraining:
    """`loop.Trainable` of a model on bags."""

    def __init__(
        self, model: nn.Module, train: BagSet, validation: BagSet | None, settings: FitSettings
    ) -> None:
        self.modules: dict[str, nn.Module] = {_NAME: model}
        self.model, self.train, self.validation, self.settings = model, train, validation, settings
        self.order = Balanced(train.labels, settings.seed)

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint depends on: model, settings, and the bags by name and label."""
        shape = {key: list(value.shape) for key, value in self.model.state_dict().items()}
        names = [[bag.name, *bag.labels] for bag in self.train.bags]
        return {"model": shape, "fit": asdict(self.settings), "bags": names}

    def batch(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Return the tokens [n, width] and labels [tasks] of a step's bags."""
        size = self.settings.batch
        chosen = self.order.at(range(step * size, (step + 1) * size))
        return [(self._tokens(i), torch.tensor(self.train.bags[i].labels)) for i in chosen]

    def _tokens(self, index: int) -> Tensor:
        tokens = self.train.tokens(index)
        if self.settings.drop_tiles:
            share = float(torch.rand(())) * self.settings.drop_tiles
            kept = torch.randperm(len(tokens))[: max(1, round(len(tokens) * (1 - share)))]
            tokens = tokens[kept.sort().values.numpy()]
        return torch.from_numpy(tokens)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the model's parameters that are trained."""
        return (p for p in self.model.parameters() if p.requires_grad)

    def loss(self, batch: list[tuple[Tensor, Tensor]], step: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the cross entropy summed over tasks, each the mean over the bags labelled for it.

        The aggregator computes every bag again for its gradient, so that a batch needs the memory
        of one bag. Baselines are small, and DTFD-MIL would draw other pseudo-bags the second time.
        """
        large = isinstance(self.model, MultiTaskAggregator)
        labels = torch.stack([label for _, label in batch])
        known = labels != MISSING
        weights = known / known.sum(dim=0).clamp(min=1)
        total = sum(
            checkpoint(self._of_bag, tokens, label, weight, use_reentrant=False)
            if large
            else self._of_bag(tokens, label, weight)
            for (tokens, label), weight in zip(batch, weights, strict=True)
        )
        return {"loss": torch.as_tensor(total)}

    def _of_bag(self, tokens: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        losses = [
            weight * functional.cross_entropy(logits.float(), label)
            for stage in _stages(self.model, tokens)
            for logits, label, weight in zip(stage, labels, weights, strict=True)
            if label != MISSING
        ]
        return torch.stack(losses).sum()

    def after_step(self, step: int) -> None:
        """Do nothing."""

    def validate(self) -> dict[str, float]:
        """Return the AUC of each task, as `auc` has it, and their mean."""
        if self.validation is None:
            return {}
        found = predict(self.model, self.validation)
        aucs = {
            f"auc_{task}": auc(found[i], self.validation.labels[:, i])
            for i, task in enumerate(self.validation.tasks)
        }
        return {"auc": float(np.mean(list(aucs.values()))), **aucs}


def _stages(model: nn.Module, tokens: Tensor) -> Sequence[Sequence[Tensor]]:
    """Return the logits of each task that are to be learned: DTFree learns twice."""
    if isinstance(model, MultiTaskAggregator):
        return [model(tokens)]
    if isinstance(model, DTFree):
        stages = model.stages(tokens)
        return [[stages.coarse], [stages.fine]]
    return [[model(tokens)]]


def predict(model: nn.Module, bags: BagSet) -> Logits:
    """Return the logits of each task, float32 [bags, classes]; the model is left evaluating."""
    model.eval()
    device = next(model.parameters()).device
    rows: list[list[NDArray[np.float32]]] = []
    with torch.inference_mode():
        for index in range(len(bags)):
            tokens = torch.from_numpy(bags.tokens(index)).to(device)
            rows.append([task.float().cpu().numpy() for task in _stages(model, tokens)[-1]])
    return [np.stack(task) for task in zip(*rows, strict=True)]


def auc(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the AUC on the bags with a label; more than two classes: the mean of one against rest.

    Of classes that have both labelled and other bags; `check_classes` sees to two.
    """
    known = labels != MISSING
    scores, truth = softmax(logits[known]), labels[known]
    if scores.shape[1] == 2:
        return float(roc_auc_score(truth, scores[:, 1]))
    there = np.unique(truth)
    return float(np.mean([roc_auc_score(truth == label, scores[:, label]) for label in there]))
