"""The parts of a multipart/related body, streamed to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from unicas_edge.errors import ServiceError

DICOM = "application/dicom"
_RELATED = b"multipart/related"
_MOST_HEADER = 2_000


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a STOW-RS request; `ServiceError` 415 where it is none of ours."""
    kind, options = parse_options_header(content_type)
    boundary, of = options.get(b"boundary", b""), options.get(b"type", DICOM.encode())
    if kind.lower() != _RELATED or not 1 <= len(boundary) <= 70 or of.lower() != DICOM.encode():
        raise ServiceError(f'send multipart/related; type="{DICOM}" with a boundary', 415)
    return boundary


class Parts:
    """Writes each part that is a DICOM file into a numbered file of `folder`, at most `most`.

    A part of another media type is refused with the whole message: `ServiceError` 415. Call
    `feed` with each piece of the body, `end` at its end, `close` in any case.
    """

    def __init__(self, folder: Path, boundary: bytes, most: int) -> None:
        self._folder, self._most = folder, most
        self.files: list[Path] = []
        self._out: BinaryIO | None = None
        self._name, self._value, self._kind = bytearray(), bytearray(), ""
        self._whole = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self.close,
            "on_end": self._ended,
        }
        self._parser = MultipartParser(
            boundary,
            callbacks,  # type: ignore[arg-type] # a TypedDict that names each
            max_header_count=16,
            max_header_size=_MOST_HEADER,
        )

    def feed(self, data: bytes) -> None:
        """Take in the next bytes; `ServiceError` 400 for a malformed body, 507 for a full disk."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise ServiceError(f"the multipart body is malformed: {error}", 400) from error
        except OSError as error:
            raise ServiceError("the disk does not take the slide", 507) from error

    def end(self) -> list[Path]:
        """Return the files; `ServiceError` 400 where the body ended before its last boundary."""
        if not self._whole or not self.files:
            raise ServiceError("the multipart body has no last boundary, or no part", 400)
        return self.files

    def close(self) -> None:
        """Close the file that is being written, if any."""
        out, self._out = self._out, None
        if out is not None:
            out.close()

    def _begin(self) -> None:
        self._kind = ""
        self._name, self._value = bytearray(), bytearray()
        if len(self.files) >= self._most:
            raise ServiceError(f"a message has at most {self._most} instances", 413)

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-type":
            kind, _ = parse_options_header(bytes(self._value))
            self._kind = kind.decode("latin-1").lower()
        self._name, self._value = bytearray(), bytearray()

    def _open(self) -> None:
        if self._kind != DICOM:
            raise ServiceError(f"each part must be {DICOM}", 415)
        path = self._folder / f"{len(self.files):04}.dcm"
        self._out = path.open("xb")
        self.files.append(path)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._out is not None:
            self._out.write(memoryview(data)[start:end])

    def _ended(self) -> None:
        self._whole = True
