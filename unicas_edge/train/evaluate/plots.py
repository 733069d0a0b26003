"""``evaluation.png``: ROC, precision and recall, reliability, decision curve, confusion, figures.

A class's curve is that class against the rest, of all cases together, whatever the folds.
"""

from __future__ import annotations

import io
import math
import textwrap
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torchmetrics.functional import classification as tm

from unicas_edge.report.pictures.draw import printable
from unicas_edge.report.pictures.palette import (
    AMBER_INK,
    INK,
    MUTED,
    PAPER,
    PLATE,
    RGB,
    RULE,
    task_colour,
)
from unicas_edge.result import NOTICE
from unicas_edge.train.evaluate.metrics import Array
from unicas_edge.train.evaluate.predictions import Predictions
from unicas_edge.train.evaluate.report import DecisionCurve, Report

#: Inches and dots an inch: 1540 x 1045 pixels.
SIZE, DPI = (14.0, 9.5), 110
#: Points a drawn curve is thinned to, classes whose cells are numbered, rows of the table.
POINTS, NUMBERED, ROWS = 2000, 10, 16
#: Threshold probabilities drawn: beyond, few are called and the odds weigh noise.
_SHOWN = 0.8

#: Heights of a figure's row and of a note's line, of the panel's.
_ROW, _NOTE = 0.055, 0.042

_DASHES = ("-", "--", ":", "-.")


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": _hex(INK),
    "axes.labelcolor": _hex(INK),
    "axes.edgecolor": _hex(RULE),
    "axes.titlecolor": _hex(INK),
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _hex(PLATE),
    "xtick.color": _hex(MUTED),
    "ytick.color": _hex(MUTED),
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "figure.facecolor": _hex(PAPER),
    "lines.linewidth": 1.6,
}


def sheet(report: Report, given: Predictions) -> bytes:
    """Return the PNG of `report`; `given` are the predictions it was made of."""
    with rc_context(_STYLE):
        picture = Picture(figsize=SIZE, dpi=DPI)
        axes = picture.subplots(2, 3)
        picture.subplots_adjust(0.055, 0.105, 0.985, 0.85, wspace=0.2, hspace=0.3)
        panels = (_roc, _precision_recall, _reliability, _decision, _confusion, _figures)
        for place, panel in zip(axes.flat, panels, strict=True):
            panel(place, report, given)
        _margins(picture, report)
        file = io.BytesIO()
        picture.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _text(text: str, width: int) -> str:
    """Return `text` in signs that the font has, shortened to `width` of them."""
    text = printable(text).replace("…", "...")
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def _margins(picture: Picture, report: Report) -> None:
    title = f"Evaluation: {report.task.replace('_', ' ')}" if report.task else "Evaluation"
    made = f"unicas-edge {report.unicas_edge_version}"
    picture.text(0.018, 0.955, _text(title, 90), fontsize=17)
    picture.text(0.018, 0.93, _text(f"Protocol: {report.protocol}", 200))
    picture.text(0.018, 0.911, _text(f"{report.facts}.", 200), color=_hex(MUTED))
    picture.text(0.018, 0.892, _text(report.interval.text, 200), color=_hex(MUTED))
    picture.text(0.018, 0.018, made, fontsize=8, color=_hex(MUTED))
    picture.text(0.985, 0.018, f"{NOTICE[0].upper()}{NOTICE[1:]}", fontsize=8, ha="right")
    picture.add_artist(Line2D([0.018, 0.985], [0.045, 0.045], color=_hex(RULE), linewidth=0.8))


def _curves(report: Report) -> list[tuple[int, str, dict[str, Any]]]:
    """Return index, name and line style of each class that has curves."""
    found = []
    for number, curve in enumerate(report.decision_curves):
        style = {"color": _hex(task_colour(number)), "linestyle": _DASHES[number // 6 % 4]}
        found.append((report.classes.index(curve.of), curve.of, style))
    return found


def _thinned(*lines: torch.Tensor) -> list[NDArray[Any]]:
    """Return `lines` as arrays of at most `POINTS` points, both ends kept."""
    count = len(lines[0])
    kept = np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))
    return [line.numpy()[kept] for line in lines]


def _against_rest(given: Predictions, of: int) -> tuple[torch.Tensor, torch.Tensor]:
    scores, truth = given.probabilities[:, of], (given.labels == of).astype(np.int64)
    return torch.from_numpy(scores.copy()), torch.from_numpy(truth)


def _named(report: Report, name: str, metric: str) -> str:
    figure = report.figure(metric, of=None if report.positive else name)
    return f"{_text(name, 18)}: {figure.value:.3f} ({figure.ci_low:.3f}-{figure.ci_high:.3f})"


