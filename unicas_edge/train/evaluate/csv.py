"""Predictions in a CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import TrainingError
from unicas_edge.train.evaluate.predictions import MAX_CASES, Names, Predictions, predictions, some

MAX_BYTES = 1 << 30
PROBABILITY = "prob_"

#: Classes that an error lists.
_NAMED = 5


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the line and the cells by column, of each row that is not blank.

    `TrainingError` names the file and the line: not readable, not CSV, too large, a column twice,
    a row with too few or too many cells.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TrainingError(f"{path}: larger than {MAX_BYTES >> 20} MiB; split it")
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _rows(path, csv.reader(file, strict=True))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: not a CSV file in UTF-8: {error}") from error


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, dict[str, str]]]:  # noqa: ANN401 - csv's reader has no public type
    columns = [cell.strip() for cell in next(reader, [])]
    twice = [column for column, times in Counter(columns).items() if times > 1]
    if twice:
        raise TrainingError(f"{path}: the column {twice[0]!r:.60} appears twice")
    for cells in reader:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise TrainingError(
                f"{path}: line {reader.line_num}: {len(cells)} cells for {len(columns)} columns"
            )
        yield reader.line_num, dict(zip(columns, map(str.strip, cells), strict=True))


def read_predictions(path: Path, positive: str | None = None) -> Predictions:
    """Return the predictions in a CSV file.

    Columns: ``label`` (a class's name, or its number from 0 where no class's name is a number),
    ``prob_<class>`` for every class in their order, and if given ``group`` and ``fold``. A single
    ``prob_<class>`` is that of the positive one of two classes. Other columns are left alone.
    `TrainingError` as `predictions` and `read_csv`; rows are named by their line in the file.
    """
    lines: list[int] = []
    table: dict[str, list[str]] = {}
    for line, cells in read_csv(path):
        if len(lines) >= MAX_CASES:
            raise TrainingError(f"{path}: more than {MAX_CASES:,} rows; split it")
        lines.append(line)
        for column, cell in cells.items():
            if column in ("label", "group", "fold") or column.startswith(PROBABILITY):
                table.setdefault(column, []).append(cell)
    if not lines:
        raise TrainingError(f"{path}: no rows; it needs label, prob_<class>..., [group], [fold]")

    def row(number: int) -> str:
        return f"line {lines[number]}"

    columns = [name for name in table if name.startswith(PROBABILITY)]
    if "label" not in table or not columns:
        raise TrainingError(f"{path}: needs the columns label and prob_<class>, one for each class")
    for name in ("label", "group", "fold"):
        empty = [i for i, cell in enumerate(table.get(name, ())) if not cell]
        if empty:
            raise TrainingError(f"{path}: no {name} in {some(empty, row)}")
    classes = [name.removeprefix(PROBABILITY) for name in columns]
    values = np.stack([_numbers(path, name, table[name], row) for name in columns], axis=1)
    if len(classes) == 1:
        classes, values, positive = [f"not {classes[0]}", *classes], values[:, 0], classes[0]
    return predictions(
        _decoded(path, table["label"], classes, row),
        values,
        classes=classes,
        positive=positive,
        groups=table.get("group"),
        folds=table.get("fold"),
        source=str(path),
        row=row,
    )


def _numbers(path: Path, column: str, cells: Sequence[str], row: Names) -> NDArray[np.float64]:
    values, bad = np.zeros(len(cells)), []
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell)
        except ValueError:
            bad.append(i)
    if bad:
        raise TrainingError(f"{path}: {column} is not a number in {some(bad, row)}")
    return values


def _decoded(path: Path, cells: Sequence[str], classes: Sequence[str], row: Names) -> list[int]:
    known = {name: i for i, name in enumerate(classes)}
    if not any(name.isdecimal() for name in classes):
        known |= {str(i): i for i in range(len(classes))}
    bad = [i for i, cell in enumerate(cells) if cell not in known]
    if bad:
        raise TrainingError(
            f"{path}: the label in {some(bad, row)} ({cells[bad[0]]!r:.60}) is none of the classes "
            f"{', '.join(classes[:_NAMED])}{', ...' if len(classes) > _NAMED else ''}"
        )
    return [known[cell] for cell in cells]
