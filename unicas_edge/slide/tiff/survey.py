"""A first look at a TIFF: whether its skeleton is sound, and which scanner's dialect it speaks.

Walks IFDs and SubIFDs with a cap on everything, before any library trusts the file. What passes
has no loop, no more than `MAX_IFDS` directories, and no tag value outside the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.positioned import PositionedFile

MAX_IFDS = 1000
MAX_TAGS = 4096
_MAX_SAMPLES = 16
#: Bytes of one tag's value: four million tiles, a slide half a million pixels square.
MAX_TAG_BYTES = 32 << 20
#: Bytes of all tag values together.
MAX_ALL_TAG_BYTES = 96 << 20

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

BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES = 258, 259, 262, 270, 277
PLANAR, SOFTWARE, TILE_WIDTH, SUB_IFDS, XMP, NDPI = 284, 305, 322, 330, 700, 65420
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
_JPEG = 7
#: (SamplesPerPixel, PhotometricInterpretation): grey, RGB, YCbCr
_JPEG_COLOURS = frozenset({(1, 1), (3, 2), (3, 6)})
_JPEG_2000 = frozenset({33003, 33004, 33005, 34712})
_HEAD = 65536
#: A classic TIFF cannot be larger; NDPI alone goes on, with high words in places of its own.
_CLASSIC_LIMIT = 2**32 - 1


@dataclass
class Survey:
    """What the walk found in the first IFD; `text` values are cut after 64 KiB."""

    path: Path
    ifds: int = 0
    ndpi: bool = False
    text: dict[int, bytes] = field(default_factory=dict)
    numbers: dict[int, list[int]] = field(default_factory=dict)
    tiled: bool = False

    def number(self, code: int, default: int) -> int:
        """Return the first value of an integer tag of the first IFD."""
        return next(iter(self.numbers.get(code, ())), default)

    @property
    def has_rgb_jpeg_tiles(self) -> bool:
        """Return whether the first image is tiles of 8-bit JPEG in RGB, YCbCr or grey."""
        samples = self.number(SAMPLES, 1)
        return (
            self.tiled
            and self.number(COMPRESSION, 1) == _JPEG
            and (samples, self.number(PHOTOMETRIC, 0)) in _JPEG_COLOURS
            and set(self.numbers.get(BITS, ())) == {8}
            and (samples == 1 or self.number(PLANAR, 1) == 1)
        )

    @property
    def vendor(self) -> str | None:
        """The dialect that only OpenSlide reads rightly, or None."""
        description, software = self.text.get(DESCRIPTION, b""), self.text.get(SOFTWARE, b"")
        told = {
            "Hamamatsu NDPI": self.ndpi,
            "Philips TIFF": software.startswith(b"Philips"),
            "Trestle": software.startswith(b"MedScan"),
            "Leica SCN": b"leica-microsystems.com/scn" in description,
            "Ventana BIF": b"iScan" in self.text.get(XMP, b""),
            "JPEG 2000 TIFF": self.number(COMPRESSION, 1) in _JPEG_2000,
        }
        return next((name for name, yes in told.items() if yes), None)


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
        waiting = [(self._unpack(self._layout.offset, 8 if big else 4), nobody)]
        while waiting and not self._found.ndpi:
            offset, before = waiting.pop()
            if offset:
                waiting.extend((n, before | {offset}) for n in self._ifd(offset, before))
        if not self._found.ifds:
            raise self._error("the TIFF holds no image")
        return self._found

    def _ifd(self, offset: int, before: frozenset[int]) -> list[int]:
        """Visit one IFD; return the offsets of its SubIFDs and of the next one.

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
        self._found.ifds += 1
        if any(struct.unpack_from(self._layout.order + "H", entry)[0] == NDPI for entry in entries):
            self._found.ndpi = True  # its own 64-bit scheme: left to OpenSlide
            return []
        tags = [self._tag(entry, start + i * width) for i, entry in enumerate(entries)]
        self._note({tag.code: tag for tag in tags})
        following = self._unpack(self._layout.offset, start + count * width)
        return [following, *reversed(self._sub_ifds(tags))]

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
        if code in _READ_AT_ONCE:
            self._bytes += size
            if size > MAX_TAG_BYTES or self._bytes > MAX_ALL_TAG_BYTES:
                raise self._error(f"TIFF tag {code} claims {size} bytes")
            if offset + size > self._file.size:
                raise self._error(
                    f"TIFF tag {code} lies outside the file; it is truncated or damaged"
                )
        return _Tag(code, kind, count, size, offset)

    def _note(self, tags: dict[int, _Tag]) -> None:
        """Record what the first IFD tells about the file."""
        if self._found.ifds > 1:
            return
        for code in (BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR):
            if code in tags:
                self._found.numbers[code] = self._integers(tags[code], _MAX_SAMPLES)
        self._found.tiled = TILE_WIDTH in tags
        for code in (DESCRIPTION, SOFTWARE, XMP):
            if code in tags:
                tag = tags[code]
                self._found.text[code] = self._file.read(min(tag.size, _HEAD), tag.offset)

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
