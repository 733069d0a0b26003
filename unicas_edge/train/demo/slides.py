"""The aggregators of the default bundle: one for each fold to be judged, and the one that ships.

Each learns from bags that are remixed from composed slides of the backgrounds that its encoder has
seen. The one that ships is trained alike on everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unicas_edge.train.aggregator import fit as fitting
from unicas_edge.train.aggregator.guide import GuideSettings, guide
from unicas_edge.train.aggregator.model import MultiTaskAggregator
from unicas_edge.train.aggregator.remix import KnownSlide, known, remixed
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.data import DemoData
from unicas_edge.train.demo.encoder import Trained
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.knowledge import Known
from unicas_edge.train.demo.known import Scans, backgrounds, known_slides
from unicas_edge.train.encoder.tokens import TileEncoder
from unicas_edge.train.loop import feed

#: A small aggregator, 1.7 M parameters; the published one has 344 M, and saw 48,532 slides.
SHAPE: dict[str, Any] = {
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "num_experts": 4,
    "top_m": 256,
}


@dataclass(frozen=True)
class SlideSettings:
    """How often backgrounds are composed, and how an aggregator learns from `bags` of them.

    Left-out backgrounds are composed for the `test`, and as they are `scanned` otherwise; each
    composition gives `test_bags` slides. Compositions have `rows` x `rows` tiles.
    """

    train: Scans = field(default_factory=lambda: Scans(4, 1.0, ("reinhard", "none", "reinhard")))
    test: Scans = field(default_factory=lambda: Scans(2, 0.0))
    scanned: Scans = field(default_factory=lambda: Scans(1, 1.0, clean=0))
    bags: int = 512
    test_bags: int = 24
    rows: int = 25
    guide: GuideSettings = field(default_factory=GuideSettings)
    fit: fitting.FitSettings = field(
        default_factory=lambda: fitting.FitSettings(lr=2e-4, epochs=6, drop_tiles=0.3)
    )


@dataclass(frozen=True)
class Learnt:
    """What was learnt from all that the encoder `name` may see; `weights` are the aggregator's."""

    name: str
    encoder: Trained
    aggregator: MultiTaskAggregator
    weights: Path
    known: Known


def trained_aggregator(
    data: DemoData, name: str, encoder: TileEncoder, settings: SlideSettings, job: Job
) -> tuple[MultiTaskAggregator, Path, list[KnownSlide]]:
    """Return the aggregator for an encoder, its weights' file, and the slides it learnt from."""
    sources, _ = data.seen_by(name)
    places = backgrounds(sources, settings.rows, "cric", "mixed")
    slides = known_slides(
        places, settings.train, encoder, job.work / "tokens" / f"{name}-seen", job
    )
    bags = remixed(slides, TASKS, settings.bags, job.seed)
    feed.seed_all(settings.fit.seed, 0, 0, feed.SETUP)
    model = MultiTaskAggregator(fitting.aggregator_config(bags, **SHAPE))
    run = job.work / "aggregators" / name
    guided = run.with_name(f"{name}-guide")
    told = known(slides, len(TASKS))
    guide(model, told, bags, settings.guide, guided, resume=True, tell=job.tell)
    fitting.fit_aggregator(model, bags, None, settings.fit, run, resume=True)
    return model.eval(), run / fitting.WEIGHTS, slides
