"""The labelled data that the default bundle is made of, and which of them an encoder may see.

One deal of fields into five folds holds for everything: an encoder that is to be judged on a fold
has seen no cell, crop or background of its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unicas_edge.train.cells import dataset as regions_data
from unicas_edge.train.cells.dataset import Indices, Regions, readable
from unicas_edge.train.cells.splits import grouped_folds
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import FOLDS, Sources, load_sources
from unicas_edge.train.encoder.adapt.data import (
    TILE_SOURCE,
    AdaptData,
    cell_pool,
    digest,
    tile_pool,
)

Triple = tuple[float, float, float]
#: CRIC's squares as they are classified, in pixels of its fields, and so much more is augmented in.
CRIC_SIDE, _AROUND = 128, 1.4
#: An encoder's number: the fold that it has not seen; the two of `HELD`; none.
HELD = "held"
EVERYTHING = "all"


@dataclass(frozen=True)
class Mixture:
    """The `shares` of the sources in a batch, and how many `backgrounds` a composed slide gives.

    Mixtures of another `number` take the tiles of other slides.
    """

    shares: Mapping[str, float]
    backgrounds: int
    number: int


CELLS_AND_TILES = Mixture(
    {"sipakmed": 18.0, "cric": 14.0, "comparison": 7.0, TILE_SOURCE: 25.0}, backgrounds=24, number=1
)
MOSTLY_TILES = Mixture(
    {"sipakmed": 7.0, "cric": 7.0, "comparison": 4.0, TILE_SOURCE: 46.0}, backgrounds=72, number=2
)


@dataclass(frozen=True)
class DemoData:
    """Everything labelled, and the fold int64 [n] of each region, by its source's name."""

    sources: Sources
    cells: dict[str, Regions]
    folds: dict[str, Indices]
    seed: int

    def seen_by(self, encoder: str) -> tuple[Sources, dict[str, Regions]]:
        """Return what an encoder is trained on: "fold-<k>", `HELD` or `EVERYTHING`.

        `HELD` has seen neither the test nor the validation part of fold 0; it is not judged on
        SIPaKMeD, whose fields no slide is composed of, and has seen all of it.
        """
        if encoder == EVERYTHING:
            return self.sources, self.cells
        train = self.sources.split("train", self._fold(encoder), self.seed)
        unseen = {self._fold(encoder)}
        if encoder == HELD:
            unseen = {0, 1}
        else:
            train = train.joined(self.sources.split("val", self._fold(encoder), self.seed))
        cells = {
            name: data.take(np.flatnonzero(~np.isin(self.folds[name], list(unseen))))
            for name, data in self.cells.items()
        }
        if encoder == HELD:
            cells["sipakmed"] = self.cells["sipakmed"]
        return train, cells

    def _fold(self, encoder: str) -> int:
        return 0 if encoder == HELD else int(encoder.removeprefix("fold-"))


def load_demo_data(data: Path, seed: int = 0) -> DemoData:
    """Return what the folder holds; `TrainingError` as `load_sources` and `readable` have it.

    CRIC's and ComparisonDetector's fields are dealt as those of composed slides are
    (`Sources.folds`), SIPaKMeD's by `grouped_folds`.
    """
    sources = load_sources(data)
    cells = {
        "sipakmed": readable(regions_data.sipakmed(data / "sipakmed")),
        "cric": readable(regions_data.cric(data / "cric", CRIC_SIDE, grades=True)),
        "comparison": readable(regions_data.comparison_detector(data / "comparison_detector_refs")),
    }
    dealt = sources.folds(seed)
    sipakmed, comparison = cells["sipakmed"], cells["comparison"]
    fields = {
        "cric": [f"cric/{region.path.name}" for region in cells["cric"].regions],
        "comparison": [
            f"comparison/{comparison.classes[label]}/{region.path.stem}"
            for region, label in zip(comparison.regions, comparison.labels, strict=True)
        ],
    }
    folds = {
        name: np.array([dealt[field] for field in names], np.int64)
        for name, names in fields.items()
    }
    folds["sipakmed"] = grouped_folds(sipakmed.labels, sipakmed.groups, FOLDS, seed)
    return DemoData(sources, cells, folds, seed)


def adapt_data(
    data: DemoData,
    encoder: str,
    slides: int,
    mixture: Mixture,
    *,
    batch: int,
    size: int,
    mean: Triple,
    std: Triple,
    tell: Callable[[str], None],
) -> AdaptData:
    """Return what `encoder` is adapted to: cells, and the tiles of so many composed slides."""
    sources, cells = data.seen_by(encoder)
    pools = {
        name: cell_pool(regions, _AROUND if name == "cric" else 1.0)
        for name, regions in cells.items()
    }
    composer = Composer(sources)
    pools[TILE_SOURCE] = tile_pool(
        composer, slides, 2 * data.seed + mixture.number, tell, backgrounds=mixture.backgrounds
    )
    outputs = {name: len(regions.classes) for name, regions in data.cells.items()}
    outputs[TILE_SOURCE] = pools[TILE_SOURCE].labels.shape[1]
    return AdaptData(
        pools,
        outputs,
        mixture.shares,
        frozenset({"cric"}),
        size,
        mean,
        std,
        batch,
        identity={"pictures": digest(pools.values())},
    )
