"""`tile_scores.csv` of the LBC tiles: how likely their source's own classifier calls one abnormal.

The tiles are of slides that are positive, so a background of them is not normal by itself; those
that are likely abnormal are left out.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

from unicas_edge.errors import TrainingError

TABLE = "tile_scores.csv"
#: probability above which a tile is no background
LIMIT = 0.5
_COLUMNS = ("slide", "tile", "source_p")
_MOST = 1_000_000


def likely_abnormal(folder: Path, limit: float = LIMIT) -> frozenset[tuple[str, str]]:
    """Return (slide, tile's file name) of the tiles whose probability exceeds `limit`.

    None where the folder has no table. `TrainingError` where its columns or a probability are not
    as they should be, with the line.
    """
    table = folder / TABLE
    if not 0 <= limit <= 1:
        raise TrainingError(f"a probability's limit is {limit}; give 0 to 1")
    if not table.is_file():
        return frozenset()
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise TrainingError(
                    f"{table}: no column {', '.join(sorted(missing))}; its first line must be "
                    f"{','.join(_COLUMNS)}"
                )
            rows = islice(reader, _MOST)
            return frozenset(
                (row["slide"], row["tile"])
                for row in rows
                if _probability(table, reader.line_num, row["source_p"]) > limit
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{table}: cannot be read: {error}") from error


def _probability(table: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise TrainingError(f"{table}, line {line}: source_p is {text!r}; it must be 0 to 1")
    return value
