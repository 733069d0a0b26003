"""A slide to screen, as finding gives it to screening."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A slide to screen. `problem` says why it cannot be: it is reported, not passed over."""

    path: Path
    mpp: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Passed:
    """A file or `folder` that is not screened, and why.

    `problem` is true where it should have been looked at and could not be.
    """

    path: Path
    reason: str
    folder: bool = False
    problem: bool = False
