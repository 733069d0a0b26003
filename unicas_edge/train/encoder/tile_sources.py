"""Tiles to learn from without labels: drawn at random from image folders and from slides.

Nothing is held but lists of files, a few open slides and their plans, so that memory does not grow
with the data. What cannot be read is found at the beginning, listed, and an error above a share.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unicas_edge.bundle.manifest import TileSpec
from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TileError, TrainingError, UnicasError
from unicas_edge.heads.images import find_images, read_image
from unicas_edge.screening.feed import content_scores
from unicas_edge.slide import open_slide
from unicas_edge.slide.base import Slide
from unicas_edge.slide.find import Target, every_target
from unicas_edge.tiles.grid import Grid, grid_of
from unicas_edge.tiles.normalise import centre_crop
from unicas_edge.tiles.plan import plan
from unicas_edge.tiles.quality import is_background, measure

T = TypeVar("T")
U = TypeVar("U")

#: Slides kept open, and plans kept (4,800 tiles: 38 kB each).
_OPEN, _PLANS = 8, 1000
#: Tiles looked at for one that shows cells; a slide of background gives up after this many.
_TRIES = 200


class TileSource(Protocol):
    """Where tiles come from.

    `tiles` is about how many there are, `left_out` what cannot be read and why, `identity` says
    which data these are.
    """

    tiles: int
    left_out: list[str]
    identity: dict[str, Any]

    def draw(self, count: int) -> list[UInt8Image]:
        """Return `count` random tiles, uint8 RGB [h, w, 3], from PyTorch's global generator."""

    def close(self) -> None:
        """Close what is open; the next draw opens it again."""


class ImageTiles:
    """Windows of at most `side` pixels of the images in folders; smaller images are taken whole."""

    def __init__(self, sources: Sequence[Path], side: int, most_unreadable: float = 0.0) -> None:
        found = [path for source in sources for path in find_images(source, recursive=True)]
        self.side = side
        self.paths, self.left_out = survey(found, _readable, most_unreadable)
        self.tiles = len(self.paths)
        self.identity = _identity("images", self.paths)

    def draw(self, count: int) -> list[UInt8Image]:
        """Return windows of random images."""
        return [self._window(read_image(self.paths[_below(self.tiles)])) for _ in range(count)]

    def close(self) -> None:
        """Do nothing: no image stays open."""

    def _window(self, image: UInt8Image) -> UInt8Image:
        top, left = (_below(max(1, length - self.side + 1)) for length in image.shape[:2])
        return image[top : top + self.side, left : left + self.side]


def _readable(path: Path) -> Path:
    read_image(path)
    return path