def _square(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def _roc(axes: Axes, report: Report, given: Predictions) -> None:
    for of, name, style in _curves(report):
        false, true, _ = tm.binary_roc(*_against_rest(given, of))
        axes.plot(*_thinned(false, true), label=_named(report, name, "auc"), **style)
    axes.plot([0, 1], [0, 1], color=_hex(MUTED), linewidth=0.8, linestyle=":")
    _square(axes, "ROC (area, 95% interval)", "1 - specificity", "sensitivity")
    if report.positive:
        sensitivity, specificity = report.figure("sensitivity"), report.figure("specificity")
        axes.plot(
            1 - specificity.value,
            sensitivity.value,
            "o",
            color=_hex(INK),
            markersize=5,
            label=f"threshold {report.threshold:g}",
        )
    axes.legend(loc="lower right")


def _precision_recall(axes: Axes, report: Report, given: Predictions) -> None:
    for of, name, style in _curves(report):
        precision, recall, _ = tm.binary_precision_recall_curve(*_against_rest(given, of))
        label = _named(report, name, "average_precision")
        axes.step(*_thinned(recall, precision), where="post", label=label, **style)
        share = report.cases[of] / report.n
        axes.axhline(share, color=style["color"], linewidth=0.8, linestyle=":")
    _square(axes, "Precision and recall (average precision)", "recall", "precision")
    axes.legend(loc="lower left")


def _reliability(axes: Axes, report: Report, given: Predictions) -> None:  # noqa: ARG001 - a panel
    bins = report.reliability
    most = max(part.cases for part in bins)
    for part in bins:  # how many cases there are, along the floor
        height = 0.15 * part.cases / most
        axes.bar(part.low, height, part.high - part.low, align="edge", color=_hex(RULE))
    axes.plot([0, 1], [0, 1], color=_hex(MUTED), linewidth=0.8, linestyle=":")
    means, observed = [b.mean_probability for b in bins], [b.observed for b in bins]
    low, high = np.array([_wilson(b.observed, b.cases) for b in bins]).T
    bars = np.abs(np.stack([np.array(observed) - low, high - np.array(observed)]))
    axes.errorbar(
        means, observed, bars, color=_hex(task_colour(1)), marker="o", markersize=4, elinewidth=0.9
    )
    figure = report.figure("calibration_error")
    label = f"calibration error {figure.value:.3f} ({figure.ci_low:.3f}-{figure.ci_high:.3f})"
    what = f"of {report.positive}" if report.positive else "of the decided class"
    _square(axes, "Reliability", _text(f"mean probability {what}", 60), "share come true")
    axes.text(0.03, 0.94, label, transform=axes.transAxes, fontsize=8)


def _wilson(share: float, cases: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share, for the bars: cases taken for independent."""
    z2 = 1.959964**2 / cases
    middle, half = share + z2 / 2, math.sqrt(z2 * share * (1 - share) + z2 * z2 / 4)
    return (middle - half) / (1 + z2), (middle + half) / (1 + z2)


def _decision(axes: Axes, report: Report, given: Predictions) -> None:  # noqa: ARG001 - a panel
    many = len(report.decision_curves) > 1
    for curve, (_, name, style) in zip(report.decision_curves, _curves(report), strict=True):
        at, benefit, low, high, everyone = _shown(curve)
        axes.plot(at, benefit, label=_text(name, 18), **style)
        if not many:
            axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(at, everyone, color=_hex(MUTED), linewidth=1, label="all positive")
    axes.axhline(0, color=_hex(INK), linewidth=0.8, label="none positive")
    top = max(max(curve.ci_high) for curve in report.decision_curves)
    title = "Decision curve (each against the rest)" if many else "Decision curve (95% band)"
    axes.set(
        title=title,
        xlabel="threshold probability",
        ylabel="net benefit",
        xlim=(0, _SHOWN),
        ylim=(-0.25 * top, 1.08 * top),
    )
    axes.legend(loc="upper right")


def _shown(curve: DecisionCurve) -> Array:
    """Return thresholds, net benefit, low, high and all positive, [5, thresholds drawn]."""
    lines = np.array(
        [curve.thresholds, curve.net_benefit, curve.ci_low, curve.ci_high, curve.all_positive]
    )
    return lines[:, lines[0] <= _SHOWN]


def _confusion(axes: Axes, report: Report, given: Predictions) -> None:  # noqa: ARG001 - a panel
    table = np.array(report.confusion)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.set(title="Confusion (share of the true class)", xlabel="decided", ylabel="true")
    if len(table) > NUMBERED:
        return
    size = 10 if len(table) <= 5 else 7
    for (row, column), count in np.ndenumerate(table):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{count:,}\n{share:.0%}",
            ha="center",
            va="center",
            fontsize=size,
            color=_hex(PAPER if share > 0.55 else INK),
        )
    names = [_text(name, 62 // len(table)) for name in report.classes]
    places = range(len(names))
    axes.set_xticks(places, names, fontsize=size - 2)
    axes.set_yticks(places, names, fontsize=size - 2, rotation=90, va="center")


def _figures(axes: Axes, report: Report, given: Predictions) -> None:  # noqa: ARG001 - a panel
    axes.set_axis_off()
    axes.set_title("Figures (95% interval)")
    shown = [f for f in report.figures if f.scope != "class"]
    shown += [f for f in report.figures if f.scope == "class" and f.metric == "f1"]
    for number, figure in enumerate(shown[:ROWS]):
        y = 0.965 - number * _ROW
        interval = f"{figure.ci_low:.3f} to {figure.ci_high:.3f}"
        axes.text(0, y, _text(figure.name, 34), va="center")
        axes.text(0.68, y, f"{figure.value:.3f}", va="center", ha="right")
        axes.text(1, y, interval, va="center", ha="right", color=_hex(MUTED))
        axes.axhline(y - _ROW / 2, color=_hex(PLATE), linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _notes(axes, report, 0.945 - len(shown[:ROWS]) * _ROW)


def _notes(axes: Axes, report: Report, top: float) -> None:
    """Write what was left out and the notices below `top`, as far as they fit."""
    notes = [f"left out: {count} {reason}" for reason, count in report.left_out.items()]
    lines = [
        line for note in [*notes, *report.notices] for line in textwrap.wrap(_text(note, 400), 68)
    ]
    room = max(0, int(top / _NOTE))
    if len(lines) > room:
        lines = [*lines[: room - 1], "more in the table"] if room else []
    for number, line in enumerate(lines):
        axes.text(0, top - number * _NOTE, line, va="center", fontsize=8, color=_hex(AMBER_INK))
