"""The SHA-256 of files: of one at once, or of a slide's on a thread beside other work."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from unicas_edge.core.regular_file import open_regular

_CHUNK_BYTES = 1 << 20
#: Blocks of a sample, and bytes of each: a thousandth of a slide, read twice.
_BLOCKS = 16
_BLOCK_BYTES = 1 << 16


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal; `OSError` where it cannot be read."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileHash:
    """SHA-256 of files, computed on a thread of its own inside a ``with`` block.

    Of one file it is what ``sha256sum`` says; of several, that of each name and content in turn.
    `sizes` are how long they are: of one that grows no more is read. Before all else a sample of
    the content is taken, which `sample` takes again later.
    """

    def __init__(self, files: Sequence[Path], sizes: Sequence[int]) -> None:
        self._files = list(zip(files, sizes, strict=True))
        #: What `value` returns, None until it is known.
        self.digest: str | None = None
        #: What `sample` gave at the beginning, None until it is known.
        self.sampled: str | None = None
        self._error: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> FileHash:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Give up what is not hashed yet."""
        self._stop.set()
        self._thread.join()

    def value(self) -> str:
        """Return the hex digest, waiting for it; `OSError` where a file cannot be read."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.digest or self.again()

    def again(self) -> str:
        """Return the digest of what the files hold now; `OSError` where one cannot be read."""
        digest = hashlib.sha256()
        for path, size in self._files:
            if len(self._files) > 1:
                digest.update(os.fsencode(path.name) + b"\0")
            with path.open("rb") as file:
                left = size + 1  # one more than there should be: a file that grew has another hash
                while chunk := file.read(min(_CHUNK_BYTES, left)):
                    digest.update(chunk)
                    left -= len(chunk)
                    if self._stop.is_set() and threading.current_thread() is self._thread:
                        break
        return digest.hexdigest()

    def sample(self) -> str:
        """Return the digest of a few blocks, evenly spread over all files, as they are now.

        `OSError` where they cannot be read.
        """
        digest = hashlib.sha256()
        for path, offset in _places(self._files):
            with path.open("rb") as file:
                file.seek(offset)
                digest.update(file.read(_BLOCK_BYTES))
        return digest.hexdigest()

    def _run(self) -> None:
        try:
            self.sampled = self.sample()
            digest = self.again()
        except OSError as error:
            self._error = error
            return
        if not self._stop.is_set():
            self.digest = digest


def _places(files: Sequence[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    """Yield (file, offset) of the blocks of a sample: the first, the last, and some between."""
    total = sum(size for _, size in files)
    step = max(_BLOCK_BYTES, -(-total // _BLOCKS))
    wanted = [*range(0, max(1, total - _BLOCK_BYTES), step), max(0, total - _BLOCK_BYTES)]
    begin = 0
    places = iter(wanted)
    place = next(places, None)
    for path, size in files:
        while place is not None and place < begin + size:
            yield path, place - begin
            place = next(places, None)
        begin += size
