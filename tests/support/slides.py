"""Writers of synthetic slides, sound and hostile: TIFF tag by tag, so that any tag can lie."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

SHORT, LONG, RATIONAL, UNDEFINED, ASCII, LONG8 = 3, 4, 5, 7, 2, 16
_FORMS = {SHORT: "H", LONG: "I", LONG8: "Q", 13: "I"}

Tag = tuple[int, int, bytes]  # type, count, value in file order
Tags = dict[int, tuple[int, Sequence[int] | bytes]]


@dataclass
class Ifd:
    """One image: tags as (type, values), its tiles, SubIFDs.

    `override` replaces tags after offsets and counts have been filled in; `raw` replaces whole
    entries with (type, count, value or offset as written).
    """

    tags: Tags
    tiles: list[bytes] = field(default_factory=list)
    subs: list[Ifd] = field(default_factory=list)
    override: Tags = field(default_factory=dict)
    raw: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    share: bool = False


class _Writer:
    def __init__(self, big: bool, order: str) -> None:
        self.big, self.order = big, order
        self.word, self.size = ("Q", 8) if big else ("I", 4)
        head = b"II" if order == "<" else b"MM"
        tail = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
        self.data = bytearray(head + tail)

    def append(self, blob: bytes) -> int:
        self.data += bytes(len(self.data) % 2)
        offset = len(self.data)
        self.data += blob
        return offset

    def patch(self, offset: int, value: int) -> None:
        self.data[offset : offset + self.size] = struct.pack(self.order + self.word, value)

    def entry(self, code: int, kind: int, values: Sequence[int] | bytes) -> bytes:
        if isinstance(values, bytes):
            blob, count = values, len(values)
        elif kind == RATIONAL:
            blob, count = struct.pack(f"{self.order}{len(values)}I", *values), len(values) // 2
        else:
            blob = struct.pack(f"{self.order}{len(values)}{_FORMS[kind]}", *values)
            count = len(values)
        value = blob.ljust(self.size, b"\0")
        if len(blob) > self.size:
            value = struct.pack(self.order + self.word, self.append(blob))
        return struct.pack(self.order + "HH" + self.word, code, kind, count) + value

    def ifd(self, ifd: Ifd) -> tuple[int, int]:
        """Write an image; return the offset of its IFD and of the pointer to the next one."""
        tags = dict(ifd.tags)
        if ifd.tiles:
            seen: dict[bytes, int] = {}
            offsets = []
            for tile in ifd.tiles:
                if not (ifd.share and tile in seen):
                    seen[tile] = self.append(tile) if tile else 0
                offsets.append(seen[tile])
            tags[324] = (LONG8 if self.big else LONG, offsets)
            tags[325] = (LONG, [len(tile) for tile in ifd.tiles])
        if ifd.subs:
            tags[330] = (LONG8 if self.big else LONG, [self.ifd(sub)[0] for sub in ifd.subs])
        tags.update(ifd.override)
        entries = {code: self.entry(code, *tags[code]) for code in tags}
        for code, (kind, count, value) in ifd.raw.items():
            entries[code] = struct.pack(self.order + "HH" + 2 * self.word, code, kind, count, value)
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        body = count + b"".join(entries[code] for code in sorted(entries))
        offset = self.append(body + bytes(self.size))
        return offset, offset + len(body)


def write_tiff(
    path: Path,
    ifds: Sequence[Ifd],
    *,
    big: bool = False,
    order: str = "<",
    loop_to: int | None = None,
) -> Path:
    """Write a TIFF; with `loop_to` the last IFD points back to that one."""
    writer = _Writer(big, order)
    pointer = 8 if big else 4
    places = []
    for ifd in ifds:
        offset, following = writer.ifd(ifd)
        writer.patch(pointer, offset)
        places.append(offset)
        pointer = following
    if loop_to is not None:
        writer.patch(pointer, places[loop_to])
    path.write_bytes(writer.data)
    return path


def text(value: str) -> tuple[int, bytes]:
    return ASCII, value.encode() + b"\0"


def ratio(value: float) -> tuple[int, list[int]]:
    return RATIONAL, [round(value * 1000), 1000]


def basic_tags(
    width: int,
    height: int,
    tile: int,
    *,
    photometric: int = 6,
    compression: int = 7,
    samples: int = 3,
    bits: int = 8,
) -> Tags:
    return {
        254: (LONG, [0]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [samples]),
        284: (SHORT, [1]),
        322: (LONG, [tile]),
        323: (LONG, [tile]),
    }


def cut(image: np.ndarray, tile: int) -> list[np.ndarray]:
    """Return the tiles of uint8 [H, W, 3], row-major, edge tiles padded by repetition."""
    height, width = image.shape[:2]
    pad = [(0, -height % tile), (0, -width % tile), (0, 0)]
    image = np.pad(image, pad, mode="edge")
    return [
        np.ascontiguousarray(image[y : y + tile, x : x + tile])
        for y in range(0, image.shape[0], tile)
        for x in range(0, image.shape[1], tile)
    ]


def encode(tile: np.ndarray, quality: int = 85, subsampling: str = "420") -> bytes:
    return simplejpeg.encode_jpeg(tile, quality=quality, colorsubsampling=subsampling)


def segments(stream: bytes) -> tuple[list[bytes], bytes]:
    """Return the marker segments between SOI and SOS, and the rest from SOS."""
    found, position = [], 2
    while stream[position + 1] != 0xDA:
        length = 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        found.append(stream[position : position + length])
        position += length
    return found, stream[position:]


def split_tables(stream: bytes) -> tuple[bytes, bytes]:
    """Return JPEGTables and the abbreviated stream of a JPEG."""
    found, scan = segments(stream)
    tables = [s for s in found if s[1] in {0xDB, 0xC4}]
    rest = [s for s in found if s[1] not in {0xDB, 0xC4}]
    return b"\xff\xd8" + b"".join(tables) + b"\xff\xd9", b"\xff\xd8" + b"".join(rest) + scan


def encode_rgb(tile: np.ndarray, *, jfif: bool = False) -> bytes:
    """Return a JPEG of RGB components with ids 0, 1, 2 and no marker that says so, as CMU-1 has."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=90, keep_rgb=True)
    found, scan = segments(buffer.getvalue())
    out = b"\xff\xd8"
    if jfif:
        out += b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    for segment in found:
        if segment[1] in {0xEE, 0xE0}:
            continue
        if segment[1] == 0xC0:
            body = bytearray(segment)
            for number in range(3):
                body[10 + 3 * number] = number
            segment = bytes(body)  # noqa: PLW2901
        out += segment
    head = bytearray(scan)
    for number in range(3):
        head[5 + 2 * number] = number
    return out + bytes(head)


