"""The output folder: who screens which slide, what is there already, and how runs went.

Several processes may work on one folder. A slide is claimed under a lock of the operating system
that dies with its holder, so that none is done twice and none is lost to a crash; the summary and
the records of runs are rewritten under a lock of their own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from unicas_edge.core.files import output_errors, remove_partial
from unicas_edge.core.names import key, readable, safe_name, slide_names
from unicas_edge.errors import OutputError
from unicas_edge.report.result_json import RESULT, load_result
from unicas_edge.report.run_record import RunRecord
from unicas_edge.report.summary import (
    SUMMARY,
    Row,
    error_row,
    read_summary,
    result_row,
    safe_cell,
    write_summary,
)
from unicas_edge.result import SlideResult
from unicas_edge.screening.outcome import ELSEWHERE

__all__ = ["OutputFolder", "RunLog", "slide_names"]

#: Seconds between two writings of a run's record; its beginning and end are always written.
RECORD_EVERY = 5.0

#: Seconds to wait for another process to rewrite the summary, which takes milliseconds.
PATIENCE = 60.0


class OutputFolder:
    """An output folder, made and proved writable on construction (`OutputError` if it is not)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.slides = self.path / "slides"
        self.runs = self.path / "runs"
        self._locks = self.path / ".locks"
        with output_errors(self.path):
            for folder in (self.path, self.slides, self.runs, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
        self._opened_ns = self._prove_writable()
        read_summary(self.summary)

    @property
    def summary(self) -> Path:
        """Path of ``summary.csv``."""
        return self.path / SUMMARY

    def slide(self, name: str) -> Path:
        """Return the folder of a slide; `OutputError` if `name` is not one of `slide_names`."""
        if not name or name != Path(name).name or name != safe_name(name):
            raise OutputError(f"{self.slides}: {name!r} is not the name of a slide folder")
        return self.slides / name

    def names(self, paths: Sequence[Path]) -> list[str]:
        """Return the folder name of each slide; one that has a row or a result here keeps its own.

        What another slide holds is not taken, though the stems be the same: the slide is the file.
        """
        rows = {key(name): row["slide"] for name, row in read_summary(self.summary).items()}

        def held(name: str, path: str) -> bool | None:
            told = rows.get(key(name))
            if told is not None:
                return _same_path(told, path)
            try:
                result = self.existing(name)
            except OutputError:
                return True  # said again, with its cause, when the slide is claimed
            return None if result is None else _same_path(result.slide.path, path)

        return slide_names(paths, held)

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[Path | None]:
        """Hold the slide for the block; give its folder, or None if another process holds it.

        With `wait` it is given as soon as the other process lets go of it.
        Ask `existing` inside the block: whoever held the slide before may just have finished it.
        What a killed run left half-written in the folder is removed.
        """
        folder = self.slide(name)
        lock = self._lock(f"slide-{name}")
        if not self._acquired(lock, -1 if wait else 0):
            yield None
            return
        try:
            with output_errors(folder):
                folder.mkdir(exist_ok=True)
            remove_partial(folder)
            yield folder
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # empty: the slide failed, and a folder would look like a result
            lock.release()

    def marker(self, name: str) -> Path:
        """Return the file in which attempts on a slide are counted (`attempts.Attempt`)."""
        return self._locks / f"attempt-{name}.json"

    def existing(self, name: str) -> SlideResult | None:
        """Return the complete result of a slide, or None.

        `OutputError` if there is a ``result.json`` that cannot be read: it is not overwritten.
        """
        path = self.slide(name) / RESULT
        return load_result(path) if path.exists() else None

    def made_by_another_since_start(self, name: str) -> bool:
        """Return whether the slide's result is newer than this object, by the folder's own clock.

        Under a claim, before screening it, that means another process has done the same.
        """
        try:
            return (self.slide(name) / RESULT).stat().st_mtime_ns > self._opened_ns
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def run(
        self, arguments: Sequence[str], passed_over: Sequence[tuple[Path, str]] = ()
    ) -> Iterator[RunLog]:
        """Record a run: its `arguments` now, each slide it adds, and how it ended.

        `passed_over` are the paths that were found beside the slides, and why they are none.
        """
        log = RunLog(self, arguments, passed_over)
        outcome = "finished"
        try:
            yield log
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            log.close(outcome)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock of summary and records; what a killed run left half-written goes."""
        lock = self._lock("summary")
        if not self._acquired(lock, PATIENCE):
            raise OutputError(
                f"{self.summary}: locked by another process for {PATIENCE:g} s; end that process"
            )
        try:
            remove_partial(self.path)
            remove_partial(self.runs)
            yield
        finally:
            lock.release()

    def _lock(self, name: str) -> FileLock:
        # not thread-local: the thread that writes a result need not be the one that claimed it
        return FileLock(self._locks / f"{name}.lock", thread_local=False)

    def _acquired(self, lock: FileLock, timeout: float = 0) -> bool:
        with output_errors(lock.lock_file):
            try:
                lock.acquire(timeout=timeout)
            except Timeout:  # an OSError too
                return False
        return True

    def _prove_writable(self) -> int:
        """Write and remove a file; return the file system's own time of it, in nanoseconds."""
        # no `.part` name: another process, holding the summary, would take it for a left-over
        probe = self.path / f".probe-{secrets.token_hex(8)}"
        with output_errors(self.path):
            try:
                probe.write_bytes(b"unicas-edge\n" * 512)
                return probe.stat().st_mtime_ns
            finally:
                probe.unlink(missing_ok=True)


def _same_path(told: str, path: str) -> bool:
    """Return whether what a summary or a result says is the slide of this absolute path."""
    ours = safe_cell(path).encode(errors="backslashreplace").decode()
    # a result tells the path as it was typed; from another folder, only its end can be compared
    if not os.path.isabs(told):  # noqa: PTH117
        return Path(told).name == Path(readable(path)).name
    return os.path.abspath(told) in (ours, readable(path))  # noqa: PTH100 - no links resolved, no I/O


class RunLog:
    """What a run tells the folder; `id` names it and its record."""

    def __init__(
        self,
        folder: OutputFolder,
        arguments: Sequence[str],
        passed_over: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self._folder = folder
        self._record = RunRecord(folder.runs, arguments, passed_over)
        self.id = self._record.id
        with folder.shared():
            self._record.save()
        self._saved = time.monotonic()

    def add(
        self,
        name: str,
        slide: Path,
        status: str,
        error: str | None = None,
        result: SlideResult | None = None,
    ) -> None:
        """Enter what became of a slide into the summary and the record.

        A failure does not hide an earlier result that still lies in the slide's folder: its row
        stays and only gains the error.
        """
        self._record.add(name, slide, status, error, result)
        with self._folder.shared():
            if status != ELSEWHERE:
                self._merge(name, slide.absolute(), status, error, result)
            if time.monotonic() - self._saved > RECORD_EVERY:
                self._record.save()
                self._saved = time.monotonic()

    def close(self, outcome: str) -> None:
        """Write the record of the ended run."""
        self._record.end(outcome)
        with self._folder.shared():
            self._record.save()

    def _merge(
        self, name: str, slide: Path, status: str, error: str | None, result: SlideResult | None
    ) -> None:
        rows = read_summary(self._folder.summary)
        if result is not None:
            satisfactory = result.adequacy.satisfactory
            rows[name] = result_row(
                name, slide, "done" if satisfactory else "unsatisfactory", result
            )
        else:
            rows[name] = self._failed(rows.get(name), error_row(name, slide, status, error or ""))
        write_summary(self._folder.summary, rows)

    def _failed(self, earlier: Row | None, failure: Row) -> Row:
        stands = (self._folder.slides / failure["name"] / RESULT).exists()
        if earlier is None or not stands:
            return failure
        return earlier | {"error": failure["error"]}
