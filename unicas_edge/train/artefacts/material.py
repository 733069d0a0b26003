"""What artefacts are drawn on or cut from: real tiles, and large pictures of other things."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError, SpacingError, TrainingError
from unicas_edge.slide.base import Slide
from unicas_edge.slide.registry import open_slide
from unicas_edge.train.compose.pixels import tile_of, turned
from unicas_edge.train.compose.sources import TILE, UM_PX, Piece, Sources

Rng = np.random.Generator
#: source -> file of the folder of slides that are no cytology
SLIDES = {
    "histology/cmu": "aperio_CMU-1-Small-Region.svs",
    "histology/camelyon": "dicom_camelyon_multiframe_jpeg2000.dcm",
    "histology/pathml": "dicom_pathml_small_dicom.dcm",
    "fluorescence/dapi": "ndpi_test3-DAPI-2-387.ndpi",
}
#: tiles held of all that the sources have, 200 kB each
MOST_TILES = 600
#: pixels a side that are held of a slide
_MOST_SIDE = 4096
#: a pixel is stained where its darkest channel is this much below the tile's white
_STAINED = 22
#: shares of stained pixels: few cells; many, or as many as half of the tiles have; any at all
_FEW, _MANY, _LEAST = 0.3, 0.45, 0.02


@dataclass(frozen=True)
class Material:
    """Real tiles uint8 [256, 256, 3], `pictures` by source (uint8 [h, w, 3]), and what is missing.

    `crowded` and `sparse` are tiles with many and with few stained pixels. `left_out` says which
    pictures could not be read, and why.
    """

    tiles: tuple[UInt8Image, ...]
    pictures: dict[str, UInt8Image]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `TrainingError` where there is no tile to draw on."""
        stained = np.array([_stained(tile) for tile in self.tiles])
        many = max(_LEAST, min(_MANY, float(np.median(stained)))) if len(stained) else 1.0
        crowded = tuple(self.tiles[k] for k in np.flatnonzero(stained >= many))
        if not crowded:
            raise TrainingError(
                f"{len(self.tiles)} tiles, none with cells on {_LEAST:.0%} of it: artefacts are "
                "drawn over cells; give tiles of slides"
            )
        object.__setattr__(self, "crowded", crowded)
        sparse = tuple(self.tiles[k] for k in np.flatnonzero(stained <= _FEW))
        object.__setattr__(self, "sparse", sparse)

    crowded: tuple[UInt8Image, ...] = ()
    sparse: tuple[UInt8Image, ...] = ()

    def tile(self, rng: Rng, *, crowded: bool = False) -> UInt8Image:
        """Return one of the tiles in one of eight orientations; `crowded`: one with many cells."""
        tiles = self.crowded if crowded else self.tiles
        return turned(_one(tiles, rng), int(rng.integers(8)))

    def few(self, rng: Rng) -> UInt8Image | None:
        """Return a tile with few cells, None where there is none."""
        return turned(_one(self.sparse, rng), int(rng.integers(8))) if self.sparse else None


def load_material(
    sources: Sources, slides: Path | None = None, *, most: int = MOST_TILES, seed: int = 0
) -> Material:
    """Return the material of a part of the sources, and of the folder of other slides.

    Tiles are drawn evenly from the LBC slides and CRIC's windows, `most` at most. Slides that
    cannot be read here (an extra that is not installed) are named in `left_out`.
    """
    left_out: list[str] = []
    tiles = tuple(tile_of(p, 0) for p in _drawn(sources, most, np.random.default_rng(seed)))
    pictures = dict(_photographs(left_out))
    for source, name in SLIDES.items():
        if slides is None:
            break
        try:
            pictures[source] = _read(slides / name)
        except SlideError as error:
            left_out.append(f"{source}: {error}")
    return Material(tiles, pictures, tuple(left_out))


def _drawn(sources: Sources, most: int, rng: Rng) -> list[Piece]:
    """Return as many pieces of each slide and of CRIC as there is room for."""
    groups: dict[str, list[Piece]] = {}
    for piece in sources.lbc:
        groups.setdefault(piece.stratum, []).append(piece)
    for piece in sources.cric:
        groups.setdefault("cric", []).append(piece)
    if not groups:
        raise TrainingError("no background tile in the sources; give lbc_tiles or cric")
    each = max(1, most // len(groups))
    chosen = [
        groups[name][int(k)]
        for name in sorted(groups)
        for k in rng.permutation(len(groups[name]))[:each]
    ]
    return sorted(chosen, key=lambda piece: (piece.origin, str(piece.file), piece.y, piece.x))


def _photographs(left_out: list[str]) -> Iterable[tuple[str, UInt8Image]]:
    """Yield the photographs that scikit-learn and matplotlib bring."""
    from matplotlib import cbook  # noqa: PLC0415
    from sklearn.datasets import load_sample_image  # noqa: PLC0415

    for name in ("china", "flower"):
        yield f"photograph/{name}", np.asarray(load_sample_image(f"{name}.jpg"), np.uint8)
    try:
        file = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        yield "photograph/hopper", np.asarray(Image.open(file).convert("RGB"))
    except OSError as error:
        left_out.append(f"photograph/hopper: {error}")


def _read(path: Path) -> UInt8Image:
    """Return the pixels of a slide at 0.5 um/px; where it states no spacing, at its own."""
    try:
        slide = open_slide(path)
    except SpacingError:
        slide = open_slide(path, mpp=UM_PX)
    with slide:
        return _whole(slide)


def _whole(slide: Slide) -> UInt8Image:
    downsample = UM_PX / slide.spacing.um_px
    size = [min(_MOST_SIDE, int(n / downsample)) for n in (slide.height, slide.width)]
    if min(size) < TILE // 2:
        raise SlideError(slide.path, f"{size[1]} x {size[0]} pixels are too few to cut tiles from")
    return slide.read(0, 0, max(size), downsample)[: size[0], : size[1]]


def _stained(tile: UInt8Image) -> float:
    small = tile[::4, ::4].min(axis=-1)
    return float((small < np.percentile(small, 98) - _STAINED).mean())


def _one(tiles: Sequence[UInt8Image], rng: Rng) -> UInt8Image:
    return tiles[int(rng.integers(len(tiles)))]
