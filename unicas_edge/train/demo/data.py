"""The labelled data that the default bundle is made of, and which of them an encoder may see.

One deal into three folds holds for everything: an encoder that is to be judged on a fold has seen
no background slide, field, cell or crop of it. Whole background slides are left out, because a
slide's tiles are learnt by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unicas_edge.bundle.manifest import LabTarget
from unicas_edge.core.arrays import UInt8Image
from unicas_edge.train.artefacts.material import Material, load_material
from unicas_edge.train.artefacts.tiles import KINDS, draw
from unicas_edge.train.cells import dataset as regions_data
from unicas_edge.train.cells.dataset import Indices, Regions, readable
from unicas_edge.train.cells.splits import grouped_folds
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import Sources, load_sources
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
#: What the colours of a slide are brought to: those of a ThinPrep slide in the middle of ours.
TARGET = LabTarget(mean=(66.0, 9.0, -18.0), std=(20.0, 17.0, 6.0))
#: So many folds, each with two of the six background slides.
FOLDS = 3
#: The encoder that has seen everything; the others are named by the fold that they have not.
EVERYTHING = "all"
#: LBC tiles that their source calls abnormal with a higher probability are no backgrounds.
MOST_ABNORMAL = 0.3
#: Sources in a batch.
SHARES = {"sipakmed": 10.0, "cric": 10.0, "comparison": 6.0, TILE_SOURCE: 38.0}
#: Tiles of background of a composed slide; each 24 come as often as one kind of insertion.
_BACKGROUNDS = 96


@dataclass(frozen=True)
class DemoData:
    """Everything labelled, and the fold int64 [n] of each region, by its source's name.

    `wsi` is the folder of slides that are no cytology, `nuclei` that of fields with counted nuclei.
    """

    sources: Sources
    cells: dict[str, Regions]
    folds: dict[str, Indices]
    wsi: Path
    nuclei: Path
    seed: int

    def seen_by(self, encoder: str) -> tuple[Sources, dict[str, Regions]]:
        """Return what an encoder is trained on: "fold-<k>" or `EVERYTHING`."""
        if encoder == EVERYTHING:
            return self.sources, self.cells
        fold = fold_of(encoder)
        cells = {
            name: data.take(np.flatnonzero(self.folds[name] != fold))
            for name, data in self.cells.items()
        }
        return self._part("train", fold).joined(self._part("val", fold)), cells

    def unseen_by(self, encoder: str) -> Sources:
        """Return the sources of the fold that an encoder has not seen."""
        return self._part("test", fold_of(encoder))

    def left_out(self, encoder: str) -> Sources:
        """Return the background slides that an encoder has not seen, with the cells that it has."""
        return replace(self.seen_by(encoder)[0], lbc=self.unseen_by(encoder).lbc)

    def material(self, sources: Sources) -> Material:
        """Return what artefacts are drawn on, of these sources."""
        return load_material(sources, self.wsi, seed=self.seed)

    def _part(self, part: str, fold: int) -> Sources:
        return self.sources.split(part, fold, self.seed, by="slide", count=FOLDS)


def fold_of(encoder: str) -> int:
    """Return the fold that an encoder has not seen."""
    return int(encoder.removeprefix("fold-"))


def load_demo_data(data: Path, seed: int = 0) -> DemoData:
    """Return what the folder holds; `TrainingError` as `load_sources` and `readable` have it.

    CRIC's and ComparisonDetector's fields are dealt as those of composed slides are
    (`Sources.folds`), SIPaKMeD's by `grouped_folds`.
    """
    sources = load_sources(data, most_abnormal=MOST_ABNORMAL)
    cells = {
        "sipakmed": readable(regions_data.sipakmed(data / "sipakmed")),
        "cric": readable(regions_data.cric(data / "cric", CRIC_SIDE, grades=True)),
        "comparison": readable(regions_data.comparison_detector(data / "comparison_detector_refs")),
    }
    dealt = sources.folds(seed, by="slide", count=FOLDS)
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
    return DemoData(sources, cells, folds, data / "wsi", data / "lbc_nucleus", seed)


def adapt_data(
    data: DemoData,
    encoder: str,
    slides: int,
    *,
    batch: int,
    size: int,
    mean: Triple,
    std: Triple,
    tell: Callable[[str], None],
) -> AdaptData:
    """Return what `encoder` is adapted to: cells, and tiles of so many composed slides.

    Half of the slides have mixed backgrounds, and half have corrected colours. Artefacts are tiles
    too, which decide nothing.
    """
    sources, cells = data.seen_by(encoder)
    pools = {
        name: cell_pool(regions, _AROUND if name == "cric" else 1.0)
        for name, regions in cells.items()
    }
    pools[TILE_SOURCE] = tile_pool(
        Composer(sources),
        slides,
        2 * data.seed + 1,
        tell,
        backgrounds=_BACKGROUNDS,
        recipes=(Recipe(), Recipe(background="mixed")),
        artefacts=_artefacts(data.material(sources), 20 * slides, data.seed),
        target=TARGET,
    )
    outputs = {name: len(regions.classes) for name, regions in data.cells.items()}
    outputs[TILE_SOURCE] = pools[TILE_SOURCE].labels.shape[1]
    return AdaptData(
        pools,
        outputs,
        SHARES,
        frozenset({"cric"}),
        size,
        mean,
        std,
        batch,
        identity={"pictures": digest(pools.values())},
    )


def _artefacts(material: Material, count: int, seed: int) -> Iterator[UInt8Image]:
    """Yield so many artefact tiles, of every kind in turn."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        yield draw(KINDS[number % len(KINDS)], rng, material)
