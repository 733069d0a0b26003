"""Composed slides: pyramidal files, or bags of tiles, of real cells with a known truth.

No cytology slide is public. Here positives and negatives are made of the same fields and stains and
differ only in the cells that decide a label (`compose_choice`); a background carries none, which
`compose_check` measures. Nothing composed is a patient's slide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose import pixels as px
from unicas_edge.train.compose.background import background_of
from unicas_edge.train.compose.choice import GRADES, LARGEST, NILM, TASKS, Chooser, Chosen, Pools
from unicas_edge.train.compose.recipe import Insertion, Recipe
from unicas_edge.train.compose.scale import Box
from unicas_edge.train.compose.scanner import Scanner
from unicas_edge.train.compose.sources import TILE, UM_PX, Piece, Sources
from unicas_edge.train.compose.stains import Stains
from unicas_edge.train.compose.tiled import TiledSlide

NOTICE = "composed of public images: no patient's slide and no diagnosis"
#: pixels of a tile's border that an encoder's central crop leaves out
MARGIN = 16
#: a tile is too full to paste on where its clearest place has this density; so many are tried
_FULL, _TRIES = 1.2, 4
#: how far the sources of a mixed background are brought to one stain
_TOGETHER = 1.0
_FORMAT = 1
_SCANNER = 0x5CA4


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
        self.stain = Stains(self.pools).of

    def plan(
        self, seed: int, labels: Mapping[str, bool] | None = None, recipe: Recipe | None = None
    ) -> Slide:
        """Return a slide with these labels; without, each task is drawn to be positive or not.

        The same seed, labels, recipe and sources give the same slide. Nothing is written yet.
        """
        if labels is not None and set(labels) != set(TASKS):
            raise TrainingError(f"labels are {dict(labels)}; give one each for {', '.join(TASKS)}")
        return Slide(self, seed, labels, recipe or Recipe())


class Slide(TiledSlide):
    """A planned slide: `labels` by task, `subtype`, its `insertions`, and pixels on demand."""

    def __init__(
        self, composer: Composer, seed: int, labels: Mapping[str, bool] | None, recipe: Recipe
    ) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.recipe, self._composer = seed, recipe, composer
        drawn = {task: bool(rng.random() < 0.5) for task in TASKS}
        self.labels = drawn if labels is None else {task: bool(labels[task]) for task in TASKS}
        self.grade = composer.pools.draw_grade(rng)
        self.background, pieces = background_of(composer.pools, recipe, rng)
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
        self.scanner = recipe.scanner
        if recipe.scanners:  # drawn apart, so that the slide is the same under any scanner
            apart = np.random.default_rng([seed, _SCANNER])
            self.scanner = Scanner.draw(apart, recipe.scanners)

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

    def shown(self, index: int) -> tuple[str, ...]:
        """Return the tasks whose findings the background of a tile may show by itself."""
        paste = self._pastes.get(index)
        native = paste is not None and paste.chosen.native
        return () if native else self._tiles[index][0].shows

    @property
    def known(self) -> dict[str, bool | None]:
        """The labels, None for a task whose findings the background may show by itself."""
        shown = {task for piece, _ in self._tiles for task in piece.shows}
        return {task: None if task in shown else label for task, label in self.labels.items()}

    def _under(self, index: int) -> px.Density:
        piece, turn = self._tiles[index]
        return px.mapped(px.tile_of(piece, turn), self._table(piece))

    def _table(self, piece: Piece) -> px.Density:
        match = _TOGETHER if self.background == "mixed" else px.MATCH
        return px.densities(self._composer.stain(piece), self._target, match)

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
        piece, box = paste.chosen.piece, self._box(paste)
        if self.scanner is not None:
            box = self.scanner.placed(box)
        x, y, width, height = column * TILE + box[0], row * TILE + box[1], *box[2:]
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

    @property
    def quality(self) -> int:
        """The JPEG quality that the slide is written with: its scanner's, or its recipe's."""
        own = None if self.scanner is None else self.scanner.quality
        return self.recipe.quality if own is None else own

    def tile(self, row: int, column: int) -> UInt8Image:
        """Return a tile before JPEG, uint8 [256, 256, 3], as the slide's scanner sees it."""
        index = row * self.recipe.columns + column
        composed = self._composed(index)
        if self.scanner is None:
            return composed
        paste = self._pastes.get(index)
        return self.scanner.seen(composed, index, None if paste is None else self._box(paste))

    def _box(self, paste: _Paste) -> Box:
        """Return (x, y, width, height) in its tile of what was put in."""
        if paste.chosen.native:
            return 0, 0, TILE, TILE
        height, width = self._crop(paste).shape[:2]
        return paste.left, paste.top, width, height

    def _composed(self, index: int) -> UInt8Image:
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

    def backgrounds(self, most: int) -> list[int]:
        """Return the numbers of at most `most` tiles that nothing was put into, spread evenly."""
        untouched = [k for k in range(self.recipe.tiles) if k not in self._pastes]
        return untouched[:: max(1, -(-len(untouched) // most))]

    def at(self, index: int) -> UInt8Image:
        """Return tile `index`, counted row by row (`tile`)."""
        return self.tile(*divmod(index, self.recipe.columns))

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
            "labels": self.known,
            "subtype": self.subtype,
            "grade": self.grade if self.labels["cancer"] else "nilm",
            "background": self.background,
            "scanner": None if self.scanner is None else asdict(self.scanner),
            "tiles": self.recipe.tiles,
            "decisive_tiles": decisive,
            "insertions": [asdict(i) for i in inserted],
            "fields": sorted(fields),
        }
