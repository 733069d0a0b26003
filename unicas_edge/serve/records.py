"""Many tiles in one message: records, one after another, each a head of 32 bytes and its bytes.

A head is little-endian: `kind` u32, `size` u32 (bytes that follow), `x` i64, `y` i64 (level-0
pixels), `score` f64 (NaN: none). The same lies in a body (`MEDIA_TYPE`) and in shared memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from unicas_edge.errors import ServiceError

MEDIA_TYPE = "application/vnd.unicas-edge.tiles"
HEAD = struct.Struct("<IIqqd")
#: Bytes of the reason why a tile cannot be read.
MOST_CAUSE = 1_000
#: Bytes of a JPEG.
MOST_JPEG = 1 << 20
_FARTHEST = 2**53


#: Bytes, and what returns a copy or view of so many bytes from an offset on.
Bytes = bytes | bytearray | memoryview
Read = Callable[[int, int], Bytes]


class Kind(IntEnum):
    """What a record says of its place."""

    RGB = 1
    BGR = 2
    JPEG = 3
    SKIP = 4
    FAIL = 5


class Record(NamedTuple):
    """What is said of the tile at level-0 (x, y); `score` None where none is given.

    Its bytes are `size` from `at` on in the message.
    """

    kind: Kind
    x: int
    y: int
    score: float | None
    at: int
    size: int


def parsed(read: Read, total: int, side: int, most: int) -> list[Record]:
    """Return the records, 1 to `most`, of a message of `total` bytes that `read` copies from.

    Raw tiles have `side` x `side` pixels. `ServiceError` 422 names the first record that is none.
    """
    found: list[Record] = []
    at = 0
    while at < total:
        if len(found) == most:
            raise ServiceError(f"a message has at most {most:,} records", 422)
        try:
            record = _record(read, at, total)
            _check(record, side)
        except ServiceError as error:
            raise ServiceError(f"record {len(found)}: {error}", error.status) from error
        found.append(record)
        at = record.at + record.size
    if not found:
        raise ServiceError("a message has at least one record", 422)
    return found


def _record(read: Read, at: int, total: int) -> Record:
    begin = at + HEAD.size
    if begin > total:
        raise ServiceError(f"it ends in its head of {HEAD.size} bytes", 422)
    kind, size, x, y, score = HEAD.unpack(read(at, HEAD.size))
    if size > total - begin:
        raise ServiceError(f"it ends after {total - begin:,} of {size:,} bytes", 422)
    if kind not in _KINDS:
        raise ServiceError(f"its kind is {kind}, not 1 to {max(_KINDS)}", 422)
    return Record(Kind(kind), x, y, None if math.isnan(score) else score, begin, size)


def _check(record: Record, side: int) -> None:
    """Raise `ServiceError` 422 for what no tile is."""
    kind, x, y, score, _, size = record
    if max(abs(x), abs(y)) > _FARTHEST:
        raise ServiceError("its place is too far away", 422)
    if score is not None and not 0 <= score < math.inf:
        raise ServiceError("a score is finite and not negative, or NaN for none", 422)
    raw = 3 * side * side
    least, most = {Kind.RGB: (raw, raw), Kind.BGR: (raw, raw), Kind.SKIP: (0, 0)}.get(
        kind, (0, MOST_CAUSE if kind == Kind.FAIL else MOST_JPEG)
    )
    if not least <= size <= most:
        raise ServiceError(f"it has {size:,} bytes, not {least:,} to {most:,}", 422)


_KINDS = frozenset(Kind)
