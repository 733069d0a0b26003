"""``features.h5``: the CLS tokens and where they come from, as TRIDENT and CLAM keep them.

`features` float32 [N, D] and `coords` int64 [N, 2], level-0 (x, y) of the top left corner, row for
row, with TRIDENT's attributes on `coords`. TRIDENT and CLAM read both with ``[:]`` and add the
batch axis themselves. CLAM's `patch_level` is left out on purpose: CLAM would read `patch_size`
pixels of that level, which is not what our tiles are on a slide finer than the bundle. Where the
bundle knows what tiles show, `kinds` (ASCII [N]) says it, and `aggregated` (uint8 [N]) is 1 for the
tiles that reached the aggregator: the slide's bag.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.files import atomic_write
from unicas_edge.core.values import KIND_LETTERS
from unicas_edge.errors import OutputError
from unicas_edge.result import SlideResult, notices

FEATURES = "features.h5"

Answer = TypeVar("Answer")
Buffer = bytes | bytearray | memoryview

#: Scanner convention: 10 um/px at 1x, so 0.5 um/px is 20x and 0.25 is 40x.
UM_PX_AT_1X = 10.0
STANDARD_MAGNIFICATIONS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)

#: Rows of a chunk; the first axis can grow, for both projects append to such files.
CHUNK_ROWS = 64


def magnification(um_px: float) -> int | float:
    """Return the objective that scanners name for `um_px`: an integer wherever that is one.

    The nearest of the customary ones if within 15 %, as 0.2431 and 0.2278 um/px are both 40x.
    """
    exact = UM_PX_AT_1X / um_px
    nearest = min(STANDARD_MAGNIFICATIONS, key=lambda standard: abs(standard - exact))
    value = nearest if abs(nearest - exact) <= 0.15 * nearest else round(exact, 2)
    return int(value) if value == int(value) else value


def token_coords(result: SlideResult) -> NDArray[np.int64]:
    """Return the level-0 (x, y) of the tile behind each row of `features`, int64 [N, 2].

    In the frame of the slide's own format, as TRIDENT gets it from OpenSlide: where the slide has
    bounds, our frame begins at them.

    `OutputError` if the tile table does not name every row exactly once.
    """
    count = 0 if result.features is None else len(result.features)
    if result.tiles is None:
        tiles = np.zeros(0, [("minx", "i8"), ("miny", "i8"), ("token", "i8")])
    else:
        tiles = result.tiles[result.tiles["token"] >= 0]
    tiles = tiles[np.argsort(tiles["token"], kind="stable")]
    if not np.array_equal(tiles["token"], np.arange(count)):
        raise OutputError(
            f"{result.slide.path}: {FEATURES}: {count} tokens but the tile table names "
            f"{len(tiles)}; this is a defect of unicas-edge, please report it"
        )
    corner = np.array([result.slide.offset_x, result.slide.offset_y])
    places = np.stack([tiles["minx"], tiles["miny"]], axis=1) + corner
    return np.asarray(places, dtype=np.int64)


def token_kinds(result: SlideResult) -> NDArray[np.bytes_] | None:
    """Return what the tile behind each row of `features` shows, ASCII [N]; None if not known."""
    tiles = result.tiles
    if (
        result.adequacy.basis != "tokens"
        or tiles is None
        or "kind" not in (tiles.dtype.names or ())
    ):
        return None
    tiles = tiles[tiles["token"] >= 0]
    return tiles["kind"][np.argsort(tiles["token"], kind="stable")].astype(f"S{KIND_LETTERS}")


def coords_attributes(result: SlideResult) -> dict[str, Any]:
    """Return TRIDENT's attributes of `coords`, and the crop and spacing that it does not know."""
    made, slide = result.preprocessing, result.slide
    return {
        "patch_size": made.tile_px,
        "patch_size_level0": round(made.tile_px * made.downsample),
        "level0_magnification": magnification(slide.um_px),
        "target_magnification": magnification(made.um_px),
        "overlap": 0,
        "name": slide.name,
        "savetodir": "None",
        "level0_width": slide.width,
        "level0_height": slide.height,
        "crop_px": made.crop_px,
        "level0_um_px": slide.um_px,
        "um_px": made.um_px,
    }


def provenance(result: SlideResult) -> dict[str, Any]:
    """Return what names the model: kept on `features` and on the file."""
    return {
        "encoder": f"{result.bundle.name} {result.bundle.version}",
        "bundle": result.bundle.name,
        "bundle_version": result.bundle.version,
        "bundle_trained": result.bundle.trained,
        "bundle_demonstration": result.bundle.demonstration,
        "engine": f"{result.engine.name} {result.engine.version} {result.engine.precision}",
        "unicas_edge_version": result.unicas_edge_version,
        "notice": "; ".join(notices(result)),
    }


def write_features_h5(path: Path, result: SlideResult) -> None:
    """Write the tokens of `result` to `path`; `OutputError` where that fails.

    A slide without tokens gets `features` float32 [0, 0] and `coords` int64 [0, 2].
    """
    coords = token_coords(result)
    features = result.features
    features = np.zeros((0, 0), np.float32) if features is None else features
    with atomic_write(path) as handle:
        deferred = _Deferred(handle)
        with h5py.File(deferred, "w") as file:
            _dataset(file, "features", np.ascontiguousarray(features, np.float32)).update(
                {"name": result.slide.name, "savetodir": "None"} | provenance(result)
            )
            _dataset(file, "coords", coords).update(coords_attributes(result))
            if (kinds := token_kinds(result)) is not None:
                file.create_dataset("kinds", data=kinds)
                kept = np.isin(kinds.astype(str), result.adequacy.aggregated)
                file.create_dataset("aggregated", data=kept.astype(np.uint8))
            file.attrs.update(provenance(result))
        if deferred.error is not None:
            raise deferred.error


class _Deferred:
    """A file for HDF5 that keeps its first error in `error` instead of raising it.

    HDF5 cannot let go of a file whose last writes fail: a disk that fills up while it closes one
    ends in a segmentation fault (h5py 3.16). So it is told that all went well, and who called it
    raises the error. An interrupt that arrives inside a call is an error like any other here.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.error: BaseException | None = None

    def write(self, data: Buffer) -> int:
        """Write `data`, unless an earlier call has failed."""
        size = memoryview(data).nbytes
        self._try(self._handle.write, data)
        return size

    def readinto(self, buffer: bytearray) -> int:
        """Fill `buffer`, with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        found = self._try(self._handle.read, len(view)) or b""
        view[:] = found + bytes(len(view) - len(found))
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        return self._try(self._handle.read, size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to `offset`; return the place."""
        return self._try(self._handle.seek, offset, whence) or 0

    def tell(self) -> int:
        """Return the place."""
        return self._try(self._handle.tell) or 0

    def truncate(self, size: int | None = None) -> int:
        """Make the file `size` bytes long."""
        return self._try(self._handle.truncate, size) or 0

    def flush(self) -> None:
        """Hand everything to the system."""
        self._try(self._handle.flush)

    def _try(self, call: Callable[..., Answer], *arguments: object) -> Answer | None:
        if self.error is not None:
            return None
        try:
            return call(*arguments)
        except BaseException as error:
            self.error = error
            return None


def _dataset(file: h5py.File, name: str, values: NDArray[Any]) -> h5py.AttributeManager:
    """Store `values` so that rows can be appended; return its attributes."""
    shape = (max(1, min(CHUNK_ROWS, values.shape[0])), max(1, values.shape[1]))
    limit = (None, values.shape[1] or None)
    return file.create_dataset(name, data=values, chunks=shape, maxshape=limit).attrs
