"""Slides that came by STOW-RS: each waits, is screened in a process of its own, and has a report.

That process may crash or hang over what a stranger sent; the service goes on. It is started with
the first slide. The slide's files go when it has been screened, its report stays until it is idle
or outnumbered.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from unicas_edge.errors import ServiceError, UnicasError
from unicas_edge.screening import wire
from unicas_edge.screening.outcome import Outcome
from unicas_edge.screening.supervisor import Supervisor
from unicas_edge.serve.dicomweb.instance import Instance
from unicas_edge.serve.dicomweb.report import new_uid, write_report

_log = logging.getLogger(__name__)
_REPORT, _RESULT = "report.dcm", "result"
#: Reports that are kept, for each slide that may wait.
_KEPT = 16


class Screens(Protocol):
    """Who screens: `Isolated`, but for tests."""

    def ready(self) -> None:
        """Wait until slides can come."""

    def screen(self, order: wire.Order, progress: Callable[[str, int, int], None]) -> Outcome:
        """Return what became of a slide."""

    def close(self) -> None:
        """End what is being screened."""


class Isolated:
    """Screens in a process of its own, which starts with the first slide."""

    def __init__(self, setup: wire.Setup) -> None:
        self._setup, self._supervisor = setup, Supervisor()
        self._begun = False

    def ready(self) -> None:
        """Wait until slides can come; errors are those of loading the model."""
        if not self._begun:
            self._supervisor.begin(self._setup)
            self._begun = True
        self._supervisor.ready()

    def screen(self, order: wire.Order, progress: Callable[[str, int, int], None]) -> Outcome:
        """Return what became of a slide, be it that it ended the process."""
        return self._supervisor.screen(order, progress)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._supervisor.__exit__()


@dataclass
class Slide:
    """A slide and its report: the instance `uid` of `series` in the study of its `images`.

    `folder` holds both; the report is there when `done`, or else `error` says why it is not.
    """

    folder: Path
    images: list[Instance]
    uid: str = field(default_factory=new_uid)
    series: str = field(default_factory=new_uid)
    done: bool = False
    error: str | None = None
    used: float = field(default_factory=time.monotonic)

    @property
    def study(self) -> str:
        """The study of the slide, and so of the report."""
        return self.images[0].study

    @property
    def report(self) -> Path:
        """Where the report is written."""
        return self.folder / _REPORT


class Slides:
    """The slides of all clients; `most` may wait. Safe to use from several threads."""

    def __init__(self, screens: Screens, most: int, idle_seconds: float) -> None:
        self._screens, self._most, self._idle = screens, most, idle_seconds
        self._slides: dict[str, Slide] = {}
        self._waiting: queue.Queue[Slide | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dicomweb", daemon=True)
        self._thread.start()

    def require_room(self, more: int = 1) -> None:
        """Raise `ServiceError` 503 where `more` slides would be too many to wait."""
        with self._lock:
            waiting = sum(not (one.done or one.error) for one in self._slides.values())
            if self._closed or waiting + more > self._most:
                raise ServiceError(f"{waiting} slides wait to be screened; try again later", 503)

    def add(self, slide: Slide) -> None:
        """Have a slide screened; its folder is then ours."""
        with self._lock:
            if self._closed:
                raise ServiceError("the service ends; no more slides are screened", 503)
            self._slides[slide.uid] = slide
            ended = [one for one in self._slides.values() if one.done or one.error]
            old = ended[: max(0, len(ended) - _KEPT * self._most)]
        self._forget(old)
        self._waiting.put(slide)

    def of(self, study: str) -> list[Slide]:
        """Return the slides of a study that have a report."""
        with self._lock:
            return [one for one in self._slides.values() if one.study == study and one.done]

    def find(self, study: str, series: str, uid: str) -> Slide:
        """Return the slide of a report, `done`.

        `ServiceError` 404 for none, 503 while it is screened, 410 where that failed.
        """
        with self._lock:
            found = self._slides.get(uid)
        if found is None or (found.study, found.series) != (study, series):
            raise ServiceError("no such instance; this service keeps reports alone", 404)
        found.used = time.monotonic()
        if found.error is not None:
            raise ServiceError(f"the slide has no report: {found.error}", 410)
        if not found.done:
            raise ServiceError("the slide is being screened; try again", 503)
        return found

    def expire(self) -> None:
        """Forget reports that nobody has asked for too long."""
        before = time.monotonic() - self._idle
        with self._lock:
            found = self._slides.values()
            idle = [one for one in found if one.used < before and (one.done or one.error)]
        self._forget(idle)

    def close(self) -> None:
        """Screen no more; the slide that is being screened has no report."""
        with self._lock:
            self._closed = True
            slides = list(self._slides.values())
        self._screens.close()
        self._waiting.put(None)
        self._thread.join()
        self._forget(slides)

    def _forget(self, slides: Sequence[Slide]) -> None:
        with self._lock:
            for one in slides:
                self._slides.pop(one.uid, None)
        for one in slides:
            shutil.rmtree(one.folder, ignore_errors=True)

    def _work(self) -> None:
        while (slide := self._waiting.get()) is not None and not self._closed:
            try:
                slide.error = self._screened(slide)
                slide.done = slide.error is None
            except UnicasError as error:
                _log.error("a slide by DICOMweb: %s", error)
                slide.error = "it cannot be screened; the service's log says why"
            except Exception:
                _log.exception("a slide by DICOMweb: a defect")
                slide.error = "a defect of unicas-edge; the service's log says more"
            finally:
                self._remove_pixels(slide)
                slide.used = time.monotonic()

    def _screened(self, slide: Slide) -> str | None:
        """Write a slide's report; return None, or why there is none."""
        self._screens.ready()
        first = next(image for image in slide.images if not image.beside)
        out = slide.folder / _RESULT
        out.mkdir()
        order = wire.Order("slide", first.path, out, slide.folder / "attempts", again=True)
        outcome = self._screens.screen(order, _silent)
        shown = [image for image in slide.images if not image.beside]
        if outcome.result is not None:
            write_report(slide.report, outcome.result, shown, slide.series, slide.uid)
        return None if outcome.result is not None else self._told(slide, outcome.error or "")

    def _remove_pixels(self, slide: Slide) -> None:
        for image in slide.images:
            with contextlib.suppress(OSError):
                image.path.unlink()
        shutil.rmtree(slide.folder / _RESULT, ignore_errors=True)

    def _told(self, slide: Slide, error: str) -> str:
        """Return what a client is told of a failure: without the paths of this computer."""
        _log.warning("a slide by DICOMweb: %s", error)
        path, _, cause = error.partition(": ")
        if Path(path).parent != slide.folder or str(slide.folder) in cause:
            return "it cannot be screened; the service's log says why"
        return cause


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
