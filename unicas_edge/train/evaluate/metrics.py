"""The figures of an evaluation, twice: by torchmetrics, and for thousands of resamples at once.

A resample is a row of weights: how often it holds each case. `Weighted` computes every figure for
many rows in a few passes of NumPy, from cumulated weights in the order of the scores; `figures` is
what torchmetrics says of one set of cases. A test holds them together.

- Macro figures are means over the classes that the predictions have cases of, each against the
  rest.
- Calibration error: expected calibration error (Guo et al., ICML 2017) in `BINS` bins of equal
  width, of the positive class's probability or, with more classes, of the decided one's.
- Net benefit (Vickers and Elkin, Med Decis Making 2006) at threshold probability t:
  TP/n - FP/n * t/(1 - t).

A figure that a set of cases does not define (a class without a case) is NaN.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torchmetrics.functional import classification as tm

from unicas_edge.train.evaluate.predictions import Predictions

BINS = 15
#: Threshold probabilities of a decision curve.
THRESHOLDS: NDArray[np.float64] = np.arange(1, 100) / 100
#: Those at which the net benefit is a figure.
BENEFIT_AT = (0.05, 0.1, 0.2, 0.5)
#: Decision curves that are kept: of the most frequent classes.
CURVES = 12

#: As torchmetrics draws them; NumPy's linspace differs in the last bit.
EDGES: NDArray[np.float64] = torch.linspace(0, 1, BINS + 1, dtype=torch.float64).numpy()

_BY_CLASS = ("auc", "sensitivity", "specificity", "f1", "average_precision")

Array = NDArray[np.float64]


class Key(NamedTuple):
    """Which figure it is.

    `of` is the index of a class, `at` the threshold probability of a net benefit; both are -1 where
    they mean nothing.
    """

    metric: str
    scope: Literal["overall", "macro", "class"] = "overall"
    of: int = -1
    at: float = -1.0


def keys(given: Predictions) -> list[Key]:
    """Return the figures of these predictions, in the order of the table."""
    if given.positive is not None:
        return [
            Key("accuracy"),
            *(Key(metric) for metric in _BY_CLASS),
            Key("f1", "macro"),
            Key("calibration_error"),
            *(Key("net_benefit", at=at) for at in BENEFIT_AT),
        ]
    macro = [Key(metric, "macro") for metric in _BY_CLASS]
    each = [Key(metric, "class", k) for k in ranked(given) for metric in _BY_CLASS]
    return [Key("accuracy"), *macro, Key("calibration_error"), *each]


def ranked(given: Predictions) -> list[int]:
    """Return the classes that are ranked against the rest: the positive one, or all with cases."""
    if given.positive is not None:
        return [given.positive]
    return [int(k) for k in np.flatnonzero(given.cases)]


def curve_classes(given: Predictions) -> list[int]:
    """Return the classes whose curves are kept: the `CURVES` most frequent ranked ones."""
    classes = ranked(given)
    return sorted(sorted(classes, key=lambda k: -given.cases[k])[:CURVES])


def confidence(given: Predictions, threshold: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return what calibration compares, [n] each: a probability, and whether it came true."""
    if given.positive is not None:
        return given.scores, given.labels == given.positive
    return given.probabilities.max(axis=1), given.decided(threshold) == given.labels


def figures(given: Predictions, threshold: float, chosen: NDArray[np.bool_]) -> Array:
    """Return torchmetrics' figures of the cases `chosen` [n], float64 in the order of `keys`.

    Net benefit, which torchmetrics does not have, is NaN.
    """
    truth = torch.from_numpy(given.labels[chosen])
    decided = torch.from_numpy(given.decided(threshold)[chosen])
    sure, right = (torch.from_numpy(part[chosen]) for part in confidence(given, threshold))
    count = len(given.classes)
    found = {
        Key("accuracy"): tm.multiclass_accuracy(decided, truth, count, average="micro").item(),
        Key("calibration_error"): tm.binary_calibration_error(sure, right.long(), BINS).item(),
    }
    each = {
        "sensitivity": tm.multiclass_recall(decided, truth, count, average="none"),
        "specificity": tm.multiclass_specificity(decided, truth, count, average="none"),
        "f1": tm.multiclass_f1_score(decided, truth, count, average="none"),
    }
    defined = [int(k) for k in truth.unique()] if len(truth.unique()) > 1 else []
    by_class = {name: {k: values[k].item() for k in defined} for name, values in each.items()}
    scores = {k: torch.from_numpy(given.probabilities[chosen, k]) for k in defined}
    for name, ranking in (("auc", tm.binary_auroc), ("average_precision", _average_precision)):
        by_class[name] = {k: ranking(s, (truth == k).long()).item() for k, s in scores.items()}
    # torchmetrics' float32 may leave an area of 1 at 1.0000001
    return np.array([_looked_up(key, found, by_class, given) for key in keys(given)]).clip(0, 1)


