"""How often a slide took the process, or the whole computer, with it: such a slide is left alone.

A marker stands on the disk while a slide is screened. Whatever ends in order removes it, be it with
a result or an error; what is found later is an attempt that nobody lived to end.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from unicas_edge.core.files import output_errors
from unicas_edge.errors import SlideError

#: Attempts after which a slide is not tried again unless it is forced.
MOST = 2
#: What a marker says until a survivor of the process writes what it saw.
UNSEEN = "the process or the computer ended"
_MAX_BYTES = 1 << 16


class Attempt:
    """The marker of one slide, a file; for the holder of the slide's claim alone.

    It remembers what the file held before, which `withdraw` puts back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = self._bytes()

    def begin(self, slide: Path, key: str, *, force: bool) -> None:
        """Count an attempt on what `key` stands for (file, settings, version).

        `SlideError` where `MOST` of them ended the process and `force` is not given; `OutputError`
        where the marker cannot be written.
        """
        found = _parsed(self._earlier)
        count = found["attempts"] if found.get("key") == key else 0
        if count >= MOST and not force:
            times = "twice" if count == MOST else f"{count} times"
            raise SlideError(
                slide,
                f"ended the process {times} ({found['cause']}); "
                "not tried again; --force tries it again",
            )
        with output_errors(self.path):
            self._write({"key": key, "attempts": count + 1, "cause": UNSEEN})

    def blame(self, cause: str) -> int:
        """Note why the attempt under way ended; return how many ended so, 0 if it had not begun."""
        now = self._bytes()
        found = _parsed(now)
        if not found or now == self._earlier:
            return 0
        with contextlib.suppress(OSError):
            self._write(found | {"cause": cause})
        return int(found["attempts"])

    def end(self) -> None:
        """Forget all attempts: this one ended in order."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Count this attempt not: somebody stopped it."""
        with contextlib.suppress(OSError):
            if self._earlier is None:
                self.path.unlink(missing_ok=True)
            else:
                self.path.write_bytes(self._earlier)

    def _write(self, marker: dict[str, Any]) -> None:
        # not by a temporary name and a rename: half a marker counts as none
        with self.path.open("wb") as file:
            file.write(json.dumps(marker).encode())
            file.flush()
            os.fsync(file.fileno())  # it has to outlive a computer that stops

    def _bytes(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                return file.read(_MAX_BYTES)
        except OSError:
            return None


def _parsed(marker: bytes | None) -> dict[str, Any]:
    """Return what a marker holds; nothing for one that is absent, half written or not ours."""
    try:
        found = json.loads(marker or b"")
        count = int(found["attempts"])
        return {"key": str(found["key"]), "attempts": count, "cause": str(found["cause"])}
    except (ValueError, TypeError, KeyError):
        return {}
