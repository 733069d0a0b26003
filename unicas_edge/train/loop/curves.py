"""What training tells: ``log.jsonl``, a line for each step, and the curves drawn from it."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unicas_edge.core.files import atomic_write, output_errors

LOG, CURVES, PICTURE = "log.jsonl", "curves.json", "curves.png"

#: Points of a curve; longer runs are averaged over windows of equal length.
POINTS = 2000
#: What is drawn faintly behind the running mean of a curve with more points than this.
_FEW = 20

Record = dict[str, Any]
Curve = dict[str, list[float]]


def read_log(folder: Path) -> Iterator[Record]:
    """Yield the records of a log in order; a line that a killed run left half-written ends it."""
    path = folder / LOG
    if not path.exists():
        return
    with output_errors(path), path.open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record


def rewind(folder: Path, step: int) -> None:
    """Drop the log's records from `step` on: they will be written again."""
    with atomic_write(folder / LOG) as file:
        for record in read_log(folder):
            if record.get("step", step) < step:
                file.write(line_of(record))


def line_of(record: Record) -> bytes:
    """Return a record as a line of the log."""
    return json.dumps(record).encode() + b"\n"


def curves_of(records: Iterable[Record]) -> dict[str, Curve]:
    """Return ``{name: {"step": [...], "value": [...]}}``, at most `POINTS` points each.

    Validation's values are named ``validation/<name>``.
    """
    found: dict[str, tuple[array[float], array[float]]] = {}
    for record in records:
        values = {k: v for k, v in record.items() if k not in ("step", "validation")}
        values |= {f"validation/{k}": v for k, v in record.get("validation", {}).items()}
        for name, value in values.items():
            steps, curve = found.setdefault(name, (array("d"), array("d")))
            steps.append(record["step"])
            curve.append(value)
    return {
        name: {"step": _thinned(steps), "value": _thinned(curve)}
        for name, (steps, curve) in found.items()
    }


def _thinned(values: array[float]) -> list[float]:
    window = -(-len(values) // POINTS)
    if window <= 1:
        return values.tolist()
    parts = (values[i : i + window] for i in range(0, len(values), window))
    return [sum(part) / len(part) for part in parts]


def write_curves(folder: Path, title: str) -> None:
    """Write `CURVES` and `PICTURE` of the folder's log."""
    curves = curves_of(read_log(folder))
    with atomic_write(folder / CURVES) as file:
        file.write(json.dumps(curves, indent=1).encode())
    if curves:
        draw(folder / PICTURE, curves, title)


def draw(path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Draw a panel for each curve as PNG: the points, and their running mean where they are many.

    A step's value and its validation share a panel.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    panels: dict[str, list[str]] = {}
    for name in curves:
        panels.setdefault(name.removeprefix("validation/"), []).append(name)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.8))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, members) in zip(axes, panels.items(), strict=False):
        for member in members:
            _line(panel, curves[member], validation=member != name)
        panel.set_title(name, fontsize=10)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
        if len(members) > 1:
            panel.legend(fontsize=8)
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    high = 2.8 * rows + 0.8  # inches; matplotlib's own layouts take most of the time
    figure.subplots_adjust(0.6 / (4.2 * columns), 0.55 / high, 0.98, 1 - 0.75 / high, 0.2, 0.35)
    figure.suptitle(title, fontsize=11, y=1 - 0.2 / high, va="top")
    figure.supxlabel("step", fontsize=9, y=0.1 / high, va="bottom")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _line(panel: Any, curve: Curve, *, validation: bool) -> None:  # noqa: ANN401 - matplotlib's Axes
    steps, values = curve["step"], curve["value"]
    if validation:
        panel.plot(steps, values, "o-", color="tab:orange", markersize=3, label="validation")
        return
    many = len(values) > _FEW
    panel.plot(
        steps,
        values,
        color="tab:blue",
        alpha=0.3 if many else 1.0,
        linewidth=1,
        label=None if many else "training",
    )
    if many:
        panel.plot(steps, _smooth(values), color="tab:blue", linewidth=1.6, label="training")


def _smooth(values: list[float]) -> list[float]:
    """Return the mean of a window of a twentieth of the curve, centred, shorter at its ends."""
    half = max(1, len(values) // 40)
    total = [0.0]
    for value in values:
        total.append(total[-1] + value)
    ends = ((max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values)))
    return [(total[b] - total[a]) / (b - a) for a, b in ends]
