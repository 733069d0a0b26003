"""Where the fields of a folder lie: `fields.csv`, file names, or a grid of their own."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.formats import FIELD_SUFFIXES, SUFFIXES, clutter
from unicas_edge.slide.jpeg import frame_of

LIST = "fields.csv"
#: Files of one folder that are looked at.
MAX_FILES = 50_000
#: Pixels of one field: 8192 x 8192.
MAX_FIELD_PIXELS = 1 << 26
#: Level-0 coordinates; beyond it a position is a mistake.
MAX_POSITION = 1 << 31
TILE = 256

_NAMED = re.compile(r"(?:^|[^0-9A-Za-z])x([0-9]{1,10})_y([0-9]{1,10})(?:[^0-9]|$)", re.IGNORECASE)
_PNG = b"\x89PNG\r\n\x1a\n"
#: Bytes of a file that hold the header of its image.
HEAD = 65536


@dataclass(frozen=True)
class Field:
    """One image, its size in pixels and its bytes; (x, y) is its level-0 top left corner."""

    path: Path
    x: int
    y: int
    width: int
    height: int
    size_bytes: int


@dataclass(frozen=True)
class Fields:
    """The fields of a folder in painting order; `um_px` where the list gives it."""

    fields: tuple[Field, ...]
    um_px: float | None
    warnings: tuple[str, ...]


def holds_fields(path: Path) -> bool:
    """Return whether a folder directly holds JPEG or PNG images and no slide files.

    Enough for one that is named as a slide; `slide.folder.evidence` asks for more.
    """
    if not path.is_dir():
        return False
    suffixes = {entry.suffix.lower() for entry in path.iterdir() if clutter(entry.name) is None}
    return bool(suffixes & FIELD_SUFFIXES) and not suffixes & SUFFIXES


def find_fields(folder: Path) -> Fields:
    """Return the fields of a folder.

    Positions are, in this order: rows of ``fields.csv`` (columns file, x, y in level-0 pixels, and
    optionally um_px); file names that hold ``x<digits>_y<digits>``, level-0 pixels, in all of them;
    else a grid made up here (see `_on_grid`), with a warning. `SlideError` names the file at fault.
    """
    listed = folder / LIST
    if listed.is_file():
        return _from_list(folder, listed)
    paths = _images(folder)
    matches = [named_place(path) for path in paths]
    if all(matches):
        places = [place for place in matches if place]
        found = [_field(path, *place) for path, place in zip(paths, places, strict=True)]
        return Fields(tuple(found), None, ())
    return _on_grid([_field(path, 0, 0) for path in paths])


def named_place(path: Path) -> tuple[int, int] | None:
    """Return the level-0 (x, y) that a file's name holds as ``x<digits>_y<digits>``, or None."""
    match = _NAMED.search(path.stem)
    return (int(match[1]), int(match[2])) if match else None


def _images(folder: Path) -> list[Path]:
    """Return the images of a folder by name."""
    paths = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in FIELD_SUFFIXES and clutter(p.name) is None and p.is_file()
    )
    if not paths:
        raise SlideError(folder, "a folder without JPEG or PNG fields")
    if len(paths) > MAX_FILES:
        raise SlideError(folder, f"{len(paths)} fields; at most {MAX_FILES} are read")
    return paths


def _on_grid(images: list[Field]) -> Fields:
    """Return the fields laid out in name order, near to a square.

    Every cell is the next multiple of 256 pixels above the largest image, and the image lies in its
    middle: a tile of 224 in a cell of 256 is exactly what the encoder's centre crop takes.
    """
    width, height = (
        TILE * math.ceil(max(getattr(f, side) for f in images) / TILE)
        for side in ("width", "height")
    )
    columns = max(1, math.ceil(math.sqrt(len(images) * height / width)))
    placed = []
    for number, image in enumerate(images):
        row, col = divmod(number, columns)
        x = col * width + (width - image.width) // 2
        y = row * height + (height - image.height) // 2
        placed.append(Field(image.path, x, y, image.width, image.height, image.size_bytes))
    note = "the positions of the fields are not known; they are laid out in the order of names"
    return Fields(tuple(placed), None, (note,))


def _from_list(folder: Path, listed: Path) -> Fields:
    """Return the fields that ``fields.csv`` names."""
    try:
        with listed.open(newline="", encoding="utf-8-sig") as file:
            rows = _rows(listed, csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SlideError(listed, f"not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise SlideError(listed, "lists no field")
    spacings = {row["um_px"] for row in rows if row.get("um_px")}
    if len(spacings) > 1:
        raise SlideError(listed, f"um_px differs between fields: {', '.join(sorted(spacings))}")
    fields = tuple(_listed_field(folder, listed, row) for row in rows)
    names = {field.path for field in fields}
    if len(names) < len(fields):
        raise SlideError(listed, "lists a file twice")
    um_px = _number(listed, spacings.pop()) if spacings else None
    left_out = sum(path not in names for path in _images(folder))
    note = (f"{left_out} images of the folder are not in {LIST}",) if left_out else ()
    return Fields(_from_corner(fields), um_px, note)


def _rows(listed: Path, reader: csv.DictReader[str]) -> list[dict[str, str]]:
    """Return the rows, at most `MAX_FILES`, once the header has what is needed."""
    absent = {"file", "x", "y"} - set(reader.fieldnames or ())
    if absent:
        raise SlideError(listed, f"lacks the column {', '.join(sorted(absent))}")
    rows = []
    for row in reader:
        rows.append({str(key): str(value or "").strip() for key, value in row.items()})
        if len(rows) > MAX_FILES:
            raise SlideError(listed, f"lists more than {MAX_FILES} fields")
    return rows


def _listed_field(folder: Path, listed: Path, row: dict[str, str]) -> Field:
    """Return the field of one row."""
    path = folder / row["file"]
    if not row["file"] or not path.resolve().is_relative_to(folder.resolve()):
        raise SlideError(listed, f"names a file outside the folder: {row['file']!r}")
    if not path.is_file():
        raise SlideError(listed, f"names a file that is not there: {row['file']!r}")
    place = [_number(listed, row[axis]) for axis in ("x", "y")]
    if any(abs(value) > MAX_POSITION for value in place):
        raise SlideError(listed, f"places {row['file']!r} at ({row['x']}, {row['y']})")
    return _field(path, *(round(value) for value in place))


def _number(listed: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SlideError(listed, f"{text!r} is not a number")
    return value


def _from_corner(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields, negative positions refused: level 0 begins at (0, 0)."""
    for field in fields:
        if min(field.x, field.y) < 0:
            raise SlideError(field.path, f"lies at ({field.x}, {field.y}), before level-0 (0, 0)")
    return fields


def _field(path: Path, x: int, y: int) -> Field:
    """Return a field with the size its header claims; `SlideError` where it claims nonsense."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    try:
        width, height = size_of(head)
    except ValueError as error:
        raise SlideError(path, f"not a JPEG or PNG image: {error}") from error
    if min(width, height) < 1 or width * height > MAX_FIELD_PIXELS:
        raise SlideError(path, f"claims {width} x {height} pixels")
    return Field(path, x, y, width, height, path.stat().st_size)


def size_of(head: bytes) -> tuple[int, int]:
    """Return (width, height) from the head of a JPEG or PNG file; `ValueError` where it is none."""
    if head.startswith(_PNG) and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    frame = frame_of(head)
    return frame.width, frame.height
