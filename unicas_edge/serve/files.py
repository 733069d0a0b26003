"""The files of a finished session, as `screen` writes them: each made when it is asked for."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unicas_edge.errors import ServiceError
from unicas_edge.report.features_h5 import FEATURES, write_features_h5
from unicas_edge.report.geojson import ANNOTATIONS, write_geojson
from unicas_edge.report.pictures import OVERVIEW
from unicas_edge.report.pictures.contact import CONTACT, write_contact
from unicas_edge.report.pictures.overview import write_overview
from unicas_edge.report.result_json import RESULT, write_result_json
from unicas_edge.report.tiles_csv import TILES, write_tiles_csv
from unicas_edge.result import SlideResult
from unicas_edge.serve.pictures import Pictures


class Made(NamedTuple):
    """A file: where it lies, its media type and its entity tag (RFC 9110, 8.8.3)."""

    path: Path
    kind: str
    etag: str


def _tiles(path: Path, result: SlideResult) -> None:
    if result.tiles is not None:
        write_tiles_csv(path, result.tiles)


#: What writes a file, and its media type.
_WRITERS: dict[str, tuple[Callable[[Path, SlideResult], None], str]] = {
    RESULT: (write_result_json, "application/json"),
    TILES: (_tiles, "text/csv"),
    FEATURES: (write_features_h5, "application/x-hdf5"),
    ANNOTATIONS: (write_geojson, "application/geo+json"),
}
_JPEG = "image/jpeg"
PICTURES = (OVERVIEW, CONTACT)
NAMES = (*_WRITERS, *PICTURES)
MEDIA_TYPES = (*(kind for _, kind in _WRITERS.values()), _JPEG)


class Files:
    """The files of one session, in a folder of its own; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._made: dict[str, Made] = {}
        self._lock = threading.Lock()

    def get(self, name: str, result: SlideResult, pictures: Pictures | None) -> Made:
        """Return a file of `NAMES`; `ServiceError` 404 for another name, or a picture of nothing.

        `OutputError` where the disk does not take it.
        """
        if name not in NAMES:
            raise ServiceError(f"no such file; there are {', '.join(NAMES)}", 404)
        if name in PICTURES and pictures is None:
            raise ServiceError('no pixels were kept; open the session with "pictures": true', 404)
        with self._lock:
            if name not in self._made:
                self._made[name] = self._write(name, result, pictures)
            return self._made[name]

    def close(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, result: SlideResult, pictures: Pictures | None) -> Made:
        path = self.folder / name
        if name in _WRITERS:
            write, kind = _WRITERS[name]
            write(path, result)
        else:
            assert pictures is not None  # noqa: S101 - `get` looked
            kind = _JPEG
            if name == OVERVIEW:
                write_overview(path, result, pictures.overview())
            else:
                write_contact(path, result, pictures.tile)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Made(path, kind, f'"{digest}"')
