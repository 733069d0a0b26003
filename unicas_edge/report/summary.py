"""``summary.csv``: one row a slide, for people with spreadsheets.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, and slide
names come from outside. Such a cell gets a leading apostrophe, the spreadsheets' own mark for
text, and line breaks and other control characters become spaces (OWASP, "CSV injection").
"""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

from unicas_edge.core.files import atomic_write
from unicas_edge.errors import OutputError
from unicas_edge.result import SlideResult, notices

SUMMARY = "summary.csv"
FIRST = ("name", "slide", "status")
LAST = ("coverage", "tiles", "seconds", "error", "notice")

Row = dict[str, str]

#: The ASCII signs and their full-width forms, which spreadsheets take for the same.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def safe_cell(text: str) -> str:
    """Return `text` as a cell that no spreadsheet runs as a formula."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip()
    return "'" + text if text.startswith(_FORMULA) else text


def result_row(name: str, slide: Path, status: str, result: SlideResult) -> Row:
    """Return the row of a slide that was screened; `name` is its folder."""
    row = {"name": name, "slide": safe_cell(str(slide)), "status": status}
    for task in result.tasks:
        probability = "" if task.probability is None else f"{task.probability:.6f}"
        row |= {f"prob_{task.name}": probability, f"decision_{task.name}": task.decision}
        if task.confidence is not None:
            row[f"set_{task.name}"] = safe_cell(task.confidence.words)
    timings = result.timings_seconds
    seconds = timings.get("total", sum(timings.values()))
    return row | {
        "coverage": f"{result.coverage.coverage:.4f}",
        "tiles": str(result.coverage.encoded),
        "seconds": f"{seconds:.2f}",
        "error": safe_cell("; ".join(result.adequacy.reasons)),
        "notice": safe_cell("; ".join(notices(result))),
    }


def error_row(name: str, slide: Path, status: str, error: str) -> Row:
    """Return the row of a slide that has no result."""
    cells = {"slide": str(slide), "status": status, "error": error}
    return {"name": name} | {key: safe_cell(text) for key, text in cells.items()}


def read_summary(path: Path) -> dict[str, Row]:
    """Return the rows by name; none if there is no such file. `OutputError` if it is another's."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be read: {error}; move it away") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True))
    except csv.Error as error:
        raise OutputError(f"{path}: not a CSV file: {error}; move it away") from error
    if text and (not text.startswith("name,slide,status") or any(None in row for row in rows)):
        raise OutputError(f"{path}: not a summary that this program wrote; move it away")
    return {row["name"]: row for row in rows}


def write_summary(path: Path, rows: dict[str, Row]) -> None:
    """Write `rows`, sorted by name, with the columns of every task any of them has."""
    columns = [*FIRST, *_task_columns(rows), *LAST]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    with atomic_write(path) as handle:
        # a file name that is not UTF-8 is told by its bytes
        handle.write(text.getvalue().encode(errors="backslashreplace"))


def _task_columns(rows: dict[str, Row]) -> list[str]:
    """Return the columns that are neither first nor last, in the order they first occur."""
    fixed = {*FIRST, *LAST}
    return list(dict.fromkeys(key for row in rows.values() for key in row if key not in fixed))
