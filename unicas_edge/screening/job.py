"""One slide of a batch, under its claim: kept, refused, or screened and written."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unicas_edge import __version__, report
from unicas_edge.core.names import readable
from unicas_edge.errors import SlideError, UnicasError
from unicas_edge.report.result_json import RESULT, load_result
from unicas_edge.screening.attempts import Attempt
from unicas_edge.screening.feed import Progress
from unicas_edge.screening.options import Options
from unicas_edge.screening.outcome import CONFLICT, KEPT, Outcome, failed, screened
from unicas_edge.screening.screener import Screener
from unicas_edge.screening.wire import Order
from unicas_edge.slide.formats import slide_files

_CONFLICT = (
    "holds a result of another slide, bundle or settings; --force replaces it, "
    "--skip-existing keeps it"
)


class Job:
    """What carries out orders in this process, one after another: `batch.screen_all` takes it."""

    def __init__(self, screener: Screener) -> None:
        self._screener = screener
        self._attempt: Attempt | None = None

    def ready(self) -> None:
        """Return at once: the model is loaded."""

    def screen(
        self, order: Order, progress: Progress, writing: Callable[[], None] | None = None
    ) -> Outcome:
        """Return what became of a slide; whatever goes wrong with it, this does not raise.

        `writing` is called when all is seen and the result's files are begun.
        """
        try:
            return self._ordered(order, progress, writing or _nothing)
        except UnicasError as error:
            return failed(order.name, order.path, str(error))
        except Exception as error:  # a plug-in's or our own defect: named, not hidden
            cause = f"{type(error).__name__}: {error}; this is a defect, please report it"
            return failed(order.name, order.path, f"{order.path}: {cause}")

    def withdraw(self) -> None:
        """Uncount the attempt that is under way, if any: the process is about to be ended."""
        if self._attempt is not None:
            self._attempt.withdraw()

    def _ordered(self, order: Order, progress: Progress, writing: Callable[[], None]) -> Outcome:
        mpp = order.mpp or self._screener.options.mpp
        key = f"{self._key(order.path)[:32]}-{mpp}"
        standing = _standing(order, key)
        if standing is not None:
            return standing
        with self._attempted(order, key):
            found = self._screener.screen(order.path, mpp=mpp, resume_key=key, progress=progress)
            writing()
            report.write_result(order.folder, found.result, found.overview, found.top_tiles)
        return screened(order.name, order.path, order.folder, found.result)

    @contextlib.contextmanager
    def _attempted(self, order: Order, key: str) -> Iterator[None]:
        """Count an attempt that stays counted where the block does not end in order."""
        attempt = self._attempt = Attempt(order.marker)
        attempt.begin(order.path, key, force=order.again)
        try:
            yield
        except Exception:
            attempt.end()
            raise
        except BaseException:
            attempt.withdraw()
            raise
        else:
            attempt.end()
        finally:
            self._attempt = None

    def _key(self, path: Path) -> str:
        try:
            return resume_key(path, self._screener)
        except FileNotFoundError as error:
            raise SlideError(path, "no such file; check the path") from error
        except OSError as error:
            raise SlideError(path, f"cannot be read: {error.strerror}") from error


def _standing(order: Order, key: str) -> Outcome | None:
    """Return the outcome where an earlier result stays as it is; None: the slide is to be done."""
    path = order.folder / RESULT
    existing = load_result(path) if path.exists() else None
    if existing is None or order.again:
        return None
    if order.keep or existing.settings.get("resume_key") == key:
        return screened(order.name, order.path, order.folder, existing, KEPT)
    error = f"{order.folder}: {_CONFLICT}"
    return Outcome(order.name, order.path, CONFLICT, ok=False, error=error)


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
    silent = ("readers", "queue_batches", "memory_mb", "profile", "max_decode_mb", "timeout")
    return {key: value for key, value in options.recorded().items() if key not in silent}


def _nothing() -> None:
    """Stand in for a callback that nobody gave."""
