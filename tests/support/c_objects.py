"""C sources compiled once in a run of the tests, whichever files and workers link them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.weights_file import run


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers of this run have in common."""
    base = factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "c-objects"
    folder.mkdir(exist_ok=True)
    return folder


def compiled(folder: Path, command: list[str], sources: list[Path]) -> list[Path]:
    """Return the object files of sources by a compiler and its flags; two at a time."""
    room = folder / _name(" ".join(map(str, command)))
    room.mkdir(exist_ok=True)
    with FileLock(folder / f"{room.name}.lock"), ThreadPoolExecutor(2) as pool:
        largest_first = sorted(sources, key=lambda path: path.name != "kernels.c")
        jobs = {path: pool.submit(_compile, room, command, path) for path in largest_first}
        return [jobs[path].result() for path in sources]


def _compile(room: Path, command: list[str], source: Path) -> Path:
    made = room / f"{source.stem}-{_name(str(source))}.o"
    if not made.exists():
        part = made.with_suffix(".part.o")
        run(*command, "-c", source, "-o", part)
        part.rename(made)
    return made


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
