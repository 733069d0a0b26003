"""That a slide is the same file from the first byte read to the last: not still copied or scanned.

Size and time of every file are compared, and which files there are; a sample of the content, should
a file system be coarse about times; and all of the content where only an inode or its time of
change differ, as after a chmod, a new hard link, or a write whose time was put back.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.core.hashing import FileHash
from unicas_edge.errors import SlideError
from unicas_edge.slide.formats import slide_files

_ADVICE = "it is still being copied or scanned: screen it again when that has ended"


@dataclass(frozen=True)
class _Facts:
    """What is told of a file. `identity` may change though the content does not."""

    size: int
    modified: int
    identity: tuple[int, int, int]


class Steady:
    """The files of the slide `path` while a block reads them, hashed beside it.

    `SlideError` at the end of the block where they changed, in the place of whatever else was
    wrong: it is the cause. `SlideError` at the beginning where they cannot be looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._before = _look(path)
        except FileNotFoundError as error:
            raise SlideError(path, "no such file; check the path") from error
        except OSError as error:
            raise SlideError(path, f"cannot be read: {error.strerror or error}") from error
        sizes = [facts.size for facts in self._before.values()]
        self.size = sum(sizes)
        self._hash = FileHash(list(self._before), sizes)

    def __enter__(self) -> Steady:
        self._hash.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._hash.stop()
        if error is None or isinstance(error, Exception):
            self._compare()

    def sha256(self) -> str:
        """Return the SHA-256 of all files, waiting for it; `SlideError` where one is unreadable."""
        try:
            return self._hash.value()
        except OSError as error:
            raise SlideError(self.path, _unreadable(error)) from error

    def _compare(self) -> None:
        try:
            now = _look(self.path)
            change = _change(self.path, self._before, now) or self._other_content(now)
        except OSError as error:
            change = f"cannot be read any more ({error.strerror or error})"
        if change is not None:
            raise SlideError(self.path, f"{change}; {_ADVICE}")

    def _other_content(self, now: dict[Path, _Facts]) -> str | None:
        found = self._hash
        same = found.sampled is None or found.sampled == found.sample()
        if same and found.digest is not None and now != self._before:
            same = found.digest == found.again()
        return None if same else "changed while it was read (other content of the same size)"


def _look(path: Path) -> dict[Path, _Facts]:
    """Return the facts of a slide's files; `OSError` where one is none, or is not to be seen."""
    found = {}
    for file in slide_files(path):
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise SlideError(path, "is neither a file nor a folder")
        identity = (about.st_dev, about.st_ino, about.st_ctime_ns)
        found[file] = _Facts(about.st_size, about.st_mtime_ns, identity)
    return found


def _change(path: Path, before: dict[Path, _Facts], now: dict[Path, _Facts]) -> str | None:
    """Return what differs in the files that there are, their sizes and times; None for nothing."""
    if before.keys() != now.keys():
        return f"its files changed while it was read ({len(before)} -> {len(now)} files)"
    for file, old in before.items():
        new = now[file]
        if (old.size, old.modified) != (new.size, new.modified):
            what = "" if file == path else f"{file.name} "
            return f"{what}changed while it was read ({_sizes(old.size, new.size)})"
    return None


def _sizes(old: int, new: int) -> str:
    if old == new:
        return "it was written to"
    if round(old / 1e6) == round(new / 1e6):
        return f"{old:,} -> {new:,} bytes"
    return f"{old / 1e6:.0f} -> {new / 1e6:.0f} MB"


def _unreadable(error: OSError) -> str:
    name = f"{Path(error.filename).name} " if error.filename else ""
    return f"{name}cannot be read: {error.strerror or error}"
