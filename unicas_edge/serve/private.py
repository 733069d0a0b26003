"""A folder of this service's own, which a later one removes where this one was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import filelock

from unicas_edge.errors import ServiceError

PREFIX = "unicas-edge-serve-"
_LOCK = "lock"


class PrivateFolder:
    """A new folder in `parent` for its owner alone; the locked file in it says that it is used.

    `ServiceError` where there can be none.
    """

    def __init__(self, parent: Path) -> None:
        try:
            remove_stale(parent)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:
            raise ServiceError(
                f"{parent}: no folder can be made there: {error.strerror}; choose another --scratch"
            ) from error
        # released by whichever thread ends the service
        self._lock = filelock.FileLock(self.path / _LOCK, thread_local=False)
        self._lock.acquire()

    def close(self) -> None:
        """Remove the folder and what is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove the folders of our own user's services that were killed."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, filelock.Timeout):
            if not _ours(path) or not (path / _LOCK).exists():
                continue  # one without is just being made
            with filelock.FileLock(path / _LOCK, timeout=0):
                pass
            shutil.rmtree(path, ignore_errors=True)


def _ours(path: Path) -> bool:
    """Return whether a path is a real folder of our own user's; others may write in `parent`."""
    about = path.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == getattr(os, "getuid", lambda: 0)()
