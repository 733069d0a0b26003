"""What became of one slide of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unicas_edge.result import SlideResult

#: done: screened now; kept: an earlier result stands; elsewhere: another process has it;
#: conflict: a result made otherwise is in the way, and stands; failed: see `error`.
DONE, KEPT, CONFLICT, ELSEWHERE, FAILED = "done", "kept", "conflict", "elsewhere", "failed"
#: screened, but not seen well enough for a decision
UNSATISFACTORY = "unsatisfactory"


@dataclass(frozen=True)
class Outcome:
    """What became of one slide. `ok` is False where a person has to look at the file."""

    name: str
    path: Path
    status: str
    ok: bool = True
    folder: Path | None = None
    result: SlideResult | None = None
    error: str | None = None


def failed(name: str, path: Path, error: str) -> Outcome:
    """Return the outcome of a slide that could not be screened."""
    return Outcome(name, path, FAILED, ok=False, error=error)


def screened(
    name: str, path: Path, folder: Path, result: SlideResult, status: str | None = None
) -> Outcome:
    """Return the outcome of a slide that has a result, made now unless `status` says otherwise."""
    satisfactory = result.adequacy.satisfactory
    return Outcome(
        name,
        path,
        status or (DONE if satisfactory else UNSATISFACTORY),
        ok=satisfactory or result.coverage.coverage == 1,
        folder=folder,
        result=result,
    )
