"""The process that `worker` runs in, as its supervisor holds it: started, heard, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from unicas_edge.errors import EngineError
from unicas_edge.screening import ending, wire

#: Seconds for a killed process to be gone. One that waits for a dead disk is left behind.
_PATIENCE = 10.0
#: Seconds of one look; a computer that sleeps, or a stopped job, counts as one of them.
_TICK = 1.0


class SilentError(Exception):
    """The process lives, but said nothing for as long as it was given."""


class Process:
    """A fresh interpreter that runs `worker.main`. `EngineError` where none can be started."""

    def __init__(self) -> None:
        self._home = _own_folder()
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        try:
            self._popen = _started(self._home)
        except OSError as error:
            self._tidy()
            raise EngineError(
                f"{sys.executable}: the process that screens cannot be started: {error}; "
                "end other processes, or raise the limit on them"
            ) from error
        assert self._popen.stdin is not None  # noqa: S101 - asked for
        assert self._popen.stdout is not None  # noqa: S101 - asked for
        self._orders: BinaryIO = self._popen.stdin  # type: ignore[assignment]
        threading.Thread(target=self._hear, args=[self._popen.stdout], daemon=True).start()

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._popen.poll() is not None

    def send(self, message: object) -> None:
        """Send a message; that nobody is there to take it is what `next` will say."""
        with contextlib.suppress(OSError):
            wire.send(self._orders, message)

    def next(self, seconds: float | None = None) -> object:
        """Return the next message, None where the process ended.

        `SilentError` where none comes for `seconds` in which this process was awake.
        """
        waited = 0.0
        while seconds is None or waited < seconds:
            tick = _TICK if seconds is None else min(_TICK, seconds - waited)
            try:
                data = self._inbox.get(timeout=tick)
            except queue.Empty:
                waited += tick
                continue
            return None if data is None else wire.decoded(data)
        raise SilentError

    def cause(self) -> str:
        """Return in words how the process ended; call it when `next` gave None."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_PATIENCE)
        return ending.in_words(self._popen.returncode)

    def place(self) -> str:
        """Return where in Python it ended, in brackets, or "" where that is not known."""
        return "" if self._home is None else ending.place(self._home / wire.DUMP)

    def stop(self) -> None:
        """End the process, whatever it does, and remove its temporary files."""
        self._popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_PATIENCE)
        with contextlib.suppress(OSError):
            self._orders.close()
        self._tidy()

    def _hear(self, replies: BinaryIO) -> None:
        with replies:
            while (message := wire.receive(replies)) is not None:
                self._inbox.put(message)
        self._inbox.put(None)

    def _tidy(self) -> None:
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def _started(home: Path | None) -> subprocess.Popen[bytes]:
    place = ascii(str(home or ""))
    code = f"from unicas_edge.screening.worker import main; main({place})"
    # modules are found where this process finds them, whatever lies in the working folder
    path = ascii([entry for entry in sys.path if isinstance(entry, str)])
    with _signals_held_back():
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", f"import sys; sys.path[:] = {path}; {code}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(home),
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def _environment(home: Path | None) -> dict[str, str]:
    """Return this process's environment, with temporary files in the new one's own folder."""
    places = {} if home is None else dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(home))
    return {**os.environ, **places}


def _own_folder() -> Path | None:
    """Return a new folder for what a killed library leaves; None where there can be none."""
    try:
        return Path(tempfile.mkdtemp(prefix="unicas-edge-"))
    except OSError:
        return None


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let a process start that a Ctrl-C does not reach before it ignores it, as `worker` does."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
