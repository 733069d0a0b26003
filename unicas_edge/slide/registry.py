"""Which reader opens a path: built-in ones in order, then plug-ins, each asked by content.

A reader is an object (a module will do) with ``accepts(path, head) -> bool``, where `head` is the
file's first 4,096 bytes (b"" for a folder), and ``open_slide(path, mpp) -> Slide``; one that knows
scenes takes ``scene`` too. A third party
offers one under the entry point group ``unicas_edge.readers``; the entry point's name is what
``--reader`` takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from unicas_edge.errors import SlideError, UnsupportedSlideError
from unicas_edge.slide.base import Slide
from unicas_edge.slide.formats import main_file
from unicas_edge.slide.vendors import vendor_of, why_not

GROUP = "unicas_edge.readers"
AUTO = "auto"
#: Name to module, in the order they are asked.
BUILT_IN = {
    "tiff": "unicas_edge.slide.tiff.slide",
    "openslide": "unicas_edge.slide.openslide",
    "vips": "unicas_edge.slide.vips",
    "folder": "unicas_edge.slide.folder.slide",
}
#: Those that read any image, whoever made it.
_PLAIN = frozenset({"tiff", "vips"})
#: The one that may have to decode an image as a whole.
_WHOLE = "vips"
_HEAD = 4096


class Reader(Protocol):
    """What opens one family of slides."""

    def accepts(self, path: Path, head: bytes) -> bool:
        """Return whether this reader understands the content."""

    def open_slide(self, path: Path, mpp: float | None, **options: int) -> Slide:
        """Return the open slide; errors are `SlideError`."""


def open_slide(
    path: str | Path,
    reader: str = AUTO,
    mpp: float | None = None,
    scene: int | None = None,
    max_decode_mb: int | None = None,
) -> Slide:
    """Return an open slide: a file, or a folder of fields or of one DICOM series.

    `reader` forces one by name; `mpp` is um per level-0 pixel and overrides what the file says;
    `scene`, from 1, chooses where a file holds several; `max_decode_mb` bounds what has to be
    decoded as a whole. Raises `SlideError` (no such file, empty, damaged), `UnsupportedSlideError`
    (no reader), `SceneError` (which image is not clear), `SpacingError` (um/px is missing, or said
    twice).
    """
    options = {} if scene is None else {"scene": scene}
    try:
        path = main_file(Path(path))
        head = _head(path)
        found = _chosen(path, head) if reader == AUTO else _forced(path, head, reader)
        if max_decode_mb is not None and found is _built_in(_WHOLE):
            options["max_decode_mb"] = max_decode_mb
        return found.open_slide(path, mpp, **options)
    except OSError as error:
        raise SlideError(path, f"cannot be read: {error.strerror or error}") from error


def is_field_folder(path: str | Path) -> bool:
    """Return whether a folder that is named as a slide can be opened as one of image fields."""
    return _built_in("folder").accepts(Path(path), b"")


def readers() -> tuple[str, ...]:
    """Return the names `open_slide` knows, built-in ones first."""
    return (*BUILT_IN, *(point.name for point in entry_points(group=GROUP)))


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, b"" of a folder; `SlideError` for anything else."""
    if path.is_dir():
        return b""
    if not path.exists():
        raise SlideError(path, "no such file")
    if not path.is_file():
        raise SlideError(path, "is neither a file nor a folder")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise SlideError(path, "the file is empty")
    return head


def _forced(path: Path, head: bytes, name: str) -> Reader:
    """Return the named reader if it understands the content."""
    if name in BUILT_IN:
        reader = _built_in(name)
    else:
        named = [point for point in entry_points(group=GROUP) if point.name == name]
        if not named:
            raise UnsupportedSlideError(path, f"no reader {name!r}; known: {', '.join(readers())}")
        reader = cast("Reader", named[0].load())
    if not reader.accepts(path, head):
        hint = _hint(path, head)
        said = f"the reader {name!r} cannot read it{'; ' if hint else ''}{hint}"
        raise UnsupportedSlideError(path, said)
    return reader


def _chosen(path: Path, head: bytes) -> Reader:
    """Return the first reader that understands the content."""
    broken: list[str] = []
    vendor = vendor_of(path)
    for name, reader in _all(broken):
        if vendor is not None and name in _PLAIN:
            continue  # they would take its thumbnail for the slide
        if reader.accepts(path, head):
            return reader
    said = "".join(f"; {note}" for note in broken)
    cause = _kind(path) if vendor is None else why_not(path, vendor)
    raise UnsupportedSlideError(path, f"{_hint(path, head) or cause}{said}")


def _all(broken: list[str]) -> Iterator[tuple[str, Reader]]:
    """Yield the built-in readers, then plug-ins; what cannot be imported is noted in `broken`."""
    for name in BUILT_IN:
        yield name, _built_in(name)
    for point in entry_points(group=GROUP):
        try:
            yield point.name, cast("Reader", point.load())
        except (ImportError, AttributeError) as error:
            broken.append(f"the plug-in reader {point.name!r} does not load: {error}")


def _built_in(name: str) -> Reader:
    return cast("Reader", import_module(BUILT_IN[name]))


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a folder without slides or JPEG/PNG fields"
    return "not a slide or image that any installed reader understands"


def _hint(path: Path, head: bytes) -> str:
    """Return what to install for this content, as far as it can be told."""
    module = import_module("unicas_edge.slide.openslide")
    missing: str = module.missing(path, head)
    return missing
