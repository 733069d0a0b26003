"""The head of a DICOM file, as far as finding looks into it; no picture follows."""

from __future__ import annotations

import struct
from pathlib import Path

SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
EXPLICIT, IMPLICIT, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in (".1", "", ".2"))
VOLUME = "ORIGINAL\\PRIMARY\\VOLUME\\NONE"
LABEL = "ORIGINAL\\PRIMARY\\LABEL\\NONE"


def element(group: int, number: int, kind: str, value: bytes, order="<", explicit=True) -> bytes:
    value += b" " * (len(value) % 2)
    tag = struct.pack(f"{order}HH", group, number)
    if not explicit:
        return tag + struct.pack(f"{order}I", len(value)) + value
    if kind in {"SQ", "OB", "UN"}:
        return tag + kind.encode() + b"\0\0" + struct.pack(f"{order}I", len(value)) + value
    return tag + kind.encode() + struct.pack(f"{order}H", len(value)) + value


def open_sequence(series: str, order="<", explicit=True) -> bytes:
    """A sequence of undefined length whose item, undefined too, names another series."""
    head = struct.pack(f"{order}HH", 0x0008, 0x1115) + (b"SQ\0\0" if explicit else b"")
    inside = element(0x0020, 0x000E, "UI", series.encode(), order, explicit)
    marks = [
        struct.pack(f"{order}HHI", 0xFFFE, n, size)
        for n, size in ((0xE000, 0xFFFFFFFF), (0xE00D, 0), (0xE0DD, 0))
    ]
    return head + b"\xff" * 4 + marks[0] + inside + marks[1] + marks[2]


def dicom(series: str, image_type=VOLUME, syntax=EXPLICIT, kind=SLIDE_IMAGE) -> bytes:
    order, explicit = ">" if syntax == BIG_ENDIAN else "<", syntax != IMPLICIT
    meta = element(2, 2, "UI", kind.encode()) + element(2, 0x10, "UI", syntax.encode())
    body = element(8, 8, "CS", image_type.encode(), order, explicit)
    body += open_sequence("9.9.9", order, explicit)
    body += element(0x10, 0x10, "PN", b"DOE^JANE", order, explicit)
    body += element(0x20, 0x0E, "UI", series.encode(), order, explicit)
    return bytes(128) + b"DICM" + meta + body + element(0x28, 2, "US", b"\3\0", order, explicit)


def write_dicom(path: Path, series: str, *arguments: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom(series, *arguments))
    return path
