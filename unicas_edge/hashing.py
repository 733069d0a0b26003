"""Which files a slide consists of, and their SHA-256, computed while the slide is screened."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

_CHUNK_BYTES = 1 << 20
MAX_FILES = 100_000


def slide_files(path: Path) -> list[Path]:
    """Return the files behind a slide, in name order: itself, or those it is spread over.

    A folder of fields is its files; MRXS has a folder of the same name beside it; a DICOM slide is
    a series of files in one folder. `OSError` where they cannot be listed.
    """
    if path.is_dir():
        return _inside(path)
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return [path, *_inside(path.with_suffix(""))]
    if path.suffix.lower() == ".dcm":
        return [file for file in _inside(path.parent) if file.suffix.lower() == ".dcm"]
    return [path]


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())[:MAX_FILES]


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
