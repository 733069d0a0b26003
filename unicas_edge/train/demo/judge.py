"""The default bundle's recipe judged slide by slide, as `screen` judges: through `Session`.

Three questions, each asked of the fold's bundle that has not seen what the slide is made of. Does
the same slide, scanned otherwise, get the same answer? Is what is no slide of cells refused, and
are good slides not? How much attention falls on tiles out of focus?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from unicas_edge.adequacy.knowledge import Knowledge, load_knowledge
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Encoder, EngineOptions, open_encoder
from unicas_edge.errors import SpacingError
from unicas_edge.result import SlideResult
from unicas_edge.screening.session import Session
from unicas_edge.train.artefacts.material import Material
from unicas_edge.train.artefacts.slides import ArtefactSlide, artefact_slides
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.compose.correct import fitted
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.scanner import CHANGES
from unicas_edge.train.compose.set import plans
from unicas_edge.train.compose.slide import Composer, Slide
from unicas_edge.train.compose.sources import TILE, UM_PX, Sources
from unicas_edge.train.compose.tiled import TiledSlide
from unicas_edge.train.demo.job import Job

#: Said of a slide whose um/px the pixels contradict.
SPACING = "spacing"


@dataclass(frozen=True)
class JudgeSettings:
    """How many slides are judged, of `rows` x `rows` tiles.

    So many are `rescanned` by every change; `artefacts` are slides on which nothing can be judged,
    `good` ones composed of what a fold has not seen.
    """

    rescanned: int = 8
    artefacts: int = 40
    good: int = 40
    rows: int = 16

    @property
    def recipe(self) -> Recipe:
        """How the slides are composed."""
        return Recipe(rows=self.rows, columns=self.rows)


class Parts:
    """A bundle loaded once, for any number of slides; close it."""

    def __init__(self, bundle: Bundle, job: Job) -> None:
        self.bundle = bundle
        self.encoder: Encoder = open_encoder(
            bundle, EngineOptions(*job.engine, allow_unverified=True)
        )
        self.aggregator = Aggregator.load(bundle)
        self.knowledge: Knowledge | None = load_knowledge(bundle)

    def screened(self, slide: TiledSlide, mode: str) -> SlideResult:
        """Return the result of a made slide in a colour mode; `SpacingError` as of `screen`."""
        recipe = slide.recipe
        with Session(
            self.bundle,
            width=recipe.columns * TILE,
            height=recipe.rows * TILE,
            um_px=UM_PX,
            encoder=self.encoder,
            aggregator=self.aggregator,
            knowledge=self.knowledge,
            colour=fitted(slide, mode, self.bundle.manifest.colour.target),
        ) as session:
            for index in range(recipe.tiles):
                row, column = divmod(index, recipe.columns)
                session.push(
                    np.ascontiguousarray(slide.tile(row, column)), column * TILE, row * TILE
                )
            return session.finish()

    def answers(self, slide: TiledSlide, mode: str) -> tuple[dict[str, str], SlideResult | None]:
        """Return the decision of every task, and the result.

        `SPACING` for all, and no result, where the um/px is refused.
        """
        try:
            result = self.screened(slide, mode)
        except SpacingError:
            return dict.fromkeys(TASKS, SPACING), None
        return {task.name: task.decision for task in result.tasks}, result

    def close(self) -> None:
        """Free the encoder."""
        self.encoder.close()


@dataclass(frozen=True)
class Rescanned:
    """What scanning slides otherwise changed, by the name of the change.

    `changed` decisions of `decisions`, of which `refused` ones are not among the changed: their
    um/px was found wrong. `attention` is by how many times their share tiles out of focus draw it,
    for each task: 1 is their share, 0 none.
    """

    decisions: int
    changed: Mapping[str, int]
    refused: Mapping[str, int]
    attention: Mapping[str, float]


def rescanned(
    parts: Sequence[Parts], unseen: Sequence[Sources], settings: JudgeSettings, mode: str, job: Job
) -> Rescanned:
    """Return what `CHANGES` do to composed slides of each fold's unseen sources in turn."""
    changed: Counter[str] = Counter(dict.fromkeys(CHANGES, 0))
    refused: Counter[str] = Counter(dict.fromkeys(CHANGES, 0))
    shares: dict[str, list[float]] = {task: [] for task in TASKS}
    for number in range(settings.rescanned):
        fold = number % len(parts)
        job.tell(f"slide {number + 1} of {settings.rescanned}, scanned otherwise")
        before, _ = parts[fold].answers(_slide(unseen[fold], number, settings.recipe, job), mode)
        for name, scanner in CHANGES.items():
            recipe = replace(settings.recipe, scanner=scanner)
            slide = _slide(unseen[fold], number, recipe, job)
            after, result = parts[fold].answers(slide, mode)
            differ = [after[task] for task in TASKS if after[task] != before[task]]
            refused[name] += differ.count(SPACING)
            changed[name] += len(differ) - differ.count(SPACING)
            if scanner.blurred_share and result is not None:
                for task, share in _attention(result, slide):
                    shares[task].append(share)
    drawn = {task: float(np.mean(some)) for task, some in shares.items() if some}
    return Rescanned(settings.rescanned * len(TASKS), dict(changed), dict(refused), drawn)


