"""A file read by position, from several threads at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class PositionedFile:
    """A read-only file without a shared cursor: `pread` where the system has it.

    Elsewhere (Windows) a lock keeps seek and read together. `size` is the file's size in bytes when
    it was opened. Opening and reading raise `OSError`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._number = self._file.fileno()
        self._lock = threading.Lock()
        self.size = os.fstat(self._number).st_size
        self._pread = getattr(os, "pread", None)

    def __enter__(self) -> PositionedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, count: int, offset: int) -> bytes:
        """Return `count` bytes from `offset`; fewer at the end of the file."""
        if self._pread is not None:
            data: bytes = self._pread(self._number, count, offset)
            return data
        with self._lock:
            self._file.seek(offset)
            return self._file.read(count) or b""

    def close(self) -> None:
        """Close the file; later reads raise `OSError`."""
        self._number = -1
        self._file.close()
