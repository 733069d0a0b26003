"""Which files are slides by their name, and which files a slide is spread over.

The one list: finding slides, telling a folder of fields from a folder of slides, and hashing all go
by it. A format that is spread over several files is a row of `_SPREAD`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: Files a folder is searched for, and which make it a folder of slides. Any other file can be named
#: itself, or in a list.
SUFFIXES = frozenset(
    [
        ".svs",
        ".svslide",
        ".tif",
        ".tiff",
        ".btf",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".bif",
        ".vms",
        ".vmu",
        ".dcm",
        ".czi",
        ".zvi",
        ".kfb",
        ".sdpc",
        ".tmap",
        ".isyntax",
    ]
)
#: Pictures that a folder of fields is made of.
FIELD_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MAX_FILES = 100_000


def slide_files(path: Path) -> list[Path]:
    """Return the files behind a slide, in name order: itself, or those it is spread over.

    A folder of fields is its files. `OSError` where they cannot be listed.
    """
    if path.is_dir():
        return _inside(path)
    spread = _SPREAD.get(path.suffix.lower())
    return spread(path) if spread else [path]


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())[:MAX_FILES]


def _with_folder(path: Path) -> list[Path]:
    """Return a file and those of the folder of its name beside it, as MRXS has them."""
    folder = path.with_suffix("")
    return [path, *_inside(folder)] if folder.is_dir() else [path]


def _series(path: Path) -> list[Path]:
    """Return the files of the same suffix in the folder: a DICOM slide has one for each level."""
    suffix = path.suffix.lower()
    return [file for file in _inside(path.parent) if file.suffix.lower() == suffix]


_SPREAD: dict[str, Callable[[Path], list[Path]]] = {".mrxs": _with_folder, ".dcm": _series}
