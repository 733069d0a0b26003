"""Everything that the default bundle is judged by, and what follows: mode, limits, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unicas_edge.adequacy.reading import Reading
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.export.encoder import export_aggregator
from unicas_edge.train.demo.calibration import (
    Calibration,
    Outcome,
    calibrations,
    covered,
    cross_fitted,
    outcomes,
)
from unicas_edge.train.demo.data import TARGET, DemoData
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.judge import Gated, JudgeSettings, Parts, Rescanned, gated, rescanned
from unicas_edge.train.demo.knowledge import AGGREGATED, KINDS
from unicas_edge.train.demo.left_out import MODES, Trial, Unseen, seen_cells, trial
from unicas_edge.train.demo.slides import SHAPE, Learnt, SlideSettings
from unicas_edge.train.knowledge.bundle import knowledge_spec, write_knowledge


@dataclass(frozen=True)
class Evidence:
    """The bundle that ships, without heads, and all that it was judged by.

    `aucs` is the AUC of each task, by colour mode, on slides plain and scanned; `mode` the one
    chosen. `tests` are (predictions, report) of each task where nothing was seen, `seen_cells`
    where the backgrounds alone were not. `covered` is the share of labels that prediction sets
    held.
    """

    bundle: Bundle
    mode: str
    aucs: dict[str, dict[str, dict[str, float]]]
    tests: tuple[Outcome, ...]
    seen_cells: tuple[Outcome, ...]
    covered: dict[str, float]
    rescanned: Rescanned
    gated: Gated

    def document(self) -> dict[str, Any]:
        """Return what is written down of it beside the reports."""
        return {
            "colour_mode": self.mode,
            "auc_by_colour_mode": self.aucs,
            "prediction_sets_hold": self.covered,
            "rescanned": asdict(self.rescanned),
            "gate": asdict(self.gated),
        }


def gather(
    data: DemoData,
    folds: Sequence[Learnt],
    shipped: Learnt,
    settings: SlideSettings,
    judge: JudgeSettings,
    job: Job,
) -> Evidence:
    """Return the evidence: the mode is chosen first, then limits and calibration, then the rest.

    The mode is the one with the best mean AUC over tasks, plain and scanned slides.
    """
    trials = [trial(data, folds, mode, settings, job) for mode in MODES]
    aucs = {one.mode: one.aucs() for one in trials}
    best = max(trials, key=Trial.auc)
    mode, unseen = best.mode, best.plain
    job.tell(f"colour mode {mode}: {aucs}")
    known = seen_cells(data, folds, mode, settings, job)
    good = [
        [learnt.known.read(slide) for slide in some]
        for learnt, some in zip(folds, best.slides, strict=True)
    ]
    rescan, gate = _judged(data, folds, good, unseen, mode, judge, job)
    every = [one for some in good for one in some]
    return Evidence(
        _bundle(shipped, every, calibrations(unseen), mode, job),
        mode,
        aucs,
        tuple(outcomes(unseen, _protocol(unseen, mode, _STRICT))),
        tuple(outcomes(known, _protocol(known, mode, _SEEN_CELLS), "backgrounds alone unseen")),
        covered(unseen),
        rescan,
        gate,
    )


def _judged(
    data: DemoData,
    folds: Sequence[Learnt],
    good: Sequence[Sequence[Reading]],
    unseen: Unseen,
    mode: str,
    judge: JudgeSettings,
    job: Job,
) -> tuple[Rescanned, Gated]:
    """Return how the folds' bundles screen, with limits and calibration of the others alone."""
    crossed = cross_fitted(unseen)
    parts = []
    for fold, learnt in enumerate(folds):
        others = [one for k, some in enumerate(good) if k != fold for one in some]
        calibrated = [task[fold] for task in crossed]
        parts.append(Parts(_bundle(learnt, others, calibrated, mode, job), job))
    try:
        sources = [data.unseen_by(learnt.name) for learnt in folds]
        materials = [data.material(some) for some in sources]
        rescan = rescanned(parts, sources, judge, mode, job)
        return rescan, gated(parts, sources, materials, judge, mode, job)
    finally:
        for part in parts:
            part.close()


def _bundle(
    learnt: Learnt,
    good: Sequence[Reading],
    calibrated: Sequence[Calibration],
    mode: str,
    job: Job,
) -> Bundle:
    """Return the bundle of what was learnt, made anew in the job's folder."""
    whole = _with_aggregator(learnt, job)
    target = whole.root.with_name(f"judged-{learnt.name}")
    manifest = whole.manifest
    spec = knowledge_spec(
        manifest.files[manifest.encoder.file], KINDS, AGGREGATED, good, learnt.known.cell_error
    )
    tasks = [
        task.model_dump(mode="json")
        | {
            "threshold": one.threshold,
            "calibration": {"temperature": one.temperature},
            "conformal": one.conformal.model_dump(mode="json"),
        }
        for task, one in zip(manifest.tasks, calibrated, strict=True)
    ]
    colour = {"default": mode, "target": TARGET.model_dump(mode="json")}
    return write_knowledge(
        whole,
        target,
        learnt.known.tensors,
        spec,
        {"tasks": tasks, "colour": colour},
        force=target.exists(),
    )


def _with_aggregator(learnt: Learnt, job: Job) -> Bundle:
    target = job.work / "bundles" / f"whole-{learnt.name}"
    with edited_copy(learnt.encoder.bundle, target, force=target.exists()):
        pass
    made: Bundle = export_aggregator(
        learnt.weights, target, heads=SHAPE["num_heads"], top_m=SHAPE["top_m"]
    ).bundle
    return made


#: What a fold has not seen of the slides that it is judged by.
_STRICT = "have seen no tile of its background slides, no field of CRIC and no crop on it"
_SEEN_CELLS = "have seen no tile of its background slides; what decides was trained on"


def _protocol(unseen: Unseen, mode: str, what: str) -> str:
    compositions = len(set(unseen.slides))
    folds = len(np.unique(unseen.folds))
    return (
        f"{len(unseen.labels)} slides put together of the tiles of {compositions} composed ones, "
        "1% to 5% of the tiles decide a positive label, decoys on every slide, colours "
        f"{mode}. {folds} folds: encoder, aggregator and knowledge of each {what}; temperature and "
        "threshold are from the other folds. Composed slides are resampled. The shipped weights "
        "are of the same recipe on all"
    )
