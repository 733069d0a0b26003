"""What ``screen`` was pointed at, as a list of slides: one slide, a folder, or a CSV list."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide import is_field_folder
from unicas_edge.slide.formats import SUFFIXES

MAX_TARGETS = 1_000_000
_MAX_LIST_BYTES = 64 << 20


@dataclass(frozen=True)
class Target:
    """A slide to screen. `problem` says why it cannot be: it is reported, not passed over."""

    path: Path
    mpp: float | None = None
    problem: str | None = None


def find_targets(source: Path, *, recursive: bool = False) -> list[Target]:
    """Return the slides `source` stands for, in a stable order.

    A ``.csv`` is a list with columns ``wsi[,mpp]``, whose relative paths start from its own folder;
    a missing or repeated slide there becomes a target with a `problem`. A folder is searched for
    slides, unless it is one: a folder of fields. `SlideError` where nothing is found.
    """
    try:
        return _found(source, recursive=recursive)
    except OSError as error:
        raise SlideError(source, f"cannot be read: {error.strerror}") from error


def _found(source: Path, *, recursive: bool) -> list[Target]:
    if source.suffix.lower() == ".csv" and source.is_file():
        found = list(_listed(source))
    elif source.is_dir() and not is_field_folder(source):
        found = [Target(path) for path in _searched(source, recursive=recursive)]
    else:
        return [Target(source)]
    if not found:
        deeper = "" if recursive else "; to search the folders inside it, add --recursive"
        raise SlideError(source, f"no slides in it{deeper}")
    return found


def _searched(folder: Path, *, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SlideError(folder, f"cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            if (entry / "result.json").exists():
                continue  # our own output: its pictures are no slide
            if recursive and is_field_folder(entry):
                yield entry
            elif recursive:
                yield from _searched(entry, recursive=True)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry


def _listed(path: Path) -> Iterator[Target]:
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise SlideError(path, f"too large for a list of slides (over {_MAX_LIST_BYTES >> 20} MiB)")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if "wsi" not in (rows.fieldnames or ()):
                raise SlideError(path, "a list needs a header line with a column 'wsi'")
            yield from _rows(path, rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SlideError(path, f"cannot be read as a CSV list: {error}") from error


def _rows(path: Path, rows: csv.DictReader[str]) -> Iterator[Target]:
    seen: set[str] = set()
    for row in rows:
        name = (row["wsi"] or "").strip()
        if not name or "\0" in name:
            raise SlideError(path, f"line {rows.line_num}: the column 'wsi' holds no path")
        slide = path.parent / name
        target = Target(slide, *_mpp(row.get("mpp")))
        if _normal(slide) in seen:
            target = Target(slide, problem=f"listed twice (line {rows.line_num} of {path})")
        elif not os.path.exists(slide):  # noqa: PTH110 - False, not an error, for a loop of links
            target = Target(slide, problem=f"no such file (line {rows.line_num} of {path})")
        seen.add(_normal(slide))
        yield target


def _normal(path: Path) -> str:
    return os.path.realpath(path)


def _mpp(text: str | None) -> tuple[float | None, str | None]:
    if text is None or not text.strip():
        return None, None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        return None, f"the list says mpp {text!r}; write a number above 0 (um/px)"
    return value, None
