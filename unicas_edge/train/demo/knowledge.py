"""What the default bundle knows: fitted on what its encoder has seen, judged on what it has not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from unicas_edge.adequacy.reading import Reading
from unicas_edge.bundle.knowledge import CELL
from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.train.aggregator.remix import KnownSlide
from unicas_edge.train.artefacts.tiles import KINDS as ARTEFACTS
from unicas_edge.train.compose.sources import Sources
from unicas_edge.train.demo.data import TARGET, DemoData
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.sample import sample_tiles
from unicas_edge.train.encoder.tokens import TileEncoder
from unicas_edge.train.knowledge.bundle import read_tokens
from unicas_edge.train.knowledge.fit import Lessons, count_error, fit_knowledge
from unicas_edge.train.knowledge.tiles import Kind, Measured, artefacts, counted, scaled

KINDS = (CELL, *ARTEFACTS)
#: Tiles of these may carry a decision; what shows debris or a fold may show cells as well.
AGGREGATED = (CELL, "debris", "fold")
OUT_OF_FOCUS = KINDS.index("out_of_focus")
_ERROR = "count.error"
#: A tile is called out of focus from this much defocus on (sigma in pixels), and sharp below that.
_BLURRED, _SHARP = 2.0, 0.8


@dataclass(frozen=True)
class KnowledgeSettings:
    """How many tiles: `each` of every kind of artefact, `scaled` and `counted` ones.

    And those of so many `drawn` slides (`sample_tiles`).
    """

    each: int = 256
    scaled: int = 600
    drawn: int = 4
    counted: int = 2_000


@dataclass(frozen=True)
class Known:
    """Tensors of a knowledge, and the relative error of its count of cells."""

    tensors: dict[str, Float32]
    cell_error: float

    def read(self, slide: KnownSlide) -> Reading:
        """Return what it reads in a slide's tokens."""
        return read_tokens(self.tensors, KINDS, AGGREGATED, slide.tokens)

    def aggregated(self, slide: KnownSlide) -> KnownSlide:
        """Return a slide with the tiles that may carry a decision alone."""
        kept = self.read(slide).aggregated
        parts = {key: getattr(slide, key)[kept] for key in ("tokens", "task", "decides", "blur")}
        return replace(slide, **parts)


def fitted(
    data: DemoData,
    name: str,
    slides: Sequence[KnownSlide],
    encoder: TileEncoder,
    settings: KnowledgeSettings,
    job: Job,
) -> Known:
    """Return the knowledge of an encoder; kept in the job's folder.

    `slides` are composed of what it has seen (`known_slides`).
    """
    kept = job.work / "knowledge" / f"{name}.safetensors"
    if kept.exists():
        return _known(dict(load_file(kept)))
    job.tell(f"knowledge of {name}")
    lessons = _lessons(data, data.seen_by(name)[0], slides, encoder, settings)
    tensors = fit_knowledge(lessons, KINDS) | {_ERROR: np.array([count_error(lessons)], np.float32)}
    with output_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as file:
        file.write(save(tensors))
    return _known(tensors)


def _known(tensors: dict[str, Float32]) -> Known:
    error = round(float(tensors.pop(_ERROR)[0]), 3)
    return Known(tensors, error)


def _lessons(
    data: DemoData,
    sources: Sources,
    slides: Sequence[KnownSlide],
    encoder: TileEncoder,
    settings: KnowledgeSettings,
) -> Lessons:
    made = _encoded(
        encoder, artefacts(data.material(sources), KINDS, settings.each, data.seed, TARGET)
    )
    drawn = _encoded(encoder, sample_tiles(settings.drawn, data.seed, OUT_OF_FOCUS, TARGET))
    scales = _encoded(encoder, scaled(sources, settings.scaled, data.seed, TARGET))
    counts = _encoded(encoder, islice(counted(data.nuclei, TARGET), settings.counted))
    blur = np.concatenate([slide.blur for slide in slides])
    tokens = np.concatenate([slide.tokens for slide in slides])
    sharp, dim = blur <= _SHARP, blur >= _BLURRED
    kind = np.concatenate(
        [np.zeros(sharp.sum()), np.full(dim.sum(), OUT_OF_FOCUS), made.values, drawn.values]
    )
    cells = drawn.tokens[drawn.values == 0]
    return Lessons(
        np.concatenate([tokens[sharp], tokens[dim], made.tokens, drawn.tokens]),
        kind.astype(np.int64),
        np.concatenate([tokens[sharp], cells]),
        counts.tokens,
        counts.values,
        counts.groups,
        scales.tokens,
        scales.values,
    )


class Encoded(NamedTuple):
    """Tokens float32 [n, width], a number float64 [n] for each, and its picture if it has one."""

    tokens: Float32
    values: NDArray[np.float64]
    groups: tuple[str, ...]


def _encoded(encoder: TileEncoder, tiles: Iterable[Kind | Measured]) -> Encoded:
    values: list[float] = []
    groups: list[str] = []

    def pixels() -> Iterator[UInt8Image]:
        for tile in tiles:
            values.append(float(tile[1]))
            groups.append(tile.group if isinstance(tile, Measured) else "")
            yield tile.pixels

    tokens = encoder(pixels())
    return Encoded(tokens, np.array(values), tuple(groups))
