"""Composed slides of one background each, whose every tile is known, as tokens.

A background is one LBC slide, the clean windows of CRIC's fields, or a mixture of all. Each is
composed several times: in its own colours, as other scanners would give it, and corrected or not.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.remix import KnownSlide
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.compose.correct import correction
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.shown import SHOWN
from unicas_edge.train.compose.slide import Composer, Slide
from unicas_edge.train.compose.sources import Sources, slide_of
from unicas_edge.train.demo.data import TARGET
from unicas_edge.train.demo.job import Job
from unicas_edge.train.encoder.tokens import TileEncoder

#: Enough of everything for bags of any labels: more than half remains background.
RECIPE = Recipe(positive=(0.07, 0.07), decoys=(0.05, 0.05))
_ALL = dict.fromkeys(TASKS, True)
_ARRAYS = ("tokens", "task", "decides", "blur")


class Background(NamedTuple):
    """A background's name, what it is composed of, and how."""

    name: str
    sources: Sources
    recipe: Recipe


@dataclass(frozen=True)
class Scans:
    """How each background is composed: so many `times`, in the colour `modes` in turn.

    All but the first `clean` as scanners see them that are drawn so strong (0: none).
    """

    times: int
    strength: float
    modes: tuple[str, ...] = ("none",)
    clean: int = 1


def backgrounds(sources: Sources, rows: int, *others: str) -> list[Background]:
    """Return the LBC slides of the sources, and `others`, to be composed of `rows` x `rows` tiles.

    "cric" is CRIC's fields, "mixed" the mixture of all that show nothing by themselves.
    """
    recipe = replace(RECIPE, rows=rows, columns=rows)
    lbc = replace(recipe, background="lbc")
    found = [Background(name, _alone(sources, name), lbc) for name in sources.slides]
    if "cric" in others:
        found.append(Background("cric", sources, replace(recipe, background="cric")))
    if "mixed" in others:
        plain = sources.without_slides(*(set(SHOWN) & set(sources.slides)))
        found.append(Background("mixed", plain, replace(recipe, background="mixed")))
    return found


def _alone(sources: Sources, name: str) -> Sources:
    return replace(sources, lbc=tuple(p for p in sources.lbc if slide_of(p) == name))


def known_slides(
    places: Sequence[Background], scans: Scans, encoder: TileEncoder, folder: Path, job: Job
) -> list[KnownSlide]:
    """Return the slides' tokens; they are kept in `folder`, and taken from there."""
    return [
        _kept(folder / f"{place.name}-{turn}.npz", place, turn, scans, encoder, job)
        for place in places
        for turn in range(scans.times)
    ]


def _kept(
    where: Path, place: Background, turn: int, scans: Scans, encoder: TileEncoder, job: Job
) -> KnownSlide:
    if not where.exists():
        job.tell(f"{where.parent.name}: tokens of {place.name}, {turn + 1} of {scans.times}")
        made = _encoded(place, turn, scans, encoder, job.seed)
        with output_errors(where):
            where.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(where) as file:
            np.savez(file, **{key: getattr(made, key) for key in _ARRAYS})
    try:
        with where.open("rb") as file, np.load(file) as found:
            parts = {key: found[key] for key in _ARRAYS}
            return KnownSlide(where.stem, place.name, **parts, unknown=_unknown(place))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{where}: cannot be read ({error}); delete it to make it again"
        ) from error


def _encoded(
    place: Background, turn: int, scans: Scans, encoder: TileEncoder, seed: int
) -> KnownSlide:
    number = int(np.random.default_rng([seed, turn]).integers(2**31))
    recipe = replace(place.recipe, scanners=scans.strength if turn >= scans.clean else 0.0)
    slide = Composer(place.sources).plan(number, _ALL, recipe)
    tokens = encoder(_tiles(slide, scans.modes[turn % len(scans.modes)]))
    task = np.full(recipe.tiles, -1, np.int64)
    decides = np.zeros(recipe.tiles, np.bool_)
    for one in slide.insertions:
        index = one.tile[0] * recipe.columns + one.tile[1]
        task[index], decides[index] = TASKS.index(one.task), one.decisive
    blur = np.array([_blur(slide, index) for index in range(recipe.tiles)])
    name = f"{place.name}-{turn}"
    return KnownSlide(name, place.name, tokens, task, decides, blur, _unknown(place))


def _unknown(place: Background) -> tuple[int, ...]:
    """Return the tasks whose findings a background may show by itself."""
    return tuple(TASKS.index(task) for task in SHOWN.get(place.name, ()))


def _blur(slide: Slide, index: int) -> float:
    scanner = slide.scanner
    return scanner.blur_sigma if scanner is not None and scanner.is_blurred(index) else 0.0


def _tiles(slide: Slide, mode: str) -> Iterator[np.ndarray]:
    correct = correction(slide, mode, TARGET)
    for index in range(slide.recipe.tiles):
        yield correct(slide.tile(*divmod(index, slide.recipe.columns)))
