"""A first look at a TIFF: whether its skeleton is sound, and what images it says it holds.

Walks IFDs and SubIFDs with a cap on everything, before any library trusts the file. What passes
has no loop, no more than `MAX_IFDS` directories, no tag value outside the file, and no text that a
library could choke on.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.positioned import PositionedFile
from unicas_edge.slide.tiff.picture import (
    DESCRIPTION,
    MARKED,
    NDPI,
    NUMBERS,
    RATIOS,
    SUB_IFDS,
    TEXTS,
    Picture,
    Place,
    Survey,
)

__all__ = ["MAX_IFDS", "Survey", "is_tiff", "survey"]

MAX_IFDS = 1000
MAX_TAGS = 4096
_MAX_VALUES = 16
#: Bytes of one tag's value: four million tiles, a slide half a million pixels square.
MAX_TAG_BYTES = 32 << 20
#: Bytes of all tag values together.
MAX_ALL_TAG_BYTES = 96 << 20
#: Bytes of an ImageDescription or another text. Libraries copy it on their stack, or recurse into
#: it: 8 MB end the process. OME-XML of a slide has some kilobytes.
MAX_TEXT_BYTES = 2 << 20

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
_ASCII = 2
#: Tags whose values tifffile reads at once; theirs must lie inside the file.
_READ_AT_ONCE = frozenset(
    {
        254,
        256,
        257,
        258,
        259,
        262,
        270,
        273,
        277,
        279,
        282,
        283,
        284,
        305,
        322,
        323,
        324,
        325,
        330,
        338,
        339,
        347,
        513,
        514,
        530,
        33628,
        42113,
        50838,
        50839,
    }
)
_HEAD = 65536
#: A classic TIFF cannot be larger; NDPI alone goes on, with high words in places of its own.
_CLASSIC_LIMIT = 2**32 - 1


@dataclass(frozen=True)
class _Layout:
    """How a TIFF variant lays out its directories."""

    order: str
    big: bool

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")


@dataclass(frozen=True)
class _Tag:
    """One directory entry with its value's place."""

    code: int
    kind: int
    count: int
    size: int
    offset: int


