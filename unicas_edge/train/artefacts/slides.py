"""Whole slides of artefacts, as plans: tiles in memory, or files with their truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.train.artefacts.designs import DESIGNS, NEEDS
from unicas_edge.train.artefacts.material import Material
from unicas_edge.train.artefacts.plane import grey_of
from unicas_edge.train.artefacts.scene import Scene
from unicas_edge.train.artefacts.tiles import HELD_OUT
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import TILE, UM_PX
from unicas_edge.train.compose.tiled import TiledSlide

NOTICE = "made to be refused: artefacts drawn by a program, no patient's slide and no diagnosis"
TABLE = "artefacts.csv"
SIZE = Recipe(rows=24, columns=24)
_FORMAT, _MOST = 1, 10_000


class ArtefactSlide(TiledSlide):
    """A slide of one design, which holds nothing that may be judged.

    `sources` are the artefacts on it, as `artefacts.tiles` names them, and the cells beneath.
    """

    def __init__(
        self, design: str, seed: int, composer: Composer, material: Material, recipe: Recipe = SIZE
    ) -> None:
        rng = np.random.default_rng([seed, sorted(DESIGNS).index(design)])
        scene = Scene(rng, recipe.rows, recipe.columns, material, composer)
        self.design, self.seed, self.recipe = design, seed, recipe
        self._ground = DESIGNS[design](scene)
        self.sources = tuple(sorted(scene.used))

    def tile(self, row: int, column: int) -> UInt8Image:
        """Return a tile before JPEG, uint8 [256, 256, 3]."""
        return grey_of(self._ground(row, column))

    def truth(self) -> dict[str, Any]:
        """Return what the JSON file holds beside the slide's name."""
        return {
            "format": _FORMAT,
            "notice": NOTICE,
            "um_px": UM_PX,
            "tile": TILE,
            "seed": self.seed,
            "design": self.design,
            "sources": self.sources,
            "held_out_sources": sorted(HELD_OUT.intersection(self.sources)),
            "adequate": False,
            "tiles": self.recipe.tiles,
        }


def artefact_slides(
    seed: int, count: int, composer: Composer, material: Material, recipe: Recipe = SIZE
) -> Iterator[tuple[str, ArtefactSlide]]:
    """Yield (name, slide): every design once before one comes again, in an order from `seed`.

    Slide k of a seed is the same whatever `count` is. Designs whose picture the material lacks are
    passed over.
    """
    if not 1 <= count <= _MOST or seed < 0:
        raise TrainingError(f"{count} slides, seed {seed}: give 1 to {_MOST:,} and a seed >= 0")
    known = [d for d in DESIGNS if NEEDS.get(d) in (None, *material.pictures)]
    for k in range(count):
        turn, place = divmod(k, len(known))
        order = np.random.default_rng([seed, turn]).permutation(len(known))
        one = int(np.random.default_rng([seed, turn, place]).integers(2**62))
        slide = ArtefactSlide(known[int(order[place])], one, composer, material, recipe)
        yield f"artefact-{seed}-{k:05}", slide


def write_artefacts(
    composer: Composer,
    material: Material,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    recipe: Recipe = SIZE,
    force: bool = False,
    tell: Callable[[Path, ArtefactSlide], None] = lambda _path, _slide: None,
) -> Path:
    """Write `count` slides (SVS with their truth) into `folder`, and `TABLE`, which is returned.

    The table has a slide's ``name``, its ``design`` and its ``sources``. `OutputError` where a
    table is there and `force` is not given, or the disk does not take it.
    """
    table = folder / TABLE
    if table.exists() and not force:
        raise OutputError(f"{table}: exists; choose another folder, or --force replaces it")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows = [["name", "design", "sources"]]
    for name, slide in artefact_slides(seed, count, composer, material, recipe):
        path = folder / f"{name}.svs"
        slide.write(path)
        rows.append([name, slide.design, " ".join(slide.sources)])
        tell(path, slide)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(table) as file:
        file.write(text.getvalue().encode())
    return table
