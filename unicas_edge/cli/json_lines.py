"""``screen --json``: one JSON object per line on stdout, each with its ``event``.

- ``progress``: `slide` (its name), `number` of `slides`, `stage` (rank, tiles), `done` of `of`; at
  most one per second, none with ``--quiet``;
- ``slide``: what became of one, with `name`, `path`, `status`, `folder`, `error` and `result`
  (as ``result.json``), null where there is none;
- ``summary``, the last line: `slides`, `counts` by status, `exit_code`, `summary` (path of
  ``summary.csv``), `notice`, and `passed_over` with the number of `files` and `folders` and the
  first of them, `listed`, each with `path`, `reason` and `problem`;
- ``error``, in place of ``summary``: `error` with `kind`, `message` and `exit_code`.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicas_edge.cli.text import say_json, utf8
from unicas_edge.result import NOTICE

if TYPE_CHECKING:
    from unicas_edge.screening.outcome import Outcome
    from unicas_edge.slide.find import Found

#: Seconds between two lines of progress.
EVERY = 1.0
#: Passed over paths in the summary; all are counted.
LISTED = 1_000


class JsonLines:
    """Writes the events of a run."""

    def __init__(self) -> None:
        self._told = -EVERY

    def progress(self, slide: str, place: tuple[int, int], stage: str, done: int, of: int) -> None:
        """Tell how far a slide is, unless that was told a moment ago."""
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told = now
        at = {"slide": slide, "number": place[0], "slides": place[1]}
        say_json({"event": "progress", **at, "stage": stage, "done": done, "of": of})

    def slide(self, outcome: Outcome) -> None:
        """Tell what became of a slide."""
        result = outcome.result
        say_json(
            {
                "event": "slide",
                "name": outcome.name,
                "path": utf8(outcome.path),
                "status": outcome.status,
                "folder": None if outcome.folder is None else utf8(outcome.folder),
                "error": None if outcome.error is None else utf8(outcome.error),
                "result": None if result is None else result.model_dump(mode="json"),
            }
        )

    def summary(self, counts: Counter[str], found: Found, summary: Path, exit_code: int) -> None:
        """Tell how the run ended."""
        say_json(
            {
                "event": "summary",
                "slides": counts.total(),
                "counts": dict(sorted(counts.items())),
                "exit_code": exit_code,
                "summary": utf8(summary),
                "notice": NOTICE,
                "passed_over": _passed_over(found),
            }
        )


def _passed_over(found: Found) -> dict[str, Any]:
    listed = [
        {"path": utf8(entry.path), "reason": utf8(entry.reason), "problem": entry.problem}
        for entry in found.passed_over[:LISTED]
    ]
    return {"files": found.files, "folders": found.folders, "listed": listed}
