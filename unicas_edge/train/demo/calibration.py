"""Temperatures, thresholds and prediction sets from slides of left-out backgrounds, and figures.

The rule: a task's threshold is the highest at which `SENSITIVITY` of the positive left-out slides
are called positive. Figures are cross-fitted: a fold's slides are judged with temperature and
threshold from the other folds' alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle.knowledge import ConformalSpec
from unicas_edge.core.arrays import softmax
from unicas_edge.train.aggregator.calibrate import fit_temperature, fit_threshold
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.left_out import OfTask, Unseen
from unicas_edge.train.evaluate.figures import evaluate_predictions
from unicas_edge.train.evaluate.predictions import Predictions, predictions
from unicas_edge.train.evaluate.report import Report

SENSITIVITY = 0.93
#: What the prediction sets hold with.
COVERAGE = 0.9
#: A probability is not read closer to 0 or 1 than this when it is moved.
_CLOSE = 1e-9
Floats = NDArray[np.float64]
_CLASSES = ("negative", "positive")
Outcome = tuple[Predictions, Report]


@dataclass(frozen=True)
class Calibration:
    """A task's temperature, threshold and prediction sets."""

    temperature: float
    threshold: float
    conformal: ConformalSpec

    def share(self, logits: Floats) -> Floats:
        """Return the probabilities float64 [n] of logits float64 [n, 2]."""
        return np.asarray(softmax(logits / self.temperature)[:, 1])

    def holds(self, logits: Floats, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the prediction set of each slide holds its label, bool [n]."""
        shares, limits = self.share(logits), self.conformal
        high, low = shares >= limits.positive_from, shares <= limits.negative_to
        return np.asarray(np.where(labels == 1, high, low))


def calibration(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Return the calibration by logits float64 [n, 2] and labels [n] of left-out slides."""
    temperature = fit_temperature(logits, labels)[0]
    shares = softmax(logits / temperature)[:, 1]
    threshold = fit_threshold(shares, labels == 1, SENSITIVITY)
    return Calibration(temperature, threshold, _conformal(shares, labels == 1))


def _conformal(shares: Floats, positive: NDArray[np.bool_]) -> ConformalSpec:
    """Return class-conditional split conformal limits (Vovk, ACML 2012).

    Of n slides of a class, floor((1 - coverage) (n + 1)) may lie beyond its limit.
    """
    low, high = np.sort(shares[positive]), np.sort(shares[~positive])
    beyond = [math.floor((1 - COVERAGE) * (len(some) + 1)) for some in (low, high)]
    return ConformalSpec(
        coverage=COVERAGE,
        slides=len(shares),
        positive_from=float(low[beyond[0] - 1]) if beyond[0] else 0.0,
        negative_to=float(high[-beyond[1]]) if beyond[1] else 1.0,
    )


def calibrations(unseen: Unseen) -> list[Calibration]:
    """Return the calibration of every task by all left-out slides."""
    tasks = map(unseen.task, range(len(TASKS)))
    return [calibration(one.logits, one.labels) for one in tasks]


def cross_fitted(unseen: Unseen) -> list[dict[int, Calibration]]:
    """Return for every task the calibration of each fold, by the slides of the others."""
    return [_crossed(unseen.task(k), np.unique(unseen.folds)) for k in range(len(TASKS))]


def _crossed(of: OfTask, folds: NDArray[np.int64]) -> dict[int, Calibration]:
    others = {int(fold): of.folds != fold for fold in folds}
    return {fold: calibration(of.logits[some], of.labels[some]) for fold, some in others.items()}


def outcomes(unseen: Unseen, protocol: str, what: str = "") -> list[Outcome]:
    """Return what was outcomes of every task, under its name and `what`.

    Compositions are what is resampled.

    Each fold's probabilities are by the others' temperature, and moved so that the others'
    threshold becomes that of all: what is decided is what the others' threshold decides.
    """
    found = []
    for k, (task, folds) in enumerate(zip(TASKS, cross_fitted(unseen), strict=True)):
        of = unseen.task(k)
        threshold = calibration(of.logits, of.labels).threshold
        shares = np.empty(len(of.labels))
        for fold, one in folds.items():
            here = of.folds == fold
            apart = _odds(threshold) - _odds(one.threshold)
            shares[here] = 1 / (1 + np.exp(-_odds(one.share(of.logits[here])) - apart))
        given = predictions(
            of.labels,
            np.stack([1 - shares, shares], axis=1),
            classes=_CLASSES,
            positive=1,
            groups=of.slides,
        )
        name = f"{task}, {what}" if what else task
        report = evaluate_predictions(given, threshold=threshold, task=name, protocol=protocol)
        found.append((given, report))
    return found


def covered(unseen: Unseen) -> dict[str, float]:
    """Return for each task the share of slides whose label is in the set that the others gave."""
    found = {}
    for k, (task, folds) in enumerate(zip(TASKS, cross_fitted(unseen), strict=True)):
        of = unseen.task(k)
        inside = np.zeros(len(of.labels), np.bool_)
        for fold, one in folds.items():
            here = of.folds == fold
            inside[here] = one.holds(of.logits[here], of.labels[here])
        found[task] = float(inside.mean())
    return found


def _odds(share: Any) -> Any:  # noqa: ANN401 - a number or an array of them
    """Return the natural logarithm of the odds."""
    inside = np.clip(share, _CLOSE, 1 - _CLOSE)
    return np.log(inside / (1 - inside))
