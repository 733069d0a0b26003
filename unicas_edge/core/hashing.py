"""The SHA-256 of files: of one at once, or of a slide's on a thread beside other work."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from unicas_edge.core.regular_file import open_regular

_CHUNK_BYTES = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal; `OSError` where it cannot be read."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileHash:
    """SHA-256 and size of files, computed on a thread of its own inside a ``with`` block.

    Of one file it is what ``sha256sum`` says; of several, that of each name and content in turn.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._digest: tuple[str | None, int | None] = (None, None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> FileHash:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def value(self) -> tuple[str | None, int | None]:
        """Return (hex digest, bytes), waiting for them; (None, None) if a file cannot be read."""
        self._thread.join()
        return self._digest

    def _run(self) -> None:
        digest, size = hashlib.sha256(), 0
        try:
            for path in self._files:
                if len(self._files) > 1:
                    digest.update(os.fsencode(path.name) + b"\0")
                with path.open("rb") as file:
                    while (chunk := file.read(_CHUNK_BYTES)) and not self._stop.is_set():
                        digest.update(chunk)
                        size += len(chunk)
        except OSError:
            return  # the tiles fail too, and say so with their places; no hash is then given
        self._digest = (digest.hexdigest(), size)
