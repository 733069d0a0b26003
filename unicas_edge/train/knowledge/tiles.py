"""Tiles that knowledge is fitted on: artefacts, cells at a known scale, cells that were counted.

Each is yielded with what is known of it. A part of them is in the colours that `screen` would give
them, corrected together with the tiles that come with them as one slide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.heads.images import read_image
from unicas_edge.tiles.colour import Target
from unicas_edge.train.artefacts.material import Material
from unicas_edge.train.artefacts.tiles import TRAINING_SOURCES, make
from unicas_edge.train.compose.correct import correction_of
from unicas_edge.train.compose.pixels import picture
from unicas_edge.train.compose.sources import TILE, Piece, Sources

#: Tiles that are corrected together.
_TOGETHER = 16
#: How much larger or smaller cells are shown, at most, in octaves.
OCTAVES = 0.6
#: Of the counted fields no pixel size was found: their nuclei are 9 pixels wide, those of the LBC
#: tiles, at 0.5 um/px, 14 to 15.
_COUNTED_SCALE = 1.6
#: A nucleus has so many pixels of its mask at least.
_NUCLEUS = 20
#: A tile of a counted field may show so little of the black or white that it was turned on.
_TURNED_ON = 0.002
_MOST_FIELDS = 10_000


class Kind(NamedTuple):
    """A tile uint8 [256, 256, 3] and the number of its kind."""

    pixels: UInt8Image
    kind: int


class Measured(NamedTuple):
    """A tile uint8 [256, 256, 3] and what was measured of it; `group` is the picture it is of."""

    pixels: UInt8Image
    value: float
    group: str


def artefacts(
    material: Material,
    kinds: Sequence[str],
    each: int,
    seed: int,
    target: Target,
    allowed: Iterable[str] = TRAINING_SOURCES,
) -> Iterator[Kind]:
    """Yield `each` artefacts of every kind but the first, which is cells; half are corrected.

    Corrected as slides of one artefact, or with cells among them.
    """
    for number, kind in enumerate(kinds[1:], 1):
        for turn in range(-(-each // _TOGETHER)):
            rng = np.random.default_rng([seed, number, turn])
            count = min(_TOGETHER, each - turn * _TOGETHER)
            tiles = [make(kind, rng, material, allowed).pixels for _ in range(count)]
            cells = [material.tile(rng) for _ in range(int(rng.integers(0, _TOGETHER + 1)))]
            mode = "reinhard" if turn % 2 else "none"
            correct = correction_of([*tiles, *cells], mode, target)
            yield from (Kind(correct(tile), number) for tile in tiles)


def scaled(sources: Sources, count: int, seed: int, target: Target) -> Iterator[Measured]:
    """Yield `count` tiles that show cells at another scale than stated, with its octaves.

    -1 octave is twice as large: the pixels show half the um/px stated. LBC tiles are too small to
    show more than they hold and go on as their mirror images, at any scale.
    """
    pieces = [*_some(sources.lbc, count, seed), *_some(sources.cric, count, seed + 1)]
    order = np.random.default_rng([seed, 0]).permutation(len(pieces))[:count]
    stream = (pieces[int(k)] for k in order)
    turn = 0
    while some := list(islice(stream, _TOGETHER)):
        rng = np.random.default_rng([seed, 1, turn])
        made = [_at_scale(piece, float(rng.uniform(-OCTAVES, OCTAVES)), rng) for piece in some]
        correct = correction_of(
            [m.pixels for m in made], "reinhard" if turn % 2 else "none", target
        )
        yield from (m._replace(pixels=correct(m.pixels)) for m in made)
        turn += 1


def _some(pieces: Sequence[Piece], count: int, seed: int) -> list[Piece]:
    rng = np.random.default_rng([seed, 2])
    return [pieces[int(k)] for k in rng.permutation(len(pieces))[:count]]


def _at_scale(piece: Piece, octaves: float, rng: np.random.Generator) -> Measured:
    """Return a tile of a piece's picture around the piece, at 2 ** -`octaves` of its size."""
    whole = picture(piece.file, piece.scale)
    side = math.ceil(TILE * 2.0**octaves)
    middle = [piece.y * piece.scale, piece.x * piece.scale]
    if piece.origin == "lbc":  # the seams of the mirror images must not tell the scale
        middle = [float(rng.uniform(0, n)) for n in whole.shape[:2]]
    begin = [round(m - side / 2) for m in middle]
    rows, columns = (
        _mirrored(np.arange(b, b + side), n) for b, n in zip(begin, whole.shape[:2], strict=True)
    )
    part = np.ascontiguousarray(whole[rows][:, columns])
    shown = Image.fromarray(part).resize((TILE, TILE), Image.Resampling.BICUBIC)
    return Measured(np.asarray(shown), math.log2(side / TILE), piece.stratum)


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    folded = places % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def counted(folder: Path, target: Target) -> Iterator[Measured]:
    """Yield tiles of the fields of a folder (``images``, ``masks`` of nuclei) with their nuclei.

    A nucleus counts where its middle is; half of the fields are corrected. Tiles that show what a
    field was turned on are passed over. `TrainingError` for a folder without fields.
    """
    files = sorted((folder / "images").glob("*.jpg"))[:_MOST_FIELDS]
    if not files:
        raise TrainingError(f"{folder}: no images/*.jpg to count nuclei in")
    for number, file in enumerate(files):
        image, mask = _enlarged(read_image(file)), read_image(folder / "masks" / file.name)
        tiles = list(_counted_tiles(image, _nuclei(mask), file.stem.rpartition("_")[2]))
        if not tiles:
            continue
        mode = "reinhard" if number % 2 else "none"
        correct = correction_of([tile.pixels for tile in tiles], mode, target)
        yield from (tile._replace(pixels=correct(tile.pixels)) for tile in tiles)


def _enlarged(image: UInt8Image) -> UInt8Image:
    size = (round(image.shape[1] * _COUNTED_SCALE), round(image.shape[0] * _COUNTED_SCALE))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _nuclei(mask: UInt8Image) -> np.ndarray:
    """Return the middles (y, x) of the nuclei of a mask, enlarged as its image is."""
    labels, _ = ndimage.label(mask[..., 0] > 127)
    sizes = np.bincount(labels.ravel())
    which = np.flatnonzero(sizes >= _NUCLEUS)[1:]  # 0 is what is no nucleus
    return (
        np.array(ndimage.center_of_mass(labels > 0, labels, which)).reshape(-1, 2) * _COUNTED_SCALE
    )


def _counted_tiles(image: UInt8Image, nuclei: np.ndarray, group: str) -> Iterator[Measured]:
    step = TILE // 2
    for top in range(0, image.shape[0] - TILE + 1, step):
        for left in range(0, image.shape[1] - TILE + 1, step):
            tile = image[top : top + TILE, left : left + TILE]
            bare = (tile.max(axis=-1) < 8).mean() + (tile.min(axis=-1) > 253).mean()
            if (tile.max(axis=-1) < 8).mean() > _TURNED_ON or bare > 0.5:
                continue
            inside = ((nuclei >= (top, left)) & (nuclei < (top + TILE, left + TILE))).all(axis=1)
            yield Measured(np.ascontiguousarray(tile), float(inside.sum()), group)
