"""JPEG streams of slide tiles: what the frame header says, colour markers, strict decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
_APP0 = b"\xff\xe0"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
#: Adobe APP14 markers by colour transform; the last byte is 0: none (RGB), 1: YCbCr.
_TRANSFORM = {"rgb": _ADOBE + b"\x00", "ycbcr": _ADOBE + b"\x01"}
#: Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers without a length: TEM, RST0-7, SOI, EOI.
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})
_SCAN = 0xDA


@dataclass(frozen=True)
class Frame:
    """What a JPEG frame header says; `end` is the offset behind it in the stream."""

    width: int
    height: int
    components: int
    precision: int
    end: int


def frame_of(stream: bytes) -> Frame:
    """Return the frame header of a JPEG stream (ITU-T T.81 B.2.2), which ends within `stream`.

    `ValueError` where there is none before the first scan.
    """
    if stream[:2] != SOI:
        raise ValueError("not a JPEG stream")
    position = 2
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _SCAN or marker in _BARE:
            break
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker in _FRAMES:
            return _frame(stream[position + 4 : position + 2 + length], position + 2 + length)
        position += 2 + length
    raise ValueError("the JPEG stream has no frame header")


def _frame(segment: bytes, end: int) -> Frame:
    """Return the parsed frame header segment."""
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
        raise ValueError("the JPEG frame header is cut short")
    height = int.from_bytes(segment[1:3], "big")
    width = int.from_bytes(segment[3:5], "big")
    return Frame(width, height, segment[5], segment[0], end)


def prefix_for(tables: bytes, colour: str) -> bytes:
    """Return what replaces the SOI of a tile's stream: SOI, colour marker, JPEGTables.

    `tables` is the JPEGTables tag (or b""), `colour` "rgb", "ycbcr" or "grey" after the TIFF
    photometric tag. libjpeg takes component ids 0, 1, 2 without a marker for YCbCr; the Adobe
    marker says what they are. `ValueError` for tables that are no JPEG stream.
    """
    body = tables
    if body:
        if body[:2] != SOI:
            raise ValueError("JPEGTables do not begin with SOI")
        body = without_jfif(body)[2:]
        body = body[:-2] if body.endswith(_EOI) else body
    return SOI + _TRANSFORM.get(colour, b"") + body


def without_jfif(stream: bytes) -> bytes:
    """Return the stream without a leading JFIF segment, which would force YCbCr on RGB tiles."""
    if stream[2:4] != _APP0:
        return stream
    return SOI + stream[4 + int.from_bytes(stream[4:6], "big") :]


def decode_into(stream: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a JPEG stream into `out`, uint8 RGB [height, width, 3], C-contiguous.

    Where `out` is a half, quarter or eighth of the frame, libjpeg's scaled decode fills it. Any
    libjpeg warning, and a frame of another size, is a `ValueError`: of mutated tiles libjpeg
    decodes all "successfully", and only its warnings tell.
    """
    height, width, _ = out.shape
    image = simplejpeg.decode_jpeg(
        stream, "RGB", min_height=height, min_width=width, buffer=out, strict=True
    )
    if image.shape != out.shape:
        raise ValueError(f"decodes to {image.shape[1]} x {image.shape[0]}, not {width} x {height}")
