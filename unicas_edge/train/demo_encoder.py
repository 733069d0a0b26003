"""The encoders of the default bundle: one for each fold to be judged, and the one that ships."""

from __future__ import annotations

from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.export.architectures import ARCHITECTURES
from unicas_edge.export.build import export_encoder
from unicas_edge.train.adapt import AdaptSettings, adapt
from unicas_edge.train.demo_data import DemoData, adapt_data
from unicas_edge.train.demo_job import Job
from unicas_edge.train.encoder_files import NAME, save_encoder
from unicas_edge.train.pretrained import model_path, read_backbone, resampled

#: For processors alone: as fast as a ViT-Ti/16, with ViT-S's width (`pretrained.resampled`).
ARCHITECTURE = "vit-s22-8"


def encoder_bundle(
    data: DemoData, encoder: str, settings: AdaptSettings, slides: int, job: Job
) -> Bundle:
    """Return the bundle of an adapted encoder, with an aggregator that is untrained yet.

    `encoder` says what it may see (`DemoData.seen_by`); for the tiles that it is adapted to so many
    `slides` are composed. A run that was interrupted goes on.
    """
    run, target = job.work / "encoders" / encoder, job.work / "bundles" / f"encoder-{encoder}"
    if target.exists():
        return Bundle.load(target)
    if not (run / NAME).exists():
        _adapt(data, encoder, settings, slides, run, job)
    # int8 a channel: 15 MB; cosine of the tokens above 0.9999
    made: Bundle = export_encoder(
        run / NAME, target, architecture=ARCHITECTURE, storage="int8"
    ).bundle
    return made


def _adapt(
    data: DemoData, encoder: str, settings: AdaptSettings, slides: int, run: Path, job: Job
) -> None:
    kind = ARCHITECTURES[ARCHITECTURE]
    seen = adapt_data(
        data, encoder, slides, size=kind.vit.size, mean=kind.mean, std=kind.std, tell=job.tell
    )
    counts = ", ".join(f"{len(pool.pictures):,} {name}" for name, pool in seen.pools.items())
    job.tell(f"encoder {encoder}: {settings.steps} steps on {counts}")
    begun = resampled(read_backbone(model_path()), kind.vit)
    made = adapt(begun, seen, settings, run, resume=True)
    save_encoder(run, made, f"unicas-edge train demo, {settings.steps} steps")
