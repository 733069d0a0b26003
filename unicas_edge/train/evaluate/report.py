"""What an evaluation says: the model of ``evaluation.json``, its table, its manifest entries."""

from __future__ import annotations

from typing import Literal

from unicas_edge.bundle import manifest
from unicas_edge.core.values import Frozen
from unicas_edge.errors import TrainingError

SCHEMA_VERSION: Literal[1] = 1
#: Where no protocol was given.
UNSTATED = "protocol not stated"
MAX_PROTOCOL = 2000

_NAMES = {
    "auc": "AUC",
    "f1": "F1",
    "average_precision": "average precision",
    "calibration_error": "calibration error",
    "net_benefit": "net benefit",
}


class Figure(Frozen):
    """A figure and its 95% interval.

    `scope`: overall (binary: of the positive class), macro (mean over the classes that have cases,
    each against the rest), or class (`of` against the rest). `at` is the threshold probability of a
    net benefit. `undefined` counts resamples, or folds, that do not define the figure (they lack a
    class) and are left out of its interval. `without_model` is what needs no model: the largest
    class's share for accuracy, 0.5 for AUC, the prevalence for average precision, calling all or
    none positive for net benefit.
    """

    metric: str
    scope: Literal["overall", "macro", "class"] = "overall"
    of: str | None = None
    at: float | None = None
    value: float
    ci_low: float
    ci_high: float
    undefined: int
    without_model: float | None = None

    @property
    def name(self) -> str:
        """The figure as a reader would write it."""
        name = _NAMES.get(self.metric, self.metric)
        if self.scope == "class":
            return f"{name}, {self.of}"
        return (
            name
            + (" (macro)" if self.scope == "macro" else "")
            + ("" if self.at is None else f" at {self.at:g}")
        )


class Interval(Frozen):
    """Where the 95% intervals come from; `text` says it in words.

    `count` is of resamples or folds, `units` the number of what was resampled (groups or cases).
    """

    method: Literal["bootstrap", "folds"]
    count: int
    units: int
    seed: int | None
    text: str


class Bin(Frozen):
    """Cases with a probability from `low` to below `high`: their mean, and the share come true."""

    low: float
    high: float
    cases: int
    mean_probability: float
    observed: float


class DecisionCurve(Frozen):
    """Net benefit of class `of` by threshold probability, beside calling every case positive."""

    of: str
    thresholds: list[float]
    net_benefit: list[float]
    ci_low: list[float]
    ci_high: list[float]
    all_positive: list[float]


class Report(Frozen):
    """One evaluation.

    `cases` and the rows of `confusion` (truth) and its columns (decided) are in the order of
    `classes`; `positive` and `threshold` are of binary evaluations. `confusion`, `reliability` and
    `cases` are of all cases together, whatever the folds.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    unicas_edge_version: str
    task: str
    protocol: str
    n: int
    classes: list[str]
    cases: list[int]
    positive: str | None
    threshold: float | None
    groups: int | None
    folds: int | None
    interval: Interval
    figures: list[Figure]
    confusion: list[list[int]]
    reliability: list[Bin]
    decision_curves: list[DecisionCurve]
    left_out: dict[str, int]
    notices: list[str]
    versions: dict[str, str]

    def figure(
        self, metric: str, scope: str | None = None, of: str | None = None, at: float | None = None
    ) -> Figure:
        """Return the first figure of this metric (and scope, class, threshold); else `KeyError`."""
        for figure in self.figures:
            wanted = (scope or figure.scope, of or figure.of, at or figure.at)
            if figure.metric == metric and (figure.scope, figure.of, figure.at) == wanted:
                return figure
        raise KeyError(metric)

    @property
    def facts(self) -> str:
        """How many cases of what, in one line."""
        shown = [f"{count:,} {name}" for name, count in zip(self.classes, self.cases, strict=True)]
        more = [f"{len(shown) - 12} classes more"] if len(shown) > 12 else []
        groups = "" if self.groups is None else f" in {self.groups:,} groups"
        folds = "" if self.folds is None else f", {self.folds} folds"
        return f"{self.n:,} cases{groups}{folds}: {', '.join(shown[:12] + more)}"

    @property
    def decision(self) -> str:
        """How a case is decided, in one sentence."""
        if self.threshold is None:
            return "The most probable class is decided."
        return f"{self.positive!r} is decided at a probability of {self.threshold:g} or more."


def check_protocol(text: str) -> str:
    """Return `text`; `TrainingError` where it is longer than a manifest has room for."""
    if len(text) > MAX_PROTOCOL:
        raise TrainingError(f"a protocol of {len(text):,} signs; at most {MAX_PROTOCOL:,}")
    return text


def to_manifest(report: Report, task: str, protocol: str) -> list[manifest.Evaluation]:
    """Return the figures, those of single classes left out, as a bundle's manifest holds them.

    The protocol is `protocol` (the report's own if that is empty), the cases, and how the interval
    was made. `TrainingError` as `check_protocol`.
    """
    stated = check_protocol(protocol or report.protocol).rstrip(".")
    text = f"{stated}. {report.facts}. {report.decision} {report.interval.text}"
    return [
        manifest.Evaluation(
            task=task,
            metric=figure.name,
            value=figure.value,
            ci_low=figure.ci_low,
            ci_high=figure.ci_high,
            protocol=text,
        )
        for figure in report.figures
        if figure.scope != "class"
    ]


def markdown(report: Report) -> str:
    """Return the report as Markdown that also reads well on a console."""
    title = f"# Evaluation: {report.task}" if report.task else "# Evaluation"
    left_out = "; ".join(f"{count} {reason}" for reason, count in report.left_out.items())
    lines = [
        title,
        "",
        f"Protocol: {report.protocol}",
        "",
        report.facts + ".",
        *([f"Left out: {left_out}."] if left_out else []),
        report.decision,
        report.interval.text,
        "",
        *_table(report),
        "",
        *(f"- Note: {notice}" for notice in report.notices),
        *([""] if report.notices else []),
        "Research use only; not a medical device.",
    ]
    return "\n".join(lines) + "\n"


def _table(report: Report) -> list[str]:
    unit = "folds" if report.interval.method == "folds" else "resamples"
    rows = [["figure", "value", "95% interval", "without a model", f"undefined {unit}"]]
    for figure in report.figures:
        chance = "" if figure.without_model is None else f"{figure.without_model:.3f}"
        rows.append(
            [
                figure.name.replace("|", "\\|"),
                f"{figure.value:.4f}",
                f"{figure.ci_low:.4f} to {figure.ci_high:.4f}",
                chance,
                str(figure.undefined or ""),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
