"""The encoders of the default bundle: one for each fold to be judged, and the one that ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.export.encoder import export_encoder
from unicas_edge.models.architectures import ARCHITECTURES, ViT
from unicas_edge.train.demo.data import (
    CELLS_AND_TILES,
    EVERYTHING,
    HELD,
    MOSTLY_TILES,
    DemoData,
    Mixture,
    adapt_data,
)
from unicas_edge.train.demo.job import Job
from unicas_edge.train.encoder.adapt.data import BATCH
from unicas_edge.train.encoder.adapt.fit import AdaptSettings, adapt
from unicas_edge.train.encoder.files import NAME, save_encoder, start_from
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.encoder.pretrained import model_path, read_backbone, resampled

#: For processors alone: as fast as a ViT-Ti/16, with ViT-S's width (`pretrained.resampled`).
ARCHITECTURE = "vit-s22-8"
#: Encoders of aggregators; the others are judged on cells.
FOR_SLIDES = (HELD, EVERYTHING)


@dataclass(frozen=True)
class EncoderSettings:
    """How encoders are adapted: to cells and tiles, and those for slides mostly to tiles then.

    For the tiles of each so many `slides` are composed; a step takes `batch` images.
    """

    first: AdaptSettings = field(default_factory=AdaptSettings)
    second: AdaptSettings = field(default_factory=lambda: AdaptSettings(steps=280, lr=2e-4))
    slides: int = 60
    batch: int = BATCH


def encoder_bundle(data: DemoData, encoder: str, settings: EncoderSettings, job: Job) -> Bundle:
    """Return the bundle of an adapted encoder, with an aggregator that is untrained yet.

    `encoder` says what it may see (`DemoData.seen_by`). A run that was interrupted goes on.
    """
    run, target = job.work / "encoders" / encoder, job.work / "bundles" / f"encoder-{encoder}"
    if target.exists():
        return Bundle.load(target)
    begun = partial(_pretrained, ARCHITECTURES[ARCHITECTURE].vit)
    _adapted(data, encoder, settings.first, CELLS_AND_TILES, settings, begun, run, job)
    if encoder in FOR_SLIDES:
        begun = partial(start_from, run / NAME, ARCHITECTURES[ARCHITECTURE].vit)
        run = run.with_name(f"{encoder}-tiles")
        _adapted(data, encoder, settings.second, MOSTLY_TILES, settings, begun, run, job)
    # int8 a channel: 15 MB; cosine of the tokens above 0.9999
    made: Bundle = export_encoder(
        run / NAME, target, architecture=ARCHITECTURE, storage="int8"
    ).bundle
    return made


def _pretrained(vit: ViT) -> VisionTransformer:
    return resampled(read_backbone(model_path()), vit)


def _adapted(
    data: DemoData,
    encoder: str,
    settings: AdaptSettings,
    mixture: Mixture,
    whole: EncoderSettings,
    begun: Callable[[], VisionTransformer],
    run: Path,
    job: Job,
) -> None:
    """Leave an encoder in the folder `run`, unless it is there."""
    if (run / NAME).exists():
        return
    kind = ARCHITECTURES[ARCHITECTURE]
    seen = adapt_data(
        data,
        encoder,
        whole.slides,
        mixture,
        batch=whole.batch,
        size=kind.vit.size,
        mean=kind.mean,
        std=kind.std,
        tell=job.tell,
    )
    counts = ", ".join(f"{len(pool.pictures):,} {name}" for name, pool in seen.pools.items())
    job.tell(f"encoder {run.name}: {settings.steps} steps on {counts}")
    made = adapt(begun(), seen, settings, run, resume=True)
    save_encoder(run, made, f"unicas-edge train demo, {settings.steps} steps")
