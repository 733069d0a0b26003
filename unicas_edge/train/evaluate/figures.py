"""Evaluation: figures with 95% intervals from labels and probabilities.

As in the UniCAS paper's "Quantification and statistical analysis": torchmetrics' figures, 1,000
bootstrap resamples of a test set, or the folds of a cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unicas_edge import __version__
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.core.names import safe_name
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.train.evaluate.intervals import RESAMPLES, across_folds, bootstrapped
from unicas_edge.train.evaluate.metrics import (
    BINS,
    EDGES,
    THRESHOLDS,
    Array,
    Key,
    Weighted,
    confidence,
    refer_all,
)
from unicas_edge.train.evaluate.predictions import Predictions, predictions
from unicas_edge.train.evaluate.report import (
    UNSTATED,
    Bin,
    DecisionCurve,
    Figure,
    Interval,
    Report,
    check_protocol,
    markdown,
    to_manifest,
)

__all__ = [
    "Report",
    "evaluate",
    "evaluate_predictions",
    "refuse_existing",
    "to_manifest",
    "write_report",
]

#: Below this many groups (or cases) percentile intervals are known to be too narrow.
FEW = 30
#: Above this share of resamples or folds that do not define a figure, the reader is told.
MANY = 0.05

_LIBRARIES = ("numpy", "scipy", "torch", "torchmetrics")


def evaluate(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    positive: int | str | None = None,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    folds: Sequence[Any] | NDArray[Any] | None = None,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    task: str = "",
    protocol: str = "",
) -> Report:
    """Return the figures of predictions with their 95% intervals.

    `labels` int [n]; `probabilities` [n, C], or [n] of the second of two classes; `groups` and
    `folds` [n] of any one type. See `predictions` for what is refused (`TrainingError`), and
    `evaluate_predictions` for the intervals.
    """
    given = predictions(
        labels, probabilities, classes=classes, positive=positive, groups=groups, folds=folds
    )
    return evaluate_predictions(
        given, threshold=threshold, resamples=resamples, seed=seed, task=task, protocol=protocol
    )


def evaluate_predictions(
    given: Predictions,
    *,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    task: str = "",
    protocol: str = "",
) -> Report:
    """Return the figures of `given` with their 95% intervals.

    Without folds: the figure of all cases, and the 2.5th and 97.5th percentile over bootstrap
    resamples, of groups where there are groups, of cases otherwise. With folds: the mean over
    folds, and Student's t interval of that mean, within 0 and 1 where the figure is. A resample or
    fold that lacks a class does not define the figures that need it; it is left out of theirs and
    counted. `TrainingError` where fewer than two folds define a figure.
    """
    if not 0 <= threshold <= 1:
        raise TrainingError(f"the threshold {threshold} is not between 0 and 1")
    weighted = Weighted(given, threshold)
    if given.folds is None:
        spread = bootstrapped(weighted, resamples, seed)
    else:
        spread = across_folds(weighted, given.folds)
    found = [
        _figure(key, spread.figures[:, i], int(spread.undefined[i]), given)
        for i, key in enumerate(weighted.keys)
    ]
    return Report(
        unicas_edge_version=__version__,
        task=task,
        protocol=check_protocol(protocol or UNSTATED),
        n=len(given.labels),
        classes=list(given.classes),
        cases=given.cases.tolist(),
        positive=None if given.positive is None else given.classes[given.positive],
        threshold=None if given.positive is None else threshold,
        groups=None if given.groups is None else int(given.groups.max()) + 1,
        folds=None if given.folds is None else int(given.folds.max()) + 1,
        interval=spread.interval,
        figures=found,
        confusion=_confusion(given, threshold),
        reliability=_reliability(given, threshold),
        decision_curves=[
            _curve(given, k, spread.curves[:, i]) for i, k in enumerate(weighted.curves)
        ],
        left_out=given.left_out,
        notices=[*given.notices, *_notices(given, spread.interval, found)],
        versions={name: version(name) for name in _LIBRARIES},
    )


def _figure(key: Key, values: Array, undefined: int, given: Predictions) -> Figure:
    value, low, high = (float(x) for x in values)
    return Figure(
        metric=key.metric,
        scope=key.scope,
        of=None if key.of < 0 else given.classes[key.of],
        at=None if key.at < 0 else key.at,
        value=value,
        ci_low=low,
        ci_high=high,
        undefined=undefined,
        without_model=_without_model(key, given),
    )


def _without_model(key: Key, given: Predictions) -> float | None:
    shares = given.cases / len(given.labels)
    of = given.positive if key.of < 0 else key.of
    if key.metric == "accuracy":
        return float(shares.max())
    if key.metric == "auc":
        return 0.5
    if key.metric == "average_precision":
        return float(shares[shares > 0].mean() if of is None else shares[of])
    if key.metric == "net_benefit" and of is not None:
        return max(0.0, float(refer_all(shares[of])[THRESHOLDS.searchsorted(key.at)]))
    return None


def _confusion(given: Predictions, threshold: float) -> list[list[int]]:
    count = len(given.classes)
    pairs = given.labels * count + given.decided(threshold)
    table: list[list[int]] = np.bincount(pairs, minlength=count**2).reshape(count, count).tolist()
    return table


def _reliability(given: Predictions, threshold: float) -> list[Bin]:
    sure, came_true = confidence(given, threshold)
    # the last bin takes 1 itself here, so that a picture has no bin of width 0
    place = (EDGES.searchsorted(sure, side="right") - 1).clip(0, BINS - 1)
    return [
        Bin(
            low=float(EDGES[k]),
            high=float(EDGES[k + 1]),
            cases=int((place == k).sum()),
            mean_probability=float(sure[place == k].mean()),
            observed=float(came_true[place == k].mean()),
        )
        for k in np.unique(place)
    ]


def _curve(given: Predictions, of: int, values: Array) -> DecisionCurve:
    value, low, high = values.tolist()
    share = float(given.cases[of] / len(given.labels))
    return DecisionCurve(
        of=given.classes[of],
        thresholds=THRESHOLDS.tolist(),
        net_benefit=value,
        ci_low=low,
        ci_high=high,
        all_positive=refer_all(share).tolist(),
    )


def _notices(given: Predictions, interval: Interval, found: Sequence[Figure]) -> list[str]:
    """Return what a reader of the figures must not miss."""
    notices = []
    unit = "fold" if interval.method == "folds" else "resample"
    absent = [name for name, n in zip(given.classes, given.cases, strict=True) if n == 0]
    if absent:
        notices.append(f"no case of {_listed(absent)}: macro figures leave such classes out")
    if given.groups is not None and given.folds is not None:
        pairs = np.unique(np.stack([given.groups, given.folds]), axis=1)
        split = int((np.bincount(pairs[0]) > 1).sum())
        if split:
            notices.append(
                f"{split} groups lie in more than one fold: training and test cases are not "
                "independent, and the figures may be too good"
            )
    if interval.method == "folds":
        notices.append(
            "folds share training cases, so that intervals across them tend to be too narrow "
            "(Bengio and Grandvalet, JMLR 2004)"
        )
    elif interval.units < FEW:
        what = "cases" if given.groups is None else "groups"
        notices.append(
            f"{interval.units} {what} resampled: with so few, the intervals are too narrow"
        )
    rare = [f.name for f in found if f.undefined > MANY * interval.count]
    if rare:
        notices.append(
            f"more than {MANY:.0%} of {unit}s lack a class that {_listed(rare)} need; their "
            "intervals leave those out"
        )
    rigid = [figure.name for figure in found if figure.ci_low == figure.ci_high]
    if rigid:
        notices.append(
            f"the same in every {unit}: {_listed(rigid)}; these intervals say nothing about new "
            "cases"
        )
    return notices


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def refuse_existing(folder: Path, tasks: Sequence[str], *, force: bool) -> None:
    """`OutputError` where an evaluation of one of `tasks` is in `folder`, unless `force`."""
    standing = [path for task in tasks for path in output_files(folder, task) if path.exists()]
    if standing and not force:
        raise OutputError(f"{standing[0]}: exists; --force replaces it")


def write_report(folder: Path, report: Report, given: Predictions) -> list[Path]:
    """Write ``evaluation[_<task>].json``, ``.md`` and ``.png`` into `folder`; return their paths.

    Each is whole or absent; one that is there is replaced. `OutputError` where the folder does not
    take them.
    """
    from unicas_edge.train.evaluate.plots import sheet  # noqa: PLC0415 - slow to import

    files = output_files(folder, report.task)
    text = report.model_dump_json(indent=2) + "\n"
    contents = [text.encode(), markdown(report).encode(), sheet(report, given)]
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in zip(files, contents, strict=True):
        with atomic_write(path) as handle:
            handle.write(content)
    return files


def output_files(folder: Path, task: str) -> list[Path]:
    """Return the paths of an evaluation's JSON, Markdown and picture."""
    stem = f"evaluation_{safe_name(task)}" if task else "evaluation"
    return [folder / f"{stem}.{suffix}" for suffix in ("json", "md", "png")]
