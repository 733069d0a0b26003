"""All files of one slide, together: the new ones are whole before an old one goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.files import STAGING, output_errors, sync_folder
from unicas_edge.errors import OutputError
from unicas_edge.report.features_h5 import FEATURES, write_features_h5
from unicas_edge.report.geojson import ANNOTATIONS, write_geojson
from unicas_edge.report.pictures import OVERVIEW
from unicas_edge.report.pictures.contact import CONTACT, TilePixels, write_contact
from unicas_edge.report.pictures.overview import write_overview
from unicas_edge.report.result_json import RESULT, result_bytes, write_result_json
from unicas_edge.report.tiles_csv import TILES, write_tiles_csv
from unicas_edge.result import SlideResult


def write_result(
    folder: str | Path,
    result: SlideResult,
    overview: NDArray[np.uint8],
    top_tile_pixels: TilePixels,
) -> None:
    """Write every file of one slide into `folder`, ``result.json`` last: its presence means whole.

    `overview` is the whole slide at any size, uint8 RGB [h, w, 3]; `top_tile_pixels` gives uint8
    RGB [tile_px, tile_px, 3] by level-0 (x, y), as a callable or a mapping that holds
    `top_places(result)`. The files are written into a folder of their own and moved in together, so
    that a full disk costs no older result and two results never mix. `OutputError` where the
    folder does not take the files.
    """
    folder = Path(folder)
    if result.tiles is None:
        raise OutputError(
            f"{folder}: a result without its tile table cannot be written; screen the slide again"
        )
    result_bytes(result)  # a result that no file can hold must not cost the older one
    staging = folder / STAGING
    with output_errors(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        write_tiles_csv(staging / TILES, result.tiles)
        write_features_h5(staging / FEATURES, result)
        write_geojson(staging / ANNOTATIONS, result)
        write_overview(staging / OVERVIEW, result, overview)
        write_contact(staging / CONTACT, result, top_tile_pixels)
        write_result_json(staging / RESULT, result)
        _move_in(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_in(staging: Path, folder: Path) -> None:
    """Put finished files in the place of older ones; without ``result.json`` nothing counts."""
    with output_errors(folder):
        (folder / RESULT).unlink(missing_ok=True)
        for name in (TILES, FEATURES, ANNOTATIONS, OVERVIEW, CONTACT, RESULT):
            (staging / name).replace(folder / name)
        sync_folder(folder)
