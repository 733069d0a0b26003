"""Shared memory: files on tmpfs that clients on this computer map, and write tiles into.

The service makes them, so that no client ever names a path, and reads them with ``pread``: that
copies before anything is checked, and ends short where the file was cut meanwhile; a mapping of our
own would end the process there (SIGBUS). Whoever may not open the file sends bodies instead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unicas_edge.errors import ServiceError
from unicas_edge.serve.records import Read

#: Where a file is memory.
SHARED = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


class Segment(NamedTuple):
    """A file of shared memory, open here as `descriptor`."""

    path: Path
    size: int
    descriptor: int


class Segments:
    """The segments of one session, at most `most` of `largest` bytes in `folder`; None: none."""

    def __init__(self, folder: Path | None, most: int, largest: int) -> None:
        self._folder, self._most, self._largest = folder, most, largest
        self._open: dict[str, Segment] = {}
        self._lock = threading.Lock()
        self._closed = False

    def add(self, size: int) -> tuple[str, Segment]:
        """Return a new segment of `size` bytes and its id.

        `ServiceError` 501 where there is no shared memory, 422 for a size that none may have, 409
        for one too many, 507 where the memory is not there.
        """
        if self._folder is None:
            raise ServiceError("this service has no shared memory; send tiles in bodies", 501)
        if not 1 <= size <= self._largest:
            raise ServiceError(f"a segment has 1 to {self._largest:,} bytes, not {size:,}", 422)
        with self._lock:
            if self._closed or len(self._open) >= self._most:
                raise ServiceError(f"a session has at most {self._most} segments", 409)
            number = secrets.token_hex(8)
            self._open[number] = made = _made(self._folder / number, size)
        return number, made

    @contextlib.contextmanager
    def reading(self, number: str, count: int) -> Iterator[Read]:
        """Yield what copies bytes out of a segment's first `count`; `ServiceError` 404 for none.

        Reading raises `ServiceError` 422 where the bytes are not there.
        """
        with self._lock:
            found = self._open.get(number)
            # closed by another thread the descriptor might be somebody else's file
            own = os.dup(found.descriptor) if found else -1
        if found is None:
            raise ServiceError("no such segment", 404)
        try:
            if not 0 < count <= found.size:
                raise ServiceError(f"the segment has {found.size:,} bytes, not {count:,}", 422)
            yield partial(_copied, own)
        finally:
            os.close(own)

    def remove(self, number: str) -> None:
        """Unlink a segment; `ServiceError` 404 for none."""
        with self._lock:
            found = self._open.pop(number, None)
        if found is None:
            raise ServiceError("no such segment", 404)
        _gone(found)

    def close(self) -> None:
        """Unlink all, and make no more."""
        with self._lock:
            self._closed = True
            found, self._open = list(self._open.values()), {}
        for one in found:
            _gone(one)


def _copied(descriptor: int, at: int, count: int) -> bytes:
    data = os.pread(descriptor, count, at)
    if len(data) != count:
        raise ServiceError("the segment was cut while it was read", 422)
    return data


def _made(path: Path, size: int) -> Segment:
    """Return a segment whose memory is there: a write into a sparse one could end the client."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ServiceError("no shared memory can be had; send tiles in bodies", 507) from error
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        _gone(Segment(path, size, descriptor))
        raise ServiceError(
            f"{size:,} bytes of shared memory are not free; send tiles in bodies", 507
        ) from error
    return Segment(path, size, descriptor)


def _gone(segment: Segment) -> None:
    os.close(segment.descriptor)
    with contextlib.suppress(OSError):
        segment.path.unlink(missing_ok=True)
