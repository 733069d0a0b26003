"""Does every engine and precision of a bundle still say the same? Measured on the user's tiles.

Each is run beside the reference (onnxruntime in fp32, see `engines.choice.reference`) on the same
tiles, one process after another: tokens are compared one by one, then what the aggregator makes of
each slide's tokens. The figures go into the bundle, where its gate judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import with_manifest
from unicas_edge.bundle.encoder import EngineRun, Gate, Verification
from unicas_edge.core.machine import isa, processor
from unicas_edge.engines import Candidate
from unicas_edge.engines.choice import candidates, weights_sha256
from unicas_edge.errors import EngineError
from unicas_edge.screening.decide import probability
from unicas_edge.verification.engine_process import Encoded, encode_apart
from unicas_edge.verification.tile_samples import Sample, sample_slides

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Verified:
    """What a verification found; `refused` are engines that did not run, with the cause."""

    verification: Verification
    refused: dict[str, str]


def verify(
    bundle: Bundle,
    slides: Sequence[Path],
    tiles: int,
    gate: Gate | None = None,
    *,
    backend: str = "auto",
    precision: str = "auto",
    mpp: float | None = None,
    tell: Tell,
) -> Verified:
    """Return every engine and precision of the bundle compared with the reference.

    `backend` and `precision` leave out all others. `tiles` are taken of each slide, `mpp` as in
    `sample_slides`. Engines whose package is installed are run; one that fails is reported in
    `refused`. The reference is measured first and is itself a run, with cosine 1. `gate` None keeps
    the bundle's. `SlideError` for slides that cannot be read, `EngineError` where the reference
    itself does not run.
    """
    samples = sample_slides(slides, bundle, tiles, mpp)
    batch = np.concatenate([sample.normalised(bundle) for sample in samples])
    first, *others = candidates(bundle)
    tell(f"{len(batch)} tiles of {len(samples)} slides; {_name(first)}")
    base = encode_apart(bundle, first, batch)
    judge = _Judge(bundle, samples, base)
    runs, refused = [judge.run(first, base)], {}
    for other in others:
        if backend not in ("auto", other.backend) or precision not in ("auto", other.precision):
            continue
        try:
            tell(_name(other))
            runs.append(judge.run(other, encode_apart(bundle, other, batch)))
        except EngineError as error:
            refused[_name(other)] = str(error)
    found = bundle.manifest.verification
    files, spec = bundle.manifest.files, bundle.manifest
    verification = Verification(
        encoder_sha256=weights_sha256(bundle, first),
        aggregator_sha256=files[spec.aggregator.file],
        slides=len(samples),
        tiles=len(batch),
        gate=gate or (found.gate if found else Gate()),
        runs=tuple(runs),
    )
    return Verified(verification, refused)


def write_verification(bundle: Bundle, verification: Verification) -> Bundle:
    """Write the figures into ``bundle.json`` and return the bundle as it now is.

    Runs of other engines, and on processors of other classes, are kept where they speak for the
    same files and gate.
    `OutputError` where the folder cannot be written.
    """
    old = bundle.manifest.verification
    kept: list[EngineRun] = []
    if old is not None and _subject(old) == _subject(verification):
        new = {_kind(run) for run in verification.runs}
        kept = [run for run in old.runs if _kind(run) not in new]
    content = bundle.manifest.model_dump(mode="json")
    whole = verification.model_copy(update={"runs": (*kept, *verification.runs)})
    content["verification"] = whole.model_dump(mode="json")
    return with_manifest(bundle, content)


def _kind(run: EngineRun) -> tuple[str, str, str]:
    return run.backend, run.precision, run.isa


def _subject(verification: Verification) -> tuple[str, str, Gate]:
    """Return what a verification speaks of; those that speak of the same may stand together."""
    return verification.encoder_sha256, verification.aggregator_sha256, verification.gate


def rows(verified: Verified) -> Iterator[dict[str, Any]]:
    """Yield what a table shows of each run, in order, then of each engine that was refused."""
    gate = verified.verification.gate
    for run in verified.verification.runs:
        missed = "; ".join(run.shortfalls(gate))
        yield {
            "engine": f"{run.backend} {run.precision}",
            **run.model_dump(mode="json"),
            "verdict": f"refused: {missed}" if missed else "passed",
        }
    for name, cause in verified.refused.items():
        yield {"engine": name, "verdict": f"did not run: {cause}"}


def _name(candidate: Candidate) -> str:
    return f"{candidate.backend} {candidate.precision}"


class _Judge:
    """Compares tokens with the reference's, and what the aggregator makes of both."""

    def __init__(self, bundle: Bundle, samples: Sequence[Sample], base: Encoded) -> None:
        self._bundle, self._base = bundle, base
        self._aggregator = Aggregator.load(bundle)
        self._ends = np.cumsum([len(sample.pixels) for sample in samples])[:-1]
        self._expected = self._slides(base.tokens)

    def run(self, candidate: Candidate, found: Encoded) -> EngineRun:
        """Return the figures of one engine."""
        cosines = cosine(found.tokens, self._base.tokens)
        middle = self._base.tokens.mean(axis=0)
        centred = cosine(found.tokens - middle, self._base.tokens - middle)
        slides = self._slides(found.tokens)
        thresholds = np.array([task.threshold for task in self._bundle.manifest.tasks])
        before = np.array([p for p, _ in self._expected])
        after = np.array([p for p, _ in slides])
        shares = [
            share
            for (_, a), (_, b) in zip(self._expected, slides, strict=True)
            for share in overlaps(a, b, self._bundle.manifest.aggregator.config.top_m)
        ]
        return EngineRun(
            backend=candidate.backend,
            precision=candidate.precision,
            weights_sha256=weights_sha256(self._bundle, candidate),
            engine_version=found.version,
            processor=processor(),
            isa=isa(),
            cosine_mean=float(cosines.mean()),
            cosine_min=float(cosines.min()),
            cosine_p01=float(np.percentile(cosines, 1)),
            centred_cosine_mean=float(centred.mean()),
            overlap=float(np.mean(shares)),
            max_probability_change=float(np.abs(after - before).max()),
            changed_decisions=int(((after >= thresholds) != (before >= thresholds)).sum()),
            tiles_per_second=round(found.tiles_per_second, 3),
            reference_tiles_per_second=round(self._base.tiles_per_second, 3),
            peak_mb=round(found.peak_mb, 1),
        )

    def _slides(self, tokens: NDArray[np.float32]) -> list[tuple[list[float], NDArray[np.float32]]]:
        """Return of each slide the tasks' probabilities, and the attention [tasks, tiles]."""
        found = []
        for bag in np.split(tokens, self._ends):
            explained = self._aggregator.explain(bag)
            tasks = self._bundle.manifest.tasks
            values = [
                probability(row, task) for row, task in zip(explained.logits, tasks, strict=True)
            ]
            found.append((values, explained.attention))
        return found


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each row of `a` [n, d] with that of `b`, in [-1, 1]; 0 beside zeros."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    dots = (a64 * b64).sum(axis=1)
    cosines: NDArray[np.float64] = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return cosines.clip(-1, 1)


def overlaps(
    before: NDArray[np.float32], after: NDArray[np.float32], top_m: int
) -> Iterator[float]:
    """Yield, for each task, which share of its most attended tiles [tasks, n] both agree on.

    They are the `top_m` that a head keeps, but at most a quarter of the slide's, so that a small
    bag, of which every tile is kept, is judged too.
    """
    n = before.shape[1]
    most = max(1, min(top_m, n // 4))
    for a, b in zip(before, after, strict=True):
        first, second = (set(np.argsort(-row, kind="stable")[:most].tolist()) for row in (a, b))
        yield len(first & second) / most
