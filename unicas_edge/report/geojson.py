"""``annotations.geojson``: what to look at, for QuPath.

One FeatureCollection of level-0 pixel polygons, origin top left. Per task an annotation for each
top tile, an annotation for each tile that could not be read, a detection for each abnormal cell.
QuPath throws on a classification without a colour, so that each has one, and derives classes at a
colon, so that class names have none.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from unicas_edge.core.files import atomic_write
from unicas_edge.report.pictures.palette import FAILED, RGB, task_colour
from unicas_edge.result import SlideResult

ANNOTATIONS = "annotations.geojson"


class Box(Protocol):
    """Anything with a frame in level-0 pixels."""

    @property
    def x(self) -> int:
        """Left edge."""

    @property
    def y(self) -> int:
        """Top edge."""

    @property
    def width(self) -> int:
        """Extent to the right."""

    @property
    def height(self) -> int:
        """Extent downwards."""


def rectangle(x: int, y: int, right: int, bottom: int) -> dict[str, Any]:
    """Return a GeoJSON polygon: one closed ring, wound as QuPath winds its rectangles."""
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def clipped(result: SlideResult, box: Box) -> dict[str, Any] | None:
    """Return `box` as a polygon inside the slide; None if none of it is."""
    left, top = max(0, box.x), max(0, box.y)
    right = min(result.slide.width, box.x + box.width)
    bottom = min(result.slide.height, box.y + box.height)
    return rectangle(left, top, right, bottom) if right > left and bottom > top else None


def feature(
    geometry: dict[str, Any],
    kind: str,
    name: str,
    *,
    label: str,
    colour: RGB,
    measurements: dict[str, float],
) -> dict[str, Any]:
    """Return one QuPath object (`kind`: annotation, detection, tile, cell) as a GeoJSON feature.

    Measurements that are not finite are left out: QuPath reads numbers only.
    """
    finite = {key: value for key, value in measurements.items() if math.isfinite(value)}
    label = label.replace(":", " ")
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {"name": label, "color": list(colour)},
            "measurements": finite,
            "isLocked": True,
        },
    }


def features(result: SlideResult) -> Iterator[dict[str, Any]]:
    """Yield the features of `result`: top tiles by task and rank, failed tiles, detections."""
    yield from _top_tiles(result)
    yield from _failures(result)
    yield from _detections(result)


def write_geojson(path: Path, result: SlideResult) -> None:
    """Write the annotations of `result` to `path`, one feature a line; `OutputError` if not."""
    with atomic_write(path) as handle:
        handle.write(b'{"type": "FeatureCollection", "features": [')
        separator = b"\n"
        for item in features(result):
            handle.write(separator + json.dumps(item, ensure_ascii=False, allow_nan=False).encode())
            separator = b",\n"
        handle.write(b"\n]}\n")


def _top_tiles(result: SlideResult) -> Iterator[dict[str, Any]]:
    for number, task in enumerate(result.tasks):
        for rank, tile in enumerate(task.top_tiles, start=1):
            measures = {"rank": float(rank), "attention share": tile.attention}
            if task.probability is not None:
                measures["slide probability"] = task.probability
            if geometry := clipped(result, tile):
                label = f"{task.name} top tile"
                colour = task_colour(number)
                yield feature(
                    geometry,
                    "annotation",
                    f"{task.name} #{rank}",
                    label=label,
                    colour=colour,
                    measurements=measures,
                )


def _failures(result: SlideResult) -> Iterator[dict[str, Any]]:
    side = round(result.preprocessing.tile_px * result.preprocessing.downsample)
    for failure in result.coverage.failures:
        right = min(result.slide.width, failure.x + side)
        bottom = min(result.slide.height, failure.y + side)
        if 0 <= failure.x < right and 0 <= failure.y < bottom:
            geometry = rectangle(failure.x, failure.y, right, bottom)
            name = f"unreadable: {failure.cause}"[:200]
            yield feature(
                geometry,
                "annotation",
                name,
                label="unreadable tile",
                colour=FAILED,
                measurements={},
            )


def _detections(result: SlideResult) -> Iterator[dict[str, Any]]:
    for cell in result.detections:
        if geometry := clipped(result, cell):
            # a colour of its own for each label, the same on every slide
            colour = task_colour(zlib.crc32(cell.label.encode()))
            yield feature(
                geometry,
                "detection",
                cell.label,
                label=cell.label,
                colour=colour,
                measurements={"score": cell.score},
            )
