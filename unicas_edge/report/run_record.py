"""``runs/<run id>.json``: what a run was asked, what it ran on, and what became of each slide."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unicas_edge.core.files import atomic_write
from unicas_edge.core.packages import versions
from unicas_edge.result import NOTICE, SlideResult, caution


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunRecord:
    """The record of one run; `document` is what the file holds."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        passed_over: Sequence[tuple[Path, str]] = (),
    ) -> None:
        """Begin the record of a run with these command-line `arguments` in `folder`.

        `passed_over` are (path, reason) of what was found beside the slides.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.id = f"{stamp}-{secrets.token_hex(4)}"
        self.path = folder / f"{self.id}.json"
        self._began = time.monotonic()
        self.document: dict[str, Any] = {
            "run": self.id,
            "notice": NOTICE,
            "arguments": list(arguments),
            "versions": versions(),
            "device": None,
            "bundle": None,
            "started": now(),
            "ended": None,
            "seconds": None,
            "outcome": "running",
            "slides": [],
            "passed_over": [{"path": str(path), "reason": why} for path, why in passed_over],
        }

    def add(
        self, name: str, slide: Path, status: str, error: str | None, result: SlideResult | None
    ) -> None:
        """Add what became of one slide, and from its result what it ran on."""
        entry: dict[str, Any] = {"name": name, "slide": str(slide), "status": status}
        entry |= {"error": error, "ended": now()}
        if result is not None:
            entry["timings_seconds"] = dict(result.timings_seconds)
            if status != "kept":  # an earlier run's engine is not this one's
                self.document["device"] = result.engine.model_dump(mode="json")
                self.document["bundle"] = result.bundle.model_dump(mode="json")
                said = (caution(result.bundle), NOTICE)
                self.document["notice"] = "; ".join(filter(None, said))
        self.document["slides"].append(entry)

    def end(self, outcome: str) -> None:
        """Note when and how the run ended: finished, interrupted, or the error that stopped it."""
        seconds = round(time.monotonic() - self._began, 3)
        self.document |= {"ended": now(), "seconds": seconds, "outcome": outcome}

    def save(self) -> None:
        """Write the record; `OutputError` where that fails."""
        text = json.dumps(self.document, indent=2, ensure_ascii=False)
        with atomic_write(self.path) as handle:
            handle.write(text.encode(errors="backslashreplace") + b"\n")
