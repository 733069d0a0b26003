"""What ``screen`` was pointed at, as a list of slides: slides, folders and lists of slides.

Nothing is skipped in silence: what is no slide is told with its reason (`Found.passed_over`), and
what should have been looked at and could not be is a `Passed` with `problem`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.folder.evidence import is_folder_of_fields
from unicas_edge.slide.folder.fields import holds_fields
from unicas_edge.slide.formats import main_file
from unicas_edge.slide.search import searched
from unicas_edge.slide.slide_list import LISTS, listed
from unicas_edge.slide.target import Passed, Target

__all__ = ["Found", "Passed", "Target", "every_target", "find_targets"]

MAX_TARGETS = 1_000_000
#: Passed over entries that are kept; all are counted.
MAX_PASSED = 10_000
#: Of them, those that the error names where no slide was found.
_TOLD = 3


@dataclass
class Found:
    """The slides, in a stable order, and what was passed over on the way.

    `passed_over` holds the first `MAX_PASSED`; `files` and `folders` count all. `problems` are
    those that could not be looked at though they should have been.
    """

    targets: list[Target] = field(default_factory=list)
    passed_over: list[Passed] = field(default_factory=list)
    files: int = 0
    folders: int = 0
    problems: list[Passed] = field(default_factory=list)
    _places: dict[str, Path] = field(default_factory=dict)

    def add(self, found: Iterable[Target | Passed], source: Path) -> int:
        """Enter what a source holds; return how many slides that was, known ones included."""
        slides = 0
        for entry in found:
            if isinstance(entry, Passed):
                self._pass(entry)
                continue
            slides += 1
            if slides > MAX_TARGETS:
                raise SlideError(source, f"holds more than {MAX_TARGETS:,} slides; name fewer")
            self._enter(entry)
        return slides

    def _enter(self, target: Target) -> None:
        place = os.path.realpath(target.path)
        first = self._places.get(place)
        if first is not None and target.problem is None:
            self._pass(Passed(target.path, f"the same slide as {first}, which is screened"))
            return
        self._places.setdefault(place, target.path)
        self.targets.append(target)

    def _pass(self, entry: Passed) -> None:
        if entry.folder:
            self.folders += 1
        else:
            self.files += 1
        for kept in (self.passed_over, *([self.problems] if entry.problem else [])):
            if len(kept) < MAX_PASSED:
                kept.append(entry)


def find_targets(
    sources: Sequence[Path], *, recursive: bool = False, as_fields: bool = False
) -> Found:
    """Return the slides that `sources` stand for, each once, and what was passed over.

    A ``.csv`` is a list with columns ``wsi[,mpp]``, whose relative paths start from its own folder;
    a missing or repeated slide there becomes a target with a `problem`. A folder is searched for
    slides, unless there is evidence that it is one (`slide.folder.evidence`) or `as_fields` says
    so. A DICOM series is one slide, whichever of its files is named. `SlideError` where nothing is
    found, or a list is none.
    """
    found = Found()
    for source in sources:
        try:
            count = found.add(_stood_for(source, recursive=recursive, as_fields=as_fields), source)
            none = None if count or not _is_many(source) else _nothing(source, recursive=recursive)
        except OSError as error:
            raise SlideError(source, f"cannot be read: {error.strerror or error}") from error
        if none is not None:
            if len(sources) == 1:
                raise SlideError(source, none + _told(found.passed_over))
            found.add([Passed(source, none, folder=source.is_dir(), problem=True)], source)
    if not found.targets:
        raise SlideError(sources[0], "no slides in it, nor in the others")
    return found


def every_target(sources: Sequence[Path]) -> list[Target]:
    """Return the slides of each of `sources`, their folders searched to the bottom, with repeats.

    For who measures or trains on them. `SlideError` as `find_targets`, and for a folder that could
    not be searched: what is measured must not depend on it.
    """
    targets: list[Target] = []
    for source in sources:
        found = find_targets([source], recursive=True)
        if found.problems:
            raise SlideError(found.problems[0].path, found.problems[0].reason)
        targets += found.targets
    return targets


def _told(passed_over: Sequence[Passed]) -> str:
    """Return the first of what was passed over, with its reasons."""
    first = [f"{entry.path.name} ({entry.reason})" for entry in passed_over[:_TOLD]]
    more = ["..."] if len(passed_over) > _TOLD else []
    return f". Passed over: {', '.join(first + more)}" if first else ""


def _is_many(source: Path) -> bool:
    return source.is_dir() or source.suffix.lower() in LISTS


def _stood_for(source: Path, *, recursive: bool, as_fields: bool) -> Iterable[Target | Passed]:
    if source.suffix.lower() in LISTS and source.is_file():
        return listed(source)
    if not source.is_dir():
        return [_named(source)]
    if is_folder_of_fields(source) or (as_fields and holds_fields(source)):
        return [Target(source)]
    return searched(source, recursive=recursive)


def _named(path: Path) -> Target:
    try:
        return Target(main_file(path))
    except SlideError as error:
        return Target(path, problem=error.cause)
    except OSError:
        return Target(path)  # the reader names the cause


def _nothing(source: Path, *, recursive: bool) -> str:
    """Return that a source holds no slide, and what can be done."""
    if not source.is_dir():
        return "no slides in it"
    deeper = "" if recursive else "; to search the folders inside it, add --recursive"
    pictures = (
        "; to screen its pictures as one slide of fields, add --reader folder, or a fields.csv "
        "with the columns file, x, y, um_px"
        if holds_fields(source)
        else ""
    )
    return f"no slides in it{deeper}{pictures}"
