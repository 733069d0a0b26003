"""What `unicas-edge screen` said of slides, read from its summaries and results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.core.names import safe_name
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.report.result_json import RESULT, load_result
from unicas_edge.report.summary import SUMMARY, Row, read_summary
from unicas_edge.result import NOTICE, notices
from unicas_edge.train.evaluate.csv import PROBABILITY
from unicas_edge.train.evaluate.predictions import MAX_CASES

DECISION = "decision_"
_TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Judged:
    """A screened slide: the names it goes by, probability and decision of each task.

    `thresholds` are empty where only a summary is left; `notices` are what its result warns of.
    """

    name: str
    aliases: frozenset[str]
    probabilities: dict[str, float | None]
    decisions: dict[str, str]
    thresholds: dict[str, float]
    notices: tuple[str, ...]


def read_judged(sources: Sequence[Path]) -> list[Judged]:
    """Return the slides of output folders, ``summary.csv`` or ``result.json`` files.

    `TrainingError` or `OutputError` names the file that is none of these, or not whole.
    """
    slides = [slide for source in sources for slide in _read(source)]
    if not slides:
        raise TrainingError(f"{sources[0]}: no slides in it")
    if len(slides) > MAX_CASES:
        raise TrainingError(f"{sources[0]}: more than {MAX_CASES:,} slides; split it")
    return slides


def _read(source: Path) -> list[Judged]:
    if source.name == RESULT or (source / RESULT).is_file():
        return [_from_result(source)]
    summary = source / SUMMARY if source.is_dir() else source
    if not summary.is_file():
        raise TrainingError(
            f"{source}: neither an output folder of unicas-edge screen nor its {SUMMARY} "
            f"or {RESULT}"
        )
    return [_from_row(row, summary) for row in read_summary(summary).values()]


def _from_result(source: Path) -> Judged:
    result = load_result(source)
    folder = (source if source.is_dir() else source.parent).absolute().name
    return Judged(
        folder,
        _aliases(folder, result.slide.path, result.slide.name),
        {task.name: task.probability for task in result.tasks},
        {task.name: task.decision for task in result.tasks},
        {task.name: task.threshold for task in result.tasks},
        tuple(notice for notice in notices(result) if notice != NOTICE),
    )


def _from_row(row: Row, summary: Path) -> Judged:
    tasks = [key.removeprefix(PROBABILITY) for key in row if key.startswith(PROBABILITY)]
    wrong = [task for task in tasks if not _TASK.fullmatch(task)]
    if wrong:
        raise TrainingError(f"{summary}: {wrong[0]!r:.60} is not the name of a task")
    name = row["name"]
    decisions = {task: row.get(DECISION + task, "") for task in tasks}
    return Judged(
        name,
        _aliases(name, row["slide"].removeprefix("'")),
        {task: _probability(row[PROBABILITY + task], name, summary) for task in tasks},
        decisions,
        _thresholds(summary.parent / "slides", name),
        tuple(filter(None, row.get("notice", "").replace(NOTICE, "").split("; "))),
    )


def _thresholds(slides: Path, name: str) -> dict[str, float]:
    """Return the thresholds in the slide's own result; none where that is not to be had."""
    if name != safe_name(name):
        return {}
    try:
        result = load_result(slides / name)
    except OutputError:
        return {}
    return {task.name: task.threshold for task in result.tasks}


def _probability(cell: str, name: str, summary: Path) -> float | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise TrainingError(f"{summary}: {name}: {cell!r:.60} is not a probability") from None


def _aliases(*names: str) -> frozenset[str]:
    """Return what a slide may be called: each name, the file's name and stem within it."""
    found = set(names)
    for name in names:
        path = Path(name)
        found |= {path.name, path.stem}
    return frozenset(found - {""})