def _slide(sources: Sources, number: int, recipe: Recipe, job: Job) -> Slide:
    """Return slide `number`, the same whatever scans it; every other one has a decision."""
    rng = np.random.default_rng([job.seed, 7, number])
    labels = {task: bool(rng.random() < 0.5) for task in TASKS}
    return Composer(sources).plan(int(rng.integers(2**31)), labels, recipe)


def _attention(result: SlideResult, slide: Slide) -> Iterator[tuple[str, float]]:
    """Yield (task, attention on tiles out of focus over their share of the tiles)."""
    tiles, scanner = result.tiles, slide.scanner
    if tiles is None or scanner is None:
        return
    seen = tiles[tiles["token"] >= 0]
    index = seen["miny"] // TILE * slide.recipe.columns + seen["minx"] // TILE
    dim = np.array([scanner.is_blurred(int(k)) for k in index])
    for task in TASKS:
        attention = seen[f"prob_{task}"].astype(np.float64)
        if dim.any() and attention.sum():
            yield task, float(attention[dim].sum() / attention.sum() / dim.mean())


@dataclass(frozen=True)
class Gated:
    """What became of slides that are no slides of cells, and of good ones.

    `decided` names the former that got a decision, `refused` the latter that got none, with why.
    """

    artefacts: int
    good: int
    decided: tuple[str, ...]
    refused: tuple[str, ...]


def gated(
    parts: Sequence[Parts],
    unseen: Sequence[Sources],
    materials: Sequence[Material],
    settings: JudgeSettings,
    mode: str,
    job: Job,
) -> Gated:
    """Return how the gates of the folds do, on artefact slides and on good ones, dealt round.

    Both are made of what the fold has not seen, `materials` alike.
    """
    decided: list[str] = []
    refused: list[str] = []
    for fold, part in enumerate(parts):
        composer = Composer(unseen[fold])
        bad = artefact_slides(
            job.seed, settings.artefacts, composer, materials[fold], settings.recipe
        )
        for name, slide in islice(bad, fold, None, len(parts)):
            job.tell(f"{name}: {slide.design}")
            decided += _decided(part, slide, mode)
        good = plans(composer, settings.good, 10 * job.seed + 5, settings.recipe)
        for name, one in islice(good, fold, None, len(parts)):
            job.tell(f"good slide {name}")
            refused += _refused(part, name, one, mode)
    return Gated(settings.artefacts, settings.good, tuple(decided), tuple(refused))


def _decided(part: Parts, slide: ArtefactSlide, mode: str) -> list[str]:
    """Return the slide's design if it got a decision."""
    found, _ = part.answers(slide, mode)
    return [slide.design] if {"positive", "negative"} & set(found.values()) else []


def _refused(part: Parts, name: str, slide: Slide, mode: str) -> list[str]:
    """Return the slide's name, with why, if it got no decision."""
    try:
        reasons = part.screened(slide, mode).adequacy.reasons
    except SpacingError as error:
        reasons = [error.cause]
    return [f"{name}: {'; '.join(reasons)}"] if reasons else []