def jpeg_ifd(
    image: np.ndarray,
    tile: int = 256,
    *,
    encoder: Callable[[np.ndarray], bytes] = encode,
    photometric: int = 6,
    tables: bool = False,
    extra: Tags | None = None,
    sparse: Sequence[int] = (),
) -> Ifd:
    """Return an image of JPEG tiles; tiles numbered in `sparse` have no bytes."""
    streams = [encoder(part) for part in cut(image, tile)]
    tags = basic_tags(image.shape[1], image.shape[0], tile, photometric=photometric)
    if tables:
        split = [split_tables(stream) for stream in streams]
        tags[347] = (UNDEFINED, split[0][0])
        streams = [stream for _, stream in split]
    for number in sparse:
        streams[number] = b""
    return Ifd(tags | (extra or {}), streams)


#: 0.5 um/px as TIFF resolution in pixels a centimetre
HALF_MICROMETRE: Tags = {282: ratio(20000), 283: ratio(20000), 296: (SHORT, [3])}


def aperio(mpp: float | None = 0.5, magnification: int | None = 20) -> Tags:
    """Return an Aperio ImageDescription."""
    said = "Aperio Image Library v10.0.51\r\n46920x33014 [0,0 10x10] (256x256) JPEG/RGB Q=30"
    said += "" if magnification is None else f"|AppMag = {magnification}"
    said += "" if mpp is None else f"|MPP = {mpp:.4f}"
    return {270: text(said)}


def smear(width: int, height: int, seed: int = 7) -> np.ndarray:
    """Return uint8 [height, width, 3]: coloured blobs, denser to the right, on light grey."""
    rng = np.random.default_rng(seed)
    shape = height // 16 + 2, width // 16 + 2, 3
    dense = rng.random(shape[:2]) < np.linspace(0.05, 0.9, shape[1])
    coarse = np.where(dense[..., None], rng.integers(60, 250, shape), 235).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the block means, the edge dropped, as Aperio makes its levels."""
    height, width = (side // factor * factor for side in image.shape[:2])
    return np.array(Image.fromarray(image[:height, :width]).reduce(factor))


def pyramid(
    path: Path,
    image: np.ndarray,
    tile: int = 256,
    factors: Sequence[int] = (4,),
    *,
    extra: Tags | None = None,
    big: bool = False,
    order: str = "<",
    as_subs: bool = False,
    tables: bool = False,
) -> Path:
    """Write a JPEG pyramid, its levels as further IFDs or as SubIFDs."""
    base = jpeg_ifd(image, tile, tables=tables, extra=HALF_MICROMETRE if extra is None else extra)
    levels = [
        jpeg_ifd(shrink(image, f), tile, tables=tables, extra={254: (LONG, [1])}) for f in factors
    ]
    if as_subs:
        base.subs = levels
    return write_tiff(path, [base, *([] if as_subs else levels)], big=big, order=order)
