"""Which other files an ONNX file refers to, without loading it.

An ONNX tensor may name a file that holds its data. A runtime would open whatever path stands there,
so the names are read first, by walking the protobuf wire format (protobuf.dev/programming-guides/
encoding) along the few fields of ``onnx.proto`` that lead to tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unicas_edge.core.regular_file import read_regular
from unicas_edge.errors import EngineError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32

#: message -> field number -> message, along the paths that lead to a TensorProto
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
#: A node's operator, and the one by which onnxruntime runs a file that was compiled for a device.
_OPERATOR, _COMPILED = 4, b"EPContext"
_MAX_BYTES = 1 << 31


def external_files(path: Path) -> set[str]:
    """Return the file names that the tensors of an ONNX file refer to, usually none.

    `EngineError` for a file that cannot be read or is no protobuf message.
    """
    try:
        return files_named_in(read_regular(path, _MAX_BYTES), path)
    except OSError as error:
        raise EngineError(f"{path}: not a readable ONNX file ({error}); export it again") from error


def files_named_in(data: memoryview, path: Path) -> set[str]:
    """Return the file names that the tensors of an ONNX file refer to, whose bytes are `data`.

    `EngineError`, naming `path`, for what is no protobuf message, and for a graph that hands its
    work to a file of some device's own format.
    """
    if not data:
        raise EngineError(f"{path}: not a readable ONNX file: it is empty; export it again")
    try:
        return set(_locations(data, 0, len(data), "model", 0))
    except ValueError as error:
        raise EngineError(f"{path}: not a readable ONNX file ({error}); export it again") from error


def _locations(data: memoryview, at: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("messages are nested too deeply")
    for field, start, stop in _fields(data, at, end):
        inner = _FIELDS[kind].get(field)
        if inner == "entry":
            entry = {f: bytes(data[a:b]) for f, a, b in _fields(data, start, stop)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8")
        elif kind == "node" and field == _OPERATOR and data[start:stop] == _COMPILED:
            raise ValueError("it runs a compiled file, which no manifest vouches for")
        elif inner is not None:
            yield from _locations(data, start, stop, inner, depth + 1)


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, stop) of the length-delimited fields between two offsets."""
    while at < end:
        tag, at = _varint(data, at, end)
        if tag >> 32:  # readers keep 32 bits, and would see another field than we do
            raise ValueError(f"a field's number at byte {at} is too large")
        wire = tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > end:
            raise ValueError(f"a field at byte {at} reaches past its message")
        if wire == _BYTES:
            yield tag >> 3, at, at + size
        at += size


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} does not end")
