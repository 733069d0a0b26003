"""Temperature and threshold of a bundle's tasks, fitted on slides that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.bundle.manifest import Manifest
from unicas_edge.core.arrays import softmax
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.bags import MISSING, BagSet

#: Temperatures beyond say that validation is separated perfectly, or that the logits say nothing.
COLDEST, HOTTEST = 0.05, 20.0
_LEAST = 2  # slides of each class


@dataclass(frozen=True)
class Calibrated:
    """What a task's calibration is and what it changed: negative log likelihood, before and after.

    `sensitivity` and `specificity` are those at `threshold` on the same slides.
    """

    task: str
    temperature: float
    threshold: float
    slides: int
    nll_before: float
    nll_after: float
    sensitivity: float
    specificity: float


def fit_temperature(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return the temperature that minimises the NLL of logits / T, and the NLL before and after.

    Guo et al., ICML 2017; L-BFGS on log T, T kept within 0.05 and 20. `logits` [n, classes].
    """
    x = torch.from_numpy(logits.astype(np.float64))
    y = torch.from_numpy(labels.astype(np.int64))
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([log_t], lr=0.5, max_iter=200, line_search_fn="strong_wolfe")

    def nll() -> torch.Tensor:
        limited = log_t.clamp(float(np.log(COLDEST)), float(np.log(HOTTEST)))
        return functional.cross_entropy(x / limited.exp(), y)

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = nll()
        loss.backward()
        return loss

    before = nll().item()
    search.step(closure)
    after = nll().item()
    temperature = float(log_t.detach().exp().clamp(COLDEST, HOTTEST))
    return (temperature, before, after) if after <= before else (1.0, before, before)


def fit_threshold(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], sensitivity: float | None = None
) -> float:
    """Return the threshold (positive at or above) with the best Youden index on these slides.

    With `sensitivity`, the highest one that reaches it. It lies half-way between two scores, so
    that no slide is on it.
    """
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise TrainingError(f"the sensitivity is {sensitivity:g}; give a number above 0, at most 1")
    values = np.unique(scores)
    cuts = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2])
    sensitivities, specificities = np.transpose([_rates(scores, positive, cut) for cut in cuts])
    if sensitivity is not None:
        return float(cuts[np.flatnonzero(sensitivities >= sensitivity)[-1]])
    return float(cuts[np.argmax(sensitivities + specificities)])


def _rates(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float
) -> tuple[float, float]:
    called = scores >= threshold
    return float(called[positive].mean()), float((~called[~positive]).mean())


def calibrate(
    source: Bundle,
    target: Path,
    bags: BagSet,
    *,
    sensitivity: float | None = None,
    force: bool = False,
) -> tuple[Bundle, list[Calibrated]]:
    """Write a copy of `source` whose tasks are calibrated on `bags`; return it and what was fitted.

    Thresholds by `fit_threshold`. Tasks of the bundle that `bags` do not have stay. The evidence of
    a verification and a calibrated task's figures go, as both were about other decisions. `target`
    appears whole or not at all. `TrainingError` for tokens or classes that do not fit the bundle
    and a task with fewer than two slides of a side.
    """
    with edited_copy(source, target, force=force) as new:
        aggregator = Aggregator.load(source.path(source.manifest.aggregator.file))
        fitted = _fit(source.manifest, aggregator, bags, sensitivity)
        new.manifest(_content(source.manifest, fitted))
    return new.bundle, fitted


def _fit(
    manifest: Manifest, aggregator: Aggregator, bags: BagSet, sensitivity: float | None
) -> list[Calibrated]:
    names = [task.name for task in manifest.tasks]
    unknown = [task for task in bags.tasks if task not in names]
    if unknown or aggregator.config.embed_dim_in != bags.width:
        raise TrainingError(
            f"the bags have {', '.join(bags.tasks)}, width {bags.width}, but the bundle has "
            f"{', '.join(names)}, width {aggregator.config.embed_dim_in}"
        )
    rows = [aggregator.logits(bags.tokens(index)) for index in range(len(bags))]
    found = []
    for column, name in enumerate(bags.tasks):
        number = names.index(name)
        task, labels = manifest.tasks[number], bags.labels[:, column]
        known = np.flatnonzero(labels != MISSING)
        if bags.classes[column] != len(task.classes):
            raise TrainingError(
                f"{name}: bags have {bags.classes[column]} classes, but the bundle has "
                f"{len(task.classes)}"
            )
        logits = np.stack([rows[i][number][: len(task.classes)] for i in known.tolist()])
        found.append(_of_task(name, task.positive, logits, labels[known], sensitivity))
    return found


def _of_task(
    name: str,
    positive: int,
    logits: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    sensitivity: float | None,
) -> Calibrated:
    sick = labels == positive
    if min(sick.sum(), (~sick).sum()) < _LEAST:
        raise TrainingError(
            f"{name}: {sick.sum()} positive and {(~sick).sum()} negative slides; calibration needs "
            f"at least {_LEAST} of each"
        )
    temperature, before, after = fit_temperature(logits, labels)
    scaled = logits.astype(np.float64) / temperature
    scores = softmax(scaled)[:, positive]
    threshold = fit_threshold(scores, sick, sensitivity)
    found, spared = _rates(scores, sick, threshold)
    return Calibrated(name, temperature, threshold, len(labels), before, after, found, spared)


def _content(old: Manifest, fitted: Sequence[Calibrated]) -> dict[str, Any]:
    content = old.model_dump(mode="json")
    by_name = {one.task: one for one in fitted}
    for task in content["tasks"]:
        if one := by_name.get(task["name"]):
            task["calibration"] = {"temperature": one.temperature}
            task["threshold"] = one.threshold
            task.pop("conformal", None)  # its limits were of the probabilities before
    content["evaluation"] = [e for e in content["evaluation"] if e["task"] not in by_name]
    content["verification"] = None
    return content
