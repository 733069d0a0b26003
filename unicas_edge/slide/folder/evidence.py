"""When a folder of pictures is taken for one slide, though nobody said so.

Pictures lie in folders for many reasons; a photo album that gets a diagnosis is worse than a slide
that has to be named with ``--reader folder``. Any of these is evidence, and only where no slide
file lies beside:

- there is a ``fields.csv``;
- every picture is named ``x<digits>_y<digits>``, and there is no folder inside;
- there is nothing but pictures, 16 or more of them, none over 1,024 pixels a side and nine in ten
  of one size, as tiles are exported, and there is no folder inside.

Hidden files and what systems leave there (``Thumbs.db``, ``@eaDir``) do not count; neither do small
files of text beside tiles (``.csv``, ``.json``, ``.txt``, ``.xml``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from unicas_edge.slide.folder.fields import (
    HEAD,
    LIST,
    MAX_FILES,
    holds_fields,
    named_place,
    size_of,
)
from unicas_edge.slide.formats import FIELD_SUFFIXES, clutter

FEWEST_TILES = 16
LARGEST_TILE = 1_024
#: Of ten tiles, at least so many have the same size; those of an edge may be smaller.
_ALIKE = 9
_TEXT = frozenset({".csv", ".json", ".txt", ".xml"})
#: What lies in every folder of results of this program.
_RESULT = "result.json"


def is_folder_of_fields(path: Path) -> bool:
    """Return whether there is evidence that a folder is one slide of fields.

    See the module for what counts. `OSError` where the folder cannot be listed.
    """
    if not holds_fields(path) or (path / _RESULT).exists():
        return False
    if (path / LIST).is_file():
        return True
    entries = [entry for entry in path.iterdir() if clutter(entry.name) is None]
    if len(entries) > MAX_FILES or not all(entry.is_file() for entry in entries):
        return False
    pictures = [entry for entry in entries if entry.suffix.lower() in FIELD_SUFFIXES]
    return all(map(named_place, pictures)) or _are_tiles(entries, pictures)


def _are_tiles(entries: list[Path], pictures: list[Path]) -> bool:
    others = {entry.suffix.lower() for entry in entries} - FIELD_SUFFIXES
    if len(pictures) < FEWEST_TILES or others - _TEXT:
        return False
    sizes: Counter[tuple[int, int]] = Counter()
    for picture in pictures:
        sizes[_size(picture)] += 1
        if max(max(size) for size in sizes) > LARGEST_TILE:
            return False
    return sizes.most_common(1)[0][1] * 10 >= len(pictures) * _ALIKE


def _size(picture: Path) -> tuple[int, int]:
    """Return a picture's size, (0, 0) where it cannot be told: screening names it."""
    try:
        with picture.open("rb") as file:
            return size_of(file.read(HEAD))
    except (OSError, ValueError):
        return 0, 0
