"""JPEG streams of slide tiles: what the frame header says, colour markers, strict decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
from numpy.typing import NDArray

SOI = b"\xff\xd8"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
#: Adobe APP14 markers by colour transform; the last byte is 0: none (RGB), 1: YCbCr.
_TRANSFORM = {"rgb": _ADOBE + b"\x00", "ycbcr": _ADOBE + b"\x01"}
#: Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers without a length: TEM, RST0-7, SOI, EOI.
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})
_SCAN, _APP_0, _APP_14 = 0xDA, 0xE0, 0xEE
#: A progressive JPEG has about 10 scans; each costs a pass over all coefficients.
MOST_SCANS = 100
_RGB_IDS = tuple(b"RGB")
_JFIF_IDS = (1, 2, 3)


@dataclass(frozen=True)
class Frame:
    """What a JPEG header says; `end` is the offset behind the frame header in the stream.

    `ids` and `sampling` (h, v) are those of the components; `adobe` is the colour transform of an
    Adobe marker (None without one), `jfif` whether there is a JFIF marker.
    """

    width: int
    height: int
    components: int
    precision: int
    end: int
    ids: tuple[int, ...] = ()
    sampling: tuple[tuple[int, int], ...] = ()
    adobe: int | None = None
    jfif: bool = False


def frame_of(stream: bytes) -> Frame:
    """Return the frame header of a JPEG stream (ITU-T T.81 B.2.2), which ends within `stream`.

    `ValueError` where there is none before the first scan.
    """
    if stream[:2] != SOI:
        raise ValueError("not a JPEG stream")
    adobe: int | None = None
    jfif = False
    for marker, start, end in _segments(stream):
        body = stream[start:end]
        if marker in _FRAMES:
            return replace(_frame(body, end), adobe=adobe, jfif=jfif)
        if marker == _APP_0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == _APP_14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
    raise ValueError("the JPEG stream has no frame header")


def _segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments with a length before the first scan."""
    position = 2
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _SCAN or marker in _BARE:
            return
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        yield marker, position + 4, end
        position = end


def _frame(segment: bytes, end: int) -> Frame:
    """Return the parsed frame header segment."""
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
        raise ValueError("the JPEG frame header is cut short")
    height = int.from_bytes(segment[1:3], "big")
    width = int.from_bytes(segment[3:5], "big")
    sampling = tuple((byte >> 4, byte & 15) for byte in segment[7::3])
    return Frame(width, height, segment[5], segment[0], end, tuple(segment[6::3]), sampling)


def colour_of(frame: Frame, tag: str) -> str:
    """Return what a stream's components are: "rgb", "ycbcr" or "grey".

    `tag` is what the TIFF photometric tag says. It lies often enough that the stream is asked
    first: an Adobe marker says it; components named R, G, B are RGB; RGB is never subsampled; JFIF
    with its own numbers 1, 2, 3 is YCbCr (ITU-T T.871). Where the stream is silent, or writes JFIF
    out of habit (Aperio: numbers 0, 1, 2), the tag decides.
    """
    if frame.components != len(_JFIF_IDS):
        return "grey" if frame.components == 1 else tag
    if frame.adobe is not None:
        return "rgb" if frame.adobe == 0 else "ycbcr"
    if frame.ids == _RGB_IDS:
        return "rgb"
    if len(set(frame.sampling)) > 1 or (frame.jfif and frame.ids == _JFIF_IDS):
        return "ycbcr"
    return tag


def prefix_for(tables: bytes, colour: str) -> bytes:
    """Return what replaces the SOI of a tile's stream: SOI, colour marker, JPEGTables.

    `tables` is the JPEGTables tag (or b""), `colour` what `colour_of` says. libjpeg
    takes component ids 0, 1, 2 without a marker for YCbCr; the Adobe marker says what they are.
    Some writers pad the tables behind their EOI. `ValueError` for tables that are no JPEG stream.
    """
    body = tables
    if body:
        if body[:2] != SOI:
            raise ValueError("JPEGTables do not begin with SOI")
        body = without_jfif(body)
        body = body[2 : max((end for _, _, end in _segments(body)), default=2)]
    return SOI + _TRANSFORM.get(colour, b"") + body


def without_jfif(stream: bytes) -> bytes:
    """Return the stream without its JFIF segments, which would force YCbCr on RGB tiles."""
    kept, last = [], 0
    for marker, start, end in _segments(stream):
        if marker == _APP_0 and stream[start : start + 5] == b"JFIF\0":
            kept.append(stream[last : start - 4])
            last = end
    return b"".join((*kept, stream[last:]))


def check_scans(stream: bytes) -> None:
    """Raise `ValueError` for a JPEG of more than `MOST_SCANS`: a megabyte may hold 80,000."""
    if stream.count(bytes((0xFF, _SCAN))) > MOST_SCANS:
        raise ValueError(f"the JPEG stream has more than {MOST_SCANS} scans")


def decode_into(stream: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a JPEG stream into `out`, uint8 RGB [height, width, 3], C-contiguous.

    Where `out` is a half, quarter or eighth of the frame, libjpeg's scaled decode fills it. Any
    libjpeg warning, a frame of another size, and endless scans are a `ValueError`: of mutated
    tiles libjpeg decodes all "successfully", and only its warnings tell.
    """
    check_scans(stream)
    height, width, _ = out.shape
    image = simplejpeg.decode_jpeg(
        stream, "RGB", min_height=height, min_width=width, buffer=out, strict=True
    )
    if image.shape != out.shape:
        raise ValueError(f"decodes to {image.shape[1]} x {image.shape[0]}, not {width} x {height}")
