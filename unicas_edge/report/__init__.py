"""Stage 7: a result becomes files, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import OutputError
from unicas_edge.report.contact import CONTACT, TilePixels, top_places, write_contact
from unicas_edge.report.features_h5 import FEATURES, write_features_h5
from unicas_edge.report.files import output_errors
from unicas_edge.report.geojson import ANNOTATIONS, write_geojson
from unicas_edge.report.overview import OVERVIEW, write_overview
from unicas_edge.report.result_json import (
    RESULT,
    load_result,
    result_bytes,
    write_result_json,
)
from unicas_edge.report.tiles_csv import TILES, write_tiles_csv
from unicas_edge.result import SlideResult

__all__ = ["TilePixels", "load_result", "top_places", "write_result"]


def write_result(
    folder: str | Path,
    result: SlideResult,
    overview: NDArray[np.uint8],
    top_tile_pixels: TilePixels,
) -> None:
    """Write every file of one slide into `folder`, ``result.json`` last: its presence means whole.

    `overview` is the whole slide at any size, uint8 RGB [h, w, 3]; `top_tile_pixels` gives uint8
    RGB [tile_px, tile_px, 3] by level-0 (x, y), as a callable or a mapping that holds
    `top_places(result)`. An older ``result.json`` is removed first, so that one run's files never
    stand under another's name. `OutputError` where the folder does not take the files.
    """
    folder = Path(folder)
    if result.tiles is None:
        raise OutputError(
            f"{folder}: a result without its tile table cannot be written again; screen the slide"
        )
    result_bytes(result)  # a result that no file can hold must not cost the older one
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
    write_tiles_csv(folder / TILES, result.tiles)
    write_features_h5(folder / FEATURES, result)
    write_geojson(folder / ANNOTATIONS, result)
    write_overview(folder / OVERVIEW, result, overview)
    write_contact(folder / CONTACT, result, top_tile_pixels)
    write_result_json(folder / RESULT, result)
