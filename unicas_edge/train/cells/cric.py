"""CRIC Cervix's list of cells: nucleus centres in pixels, with their Bethesda class."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import TrainingError
from unicas_edge.heads.images import MAX_SIDE, MIN_SIDE

CELLS, IMAGES = "cells.csv", "images"
#: Pixels of the square around a nucleus centre.
SIDE = 100
_MAX_BYTES = 64 << 20
_COLUMNS = ("image", "bethesda", "nucleus_x_px", "nucleus_y_px")
#: As the file has them -> as they are called, by grade; the first is what is not abnormal.
BETHESDA = {
    "Negative for intraepithelial lesion": "NILM",
    "ASC-US": "ASC-US",
    "LSIL": "LSIL",
    "ASC-H": "ASC-H",
    "HSIL": "HSIL",
    "SCC": "SCC",
}


@dataclass(frozen=True)
class Cells:
    """Cells by field: `centres` float64 [n, 2] as (x, y), `grades` int64 [n] into `names`.

    `names` are the classes that have cells, NILM first.
    """

    paths: tuple[Path, ...]
    centres: NDArray[np.float64]
    grades: NDArray[np.int64]
    names: tuple[str, ...]


def cells_of(root: Path, side: int = SIDE) -> Cells:
    """Return the cells that ``cells.csv`` lists, those of one field together.

    `TrainingError`, naming the line, for an unknown class, a position that is no number or lies
    outside of any image, a file name that is none; and for a list without negatives or cells.
    """
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise TrainingError(f"the side is {side} pixels; give {MIN_SIDE} to {MAX_SIDE:,}")
    path = root / CELLS
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TrainingError(
                f"{path}: too large for a list of cells (over {_MAX_BYTES >> 20} MiB)"
            )
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = _rows(path, csv.DictReader(file))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise TrainingError(f"{path}: lists no cell")
    rows.sort(key=lambda row: row[0])
    there = {name for _, name, _ in rows}
    if "NILM" not in there:
        raise TrainingError(f"{path}: lists no negative cell; at least one is needed")
    names = tuple(name for name in BETHESDA.values() if name in there)
    return Cells(
        tuple(root / IMAGES / image for image, _, _ in rows),
        np.array([centre for _, _, centre in rows]),
        np.array([names.index(name) for _, name, _ in rows], np.int64),
        names,
    )


_Row = tuple[str, str, tuple[float, float]]


def _rows(path: Path, reader: csv.DictReader[str]) -> list[_Row]:
    absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise TrainingError(f"{path}: lacks the column {', '.join(absent)}")
    return [_row(f"{path}: line {reader.line_num}", row) for row in reader]


def _row(where: str, row: dict[str, str]) -> _Row:
    image, kind = row["image"] or "", row["bethesda"] or ""
    if image in {"", ".", ".."} or "/" in image or "\\" in image or "\0" in image:
        raise TrainingError(f"{where}: {image!r} is not a file name in the folder {IMAGES}")
    if kind not in BETHESDA:
        raise TrainingError(f"{where}: unknown class {kind!r}; there are: {', '.join(BETHESDA)}")
    try:
        x, y = float(row["nucleus_x_px"]), float(row["nucleus_y_px"])
    except (TypeError, ValueError):
        x = y = math.nan
    if not (0 <= x <= MAX_SIDE and 0 <= y <= MAX_SIDE):
        raise TrainingError(f"{where}: the nucleus at ({x:g}, {y:g}) is outside every image")
    return image, BETHESDA[kind], (x, y)