class SlideTiles:
    """Tiles that show cells, of those that the tile plan ranks first in each slide.

    `spec.max_tiles` of a slide are drawn from. A draw takes its tiles from at most
    `slides_per_draw` slides, since opening one costs more than reading a tile.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        spec: TileSpec,
        slides_per_draw: int = 8,
        most_unreadable: float = 0.0,
    ) -> None:
        found = every_target(sources)
        self.spec, self.slides_per_draw = spec, slides_per_draw
        usable, self.left_out = survey(found, self._usable, most_unreadable)
        self.targets = [target for target, _ in usable]
        self.tiles = sum(tiles for _, tiles in usable)
        self.identity = _identity("slides", [target.path for target in self.targets])
        self._slides: OrderedDict[int, _Planned] = OrderedDict()
        self._plans: OrderedDict[int, NDArray[np.int32]] = OrderedDict()

    def _usable(self, target: Target) -> tuple[Target, int]:
        """Return the slide, and how many tiles of it are drawn from."""
        if target.problem is not None:
            raise TrainingError(f"{target.path}: {target.problem}")
        with open_slide(target.path, "auto", target.mpp) as slide:
            grid = grid_of(self.spec, slide.width, slide.height, slide.spacing.um_px)
        return target, min(self.spec.max_tiles, grid.rows * grid.cols)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open slides behind: another process opens its own."""
        return self.__dict__ | {"_slides": OrderedDict(), "_plans": OrderedDict()}

    def draw(self, count: int) -> list[UInt8Image]:
        """Return tiles of a few random slides; `TrainingError` for a slide that shows no cell."""
        several = min(count, self.slides_per_draw)
        shares = [(count + i) // several for i in range(several)]
        return [tile for share in shares for tile in self._from_one(share)]

    def close(self) -> None:
        """Close the slides."""
        _evict(self._slides, 0, lambda old: old.slide.close())

    def _from_one(self, count: int) -> list[UInt8Image]:
        slide = self._open(_below(len(self.targets)))
        return [slide.tile() for _ in range(count)]

    def _open(self, index: int) -> _Planned:
        if index not in self._slides:
            target = self.targets[index]
            slide = open_slide(target.path, "auto", target.mpp)
            grid = grid_of(self.spec, slide.width, slide.height, slide.spacing.um_px)
            if index not in self._plans:
                self._plans[index] = _planned(slide, grid, self.spec.max_tiles)
                _evict(self._plans, _PLANS, lambda _: None)
            self._slides[index] = _Planned(slide, grid, self._plans[index])
            _evict(self._slides, _OPEN, lambda old: old.slide.close())
        self._slides.move_to_end(index)
        return self._slides[index]


def _planned(slide: Slide, grid: Grid, limit: int) -> NDArray[np.int32]:
    scores = content_scores(slide, grid, limit, lambda *_: None)
    return np.array(plan(grid, scores.values if scores else None, limit), np.int32)


@dataclass(frozen=True)
class _Planned:
    slide: Slide
    grid: Grid
    cells: NDArray[np.int32]

    def tile(self) -> UInt8Image:
        """Return a random tile that shows cells."""
        for _ in range(_TRIES):
            row, col = self.cells[_below(len(self.cells))].tolist()
            try:
                tile = self.slide.read(
                    *self.grid.origin((row, col)), self.grid.tile, self.grid.downsample
                )
            except TileError:
                continue
            if not is_background(measure(centre_crop(tile, self.grid.crop))):
                return tile
        raise TrainingError(
            f"{self.slide.path}: none of {_TRIES} tiles shows a cell; leave the slide out"
        )


class Mixed:
    """Tiles of several sources, each drawn from in proportion to the tiles it has."""

    def __init__(self, sources: Sequence[TileSource]) -> None:
        if not sources:
            raise TrainingError("no data to learn from; give --images or --slides")
        self.sources = list(sources)
        self.tiles = sum(source.tiles for source in sources)
        self.left_out = [line for source in sources for line in source.left_out]
        self.identity = {key: v for source in sources for key, v in source.identity.items()}

    def draw(self, count: int) -> list[UInt8Image]:
        """Return `count` tiles, those of one source together."""
        weights = torch.tensor([float(source.tiles) for source in self.sources])
        taken = torch.multinomial(weights, count, replacement=True).bincount(
            minlength=len(self.sources)
        )
        counts = zip(self.sources, taken.tolist(), strict=True)
        return [tile for source, n in counts if n for tile in source.draw(n)]

    def close(self) -> None:
        """Close every source."""
        for source in self.sources:
            source.close()


def survey(
    items: Iterable[T], check: Callable[[T], U], most_unreadable: float
) -> tuple[list[U], list[str]]:
    """Return what `check` gives of `items`, and a line about each that raised `UnicasError`.

    `TrainingError` if that is more than a share `most_unreadable`, or everything.
    """
    kept: list[U] = []
    lines: list[str] = []
    for item in items:
        try:
            kept.append(check(item))
        except UnicasError as error:
            lines.append(str(error))
    total = len(kept) + len(lines)
    if not kept or len(lines) > most_unreadable * total:
        raise TrainingError(
            f"{len(lines)} of {total} cannot be read, more than {most_unreadable:.1%}: "
            f"{lines[0] if lines else 'there is nothing'}; remove them or allow more"
        )
    return kept, lines


def _identity(kind: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the number of files and a digest of their names and sizes; the folder may move."""
    names = sorted(f"{path.name} {path.stat().st_size}" for path in paths)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return {kind: {"files": len(names), "names and sizes": digest}}


def _below(limit: int) -> int:
    return int(torch.randint(limit, ()))


def _evict(held: OrderedDict[int, T], most: int, close: Callable[[T], None]) -> None:
    while len(held) > most:
        close(held.popitem(last=False)[1])
