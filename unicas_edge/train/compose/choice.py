"""What is put into a composed slide: what decides a label, and decoys that went the same way.

Every task has its share of insertions, whatever the labels. On a slide positive for the task some
of them decide it; on a negative one those are decoys instead, and decoys are on every slide, so
that neither the number of insertions nor any kind of decoy tells a label. Cancer's decoys come from
the very fields of CRIC that its abnormal cells come from, drawn alike; decoys made of normal cells
take their size from what they stand for. A decoy decides no task: abnormal cells, candida and clue
cells are on slides positive for them and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.sources import TILE, Piece, Sources

TASKS = ("cancer", "candidiasis", "cluecell")
#: What decides cancer is of one grade a slide, with a subtype where the paper's five classes have
#: one; ComparisonDetector's glandular cells (agc) go with carcinoma.
GRADES = {"ascus": "ASC-US", "lsil": "LSIL", "asch": "ASC-H", "hsil": "HSIL", "scc": None}
NILM = "NILM"
_CROPS = {"scc": ("scc", "agc")}
_DECIDES = {"candidiasis": "candida", "cluecell": "flora"}
#: What decoys are: "normal" is a crop of a background, "benign" one of `_BENIGN`, both as large as
#: a crop that decides the task, the latter the most alike of `_LIKE` drawn.
_DECOYS = {
    "cancer": ("benign", "benign", "normal"),
    "candidiasis": ("benign", "normal"),
    "cluecell": ("benign", "normal", "nilm"),
}
_BENIGN = ("herps", "actinomyces", "trichomonas")
_LIKE = 8
#: Pixels a side of what is pasted; half of it larger crops may be shifted in. Larger ones of both
#: sides beyond twice as many are not used: a part of them need not show the organism.
LARGEST = 208

Origin = Literal["lbc", "cric", "mixed"]
T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """A piece for one tile; `native` takes the tile's place, others are pasted on it."""

    task: str
    decisive: bool
    piece: Piece
    native: bool = False


