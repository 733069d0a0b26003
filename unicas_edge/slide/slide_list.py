"""A list of slides in a CSV file, as people's spreadsheets write it.

Read are commas, semicolons and tabs; UTF-8, UTF-16 and what older spreadsheets write; a header in
any case, empty rows and empty columns, and a decimal comma. What would have to be guessed is
refused with the number of its line.
"""

from __future__ import annotations

import csv
import io
import locale
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.formats import main_file
from unicas_edge.slide.target import Target

LISTS = frozenset({".csv", ".tsv"})
_MAX_BYTES = 64 << 20
_SEPARATORS = ",;\t|"
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
#: What spreadsheets write where they are not told UTF-8: Western, Chinese, Cyrillic, Japanese.
_OLDER = ("cp1252", "gb18030", "cp1251", "shift_jis")
#: Rows by whose files the encoding is told.
_SAMPLE = 1_000
_PATH, _MPP = "wsi", "mpp"

_Row = tuple[int, list[str]]


def listed(path: Path) -> Iterator[Target]:
    """Yield the slides of a list with columns ``wsi[,mpp]``, in its order.

    Relative paths start from the list's own folder. `SlideError` for a list that cannot be read,
    naming the line; a slide that is missing, repeated or has no usable mpp is a target with a
    `problem`.
    """
    try:
        header, rows = _table(path, _text(path))
        yield from _targets(path, header, rows)
    except (OSError, UnicodeError, csv.Error) as error:
        raise SlideError(path, f"cannot be read as a CSV list: {error}") from error


def _text(path: Path) -> str:
    """Return a list as text: UTF-8, or the encoding in which most of its files exist."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise SlideError(path, f"too large for a list of slides (over {_MAX_BYTES >> 20} MiB)")
    for bom, encoding in _BOMS.items():
        if data.startswith(bom):
            return data.decode(encoding)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return max(_readings(data), key=lambda text: _existing(path, text))


def _readings(data: bytes) -> Iterator[str]:
    """Yield what the bytes may say where they are no UTF-8; the first also as names of files."""
    yield data.decode(errors="surrogateescape")
    for encoding in dict.fromkeys((locale.getpreferredencoding(False), *_OLDER)):
        try:
            yield data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue


def _existing(path: Path, text: str) -> int:
    """Return how many of the first files of a list exist, were this its text."""
    try:
        header, rows = _table(path, text)
        at = header.index(_PATH)
        names = [row[at].strip() for _, row in islice(rows, _SAMPLE) if len(row) > at]
    except (SlideError, csv.Error):
        return -1
    return sum(_exists(path.parent / name) for name in names if "\0" not in name)


def _table(path: Path, text: str) -> tuple[list[str], Iterator[_Row]]:
    """Return the header, in lower case, and the rows with the numbers of their lines."""
    start, separator = _separator(text)
    lines = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator)
    skipped = text[:start].count("\n")
    rows = ((lines.line_num + skipped, row) for row in lines if any(cell.strip() for cell in row))
    _, first = next(rows, (1, []))
    header = [cell.strip().strip("\ufeff\"'").lower() for cell in first]
    if _PATH not in header:
        raise SlideError(path, f"a list needs a header line with a column {_PATH!r}")
    for name in (_PATH, _MPP):
        if header.count(name) > 1:
            raise SlideError(path, f"the header has the column {name!r} twice; keep one")
    return header, rows


def _separator(text: str) -> tuple[int, str]:
    """Return where the table begins and what separates its columns.

    Excel may say it in a line of its own; else it is the one that the header holds most of.
    """
    start = 0
    first = text[:200].split("\n", 1)[0].strip('\ufeff \r"')
    if first.lower().startswith("sep=") and len(first) == 5:
        return text.find("\n") + 1 or len(text), first[4]
    header = text[start : start + 10_000].lstrip("\ufeff\r\n ,;\t").split("\n", 1)[0]
    return start, max(_SEPARATORS, key=header.count)


def _targets(path: Path, header: list[str], rows: Iterator[_Row]) -> Iterator[Target]:
    seen: set[str] = set()
    for line, row in rows:
        cells = dict(zip(header, row, strict=False))
        if any(cell.strip() for cell in row[len(header) :]):
            raise SlideError(
                path,
                f"line {line}: more columns than the header has; put quotes around a name that "
                "holds the separator, and write 0.25 for 0,25",
            )
        name = cells.get(_PATH, "").strip()
        if not name or "\0" in name:
            raise SlideError(path, f"line {line}: the column 'wsi' holds no path")
        target = _target(path.parent / name, cells.get(_MPP, ""), f"line {line} of {path}")
        place = os.path.realpath(target.path)
        if place in seen:
            target = Target(target.path, problem=f"listed twice (line {line} of {path})")
        seen.add(place)
        yield target


def _target(slide: Path, mpp: str, line: str) -> Target:
    if not _exists(slide):
        return Target(slide, problem=f"no such file ({line})")
    try:
        return Target(main_file(slide), *_mpp(mpp))
    except SlideError as error:
        return Target(slide, problem=f"{error.cause} ({line})")
    except OSError:
        return Target(slide, *_mpp(mpp))  # the reader names the cause


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False, not an error, for a loop of links


def _mpp(text: str) -> tuple[float | None, str | None]:
    """Return um/px, or None and what is wrong with it; a comma may stand for the point."""
    if not text.strip():
        return None, None
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        return None, f"the list says mpp {text!r}; write a number above 0 (um/px)"
    return value, None
