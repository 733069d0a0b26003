"""What composed slides are cut from: real tiles, fields and cells, each of one field, in one part.

Scales. The `lbc_tiles` are published as 20x: 0.5 um/px. Of CRIC's fields (Rezende et al., Sci Data
2021; 40x; kept here 1280 pixels wide) no pixel size was found: superficial cells of 45 to 60 um
measure 165 to 220 pixels and neutrophils of 10 to 12 um about 40: 0.27 um/px, an estimate.
ComparisonDetector's crops show the same cells as large as the LBC tiles do: 0.5 um/px, an estimate
too. Every crop is resized by up to 10% at random besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unicas_edge.errors import RegionError, TrainingError
from unicas_edge.heads.images import read_image
from unicas_edge.train.cells.cric import cells_of
from unicas_edge.train.compose import folds
from unicas_edge.train.compose.scores import LIMIT, likely_abnormal
from unicas_edge.train.compose.shown import SHOWN

Origin = Literal["lbc", "cric", "comparison"]
By = Literal["field", "slide"]
PARTS = ("train", "val", "test")
FOLDS = 5
UM_PX = 0.5
TILE = 256
SPACING: dict[Origin, float] = {"lbc": 0.5, "cric": 0.27, "comparison": 0.5}
#: worst first: a field's stratum
_SEVERITY = ("scc", "hsil", "asch", "lsil", "ascus", "nilm")
_MOST_FILES = 1_000_000
#: half a cell's crop, and how far an abnormal nucleus must lie from what is called normal, um
CELL_UM, CLEAR_UM = 24.0, 12.0


@dataclass(frozen=True)
class Piece:
    """A part of a picture: centre and size in its pixels, what it shows, and the field it is of.

    `group` names the field; `stratum` is what the split is balanced by. `shows` are tasks whose
    findings the picture may show by itself (`shown`).
    """

    file: Path
    origin: Origin
    kind: str
    group: str
    stratum: str
    x: float
    y: float
    width: float
    height: float
    shows: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """Level-0 pixels of a composed slide per pixel of the picture."""
        return SPACING[self.origin] / UM_PX


@dataclass(frozen=True)
class Sources:
    """Everything that can be composed, or one part of it.

    `lbc` tiles; `cric` windows of a tile's size with normal nuclei and no abnormal one; `cells` of
    CRIC; `crops` of ComparisonDetector. `unreadable` names the pictures left out, and `abnormal`
    is how many LBC tiles were, because their source calls them so.
    """

    lbc: tuple[Piece, ...]
    cric: tuple[Piece, ...]
    cells: tuple[Piece, ...]
    crops: tuple[Piece, ...]
    unreadable: tuple[str, ...] = ()
    part: str = "all"
    abnormal: int = 0

    @property
    def slides(self) -> tuple[str, ...]:
        """The LBC slides that backgrounds are of, by name."""
        return tuple(sorted({slide_of(piece) for piece in self.lbc}))

    def folds(self, seed: int = 0, *, by: By = "field", count: int = FOLDS) -> dict[str, int]:
        """Return the fold, of `count`, of every piece's `group`: what `split` goes by.

        By "field", LBC tiles too; or by "slide": a whole LBC slide lies in one fold, and only
        fields of CRIC are dealt. `TrainingError` where there are fewer slides than folds.
        """
        others = (*self.cric, *self.cells, *self.crops)
        if by == "field":
            return folds.by_field((*self.lbc, *others), count, seed)
        return folds.by_field(others, count, seed) | folds.by_slide(self.lbc, count, seed)

    def without_slides(self, *names: str) -> Sources:
        """Return the sources without the tiles of these LBC slides.

        `TrainingError` for a name that there is not, and where no slide would be left.
        """
        unknown = sorted(set(names) - set(self.slides))
        if unknown:
            known = ", ".join(self.slides) or "none"
            raise TrainingError(f"no background slide {', '.join(unknown)}; there are: {known}")
        if set(names) == set(self.slides):
            what = "one background slide only" if len(self.slides) == 1 else "all background slides"
            raise TrainingError(f"{what}, {', '.join(names)}: without it none is left")
        return replace(self, lbc=tuple(p for p in self.lbc if slide_of(p) not in names))

    def joined(self, other: Sources) -> Sources:
        """Return the pieces of both parts."""
        return replace(
            self,
            part=f"{self.part}+{other.part}",
            lbc=self.lbc + other.lbc,
            cric=self.cric + other.cric,
            cells=self.cells + other.cells,
            crops=self.crops + other.crops,
        )

    def split(
        self, part: str, fold: int = 0, seed: int = 0, *, by: By = "field", count: int = FOLDS
    ) -> Sources:
        """Return the pieces of one part: fold `fold` is the test, the next one validation.

        By field, or by LBC slide (`folds`): none is in two parts. ComparisonDetector's crops do
        not tell theirs, so each is its own. `TrainingError` for an unknown part, or one that
        leaves a source empty.
        """
        if part not in PARTS or not 0 <= fold < count:
            raise TrainingError(
                f"no part {part!r} of fold {fold}; give {', '.join(PARTS)}, 0 to {count - 1}"
            )
        fold_of = self.folds(seed, by=by, count=count)
        name = {fold: "test", (fold + 1) % count: "val"}

        def mine(pool: tuple[Piece, ...]) -> tuple[Piece, ...]:
            return tuple(p for p in pool if name.get(fold_of[p.group], "train") == part)

        chosen = replace(
            self,
            part=part,
            lbc=mine(self.lbc),
            cric=mine(self.cric),
            cells=mine(self.cells),
            crops=mine(self.crops),
        )
        for pool in ("lbc", "cric", "cells", "crops"):
            if getattr(self, pool) and not getattr(chosen, pool):
                raise TrainingError(f"{pool}: too few fields for a {part} part of {count} folds")
        return chosen


def slide_of(piece: Piece) -> str:
    """Return the name of the slide that an LBC tile is of."""
    return piece.stratum.partition("/")[2]


def load_sources(
    data: Path, *, unreadable_share: float = 0.02, most_abnormal: float = LIMIT
) -> Sources:
    """Return what the folder of real data (`lbc_tiles`, `cric`, `comparison_detector_refs`) holds.

    Every picture is decoded once: those that cannot be are named, and more than `unreadable_share`
    of a source is a `TrainingError`, as are missing folders, classes or cells outside their field.
    LBC tiles more likely abnormal than `most_abnormal` (`scores`) are no backgrounds.
    """
    unreadable: list[str] = []
    every = tuple(_lbc(data / "lbc_tiles", unreadable, unreadable_share))
    likely = likely_abnormal(data / "lbc_tiles", most_abnormal)
    lbc = tuple(p for p in every if (slide_of(p), p.file.name) not in likely)
    if not lbc:
        raise TrainingError(
            f"{data / 'lbc_tiles'}: all {len(every)} tiles are more likely abnormal than "
            f"{most_abnormal:g}; give a higher limit"
        )
    windows, cells = _cric(data / "cric", unreadable, unreadable_share)
    folder = data / "comparison_detector_refs"
    crops = tuple(_comparison(folder, unreadable, unreadable_share))
    return Sources(lbc, windows, cells, crops, tuple(unreadable), abnormal=len(every) - len(lbc))


def _lbc(folder: Path, bad: list[str], share: float) -> Iterator[Piece]:
    for file, (width, height) in _sizes(folder.glob("*/*.jpg"), folder, bad, share).items():
        slide = f"lbc/{file.parent.name}"
        field = file.stem.rpartition("_")[0]  # <scale>_<row>_<col>_<k>
        named = Piece(file, "lbc", "background", f"{slide}/{field}", slide, 0, 0, width, height)
        shows = SHOWN.get(file.parent.name, ())
        yield replace(named, x=width / 2, y=height / 2, shows=shows)


def _comparison(folder: Path, bad: list[str], share: float) -> Iterator[Piece]:
    for file, (width, height) in _sizes(folder.glob("*/*.jpg"), folder, bad, share).items():
        kind = file.parent.name.partition("_")[2]
        stratum = f"comparison/{kind}"
        group = f"{stratum}/{file.stem}"
        named = Piece(file, "comparison", kind, group, stratum, 0, 0, width, height)
        yield replace(named, x=width / 2, y=height / 2)


def _cric(
    folder: Path, bad: list[str], share: float
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Return the clean windows and the cells of all fields."""
    sizes = _sizes((folder / "images").glob("*.jpg"), folder, bad, share)
    windows: list[Piece] = []
    cells: list[Piece] = []
    side = 2 * CELL_UM / SPACING["cric"]
    for file, nuclei in _nuclei(folder).items():
        name = file.name
        if file not in sizes:
            continue
        worst = min((kind for kind, _, _ in nuclei), key=_SEVERITY.index)
        width, height = sizes[file]
        outside = [n for n in nuclei if not (0 <= n[1] < width and 0 <= n[2] < height)]
        if outside:
            raise TrainingError(
                f"{folder / 'cells.csv'}: {name}: {outside[0]} is outside the image"
            )
        field = Piece(file, "cric", "background", f"cric/{name}", f"cric/{worst}", 0, 0, side, side)
        windows += _windows(field, sizes[file], nuclei)
        cells += _cells(field, nuclei)
    if not windows or not cells:
        raise TrainingError(f"{folder}: no field with normal cells; see cells.csv there")
    return tuple(windows), tuple(cells)


