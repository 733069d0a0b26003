"""The files of a finished session, each made when it is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from unicas_edge.errors import ServiceError
from unicas_edge.report.features_h5 import FEATURES, write_features_h5
from unicas_edge.report.geojson import ANNOTATIONS, write_geojson
from unicas_edge.report.result_json import RESULT, result_bytes
from unicas_edge.report.tiles_csv import TILES, write_tiles_csv
from unicas_edge.result import SlideResult


def _tiles(path: Path, result: SlideResult) -> None:
    if result.tiles is not None:
        write_tiles_csv(path, result.tiles)


#: What writes a file, and its media type.
_WRITERS: dict[str, tuple[Callable[[Path, SlideResult], None], str]] = {
    TILES: (_tiles, "text/csv"),
    FEATURES: (write_features_h5, "application/x-hdf5"),
    ANNOTATIONS: (write_geojson, "application/geo+json"),
}
NAMES = (RESULT, *_WRITERS)
MEDIA_TYPES = ("application/json", *(kind for _, kind in _WRITERS.values()))


def file_of(result: SlideResult, name: str) -> tuple[bytes, str]:
    """Return a file of `NAMES` as ``screen`` writes it, and its media type; `ServiceError` 404."""
    if name == RESULT:
        return result_bytes(result), "application/json"
    if name not in _WRITERS:
        raise ServiceError(f"no such file; there are {', '.join(NAMES)}", 404)
    write, kind = _WRITERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, result)
        return path.read_bytes(), kind
