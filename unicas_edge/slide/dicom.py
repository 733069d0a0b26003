"""Which DICOM files are one slide: a few elements of the header, without a library.

OpenSlide reads the pixels; here it is only asked to which series a file belongs and whether it is a
label. This must be told without the extra `openslide` too, and of files whose lengths lie, so that
the header is walked in bounded steps and no value is read but the few that count.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

MAGIC = b"DICM"
_PREAMBLE = 128
_MAX_ELEMENTS = 5_000
_MAX_VALUE = 1_024
_UNDEFINED = 0xFFFFFFFF
_CLASS, _SYNTAX = 0x00020002, 0x00020010
_IMAGE_TYPE, _SERIES = 0x00080008, 0x0020000E
_WANTED = frozenset({_CLASS, _SYNTAX, _IMAGE_TYPE, _SERIES})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Value representations whose length takes four bytes.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".2", ".1.99"))
#: SOP class of whole slide images.
SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
#: Values of ImageType of pictures that come with a slide and are none.
_BESIDE = frozenset({"LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER"})


@dataclass(frozen=True)
class DicomFile:
    """What the header of a DICOM file says; `series` is "" where it cannot be told.

    `reason` says why the file is not itself a slide, "" where it may be one.
    """

    path: Path
    series: str
    reason: str


def read_dicom(path: Path) -> DicomFile | None:
    """Return what a file's header says, None where it is no DICOM file. `OSError` as of `open`."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        return None  # a pipe would keep its reader waiting
    return _read(path, about.st_size, about.st_mtime_ns)


def series_of(own: DicomFile, files: Iterable[DicomFile]) -> list[DicomFile]:
    """Return those of `files` that are one slide with `own`, in name order, `own` included."""
    if not own.series:
        return [own]
    return sorted((f for f in files if f.series == own.series), key=lambda f: f.path.name)


def read_elements(path: Path, wanted: frozenset[int]) -> dict[int, bytes]:
    """Return those of the `wanted` top-level elements that a DICOM file has, as they are written.

    A tag is group << 16 | element. Values of more than `_MAX_VALUE` bytes are left out.
    `ValueError` for a file that is no DICOM file, is cut, or whose lengths lie; `OSError` as of
    `open`.
    """
    with path.open("rb") as file:
        if file.read(_PREAMBLE + len(MAGIC))[_PREAMBLE:] != MAGIC:
            raise ValueError("no DICOM file")
        try:
            return _values(file, wanted)
        except (struct.error, OverflowError) as error:
            raise ValueError("a DICOM file that is cut, or whose lengths lie") from error


@lru_cache(maxsize=65_536)
def _read(path: Path, size: int, changed_ns: int) -> DicomFile | None:
    del size, changed_ns  # a file that changed is read again
    with path.open("rb") as file:
        if file.read(_PREAMBLE + len(MAGIC))[_PREAMBLE:] != MAGIC:
            return None
        try:
            found = _values(file, _WANTED)
            values = {tag: _text(value) for tag, value in found.items()}
        except (struct.error, OverflowError, ValueError):  # cut, or lengths that lie
            values = {}
    return DicomFile(path, values.get(_SERIES, ""), _reason(values))


def _reason(values: dict[int, str]) -> str:
    """Return why a file with these values is no slide, "" where it may be one."""
    kind = values.get(_CLASS, SLIDE_IMAGE)
    if kind != SLIDE_IMAGE:
        return f"a DICOM object that is no whole slide image (class {kind})"
    beside = _BESIDE & {part.strip() for part in values.get(_IMAGE_TYPE, "").split("\\")}
    return f"the {min(beside).lower()} of a DICOM slide" if beside else ""


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _values(file: BinaryIO, wanted: frozenset[int]) -> dict[int, bytes]:
    """Return the wanted elements of the data set; nested ones do not count."""
    found: dict[int, bytes] = {}
    wanted |= {_SYNTAX}
    last, depth = max(wanted), 0
    for _ in range(_MAX_ELEMENTS):
        tag, length = _element(file, _text(found.get(_SYNTAX, b"")))
        if depth == 0 and tag > last:
            break
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
        elif length == _UNDEFINED:
            depth += 1
        elif depth == 0 and tag in wanted and length <= _MAX_VALUE:
            found[tag] = file.read(length)
        else:
            file.seek(length, 1)
    return found


def _element(file: BinaryIO, syntax: str) -> tuple[int, int]:
    """Return tag and length of the next element and stand at its value."""
    head = file.read(8)
    if head[:2] == b"\x02\0":  # the group that says how the others are written
        syntax = ""
    elif syntax == _DEFLATED:
        raise ValueError("deflated")
    order = ">" if syntax == _BIG_ENDIAN else "<"
    group, element = struct.unpack_from(f"{order}HH", head)
    tag = group << 16 | element
    if group == 0xFFFE or syntax == _IMPLICIT:
        return tag, struct.unpack_from(f"{order}I", head, 4)[0]
    if head[4:6] in _LONG:
        return tag, struct.unpack(f"{order}I", file.read(4))[0]
    return tag, struct.unpack_from(f"{order}H", head, 6)[0]