Nucleus = tuple[str, float, float]


def _nuclei(root: Path) -> dict[Path, list[Nucleus]]:
    """Return (kind, x, y) of every nucleus by its field's file."""
    cells = cells_of(root)
    kinds = [_plain(name) for name in cells.names]
    found: dict[Path, list[Nucleus]] = {}
    for file, (x, y), grade in zip(cells.paths, cells.centres, cells.grades, strict=True):
        found.setdefault(file, []).append((kinds[grade], float(x), float(y)))
    return found


def _plain(name: str) -> str:
    """Return a class of the Bethesda system as ComparisonDetector writes it."""
    return name.replace("-", "").lower()


def _windows(field: Piece, size: tuple[int, int], nuclei: list[Nucleus]) -> Iterator[Piece]:
    """Yield windows of a tile's size a quarter of it apart, with normal nuclei only."""
    side = TILE / field.scale
    clear = CLEAR_UM / SPACING["cric"]
    for top in range(0, int(size[1] - side) + 1, int(side // 4)):
        for left in range(0, int(size[0] - side) + 1, int(side // 4)):
            x, y = left + side / 2, top + side / 2
            inside = _near(nuclei, x, y, side / 2 - clear)
            around = _near(nuclei, x, y, side / 2 + clear)
            if inside and {kind for kind, _, _ in around} == {"nilm"}:
                yield replace(field, x=x, y=y, width=side, height=side)


def _cells(field: Piece, nuclei: list[Nucleus]) -> Iterator[Piece]:
    """Yield every abnormal cell, and the normal ones whose crop shows no abnormal nucleus."""
    reach = (CELL_UM + CLEAR_UM) / SPACING["cric"]
    for kind, x, y in nuclei:
        if kind != "nilm" or {k for k, _, _ in _near(nuclei, x, y, reach)} == {"nilm"}:
            yield replace(field, kind=kind, x=x, y=y)


def _near(nuclei: list[Nucleus], x: float, y: float, reach: float) -> list[Nucleus]:
    return [n for n in nuclei if max(abs(n[1] - x), abs(n[2] - y)) < reach]


def _sizes(
    files: Iterable[Path], folder: Path, bad: list[str], share: float
) -> dict[Path, tuple[int, int]]:
    """Return (width, height) of every picture that decodes, by path; the others join `bad`."""
    sizes: dict[Path, tuple[int, int]] = {}
    broken: list[str] = []
    for file in sorted(files)[:_MOST_FILES]:
        try:
            height, width, _ = read_image(file).shape
            sizes[file] = (width, height)
        except RegionError as error:
            broken.append(str(error))
    if not sizes or len(broken) > share * (len(sizes) + len(broken)):
        first = f" (the first: {broken[0]})" if broken else ""
        raise TrainingError(
            f"{folder}: {len(broken)} of {len(sizes) + len(broken)} pictures cannot be read{first};"
            f" at most {share:.0%} may be unreadable, and at least one must be readable"
        )
    bad += broken
    return sizes
