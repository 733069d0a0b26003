"""Slides that `unicas-edge screen` judged, beside what is known of them, as predictions by task.

A slide without a probability or found unsatisfactory has no decision: it is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unicas_edge.errors import TrainingError
from unicas_edge.train.evaluate.csv import read_csv
from unicas_edge.train.evaluate.predictions import MAX_CASES, Predictions, predictions, some
from unicas_edge.train.evaluate.screened import Judged, read_judged

UNSATISFACTORY, NO_PROBABILITY, UNKNOWN = "unsatisfactory", "without a probability", "without truth"

#: Probabilities of a summary have six digits.
_ROUNDED = 1e-6
#: Different warnings of results that are passed on.
_NOTICES = 8
_FIXED = ("wsi", "name", "group", "fold")
_WORDS = {
    **dict.fromkeys(("1", "positive", "true", "yes"), True),
    **dict.fromkeys(("0", "negative", "false", "no"), False),
}


@dataclass(frozen=True)
class Known:
    """A row of the truth: its line, the cells by plain name of the task, group and fold."""

    line: int
    labels: dict[str, str]
    group: str | None
    fold: str | None


def slide_predictions(
    sources: Sequence[Path],
    truth: Path,
    *,
    tasks: Sequence[str] = (),
    threshold: float | None = None,
) -> dict[str, tuple[Predictions, float]]:
    """Return predictions and threshold of each task that both the slides and the truth have.

    `sources` are output folders of `unicas-edge screen`, ``summary.csv`` or ``result.json`` files.
    `truth` is a CSV file with a column ``wsi`` or ``name`` (the slide's path, file name, stem, or
    name in the summary), a column for each task (1/0, positive/negative, true/false, yes/no; empty
    where unknown; ``label`` if it is one task), and optionally ``group`` and ``fold``. Unless
    `threshold` is given, it is the bundle's, as the results say it. `TrainingError` or
    `OutputError` names the file.
    """
    slides = read_judged(sources)
    known = _known(truth)
    rows = _joined(slides, known, truth)
    have = list(dict.fromkeys(task for slide in slides for task in slide.probabilities))
    missing = [task for task in tasks if task not in have]
    if missing:
        raise TrainingError(f"{sources[0]}: no task {missing[0]!r}; it has {', '.join(have)}")
    columns = _columns(tasks or have, {column for row in known.values() for column in row.labels})
    lacking = [task for task in tasks or have if task not in columns]
    if lacking and (tasks or not columns):
        raise TrainingError(f"{truth}: no column with a label for {', '.join(lacking)}")
    return {
        task: _of_task(task, column, rows, truth, threshold) for task, column in columns.items()
    }


def _columns(tasks: Sequence[str], columns: Set[str]) -> dict[str, str]:
    """Return the column of the truth for each of `tasks` that has one."""
    found = {task: _plain(task) for task in tasks if _plain(task) in columns}
    if not found and len(tasks) == 1 and "label" in columns:
        return {tasks[0]: "label"}
    return found


def _plain(column: str) -> str:
    return re.sub(r"[\s_-]", "", column).casefold()


def _known(truth: Path) -> dict[str, Known]:
    """Return the rows of the truth by the name they give the slide."""
    known: dict[str, Known] = {}
    for line, cells in read_csv(truth):
        key = cells.get("wsi") or cells.get("name") or ""
        if not key or len(known) >= MAX_CASES:
            raise TrainingError(f"{truth}: line {line}: no slide in a column 'wsi' or 'name'")
        if key in known:
            raise TrainingError(f"{truth}: line {line}: {key!r} appears twice")
        labels = {_plain(column): cell for column, cell in cells.items() if column not in _FIXED}
        known[key] = Known(line, labels, cells.get("group") or None, cells.get("fold") or None)
    if not known:
        raise TrainingError(f"{truth}: no rows; it needs wsi or name, and a column for each task")
    return known


def _joined(
    slides: Sequence[Judged], known: Mapping[str, Known], truth: Path
) -> list[tuple[Judged, Known | None]]:
    """Return each slide beside its row of the truth.

    `TrainingError` where a row fits two slides or a slide two rows, or where none fits any.
    """
    by_alias: dict[str, list[int]] = {}
    for number, slide in enumerate(slides):
        for alias in slide.aliases:
            by_alias.setdefault(alias, []).append(number)
    found: dict[int, Known] = {}
    for key, row in known.items():
        for number in _fitting(key, by_alias, slides, f"{truth}: line {row.line}"):
            if number in found:
                raise TrainingError(
                    f"{truth}: lines {found[number].line} and {row.line} both fit the slide "
                    f"{slides[number].name!r}; write its name as in the summary"
                )
            found[number] = row
    if not found:
        raise TrainingError(f"{truth}: none of its slides is among the {len(slides)} screened")
    return [(slide, found.get(number)) for number, slide in enumerate(slides)]


def _fitting(
    key: str, by_alias: Mapping[str, list[int]], slides: Sequence[Judged], where: str
) -> list[int]:
    """Return the number of the slide called `key`, the closest sense first; none where none is."""
    for alias in (key, Path(key).name, Path(key).stem):
        numbers = by_alias.get(alias, [])
        if len(numbers) > 1:
            numbers = [i for i in numbers if slides[i].name == alias]
        if len(numbers) == 1:
            return numbers
        if by_alias.get(alias):
            raise TrainingError(
                f"{where}: {key!r:.100} fits {len(by_alias[alias])} slides; write its path, "
                "or its name as in the summary"
            )
    return []


def _of_task(
    task: str,
    column: str,
    rows: Sequence[tuple[Judged, Known | None]],
    truth: Path,
    threshold: float | None,
) -> tuple[Predictions, float]:
    left_out: Counter[str] = Counter()
    kept: list[tuple[Judged, Known, bool]] = []
    for slide, known in rows:
        label = None if known is None else _label(known, column, truth)
        reason = _left_out(slide, task, label)
        if known is None or label is None or reason:
            left_out[reason] += 1
        else:
            kept.append((slide, known, label))
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise TrainingError(f"{truth}: {task}: no slide is left to evaluate: {reasons}")
    used, notices = _threshold(task, [slide for slide, _, _ in kept], threshold)
    made = predictions(
        [int(label) for _, _, label in kept],
        np.array([slide.probabilities[task] for slide, _, _ in kept], np.float64),
        classes=("negative", "positive"),
        positive="positive",
        groups=_cells("group", [known for _, known, _ in kept], truth),
        folds=_cells("fold", [known for _, known, _ in kept], truth),
        left_out=dict(left_out),
        notices=[*notices, *_warned([slide for slide, _, _ in kept])],
        source=f"{task} (truth in {truth})",
        row=lambda i: kept[i][0].name,
    )
    return made, used


def _label(known: Known, column: str, truth: Path) -> bool | None:
    cell = known.labels.get(column, "")
    if cell and cell.casefold() not in _WORDS:
        raise TrainingError(
            f"{truth}: line {known.line}: {cell!r:.60} is not a label; write 1 or 0, or "
            "nothing if it is unknown"
        )
    return _WORDS[cell.casefold()] if cell else None


def _left_out(slide: Judged, task: str, label: bool | None) -> str:
    """Return why a slide is not evaluated; empty if it is."""
    if label is None:
        return UNKNOWN
    if slide.probabilities.get(task) is None:
        return NO_PROBABILITY
    return UNSATISFACTORY if slide.decisions[task] == UNSATISFACTORY else ""


def _cells(what: str, rows: Sequence[Known], truth: Path) -> list[str] | None:
    cells = [row.group if what == "group" else row.fold for row in rows]
    if not any(cells):
        return None
    empty = [i for i, cell in enumerate(cells) if not cell]
    if empty:
        raise TrainingError(
            f"{truth}: no {what} in {some(empty, lambda i: f'line {rows[i].line}')}"
        )
    return [cell for cell in cells if cell]


def _warned(slides: Sequence[Judged]) -> list[str]:
    """Return what the slides' results warn of, and for how many of them."""
    counts = Counter(notice for slide in slides for notice in slide.notices)
    return [f"{notice} ({count} slides)" for notice, count in counts.most_common(_NOTICES)]


def _threshold(
    task: str, slides: Sequence[Judged], given: float | None
) -> tuple[float, tuple[str, ...]]:
    """Return the threshold to evaluate at: `given`, or the one the slides were decided by."""
    said = {slide.thresholds[task] for slide in slides if task in slide.thresholds}
    if given is not None:
        own = said - {given}
        more = f", not at the bundle's {', '.join(f'{t:g}' for t in sorted(own)[:3])}"
        return given, (f"evaluated at the threshold {given:g}{more}",) if own else ()
    if len(said) > 1:
        raise TrainingError(
            f"{task}: the slides were decided at different thresholds; choose one with --threshold"
        )
    used = said.pop() if said else 0.5
    for slide in slides:
        value = slide.probabilities[task] or 0.0
        decided = "positive" if value >= used else "negative"
        if slide.decisions[task] != decided and abs(value - used) > _ROUNDED:
            raise TrainingError(
                f"{task}: {slide.name!r} was decided {slide.decisions[task]!r:.30} at {value:g}, "
                f"which does not fit the threshold {used:g}; give the right one with --threshold"
            )
    return used, ()
