"""Composed slides: pyramidal files, or bags of tiles, of real cells with a known truth.

No cytology slide is public. Here positives and negatives are made of the same fields and stains and
differ only in the cells that decide a label (`compose_choice`); a background carries none, which
`compose_check` measures. Nothing composed is a patient's slide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.files import atomic_write
from unicas_edge.errors import TrainingError
from unicas_edge.slide.tiff.pyramid_writer import encode_tile, write_pyramid
from unicas_edge.train.compose import pixels as px
from unicas_edge.train.compose.choice import GRADES, LARGEST, NILM, TASKS, Chooser, Chosen, Pools
from unicas_edge.train.compose.recipe import Insertion, Recipe
from unicas_edge.train.compose.sources import TILE, UM_PX, Piece, Sources

NOTICE = "composed of public images: no patient's slide and no diagnosis"
#: pixels of a tile's border that an encoder's central crop leaves out
MARGIN = 16
#: a tile is too full to paste on where its clearest place has this density; so many are tried
_FULL, _TRIES = 1.2, 4
_FORMAT = 1


@dataclass(frozen=True)
class _Paste:
    """How an insertion is drawn."""

    chosen: Chosen
    turn: int
    factor: float
    shift: tuple[float, float]
    top: int = 0
    left: int = 0


class Composer:
    """Plans slides from one part of the sources."""

    def __init__(self, sources: Sources) -> None:
        self.pools = Pools(sources)
        self._stains: dict[str, px.Stain] = {}

    def plan(
        self, seed: int, labels: Mapping[str, bool] | None = None, recipe: Recipe | None = None
    ) -> Slide:
        """Return a slide with these labels; without, each task is drawn to be positive or not.

        The same seed, labels, recipe and sources give the same slide. Nothing is written yet.
        """
        if labels is not None and set(labels) != set(TASKS):
            raise TrainingError(f"labels are {dict(labels)}; give one each for {', '.join(TASKS)}")
        return Slide(self, seed, labels, recipe or Recipe())

    def stain(self, piece: Piece) -> px.Stain:
        """Return the stain of a piece's source: an LBC slide, a CRIC field, or all crops.

        Of a crop the white is its own, as ComparisonDetector's scanners differ.
        """
        key = {"lbc": piece.stratum, "cric": piece.group}.get(piece.origin, "comparison")
        if key not in self._stains:
            pool = {"lbc": self.pools.lbc, "cric": self.pools.windows}.get(piece.origin)
            of = self.pools.sources.crops if pool is None else pool.get(key, [piece])
            some = [of[i] for i in range(0, len(of), max(1, len(of) // 32))]
            if piece.origin == "cric":
                some = [some[0]]
            self._stains[key] = px.stain_of([px.picture(p.file, p.scale) for p in some])
        found = self._stains[key]
        if piece.origin == "comparison":
            found = px.Stain(px.white_of(piece.file), found.mean)
        return found


class Slide:
    """A planned slide: `labels` by task, `subtype`, its `insertions`, and pixels on demand."""

    def __init__(
        self, composer: Composer, seed: int, labels: Mapping[str, bool] | None, recipe: Recipe
    ) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.recipe, self._composer = seed, recipe, composer
        drawn = {task: bool(rng.random() < 0.5) for task in TASKS}
        self.labels = drawn if labels is None else {task: bool(labels[task]) for task in TASKS}
        self.grade = composer.pools.draw_grade(rng)
        self.background, pieces = self._background(rng)
        order = [
            int(k)
            for _ in range(-(-recipe.tiles // len(pieces)))
            for k in rng.permutation(len(pieces))
        ]
        turns = rng.integers(8, size=recipe.tiles)
        self._tiles = [(pieces[k], int(t)) for k, t in zip(order, turns, strict=False)]
        means = [composer.stain(p).mean for p in pieces[:: max(1, len(pieces) // 32)]]
        self._target: tuple[float, float, float] = tuple(np.mean(means, axis=0).tolist())
        self._gain = np.exp(rng.uniform(-recipe.stain, recipe.stain, 3)).astype(np.float32)
        blur = float(rng.uniform(0, recipe.blur))
        self._blur = blur if rng.random() < 1 / 3 else 0.0
        self._pastes: dict[int, _Paste] = {}
        self._insert(rng)

    def _background(self, rng: np.random.Generator) -> tuple[str, list[Piece]]:
        """Return the background's origin and pieces: one to all LBC slides, or eight fields up."""
        lbc, cric = rng.random() < 0.6, self.recipe.background
        origin = cric if cric != "any" else ("lbc" if lbc else "cric")
        pools = self._composer.pools
        groups, least = (pools.lbc, 1) if origin == "lbc" else (pools.windows, 8)
        names = sorted(groups)
        least = min(least, len(names))
        count = int(rng.integers(least, len(names) + 1))
        chosen = [names[int(k)] for k in rng.permutation(len(names))[:count]]
        return origin, [piece for name in chosen for piece in groups[name]]

    def _insert(self, rng: np.random.Generator) -> None:
        """Draw what is inserted, and lay each on a tile of its own."""
        origin: Any = self.background
        chooser = Chooser(self._composer.pools, rng, origin, self.grade)
        chosen: list[Chosen] = []
        for task in TASKS:
            draw = chooser.decisive if self.labels[task] else chooser.decoy
            chosen += [draw(task) for _ in range(self._count(rng, self.recipe.positive, least=1))]
            more = self._count(rng, self.recipe.decoys, least=0)
            chosen += [chooser.decoy(task) for _ in range(more)]
        free = [int(k) for k in rng.permutation(self.recipe.tiles)]
        for one in chosen[: len(free)]:
            paste = _Paste(
                one,
                int(rng.integers(8)),
                float(rng.uniform(0.9, 1.1)),
                (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5))),
            )
            self._place(rng, free, paste)

    def _count(self, rng: np.random.Generator, share: tuple[float, float], least: int) -> int:
        return max(least, round(float(rng.uniform(*share)) * self.recipe.tiles))

    def _place(self, rng: np.random.Generator, free: list[int], paste: _Paste) -> None:
        """Take a free tile with room for a paste; the last one tried if none has."""
        if paste.chosen.native:
            self._pastes[free.pop()] = paste
            return
        for left_over in range(_TRIES, 0, -1):
            index = free.pop()
            under = self._under(index)
            # of the tile alone: a choice by the crop's size would tell what was cropped
            if float(under.sum(axis=-1).mean()) < _FULL or left_over == 1 or not free:
                break
            free.insert(0, index)
        height, width = self._crop(paste).shape[:2]
        top, left = px.clearest(under, height, width, MARGIN, lambda n: int(rng.integers(n)))
        self._pastes[index] = replace(paste, top=top, left=left)

    def _under(self, index: int) -> px.Density:
        piece, turn = self._tiles[index]
        return px.mapped(px.tile_of(piece, turn), self._table(piece))

    def _table(self, piece: Piece) -> px.Density:
        return px.densities(self._composer.stain(piece), self._target)

    def _crop(self, paste: _Paste) -> UInt8Image:
        """Return what is pasted, resized and turned, uint8 [h, w, 3], at most `LARGEST` a side."""
        pixels = px.cut(paste.chosen.piece, int(LARGEST / paste.factor), paste.shift)
        size = [max(8, min(LARGEST, round(n * paste.factor))) for n in pixels.shape[1::-1]]
        resized = Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BICUBIC)
        return px.turned(np.asarray(resized), paste.turn)

    @property
    def subtype(self) -> str | None:
        """The paper's five classes: NILM, ASC-US, LSIL, ASC-H, HSIL; None for carcinoma."""
        return GRADES[self.grade] if self.labels["cancer"] else NILM

    @property
    def insertions(self) -> list[Insertion]:
        """What was put in, by tile, row by row."""
        return [self._insertion(index, self._pastes[index]) for index in sorted(self._pastes)]

    def _insertion(self, index: int, paste: _Paste) -> Insertion:
        row, column = divmod(index, self.recipe.columns)
        piece, x, y = paste.chosen.piece, column * TILE, row * TILE
        height = width = TILE
        if not paste.chosen.native:
            height, width = self._crop(paste).shape[:2]
            x, y = x + paste.left, y + paste.top
        return Insertion(
            paste.chosen.task,
            paste.chosen.decisive,
            piece.kind,
            piece.origin,
            piece.file.name,
            piece.group,
            paste.chosen.native,
            (row, column),
            (x + width / 2, y + height / 2),
            (x, y, width, height),
        )

    def tile(self, row: int, column: int) -> UInt8Image:
        """Return a tile before JPEG, uint8 [256, 256, 3]."""
        index = row * self.recipe.columns + column
        paste = self._pastes.get(index)
        if paste is not None and not paste.chosen.native:
            return px.blurred(px.light(self._pasted(index, paste), self._gain), self._blur)
        piece, turn = self._tiles[index]
        if paste is not None:
            piece, turn = paste.chosen.piece, paste.turn
        grey = px.light(self._table(piece), self._gain)
        return px.blurred(px.mapped(px.tile_of(piece, turn), grey), self._blur)

    def _pasted(self, index: int, paste: _Paste) -> px.Density:
        piece = paste.chosen.piece
        under, crop = self._under(index), px.mapped(self._crop(paste), self._table(piece))
        mask = px.feather(crop.shape[0], crop.shape[1], round_=piece.origin == "cric")
        px.lay(under, crop, mask, paste.top, paste.left)
        return under

    def backgrounds(self, most: int) -> Iterator[UInt8Image]:
        """Yield at most `most` tiles that nothing was put into, spread over the slide."""
        untouched = [k for k in range(self.recipe.tiles) if k not in self._pastes]
        for index in untouched[:: max(1, -(-len(untouched) // most))]:
            yield self.tile(*divmod(index, self.recipe.columns))

    def encoded(self) -> Iterator[bytes]:
        """Yield all tiles, row by row, as the JPEG streams that the written slide holds."""
        for row, column in product(range(self.recipe.rows), range(self.recipe.columns)):
            yield encode_tile(self.tile(row, column), self.recipe.quality).jpeg

    def bag(self) -> Iterator[UInt8Image]:
        """Yield all tiles, row by row, as a reader decodes them from the written slide."""
        for jpeg in self.encoded():
            yield simplejpeg.decode_jpeg(jpeg)

    def write(self, path: Path) -> Path:
        """Write the slide (SVS) and ``<stem>.truth.json`` beside it; return the JSON's path.

        Memory grows with a row of tiles only. `OutputError` where they cannot be written.
        """
        truth = path.with_suffix(".truth.json")
        with atomic_write(truth) as stream:
            stream.write(json.dumps({"path": path.name, **self.truth()}, indent=1).encode() + b"\n")
            write_pyramid(
                path,
                self.recipe.columns * TILE,
                self.recipe.rows * TILE,
                self.tile,
                um_px=UM_PX,
                quality=self.recipe.quality,
            )
        return truth

    def truth(self) -> dict[str, Any]:
        """Return what the JSON file holds beside the slide's name."""
        inserted = self.insertions
        decisive = {t: sum(i.decisive and i.task == t for i in inserted) for t in TASKS}
        fields = {p.group for p, _ in self._tiles} | {i.field for i in inserted}
        return {
            "format": _FORMAT,
            "notice": NOTICE,
            "um_px": UM_PX,
            "tile": TILE,
            "seed": self.seed,
            "part": self._composer.pools.sources.part,
            "recipe": asdict(self.recipe),
            "labels": self.labels,
            "subtype": self.subtype,
            "grade": self.grade if self.labels["cancer"] else "nilm",
            "background": self.background,
            "tiles": self.recipe.tiles,
            "decisive_tiles": decisive,
            "insertions": [asdict(i) for i in inserted],
            "fields": sorted(fields),
        }
