"""What the batch and the process that screens for it say to each other, over two pipes.

A message is a pickle after its length. Both ends are this package, in the same installation.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from unicas_edge.screening.options import Options

_LENGTH = struct.Struct(">Q")
#: A result without its tokens and tile table is far below; more is no message of ours.
_MAX_BYTES = 1 << 30

#: The file in the process's own folder that says where in Python it crashed.
DUMP = "crash.txt"

#: Stages of one slide, in their order, as an error puts them.
OPEN, RANK, TILES, FINISH, WRITE = "open", "rank", "tiles", "finish", "write"
DOING = {
    OPEN: "opening it",
    RANK: "ranking its tiles",
    TILES: "reading and encoding its tiles",
    FINISH: "finishing its result",
    WRITE: "writing its result",
}


@dataclass(frozen=True)
class Setup:
    """What to screen with: the first message. `profile` fills in what `options` leave open."""

    bundle: Path | None
    profile: str
    options: Options


@dataclass(frozen=True)
class Loaded:
    """The bundle is loaded: how far its weights can be trusted, as `result.caution` asks."""

    trained: bool
    demonstration: bool


@dataclass(frozen=True)
class Ready:
    """The engine is open: slides can come."""


@dataclass(frozen=True)
class Order:
    """What is asked for one slide, whose `folder` the caller has claimed.

    `again` screens it although it has a result, or ended the process before; `keep` leaves any
    result as it is. `marker` is where attempts are counted.
    """

    name: str
    path: Path
    folder: Path
    marker: Path
    mpp: float | None = None
    again: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Stage:
    """How far a slide has come."""

    name: str
    done: int = 0
    total: int = 0


def send(stream: BinaryIO, message: object) -> None:
    """Write a message; `OSError` where nobody reads."""
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """Return the next message for `decoded`; None where the other end is gone, or spoke nonsense.

    It is not decoded here, because that may import what a thread should not.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size) if size <= _MAX_BYTES else b""
    return data if len(data) == size else None


def decoded(data: bytes) -> object:
    """Return the message that `receive` brought."""
    return pickle.loads(data)  # noqa: S301 - our own process wrote it
