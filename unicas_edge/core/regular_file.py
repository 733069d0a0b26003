"""Regular files, opened without waiting, and what tells that one is no longer what it was.

A path from outside may lead to a pipe, which would be waited for until somebody writes to it, to a
device, whose opening may do something, or to a file that another program is still writing.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)


class Identity(NamedTuple):
    """Which file it is, and when it last changed; the time of change cannot be set back."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def identity(file: Path | int) -> Identity:
    """Return what identifies the file at a path, links followed, or of an open descriptor.

    `OSError` where there is none.
    """
    about = os.fstat(file) if isinstance(file, int) else file.stat()
    return Identity(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@contextmanager
def open_regular(path: Path) -> Iterator[io.FileIO]:
    """Give a regular file, open for reading, unbuffered; never waits for another program.

    `OSError` for one that cannot be opened, and for a folder, pipe, socket or device.
    """
    _check(path.stat(), path)  # before it is opened: opening a device may do something
    descriptor = os.open(path, _FLAGS)
    with io.FileIO(descriptor) as file:
        _check(os.fstat(descriptor), path)
        yield file


def _check(about: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_whole(file: io.FileIO, most: int) -> memoryview:
    """Return all of an open file, read-only, in memory of its own.

    `OSError` for one of more than `most` bytes, or whose size changes while it is read;
    `MemoryError` where it does not fit.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes")
    view, at = np.empty(size, np.uint8).data, 0  # NumPy asks for huge pages
    while at < size and (read := file.readinto(view[at:])):
        at += read
    if at < size or file.read(1):
        raise OSError(errno.EBUSY, "its size changed while it was read")
    return view.toreadonly()


def read_regular(path: Path, most: int) -> memoryview:
    """Return all of the regular file at `path`; errors as `open_regular` and `read_whole`."""
    with open_regular(path) as file:
        return read_whole(file, most)
