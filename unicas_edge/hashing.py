"""SHA-256 of a slide file, computed while the slide is screened."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

_CHUNK_BYTES = 1 << 20


class FileHash:
    """The SHA-256 and size of a file, computed on a thread of its own inside a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest: tuple[str | None, int | None] = (None, None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> FileHash:
        if self._path.is_file():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.value()

    def value(self) -> tuple[str | None, int | None]:
        """Return (hex digest, bytes), waiting for them; (None, None) for what is no file."""
        if self._thread.is_alive():
            self._thread.join()
        return self._digest

    def _run(self) -> None:
        digest, size = hashlib.sha256(), 0
        try:
            with self._path.open("rb") as file:
                while (chunk := file.read(_CHUNK_BYTES)) and not self._stop.is_set():
                    digest.update(chunk)
                    size += len(chunk)
        except OSError:
            return  # the tiles fail too, and say so with their places; no hash is then given
        self._digest = (digest.hexdigest(), size)
