"""The output folder: who works on which slide, what is there already, and the run's records.

Locks are the operating system's (filelock), so a process that dies gives its slide back. A slide
folder counts as done when it holds ``result.json``, which is written last.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import hashlib
import io
import json
import os
import platform
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
from filelock import FileLock, Timeout

from unicas_edge import __version__
from unicas_edge.errors import OutputError
from unicas_edge.report import load_result
from unicas_edge.report.files import atomic_write, output_errors, remove_partial
from unicas_edge.report.result_json import RESULT
from unicas_edge.result import SlideResult

SUMMARY = "summary.csv"
MAX_NAME = 100
_SUMMARY_LOCK_SECONDS = 60
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)$")  # names Windows keeps for devices
_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def slide_names(paths: Sequence[Path]) -> list[str]:
    """Return one folder name a slide: its stem, made safe on any file system.

    Where different paths of one list share a name, all of them get eight hexadecimal digits of
    the SHA-256 of their absolute path, so that the names do not depend on the order.
    """
    stems = [_safe(path.stem) for path in paths]
    owners: dict[str, set[str]] = {}
    for stem, path in zip(stems, paths, strict=True):
        owners.setdefault(stem.casefold(), set()).add(str(path.resolve()))
    return [
        stem if len(owners[stem.casefold()]) == 1 else f"{stem}-{_digest(path)}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def _safe(stem: str) -> str:
    name = _UNSAFE.sub("_", stem).strip(" .")[:MAX_NAME].rstrip(" .")
    return f"_{name}" if not name or _RESERVED.match(name) else name


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]


class OutputFolder:
    """An output folder that takes files; `OutputError` at once if it does not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._begin = time.time()
        with output_errors(root):
            for folder in (root, root / "slides", root / "runs"):
                folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(root / "runs" / ".writable") as probe:
            probe.write(b"1")
        (root / "runs" / ".writable").unlink(missing_ok=True)

    def slide(self, name: str) -> Path:
        """Return where the slide's files lie."""
        return self.root / "slides" / name

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold the slide for the block; yields False, at once, when another process has it.

        What a killed process left half-written there is removed.
        """
        with output_errors(self.slide(name)):
            self.slide(name).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / "slides" / f".{name}.lock", timeout=0)
        try:
            with output_errors(self.slide(name)):
                lock.acquire()
        except Timeout:
            yield False
            return
        try:
            remove_partial(self.slide(name))
            yield True
        finally:
            with contextlib.suppress(OSError):
                self.slide(name).rmdir()  # only an empty one goes: nothing came of the slide
            lock.release()

    def existing(self, name: str) -> SlideResult | None:
        """Return the result that is there, None if none is; `OutputError` if it cannot be read."""
        path = self.slide(name) / RESULT
        return load_result(path) if path.is_file() else None

    def made_since_start(self, name: str) -> bool:
        """Return whether the result there is younger than this object: another process made it."""
        with contextlib.suppress(OSError):
            return (self.slide(name) / RESULT).stat().st_mtime >= self._begin
        return False

    @contextlib.contextmanager
    def run(self, arguments: Sequence[str]) -> Iterator[RunLog]:
        """Keep the records of one run; ``runs/<id>.json`` is written however the block ends."""
        log = RunLog(self, arguments)
        try:
            yield log
        except BaseException as error:
            log.ended = type(error).__name__
            raise
        finally:
            log.write()

    def add_to_summary(self, row: dict[str, Any]) -> None:
        """Put the slide's row into summary.csv, in place of an older one; processes take turns."""
        path = self.root / SUMMARY
        try:
            with FileLock(self.root / ".summary.lock", timeout=_SUMMARY_LOCK_SECONDS):
                rows = {old["name"]: old for old in _read_rows(path)}
                rows[row["name"]] = {key: _cell(value) for key, value in row.items()}
                with atomic_write(path) as file:
                    file.write(_table(list(rows.values())))
        except Timeout as error:
            raise OutputError(
                f"{path}: locked by another process for {_SUMMARY_LOCK_SECONDS} s; try again"
            ) from error


class RunLog:
    """What ``runs/<id>.json`` says: arguments, versions, times, and how each slide ended."""

    def __init__(self, folder: OutputFolder, arguments: Sequence[str]) -> None:
        self._folder = folder
        self._begin = datetime.datetime.now(datetime.UTC)
        self.id = f"{self._begin:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        self.arguments = list(arguments)
        self.slides: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self.ended = "complete"

    def add(
        self,
        name: str,
        path: Path,
        status: str,
        error: str | None,
        result: SlideResult | None,
        *,
        summarise: bool,
    ) -> None:
        """Record one slide, here and, with `summarise`, in summary.csv."""
        record: dict[str, Any] = {"name": name, "path": str(path), "status": status, "error": error}
        if result is not None:
            record["timings_seconds"] = result.timings_seconds
            record["engine"] = result.engine.model_dump()
            self.notices = list(result.notices)
        self.slides.append(record)
        if summarise:
            self._folder.add_to_summary(summary_row(name, path, status, error, result))

    def write(self) -> None:
        """Write ``runs/<id>.json``."""
        content = {
            "id": self.id,
            "arguments": self.arguments,
            "versions": {
                "unicas-edge": __version__, "python": platform.python_version(),
                "numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__,
            },
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "begin": self._begin.isoformat(timespec="seconds"),
            "end": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "ended": self.ended,
            "notices": self.notices,
            "slides": self.slides,
        }  # fmt: skip
        with atomic_write(self._folder.root / "runs" / f"{self.id}.json") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def summary_row(
    name: str, path: Path, status: str, error: str | None, result: SlideResult | None
) -> dict[str, Any]:
    """Return the slide's row of summary.csv, its columns in order."""
    row: dict[str, Any] = {"name": name, "wsi": str(path), "status": status}
    if result is not None:
        for task in result.tasks:
            row[f"prob_{task.name}"] = task.probability
            row[f"decision_{task.name}"] = task.decision
        row |= {
            "planned": result.coverage.planned, "encoded": result.coverage.encoded,
            "failed": result.coverage.failed, "coverage": round(result.coverage.coverage, 4),
            "seconds": result.timings_seconds.get("total"),
            "reasons": "; ".join(result.adequacy.reasons), "notice": "; ".join(result.notices),
        }  # fmt: skip
    return row | {"error": error}


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with output_errors(path), path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any("name" not in row or None in row for row in rows):
        raise OutputError(f"{path}: not a summary this program wrote; move it away and run again")
    return rows


def _table(rows: list[dict[str, str]]) -> bytes:
    counts = Counter(key for row in rows for key in row)
    columns = [key for key in counts if key != "error"] + ["error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    """Return a cell's text; one that a spreadsheet would run as a formula gets a leading quote."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, int | float) else text
