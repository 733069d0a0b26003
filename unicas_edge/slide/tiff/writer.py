"""A minimal writer of tiled JPEG TIFF and BigTIFF whose tiles are already encoded.

tifffile writes such tiles only where imagecodecs is installed, and one level after the other. Here
the levels' tiles may come in any order, because the directories (IFDs) follow the last tile; only
then is it decided whether 32-bit offsets suffice. TIFF 6.0, and TIFF Technical Note 2 for JPEG.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, TypeAlias

#: JPEG bytes of tiles begin here: after the header of a BigTIFF, the longer of the two
HEADER_BYTES = 16
CLASSIC_LIMIT = 2**32 - 1
SHORT, LONG, RATIONAL, ASCII, LONG8 = 3, 4, 5, 2, 16
_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q"}
Values: TypeAlias = "tuple[int, ...] | array[int] | bytes"  # array is not generic before 3.12


@dataclass
class Directory:
    """One stored image: its size, and where its tiles so far lie (row-major, from the first on).

    `tile` is the side of a tile; 0 means one strip, as Aperio stores its thumbnail.
    """

    width: int
    height: int
    tile: int
    um_px: float
    subsampling: tuple[int, int]
    description: str
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    byte_counts: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def tiles(self) -> int:
        """How many tiles the image consists of; one strip counts as one."""
        if not self.tile:
            return 1
        return -(-self.width // self.tile) * -(-self.height // self.tile)


class TiffWriter:
    """Appends encoded tiles to `stream`; `close` writes the directories and the header."""

    def __init__(self, stream: BinaryIO, directories: list[Directory]) -> None:
        self.directories = directories
        self._stream = stream
        self._position = HEADER_BYTES
        stream.write(bytes(HEADER_BYTES))

    def append(self, directory: int, jpeg: bytes) -> None:
        """Write the next tile of a directory, a complete JFIF stream."""
        image = self.directories[directory]
        image.offsets.append(self._position)
        image.byte_counts.append(len(jpeg))
        self._write(jpeg)

    def close(self) -> None:
        """Write directories and header; `ValueError` where tiles are missing or too many."""
        for image in self.directories:
            if len(image.offsets) != image.tiles:
                raise ValueError(f"{len(image.offsets)} tiles written of {image.tiles}")
        # 64 bytes a tile and 4 KiB a directory are more than any directory takes
        room = sum(64 * image.tiles + 4096 for image in self.directories)
        big = self._position + room > CLASSIC_LIMIT
        starts = [self._write_directory(image, big) for image in self.directories]
        for (link, _), (_, start) in pairwise(starts):
            self._patch(link, struct.pack("<Q" if big else "<I", start))
        first = starts[0][1]
        header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first)
        self._patch(0, header if big else struct.pack("<2sHI", b"II", 42, first))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._position += len(data)

    def _patch(self, position: int, data: bytes) -> None:
        self._stream.seek(position)
        self._stream.write(data)
        self._stream.seek(self._position)

    def _write_directory(self, image: Directory, big: bool) -> tuple[int, int]:
        """Write one IFD after its out-of-line values; return (place of the next link, start)."""
        inline, counts = (8, "<Q") if big else (4, "<H")
        entries = b""
        tags = _tags(image, big)
        for code, kind, count, value in tags:
            stored = value.ljust(inline, b"\0")
            if len(value) > inline:
                self._write(bytes(self._position % 2))
                stored = struct.pack("<Q" if big else "<I", self._position)
                self._write(value)
            entries += struct.pack("<HHQ" if big else "<HHI", code, kind, count) + stored
        self._write(bytes(self._position % 2))
        start = self._position
        self._write(struct.pack(counts, len(tags)) + entries)
        link = self._position
        self._write(bytes(inline))
        return link, start


def _tags(image: Directory, big: bool) -> list[tuple[int, int, int, bytes]]:
    """Return (code, type, count, little-endian value) of every tag, by rising code."""
    place = LONG8 if big else LONG
    per_cm = (round(1e4 / image.um_px * 1000), 1000)
    text = image.description.encode("ascii") + b"\0"
    tags: list[tuple[int, int, Values]] = [
        (254, LONG, (0,)),  # NewSubfileType: Aperio stores levels as full images
        (256, LONG, (image.width,)),
        (257, LONG, (image.height,)),
        (258, SHORT, (8, 8, 8)),  # BitsPerSample
        (259, SHORT, (7,)),  # Compression: JPEG
        (262, SHORT, (6,)),  # Photometric: YCbCr
        (270, ASCII, text),
        (277, SHORT, (3,)),  # SamplesPerPixel
        (282, RATIONAL, per_cm),
        (283, RATIONAL, per_cm),
        (284, SHORT, (1,)),  # PlanarConfiguration: contiguous
        (296, SHORT, (3,)),  # ResolutionUnit: centimetre
        (530, SHORT, image.subsampling),
        (532, RATIONAL, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)),  # ReferenceBlackWhite
    ]
    tiled: list[tuple[int, int, Values]] = [
        (322, LONG, (image.tile,)),
        (323, LONG, (image.tile,)),
        (324, place, image.offsets),
        (325, LONG, image.byte_counts),
    ]
    stripped: list[tuple[int, int, Values]] = [
        (273, place, image.offsets),
        (278, LONG, (image.height,)),  # RowsPerStrip
        (279, LONG, image.byte_counts),
    ]
    return [_packed(*tag) for tag in sorted(tags + (tiled if image.tile else stripped), key=_code)]


def _code(tag: tuple[int, int, Values]) -> int:
    """Return a tag's code, by which a directory must be sorted."""
    return tag[0]


def _packed(code: int, kind: int, values: Values) -> tuple[int, int, int, bytes]:
    """Return one tag with its values packed little-endian."""
    if isinstance(values, bytes):
        return code, kind, len(values), values
    letter = _FORMATS.get(kind, "I")
    count = len(values) // (2 if kind == RATIONAL else 1)
    return code, kind, count, struct.pack(f"<{len(values)}{letter}", *values)
