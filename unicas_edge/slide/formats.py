"""Which files are slides by their name, and which files a slide is spread over.

The one list: finding slides, telling a folder of fields from a folder of slides, and hashing all go
by it. A format that is spread over several files is told here.
"""

from __future__ import annotations

from pathlib import Path

from unicas_edge.errors import SlideError
from unicas_edge.slide.dicom import DicomFile, read_dicom, series_of
from unicas_edge.slide.vendors import VENDORS

#: Files a folder is searched for, and which make it a folder of slides. Any other file can be named
#: itself, or in a list.
SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".btf", ".qptiff"} | VENDORS.keys())
_DICOM = frozenset({".dcm", ".dicom"})
#: Pictures that a folder of fields is made of.
FIELD_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
#: Other files that are no DICOM whatever they hold, so that they need not be opened.
_OTHER = FIELD_SUFFIXES | {".bmp", ".csv", ".gif", ".json", ".ini", ".pdf", ".txt", ".xml", ".zip"}
#: What systems and network stores leave in every folder, in lower case.
_SYSTEM = frozenset(
    [
        "@eadir",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs",
        "thumbs.db",
        "thumbnails",
    ]
)
MAX_FILES = 100_000


def clutter(name: str) -> str | None:
    """Return why a file or folder of this name is never looked into; None where it may be."""
    if name.startswith("."):
        return "hidden"
    return "left there by a system or a network store" if name.lower() in _SYSTEM else None


def slide_files(path: Path) -> list[Path]:
    """Return the files behind a slide, in name order: itself, or those it is spread over.

    A folder of fields is its files, a DICOM file its series. `OSError` where they cannot be listed.
    """
    if path.is_dir():
        return _inside(path)
    if path.suffix.lower() == ".mrxs":
        return _with_folder(path)
    own = dicom_file(path)
    return [path] if own is None else [file.path for file in series_of(own, dicom_in(path.parent))]


def main_file(path: Path) -> Path:
    """Return the path that stands for a slide, whichever of its files, or which folder, is named.

    Of a DICOM series it is the first of its whole slide images by name; a folder that holds one
    series stands for it. Anything else stands for itself. `SlideError` for a folder of several
    series, and for a label or overview without its slide; `OSError` where it cannot be read.
    """
    if path.is_dir():
        return _only_series(path) or path
    own = dicom_file(path) if path.is_file() else None
    if own is None:
        return path
    files = series_of(own, dicom_in(path.parent))
    slide = next((file.path for file in files if not file.reason), None)
    if slide is None:
        raise SlideError(path, f"{own.reason}, and its slide is not in the folder")
    return slide


def dicom_file(path: Path) -> DicomFile | None:
    """Return what a file's DICOM header says; None where name or content say it is no DICOM."""
    suffix = path.suffix.lower()
    if suffix in _OTHER or (suffix in SUFFIXES and suffix not in _DICOM):
        return None
    return read_dicom(path)


def dicom_in(folder: Path) -> list[DicomFile]:
    """Return the DICOM files of a folder, in name order; one that cannot be read is not among them.

    `OSError` where the folder cannot be listed.
    """
    found = []
    for path in _inside(folder):
        try:
            file = dicom_file(path)
        except OSError:
            continue  # whoever needs it meets the error again
        if file is not None:
            found.append(file)
    return found


def _only_series(folder: Path) -> Path | None:
    """Return the file that stands for a folder's one DICOM series; None where it has none."""
    slides: dict[str, Path] = {}
    for file in dicom_in(folder):
        if not file.reason:
            slides.setdefault(file.series or file.path.name, file.path)
    if len(slides) > 1:
        names = ", ".join(path.name for path in list(slides.values())[:4])
        raise SlideError(folder, f"holds {len(slides)} DICOM slides; name one of them: {names}")
    return next(iter(slides.values()), None)


def _inside(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if clutter(file.name) is None and file.is_file())
    return sorted(files)[:MAX_FILES]


def _with_folder(path: Path) -> list[Path]:
    """Return a file and those of the folder of its name beside it, as MRXS has them."""
    folder = path.with_suffix("")
    return [path, *_inside(folder)] if folder.is_dir() else [path]