def is_tiff(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a TIFF or BigTIFF."""
    return head[:4] in {b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b"}


def survey(path: Path) -> Survey:
    """Return what the skeleton of a TIFF says; `SlideError` where it is unsound."""
    file = PositionedFile(path)
    try:
        return _Walk(path, file).run()
    finally:
        file.close()


class _Walk:
    """One pass over all IFDs of a file."""

    def __init__(self, path: Path, file: PositionedFile) -> None:
        self._path, self._file = path, file
        self._seen: set[int] = set()
        self._bytes = 0
        self._found = Survey(path)

    def run(self) -> Survey:
        """Walk the chain of IFDs and the SubIFDs that hang from it."""
        head = self._file.read(16, 0)
        big = head[2:4] in {b"\x2b\0", b"\0\x2b"}
        self._layout = _Layout("<" if head[:2] == b"II" else ">", big)
        if not big and self._file.size > _CLASSIC_LIMIT:
            self._found.ndpi = True
            return self._found
        nobody: frozenset[int] = frozenset()
        start: Place | None = (0, -1)
        waiting = deque([(self._unpack(self._layout.offset, 8 if big else 4), nobody, start)])
        while waiting and not self._found.ndpi:
            offset, before, place = waiting.pop()
            if offset:
                here = before | {offset}
                for following, known in self._ifd(offset, before, place):
                    # what a SubIFD chains may have a place that is yet to come
                    add = waiting.appendleft if known is None else waiting.append
                    add((following, here, known))
        if not self._found.pictures and not self._found.ndpi:
            raise self._error("the TIFF holds no image")
        return self._found

    def _ifd(
        self, offset: int, before: frozenset[int], place: Place | None
    ) -> list[tuple[int, Place | None]]:
        """Visit one IFD; return the offsets and places of its SubIFDs and of the next one.

        `before` are the IFDs that lead here. tifffile both lists SubIFDs and chains them, so that
        one that was seen by another way is no loop.
        """
        if offset in before:
            raise self._error(f"IFDs form a loop at byte {offset}")
        if offset in self._seen:
            return []
        self._seen.add(offset)
        if len(self._seen) > MAX_IFDS:
            raise self._error(f"more than {MAX_IFDS} IFDs")
        count = self._unpack(self._layout.count, offset)
        if count > MAX_TAGS:
            raise self._error(f"the IFD at byte {offset} claims {count} tags")
        start = offset + struct.calcsize(self._layout.count)
        width = struct.calcsize(self._layout.entry)
        data = self._exactly(count * width, start)
        entries = [data[i * width : (i + 1) * width] for i in range(count)]
        if any(struct.unpack_from(self._layout.order + "H", entry)[0] == NDPI for entry in entries):
            self._found.ndpi = True  # its own 64-bit scheme: left to OpenSlide
            return []
        tags = [self._tag(entry, start + i * width) for i, entry in enumerate(entries)]
        self._found.pictures.append(self._picture({tag.code: tag for tag in tags}, place))
        following = self._unpack(self._layout.offset, start + count * width)
        top = place is not None and place[1] < 0
        page = place[0] if place is not None else 0
        subs = [(n, (page, k) if top else None) for k, n in enumerate(self._sub_ifds(tags))]
        return [(following, (page + 1, -1) if top else None), *reversed(subs)]

    def _sub_ifds(self, tags: list[_Tag]) -> list[int]:
        """Return the offsets of the IFDs that hang from this one."""
        found = [tag for tag in tags if tag.code == SUB_IFDS]
        if sum(tag.count for tag in found) > MAX_IFDS:
            raise self._error(f"more than {MAX_IFDS} IFDs")
        return [offset for tag in found for offset in self._integers(tag, tag.count)]

    def _tag(self, data: bytes, place: int) -> _Tag:
        """Return one entry, its value checked to lie inside the file."""
        code, kind, count, value = struct.unpack_from(self._layout.entry, data)
        size = count * _SIZES.get(kind, 1)
        inline = size <= len(value)
        offset = place + struct.calcsize(self._layout.entry) - len(value)
        if not inline:
            offset = struct.unpack(self._layout.offset, value)[0]
        if size > MAX_TEXT_BYTES and (kind == _ASCII or code == DESCRIPTION):
            raise self._error(
                f"its {_name(code)} is a text of {size:,} bytes; at most {MAX_TEXT_BYTES:,} are "
                "read: save the slide again without it"
            )
        if code in _READ_AT_ONCE:
            self._bytes += size
            if size > MAX_TAG_BYTES or self._bytes > MAX_ALL_TAG_BYTES:
                raise self._error(f"TIFF tag {code} claims {size} bytes")
            if offset + size > self._file.size:
                raise self._error(
                    f"TIFF tag {code} lies outside the file; it is truncated or damaged"
                )
        return _Tag(code, kind, count, size, offset)

    def _picture(self, tags: dict[int, _Tag], place: Place | None) -> Picture:
        """Return what the directory of one image says."""
        numbers = {c: tuple(self._integers(tags[c], _MAX_VALUES)) for c in NUMBERS if c in tags}
        ratios = {c: self._ratio(tags[c]) for c in RATIOS if c in tags}
        whole = place == (0, -1)  # OME-XML says in the first what all of them are
        codes = TEXTS if len(self._found.pictures) < MARKED else TEXTS[:-1]
        text = {c: self._text(tags[c], whole=whole) for c in codes if c in tags}
        return Picture(place, numbers, ratios, text, frozenset(tags))

    def _ratio(self, tag: _Tag) -> float:
        """Return a RATIONAL tag, 0 where it is none."""
        if tag.kind != _RATIONAL or not tag.count:
            return 0.0
        over, under = struct.unpack(self._layout.order + "II", self._exactly(8, tag.offset))
        return over / under if under else 0.0

    def _text(self, tag: _Tag, *, whole: bool) -> bytes:
        most = MAX_TEXT_BYTES if whole and tag.code == DESCRIPTION else _HEAD
        return self._file.read(min(tag.size, most), tag.offset)

    def _integers(self, tag: _Tag, most: int) -> list[int]:
        """Return up to `most` values of an integer tag; none where it is no integer tag."""
        form = _INTEGERS.get(tag.kind)
        count = min(tag.count, most)
        if form is None:
            return []
        form = f"{self._layout.order}{count}{form}"
        return list(struct.unpack(form, self._exactly(struct.calcsize(form), tag.offset)))

    def _unpack(self, form: str, offset: int) -> int:
        value: int = struct.unpack(form, self._exactly(struct.calcsize(form), offset))[0]
        return value

    def _exactly(self, count: int, offset: int) -> bytes:
        """Return `count` bytes from `offset`, or say that the file ends before them."""
        inside = offset + count <= self._file.size
        data = self._file.read(count, offset) if inside else b""
        if len(data) != count:
            raise self._error(
                f"the TIFF directory at byte {offset} lies outside the file of {self._file.size} "
                "bytes; it is truncated or damaged"
            )
        return data

    def _error(self, cause: str) -> SlideError:
        return SlideError(self._path, cause)


def _name(code: int) -> str:
    return "ImageDescription" if code == DESCRIPTION else f"TIFF tag {code}"
