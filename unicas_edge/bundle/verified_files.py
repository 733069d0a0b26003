"""A bundle's files as they were when they were hashed, and whether they still are.

What runs is either read into memory and hashed there, so that nobody can change it any more, or
read by a runtime where it lies; then the file must stay untouched as long as it is in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.core.hashing import sha256
from unicas_edge.core.regular_file import Identity, identity, open_regular, read_whole
from unicas_edge.errors import BundleError

#: Four times the largest encoder in use (1.1 billion parameters in fp32).
MAX_FILE_BYTES = 16 << 30
_AGAIN = "put the bundle's own files back"


@dataclass
class _Seen:
    """A file, what identified it when it was hashed, and its SHA-256."""

    path: Path
    identity: Identity
    sha256: str
    in_place: bool = False

    def stands(self) -> bool:
        """Return whether the file still is what was hashed."""
        try:
            now = identity(self.path)
            if now == self.identity:
                return True
            if self.in_place or now.size != self.identity.size or sha256(self.path) != self.sha256:
                return False
        except OSError:
            return False
        self.identity = now
        return True


class VerifiedFiles:
    """The files of one bundle by name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._changed: Path | None = None

    def moved(self, old: Path, new: Path) -> VerifiedFiles:
        """Return the same files after their folder was renamed."""
        made = VerifiedFiles()
        for name, seen in self._seen.items():
            path = new.absolute() / seen.path.relative_to(old.absolute())
            made._seen[name] = _Seen(path, seen.identity, seen.sha256)
        return made

    def keep(self, name: str, path: Path, found: Identity, digest: str) -> None:
        """Remember a file by what identified it while it was hashed, and its SHA-256."""
        self._seen[name] = _Seen(path.absolute(), found, digest)

    def verify(self, name: str, path: Path, expected: str) -> None:
        """Hash a file and remember it.

        `OSError` where it cannot be read, `BundleError` where its SHA-256 is not the expected one.
        """
        with open_regular(path) as file:
            before = identity(file.fileno())
            if before.size > MAX_FILE_BYTES:
                raise BundleError(f"{path}: over {MAX_FILE_BYTES >> 30} GiB, too large for a model")
            found = hashlib.file_digest(file, "sha256").hexdigest()
            after = identity(file.fileno())
        if found != expected:
            raise BundleError(
                f"{name!r} has SHA-256 {found}, the manifest says {expected}; the file is damaged "
                "or was changed: copy the bundle again"
            )
        if after != before:
            raise BundleError(f"{name!r} is being written to; wait until its copy is complete")
        self.keep(name, path, before, found)

    def read(self, path: Path, expected: str) -> memoryview:
        """Return a file's bytes, in memory, hashed there; `BundleError` where they are others."""
        try:
            with open_regular(path) as file:
                data = read_whole(file, MAX_FILE_BYTES)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from error
        except MemoryError as error:
            raise BundleError(f"{path}: does not fit into memory; close other programs") from error
        if hashlib.sha256(data).hexdigest() != expected:
            raise BundleError(f"{path}: is not the file that the manifest names; {_AGAIN}")
        return data

    @contextmanager
    def in_place(self, names: Iterable[str]) -> Iterator[None]:
        """Let a runtime read files where they lie: untouched since they were hashed, and after.

        `BundleError` otherwise. From then on `check` forgives these files no touch.
        """
        for name in names:
            if name in self._seen:
                self._seen[name].in_place = True
        self.check()
        yield
        self.check()

    def check(self) -> None:
        """Raise `BundleError` if a file is no longer what was hashed; from then on always.

        Looks at sizes and times alone, unless they differ: then a file that ran from memory is
        hashed again, as a link to it, a backup or the same file copied anew changes times, too.
        """
        if self._changed is None:
            self._changed = next((s.path for s in self._seen.values() if not s.stands()), None)
        if self._changed is not None:
            raise BundleError(
                f"{self._changed}: changed while the bundle was in use, so that results could not "
                f"say what made them; {_AGAIN} and load the bundle again"
            )