def _average_precision(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    value: torch.Tensor = tm.binary_average_precision(scores, truth)
    return value


def _looked_up(
    key: Key,
    overall: dict[Key, float],
    by_class: dict[str, dict[int, float]],
    given: Predictions,
) -> float:
    """Return the figure `key`: of the ranked class, of all, or the mean over classes with cases."""
    if key.metric not in by_class:
        return overall.get(key, np.nan)
    values = by_class[key.metric]
    if key.scope == "macro":
        return float(np.mean([values.get(int(k), np.nan) for k in np.flatnonzero(given.cases)]))
    return values.get(
        given.positive if key.of < 0 and given.positive is not None else key.of, np.nan
    )


class Weighted:
    """All figures of weighted cases, for many rows of weights at once."""

    def __init__(self, given: Predictions, threshold: float) -> None:
        self.given, self.threshold = given, threshold
        self.keys, self.ranked = keys(given), ranked(given)
        self.present = [int(k) for k in np.flatnonzero(given.cases)]
        self.curves = curve_classes(given)
        decided = given.decided(threshold)
        classes = len(given.classes)
        self._actual = _indicator(given.labels, classes)
        self._decided = _indicator(decided, classes)
        self._right = _indicator(given.labels, classes, given.labels == decided)
        sure, came_true = confidence(given, threshold)
        bins = EDGES.searchsorted(sure, side="right") - 1
        # weight x (probability - outcome), summed in a bin, is its weight x |gap|
        self._gap = _indicator(bins, BINS + 1, sure - came_true)
        self._orders = {
            k: _Order(given.probabilities[:, k], given.labels == k) for k in self.ranked
        }
        self._benefits = {k: _Benefit(given, k) for k in self.curves}

    def of(self, weights: Array) -> tuple[Array, Array]:
        """Return figures [r, len(keys)] and decision curves [r, curves, thresholds].

        `weights` float64 [r, n] are how often each of r resamples holds each of the n cases.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            total = weights.sum(axis=1)
            by_class = self._counted(weights, total)
            ranked = [self._orders[k].of(weights) for k in self.ranked]
            for name, place in (("auc", 0), ("average_precision", 1)):
                by_class[name] = np.full((len(weights), len(self.given.classes)), np.nan)
                by_class[name][:, self.ranked] = np.stack([pair[place] for pair in ranked], axis=1)
            curves = np.stack([self._benefits[k].of(weights, total) for k in self.curves], axis=1)
            found = [self._figure(key, weights, total, by_class, curves) for key in self.keys]
        return np.stack(found, axis=1), curves

    def _counted(self, weights: Array, total: Array) -> dict[str, Array]:
        actual, decided = weights @ self._actual, weights @ self._decided
        right, rest = weights @ self._right, total[:, None] - weights @ self._actual
        undefined = (actual == 0) | (rest == 0)
        values = {
            "sensitivity": right / actual,
            "specificity": (rest - decided + right) / rest,
            "f1": 2 * right / (actual + decided),
        }
        return {name: np.where(undefined, np.nan, value) for name, value in values.items()}

    def _figure(
        self, key: Key, weights: Array, total: Array, by_class: dict[str, Array], curves: Array
    ) -> Array:
        if key.metric == "accuracy":
            found = (weights @ self._right).sum(axis=1) / total
        elif key.metric == "calibration_error":
            found = np.abs(weights @ self._gap).sum(axis=1) / total
        elif key.metric == "net_benefit":
            found = curves[:, 0, THRESHOLDS.searchsorted(key.at)]
        elif key.scope == "macro":
            found = by_class[key.metric][:, self.present].mean(axis=1)
        else:
            found = by_class[key.metric][:, self.ranked[0] if key.of < 0 else key.of]
        return np.asarray(found, np.float64)


def _indicator(columns: NDArray[np.int64], count: int, values: NDArray[Any] | None = None) -> Any:  # noqa: ANN401 - scipy is untyped
    """Return the sparse [n, count] matrix with `values`, or ones, in the columns."""
    n = len(columns)
    data = np.ones(n) if values is None else values.astype(np.float64)
    return csr_array((data, (np.arange(n), columns)), shape=(n, count))


class _Order:
    """AUC and average precision of one class against the rest, from one sorting of the scores."""

    def __init__(self, scores: Array, truth: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        # cases with one score come together: no order of theirs is to be rewarded
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._truth = truth[self._order].astype(np.float64)

    def of(self, weights: Array) -> tuple[Array, Array]:
        """Return both [r].

        AUC is the Mann-Whitney statistic: the share of pairs in the right order, ties one half.
        Average precision is the sum over scores of precision times the rise of recall.
        """
        held = weights[:, self._order]
        positives = self._tied(held * self._truth)
        everything = self._tied(held)
        true, called = positives.cumsum(axis=1), everything.cumsum(axis=1)
        p, n = true[:, -1], called[:, -1] - true[:, -1]
        pairs = ((everything - positives) * (true - positives / 2)).sum(axis=1)
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        average = (positives * precision).sum(axis=1) / p
        return pairs / (p * n), np.where(n == 0, np.nan, average)

    def _tied(self, held: Array) -> Array:
        if len(self._starts) == held.shape[1]:
            return held
        return np.add.reduceat(held, self._starts, axis=1)


class _Benefit:
    """Net benefit of one class against the rest at `THRESHOLDS`."""

    def __init__(self, given: Predictions, of: int) -> None:
        reached = THRESHOLDS.searchsorted(given.probabilities[:, of], side="right")
        truth = given.labels == of
        self._true = _indicator(reached, len(THRESHOLDS) + 1, truth)
        self._false = _indicator(reached, len(THRESHOLDS) + 1, ~truth)

    def of(self, weights: Array, total: Array) -> Array:
        """Return the net benefit, [r, thresholds]: cases at or above a threshold are called."""
        true, false = (
            (weights @ part)[:, :0:-1].cumsum(axis=1)[:, ::-1] for part in (self._true, self._false)
        )
        benefit = (true - false * (THRESHOLDS / (1 - THRESHOLDS))) / total[:, None]
        return np.asarray(benefit, np.float64)


def refer_all(prevalence: float) -> Array:
    """Return the net benefit of calling every case positive, [thresholds]."""
    return prevalence - (1 - prevalence) * THRESHOLDS / (1 - THRESHOLDS)
