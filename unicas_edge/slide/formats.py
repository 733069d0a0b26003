"""Which files are slides by their name, and which files a slide is spread over."""

from __future__ import annotations

from pathlib import Path

#: Files a folder is searched for. Any other file can be named itself, or in a list.
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
MAX_FILES = 100_000


def slide_files(path: Path) -> list[Path]:
    """Return the files behind a slide, in name order: itself, or those it is spread over.

    A folder of fields is its files; MRXS has a folder of the same name beside it; a DICOM slide is
    a series of files in one folder. `OSError` where they cannot be listed.
    """
    if path.is_dir():
        return _inside(path)
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return [path, *_inside(path.with_suffix(""))]
    if path.suffix.lower() == ".dcm":
        return [file for file in _inside(path.parent) if file.suffix.lower() == ".dcm"]
    return [path]


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())[:MAX_FILES]
