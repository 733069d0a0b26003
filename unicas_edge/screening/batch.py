"""Many slides into one output folder: resume, share the work, go on past bad slides.

Each slide is claimed under a lock of the operating system before it is looked at, so that several
processes may run on one folder; a process that dies releases its slide.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unicas_edge import __version__
from unicas_edge.bundle import Bundle
from unicas_edge.core.names import readable
from unicas_edge.errors import SlideError, UnicasError
from unicas_edge.report import write_result
from unicas_edge.result import SlideResult
from unicas_edge.screening.feed import Progress
from unicas_edge.screening.options import Options
from unicas_edge.screening.output_folder import ELSEWHERE, FAILED, OutputFolder
from unicas_edge.screening.screener import Screener
from unicas_edge.slide.find import Target
from unicas_edge.slide.formats import slide_files

#: done: screened now; kept: an earlier result stands; elsewhere: another process has it;
#: conflict: a result made otherwise is in the way, and stands; failed: see `error`.
DONE, KEPT, CONFLICT = "done", "kept", "conflict"
#: screened, but not seen well enough for a decision
UNSATISFACTORY = "unsatisfactory"


_CONFLICT = (
    "holds a result of another slide, bundle or settings; --force replaces it, "
    "--skip-existing keeps it"
)


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


class Reporter(Protocol):
    """Who is told, as `console.Console` is."""

    def slide(self, name: str, number: int, total: int) -> AbstractContextManager[Progress]:
        """Begin a slide; gives the callback for its progress."""

    def outcome(self, outcome: Outcome) -> None:
        """Tell what became of a slide."""

    def summary(self, counts: Counter[str]) -> None:
        """Tell how the run ended: slides by status."""


def screen_all(
    targets: Sequence[Target],
    output: Path,
    bundle: Bundle,
    options: Options,
    reporter: Reporter,
    *,
    force: bool = False,
    skip_existing: bool = False,
    arguments: Sequence[str] = (),
    passed_over: Sequence[tuple[Path, str]] = (),
) -> bool:
    """Screen `targets` into the folder `output`; return whether all of them are well.

    A result made earlier from the same file, bundle and settings is kept; one made with others is
    an error unless `force` (screen again) or `skip_existing` (keep it). `OutputError` when the
    folder itself cannot be used: then nothing else would succeed either. `passed_over`, paths with
    the reason why they are no slides, is recorded.
    """
    folder = OutputFolder(output)
    names = folder.names([target.path for target in targets])
    counts: Counter[str] = Counter()
    ok = True
    with folder.run(arguments, passed_over) as log, Screener(bundle, options) as screener:
        job = _Job(folder, screener, force=force, skip_existing=skip_existing)
        todo = list(zip(names, targets, strict=True))
        # What another process has is waited for at the end: it may fail or be killed.
        for wait in (False, True):
            again = []
            for number, (name, target) in enumerate(todo, 1):
                with reporter.slide(name, number, len(todo)) as progress:
                    outcome = job.screen(name, target, progress, wait=wait)
                if outcome.status == ELSEWHERE:
                    again.append((name, target))
                    continue
                counts[outcome.status] += 1
                ok = ok and outcome.ok
                log.add(name, target.path, outcome.status, outcome.error, outcome.result)
                reporter.outcome(outcome)
            todo = again
    reporter.summary(counts)
    return ok


def resume_key(path: Path, screener: Screener) -> str:
    """Return what makes two runs the same: files (name, size, time), bundle, settings, version.

    `auto` stands for the engine and precision that it came to: another one is another result.

    `OSError` where the slide's files cannot be looked at.
    """
    found = [(file.name, file.stat()) for file in slide_files(path)]
    facts = {
        "path": readable(path.absolute()),
        "files": [(readable(name), about.st_size, about.st_mtime_ns) for name, about in found],
        "bundle": screener.bundle.digest,
        "version": __version__,
        **_telling(screener.options),
        "backend": screener.encoder.name,
        "precision": screener.encoder.precision,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _telling(options: Options) -> dict[str, Any]:
    """Return the settings that can change a result; how much is read ahead cannot."""
    silent = ("readers", "queue_batches", "memory_mb", "profile")
    return {key: value for key, value in options.recorded().items() if key not in silent}


class _Job:
    """How one slide of the run is treated."""

    def __init__(
        self, folder: OutputFolder, screener: Screener, *, force: bool, skip_existing: bool
    ) -> None:
        self._folder = folder
        self._screener = screener
        self._force = force
        self._skip_existing = skip_existing

    def screen(self, name: str, target: Target, progress: Progress, *, wait: bool) -> Outcome:
        """Return what became of a slide; whatever goes wrong, the next one gets its turn."""
        if target.problem is not None:
            return self._failed(name, target.path, f"{target.path}: {target.problem}")
        try:
            with self._folder.claim(name, wait=wait) as slot:
                if slot is None:
                    return Outcome(name, target.path, ELSEWHERE)
                return self._claimed(name, slot, target, progress)
        except UnicasError as error:
            return self._failed(name, target.path, str(error))
        except Exception as error:  # a plug-in's or our own defect: named, not hidden
            cause = f"{type(error).__name__}: {error}; this is a defect, please report it"
            return self._failed(name, target.path, f"{target.path}: {cause}")

    def _claimed(self, name: str, slot: Path, target: Target, progress: Progress) -> Outcome:
        options = self._screener.options
        mpp = target.mpp or options.mpp
        try:
            key = f"{resume_key(target.path, self._screener)[:32]}-{mpp}"
        except FileNotFoundError as error:
            raise SlideError(target.path, "no such file; check the path") from error
        except OSError as error:
            raise SlideError(target.path, f"cannot be read: {error.strerror}") from error
        existing = self._folder.existing(name)
        if existing is not None and not self._again(name):
            if self._skip_existing or existing.settings.get("resume_key") == key:
                return _outcome(name, target.path, slot, existing, KEPT)
            return Outcome(name, target.path, CONFLICT, ok=False, error=f"{slot}: {_CONFLICT}")
        screened = self._screener.screen(target.path, mpp=mpp, resume_key=key, progress=progress)
        write_result(slot, screened.result, screened.overview, screened.top_tiles)
        return _outcome(name, target.path, slot, screened.result)

    def _again(self, name: str) -> bool:
        """With `force` everything is screened again, but not what another process just made."""
        return self._force and not self._folder.made_by_another_since_start(name)

    def _failed(self, name: str, path: Path, error: str) -> Outcome:
        return Outcome(name, path, FAILED, ok=False, error=error)


def _outcome(
    name: str, path: Path, folder: Path, result: SlideResult, status: str | None = None
) -> Outcome:
    satisfactory = result.adequacy.satisfactory
    return Outcome(
        name,
        path,
        status or (DONE if satisfactory else UNSATISFACTORY),
        ok=satisfactory or result.coverage.coverage == 1,
        folder=folder,
        result=result,
    )
