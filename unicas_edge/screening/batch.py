"""Many slides into one output folder: resume, share the work, go on past bad slides.

Each slide is claimed under a lock of the operating system before it is looked at, so that several
processes may run on one folder; a process that dies releases its slide. Who looks at it is given:
a `Supervisor`, whose process may crash, or a `Job` in this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from unicas_edge.errors import OutputError
from unicas_edge.screening.outcome import ELSEWHERE, Outcome, failed
from unicas_edge.screening.output_folder import OutputFolder
from unicas_edge.screening.wire import Order
from unicas_edge.slide.find import Target

#: Called with (stage, done, total), as `feed.Progress`, which is not imported: it would load numpy.
Progress = Callable[[str, int, int], None]


class Screening(Protocol):
    """Who screens: `supervisor.Supervisor`, or `job.Job`."""

    def ready(self) -> None:
        """Wait until slides can come; an error ends the batch."""

    def screen(self, order: Order, progress: Progress) -> Outcome:
        """Return what became of a slide, whatever goes wrong with it."""


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
    screening: Screening,
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
    with folder.run(arguments, passed_over) as log:
        batch = _Batch(folder, screening, force=force, skip_existing=skip_existing)
        todo = list(zip(names, targets, strict=True))
        # What another process has is waited for at the end: it may fail or be killed.
        for wait in (False, True):
            again = []
            for number, (name, target) in enumerate(todo, 1):
                screening.ready()
                with reporter.slide(name, number, len(todo)) as progress:
                    outcome = batch.screen(name, target, progress, wait=wait)
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


class _Batch:
    """How one slide of the run is treated."""

    def __init__(
        self, folder: OutputFolder, screening: Screening, *, force: bool, skip_existing: bool
    ) -> None:
        self._folder = folder
        self._screening = screening
        self._force = force
        self._skip_existing = skip_existing

    def screen(self, name: str, target: Target, progress: Progress, *, wait: bool) -> Outcome:
        """Return what became of a slide; whatever goes wrong, the next one gets its turn."""
        if target.problem is not None:
            return failed(name, target.path, f"{target.path}: {target.problem}")
        try:
            with self._folder.claim(name, wait=wait) as slot:
                if slot is None:
                    return Outcome(name, target.path, ELSEWHERE)
                return self._screening.screen(self._order(name, slot, target), progress)
        except OutputError as error:
            return failed(name, target.path, str(error))

    def _order(self, name: str, slot: Path, target: Target) -> Order:
        # With `force` everything is screened again, but not what another process just made.
        again = self._force and not self._folder.made_by_another_since_start(name)
        marker = self._folder.marker(name)
        return Order(name, target.path, slot, marker, target.mpp, again, self._skip_existing)