class Pools:
    """The pieces of a part of the sources, by what they are good for."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.nilm = _by_group(p for p in sources.cells if p.kind == "nilm")
        self.windows = _by_group(sources.cric)
        self.lbc = _by(sources.lbc, lambda p: p.stratum)
        self.crops = _by(filter(_shows, sources.crops), lambda p: p.kind)
        self.plain = _plain(self.lbc)
        self.benign = [p for kind in _BENIGN for p in self.crops.get(kind, [])]
        self.abnormal = {
            grade: _by_group(p for p in sources.cells if p.kind == grade) for grade in GRADES
        }
        clean = set(self.nilm) & set(self.windows)
        self._fields = {g: sorted(clean & set(self.abnormal[g])) for g in GRADES}
        self.grades = [grade for grade in GRADES if self.fields(grade) and self.crops.get(grade)]
        missing = {*_BENIGN, *_DECIDES.values()} - set(self.crops)
        if missing or not self.grades or not self.lbc:
            raise TrainingError(
                f"part {sources.part}: nothing to compose from: it needs tiles of lbc_tiles, crops "
                f"within {2 * LARGEST} pixels (missing: {', '.join(sorted(missing)) or 'none'}), "
                "and CRIC fields with both abnormal and normal cells"
            )

    def fields(self, grade: str) -> list[str]:
        """Return the fields of CRIC with cells of a grade, normal cells and a clean window."""
        return self._fields[grade]

    def draw_grade(self, rng: np.random.Generator) -> str:
        """Return a grade: often one of many fields, yet the rare ones too (their square roots)."""
        weight = np.sqrt([len(self.fields(grade)) for grade in self.grades])
        return self.grades[int(rng.choice(len(self.grades), p=weight / weight.sum()))]


class Chooser:
    """Draws the pieces of one slide, whose grade is drawn for negative slides too."""

    def __init__(self, pools: Pools, rng: np.random.Generator, origin: Origin, grade: str) -> None:
        self.pools, self.rng, self.origin, self.grade = pools, rng, origin, grade

    def decisive(self, task: str) -> Chosen:
        """Return what makes a slide positive for `task`."""
        if task != "cancer" or self.rng.random() < 0.5:
            return Chosen(task, True, self._crop(task))
        cell = self._one(self.pools.abnormal[self.grade][self._field()])
        return self._as_cric(task, True, cell, cell)

    def decoy(self, task: str) -> Chosen:
        """Return what is put in its place, and beside it, and decides nothing."""
        if task == "cancer" and self.rng.random() < 0.5:
            field = self._field()
            cell, window = self._one(self.pools.nilm[field]), self._one(self.pools.windows[field])
            return self._as_cric(task, False, cell, window)
        kind = self._one(_DECOYS[task])
        if kind == "nilm":
            return Chosen(task, False, self._one(self.pools.nilm[self._field()]))
        like = self._crop(task)
        if kind == "normal":
            return Chosen(task, False, self._normal(like))
        some = [self._one(self.pools.benign) for _ in range(_LIKE)]
        return Chosen(task, False, min(some, key=lambda p: abs(math.log(_area(p) / _area(like)))))

    def _crop(self, task: str) -> Piece:
        """Return a crop of ComparisonDetector that decides `task`."""
        if task in _DECIDES:
            return self._one(self.pools.crops[_DECIDES[task]])
        kinds = _CROPS.get(self.grade, (self.grade,))
        return self._one([p for kind in kinds for p in self.pools.crops.get(kind, [])])

    def _as_cric(self, task: str, decisive: bool, cell: Piece, middle: Piece) -> Chosen:
        """Return a cell to paste, or the tile of its field around `middle`: always so on CRIC."""
        if self.origin != "cric" and self.rng.random() < 0.5:
            return Chosen(task, decisive, cell)
        side = TILE / cell.scale
        x, y = middle.x, middle.y
        if decisive:  # clean windows lie as they lie; the nucleus is well inside an encoder's crop
            x, y = (v + float(self.rng.uniform(-0.25, 0.25)) * side for v in (x, y))
        return Chosen(task, decisive, replace(cell, x=x, y=y, width=side, height=side), native=True)

    def _normal(self, like: Piece) -> Piece:
        """Return a crop of a background, of a size that `like` has on the slide."""
        pools = self.pools
        origin = self.origin if self.origin != "mixed" else self._one(("lbc", "cric"))
        strata = pools.plain if origin == "lbc" else pools.windows
        source = self._one(strata[self._one(list(strata))])
        width, height = (
            min(side * like.scale, LARGEST) / source.scale for side in (like.width, like.height)
        )
        x, y = (
            centre + float(self.rng.uniform(-0.5, 0.5)) * max(0.0, whole - side)
            for centre, whole, side in (
                (source.x, source.width, width),
                (source.y, source.height, height),
            )
        )
        return replace(source, kind="normal", x=x, y=y, width=width, height=height)

    def _field(self) -> str:
        return self._one(self.pools.fields(self.grade))

    def _one(self, of: Sequence[T]) -> T:
        return of[int(self.rng.integers(len(of)))]


def _area(piece: Piece) -> float:
    """Return the pixels of a slide that a piece takes."""
    width, height = (min(side * piece.scale, LARGEST) for side in (piece.width, piece.height))
    return width * height


def _shows(piece: Piece) -> bool:
    return min(piece.width, piece.height) * piece.scale <= 2 * LARGEST


def _plain(strata: dict[str, list[Piece]]) -> dict[str, list[Piece]]:
    """Return the slides that show nothing by themselves; all, where each does."""
    plain = {name: some for name, some in strata.items() if not any(p.shows for p in some)}
    return plain or strata


def _by_group(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    return _by(pieces, lambda piece: piece.group)


def _by(pieces: Iterable[Piece], key: Callable[[Piece], str]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(key(piece), []).append(piece)
    return found
