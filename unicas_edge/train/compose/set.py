"""Sets of composed slides: as files with a table of labels, or as bags of tokens to train on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import simplejpeg

from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.engines import Encoder
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.heads.classifier import view_tokens
from unicas_edge.slide.tiff.pyramid_writer import encode_tile
from unicas_edge.tiles.grid import Cell, grid_of
from unicas_edge.tiles.normalise import centre_crop
from unicas_edge.tiles.plan import plan
from unicas_edge.tiles.quality import is_background, measure
from unicas_edge.train.aggregator.bags import MISSING, Bag, BagSet
from unicas_edge.train.compose.choice import GRADES, NILM, TASKS
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.slide import Composer, Slide
from unicas_edge.train.compose.sources import TILE, UM_PX
from unicas_edge.train.compose.tiled import TiledSlide

TABLE = "labels.csv"
#: the paper's subtypes, in the order of their class numbers; carcinoma has none
SUBTYPES = (NILM, *(name for name in GRADES.values() if name))
_MOST = 100_000
#: So many tiles of a slide are held as JPEG, 15 kB each, while its bag is made.
_HELD = 4_096


def plans(
    composer: Composer, count: int, seed: int = 0, recipe: Recipe | None = None
) -> Iterator[tuple[str, Slide]]:
    """Yield (name, slide): every combination of labels comes equally often, in random order.

    Slide k of a seed is the same whatever `count` is, if the combinations' rounds of eight are.
    """
    if not 1 <= count <= _MOST or seed < 0:
        raise TrainingError(f"{count} slides, seed {seed}: give 1 to {_MOST:,} and a seed >= 0")
    combinations = [dict(zip(TASKS, c, strict=True)) for c in product((False, True), repeat=3)]
    for k in range(count):
        turn, place = divmod(k, len(combinations))
        order = np.random.default_rng([seed, turn]).permutation(len(combinations))
        labels = combinations[int(order[place])]
        one = int(np.random.default_rng([seed, turn, place]).integers(2**62))
        yield f"{composer.pools.sources.part}-{seed}-{k:05}", composer.plan(one, labels, recipe)


def write_set(
    composer: Composer,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    force: bool = False,
    tell: Callable[[Path, Slide], None] = lambda _path, _slide: None,
) -> Path:
    """Write `count` slides (SVS with their truth) into `folder`, and `TABLE`, which is returned.

    The table has a slide's ``name``, a column for each task (1, 0, or blank where its background
    may show the task's findings by itself) and its ``subtype``, blank for none: what `train
    evaluate --truth` and `bags_data.read_table` read. `OutputError` where a table is there and
    `force` is not given, or the disk does not take it.
    """
    table = folder / TABLE
    if table.exists() and not force:
        raise OutputError(f"{table}: exists; choose another folder, or --force replaces it")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = [["name", *TASKS, "subtype"]]
    for name, slide in plans(composer, count, seed, recipe):
        path = folder / f"{name}.svs"
        slide.write(path)
        rows.append([name, *_labels(slide, ""), _subtype(slide, "")])
        tell(path, slide)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(table) as file:
        file.write(text.getvalue().encode())
    return table


def token_bags(
    composer: Composer,
    bundle: Bundle,
    encoder: Encoder,
    count: int,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    subtype: bool = False,
    folder: Path | None = None,
) -> BagSet:
    """Return bags of `count` composed slides, no slide being written, in memory.

    Tokens are those of `screen` without colour correction (`slide_tokens`). With `subtype` there is
    a fourth task. With `folder` they are kept there, ``<slide>.npy``, and those that are there
    already are taken as they are: a folder belongs to one encoder, set of sources and recipe.
    """
    tasks = {**dict.fromkeys(TASKS, 2), **({"subtype": len(SUBTYPES)} if subtype else {})}
    bags = []
    for name, slide in plans(composer, count, seed, recipe):
        labels = tuple(int(label) for label in _labels(slide, MISSING))
        labels += (int(_subtype(slide, MISSING)),) if subtype else ()
        where = None if folder is None else folder / f"{name}.npy"
        bags.append(Bag(name, _kept(where, slide, bundle, encoder), labels))
    return BagSet(tuple(bags), tuple(tasks), tuple(tasks.values()), encoder.width)


def _kept(where: Path | None, slide: Slide, bundle: Bundle, encoder: Encoder) -> Float32 | Path:
    if where is None:
        return slide_tokens(slide, bundle, encoder)
    if not where.exists():
        tokens = slide_tokens(slide, bundle, encoder)
        with output_errors(where):
            where.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(where) as file:
            np.save(file, tokens)
    return where


def slide_tokens(slide: TiledSlide, bundle: Bundle, encoder: Encoder) -> Float32:
    """Return the tokens float32 [n, width] of a slide, in number and order those of `screen`.

    That is, of the tiles that are not background among the bundle's `max_tiles` in canonical order.
    """
    spec, recipe = bundle.manifest.tile, slide.recipe
    small = recipe.tiles <= _HELD  # larger ones are composed twice rather than held
    streams = list(slide.encoded()) if small else slide.encoded()
    scores = np.array([len(jpeg) for jpeg in streams], dtype=np.float64)
    grid = grid_of(spec, recipe.columns * TILE, recipe.rows * TILE, UM_PX)
    if (grid.rows, grid.cols) != (recipe.rows, recipe.columns):
        raise TrainingError(
            f"the bundle's tiles of {spec.size_px} pixels at {spec.um_px:g} um/px are not a "
            f"composed slide's: {TILE} at {UM_PX:g}; write the slides and screen them"
        )
    cells = plan(grid, scores.reshape(recipe.rows, recipe.columns), spec.max_tiles)
    held = streams if isinstance(streams, list) else []
    tiles = _cellular(slide, cells, spec.crop_px, held)
    return view_tokens(bundle, encoder, tiles, ["tile"])["tile"]


def _cellular(
    slide: TiledSlide, cells: list[Cell], crop: int, held: list[bytes]
) -> Iterator[UInt8Image]:
    for row, column in cells:
        jpeg = (
            held[row * slide.recipe.columns + column]
            if held
            else encode_tile(slide.tile(row, column), slide.quality).jpeg
        )
        tile = simplejpeg.decode_jpeg(jpeg)
        if not is_background(measure(centre_crop(tile, crop))):
            yield tile


def _labels(slide: Slide, none: str | int) -> list[str | int]:
    return [none if label is None else int(label) for label in slide.known.values()]


def _subtype(slide: Slide, none: str | int) -> str | int:
    return none if slide.subtype is None else SUBTYPES.index(slide.subtype)
