"""A folder searched for slides: every entry is a slide, part of one, or passed over with a reason.

Links to files are followed, links to folders are not: they may lead in circles.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unicas_edge.slide.dicom import DicomFile, series_of
from unicas_edge.slide.folder.evidence import is_folder_of_fields
from unicas_edge.slide.formats import FIELD_SUFFIXES, SUFFIXES, clutter, dicom_file
from unicas_edge.slide.target import Passed, Target

MAX_DEPTH = 64
#: Pictures of more kinds than fields may be.
_PICTURES = FIELD_SUFFIXES | {".bmp", ".gif", ".jp2", ".webp"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def searched(folder: Path, *, recursive: bool, depth: int = 0) -> Iterator[Target | Passed]:
    """Yield the slides of a folder and what is passed over there, by name.

    With `recursive` the folders inside it too, each in its place; otherwise they are passed over.
    `OSError` where the folder itself cannot be listed; an unreadable one inside is passed over with
    `problem`.
    """
    entries = sorted(folder.iterdir())
    names = {entry.name.lower() for entry in entries}
    dicom = _Dicom(entries)
    for entry in entries:
        try:
            mode = os.stat(entry).st_mode  # noqa: PTH116 - Path.is_dir hides why it cannot tell
        except OSError as error:
            yield _unreadable(entry, error)
            continue
        reason = clutter(entry.name)
        if reason is not None:
            yield Passed(entry, reason, folder=stat.S_ISDIR(mode))
        elif stat.S_ISDIR(mode):
            yield from _folder(entry, names, recursive=recursive, depth=depth)
        else:
            yield from _file(entry, dicom)


def _unreadable(entry: Path, error: OSError) -> Target | Passed:
    """Return what an entry is that the system tells nothing about: a broken link, or forbidden."""
    cause = "a broken link" if entry.is_symlink() else f"cannot be read: {error.strerror}"
    if entry.suffix.lower() in SUFFIXES:
        return Target(entry, problem=cause)
    return Passed(entry, cause, problem=not entry.is_symlink())


def _folder(
    folder: Path, names: set[str], *, recursive: bool, depth: int
) -> Iterator[Target | Passed]:
    if _is_companion(folder, names):
        return  # part of the slide beside it
    try:
        reason = _closed(folder, recursive=recursive)
        if reason is not None:
            yield Passed(folder, reason, folder=True)
        elif depth >= MAX_DEPTH:
            cause = f"lies more than {MAX_DEPTH} folders deep; name it to search it"
            yield Passed(folder, cause, folder=True, problem=True)
        elif is_folder_of_fields(folder):
            yield Target(folder)
        else:
            yield from searched(folder, recursive=True, depth=depth + 1)
    except OSError as error:
        cause = f"cannot be listed: {error.strerror or error}"
        yield Passed(folder, cause, folder=True, problem=True)


def _is_companion(folder: Path, names: set[str]) -> bool:
    """Return whether a folder holds the data of a slide beside it: of ``a.mrxs``, ``a.vsi``."""
    name = folder.name.lower()
    return f"{name}.mrxs" in names or f"{name.strip('_')}.vsi" in names


def _closed(folder: Path, *, recursive: bool) -> str | None:
    """Return why a folder is not looked into; None where it is."""
    if folder.is_symlink():
        return "a link to a folder; to search it, name it"
    if _is_output(folder):
        return "results of unicas-edge"
    return None if recursive else "a folder; to search it, add --recursive"


def _is_output(folder: Path) -> bool:
    """Return whether this program wrote the folder: its pictures are no slides."""
    slide = (folder / "result.json").is_file() and (folder / "tiles.csv").is_file()
    return slide or ((folder / "summary.csv").is_file() and (folder / "runs").is_dir())


def _file(path: Path, dicom: _Dicom) -> Iterator[Target | Passed]:
    try:
        own = dicom.file(path)
        if own is not None:
            yield from dicom.slide(own)
        elif path.suffix.lower() in SUFFIXES:
            yield Target(path)
        else:
            yield Passed(path, _other(path))
    except OSError as error:
        yield Passed(path, f"cannot be read: {error.strerror or error}", problem=True)


def _other(path: Path) -> str:
    """Return why a file that is no slide by its name or content is passed over."""
    if not path.is_file():
        return "neither a file nor a folder"
    if path.suffix.lower() in _PICTURES:
        return "a picture; to screen it as a slide, name it"
    with path.open("rb") as file:
        if file.read(4) in _TIFF:
            return "a TIFF by its content but not by its name; to screen it, name it"
    return "not a slide by its name"


class _Dicom:
    """The DICOM files of one folder; a series is entered where its first slide image lies."""

    def __init__(self, entries: list[Path]) -> None:
        self._entries = entries
        self._known: dict[Path, DicomFile | None] | None = None

    def file(self, path: Path) -> DicomFile | None:
        """Return what a file's DICOM header says, None where it is none. `OSError` as of `open`."""
        return dicom_file(path)

    def slide(self, own: DicomFile) -> Iterator[Target | Passed]:
        """Yield the slide that `own` is the first file of, or why its series is none."""
        files = [file for file in series_of(own, self._all()) if clutter(file.path.name) is None]
        slide = next((file.path for file in files if not file.reason), None)
        if slide == own.path:
            yield Target(slide)
        elif slide is None:
            yield Passed(own.path, own.reason)

    def _all(self) -> list[DicomFile]:
        """Return all of the folder, read once."""
        if self._known is None:
            self._known = {}
            for entry in self._entries:
                try:
                    self._known[entry] = dicom_file(entry) if entry.is_file() else None
                except OSError:
                    continue  # passed over by name when it has its turn
        return [file for file in self._known.values() if file is not None]
