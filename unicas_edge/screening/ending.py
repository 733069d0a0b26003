"""How a process ended, in words: its signal or exit code, and where it was."""

from __future__ import annotations

import re
import signal
from pathlib import Path, PurePath

_SIGNALS = {
    "SIGSEGV": "segmentation fault",
    "SIGBUS": "bus error (a file became shorter while it was read, or its disk failed)",
    "SIGKILL": "killed, perhaps for want of memory,",
    "SIGABRT": "abort (a library found its own memory damaged, or an impossible state)",
    "SIGFPE": "arithmetic error in a library",
    "SIGILL": "illegal instruction (a library needs another processor)",
    "SIGSYS": "forbidden system call",
    "SIGXCPU": "limit of processor time",
    "SIGXFSZ": "limit of file size",
}
#: What Windows returns for the same.
_STATUSES = {
    0xC0000005: "access violation",
    0xC0000006: "a file could not be read in",
    0xC0000017: "out of memory",
    0xC000001D: "illegal instruction (a library needs another processor)",
    0xC00000FD: "stack overflow",
    0xC0000409: "abort (a library found its own memory damaged)",
}
_FRAME = re.compile(r'File "([^"]{1,500})", line (\d{1,7}) in (\S{1,100})')
_MAX_BYTES = 1 << 16


def in_words(returncode: int | None) -> str:
    """Return why a process ended, from its `returncode` as `subprocess` gives it."""
    if returncode is None:
        return "it cannot be ended: it waits for a disk or a network"
    if returncode < 0:
        name = _name(-returncode)
        return _SIGNALS.get(name, f"ended by {name}")
    return _STATUSES.get(returncode & 0xFFFFFFFF, f"exit code {returncode}")


def place(dump: Path | None) -> str:
    """Return `` (file, line, function)`` of Python that called the crash; "" where unknown.

    `dump` is what `faulthandler` wrote, the innermost call of the crashed thread first.
    """
    if dump is None:
        return ""
    try:
        with dump.open("rb") as file:
            found = _FRAME.search(file.read(_MAX_BYTES).decode("utf-8", "replace"))
    except OSError:
        return ""
    if found is None:
        return ""
    name, line, function = found.groups()
    return f" ({'/'.join(PurePath(name).parts[-2:])}, line {line}, in {function})"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
