"""Which engine, in which precision: what the bundle has, what passed its gate, what is fastest.

The reference, onnxruntime in fp32, always may screen. Anything else needs evidence in the bundle,
made on a processor of this instruction class, that passes the bundle's gate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import get_args

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Precision
from unicas_edge.core.machine import isa
from unicas_edge.engines.base import Candidate
from unicas_edge.engines.registry import BACKENDS, ENGINES, engine, missing, require
from unicas_edge.engines.speeds import Speeds, read_speeds
from unicas_edge.errors import EngineError

PRECISIONS: tuple[str, ...] = get_args(Precision)
#: Where nothing was measured: each is usually faster than the next (`cpu-engines`, two machines).
_RANK = ("int8", "int8w", "bf16", "fp16", "fp32")


def reference(bundle: Bundle) -> Candidate:
    """Return what every other candidate is measured against: the encoder's file in onnxruntime."""
    spec = bundle.manifest.encoder
    return Candidate("onnxruntime", spec.precision, bundle.path(spec.file))


def candidates(bundle: Bundle) -> Iterator[Candidate]:
    """Yield every engine and precision that the bundle's files allow, the reference first.

    Every engine takes the reference file in the precisions of its row; others need a form.
    """
    spec, first = bundle.manifest.encoder, reference(bundle)
    yield first
    forms = {(form.backend, form.precision): form for form in spec.forms}
    if spec.precision == "fp32":
        same = ((row.name, precision) for row in ENGINES for precision in row.precisions)
        taken = {(first.backend, first.precision), *forms}
        yield from (Candidate(*kind, first.path) for kind in same if kind not in taken)
    for kind, form in forms.items():
        yield Candidate(*kind, bundle.path(form.file))


def objection(bundle: Bundle, candidate: Candidate) -> str | None:
    """Return why this candidate must not screen unasked, naming the figure; None if it may."""
    if candidate == reference(bundle):
        return None
    what = f"{candidate.backend} in {candidate.precision}"
    missed = _shortfalls(bundle, candidate)
    if missed is None:
        return (
            f"{what} was not verified for this bundle on a processor like this one; run "
            "`unicas-edge verify` with slides of yours"
        )
    return f"{what} did not pass the bundle's gate: {'; '.join(missed)}" if missed else None


def _shortfalls(bundle: Bundle, candidate: Candidate) -> list[str] | None:
    """Return what the evidence says against these files on this class of processor; None: none."""
    manifest = bundle.manifest
    found = manifest.verification
    if found is None or (found.encoder_sha256, found.aggregator_sha256) != (
        weights_sha256(bundle, reference(bundle)),
        manifest.files[manifest.aggregator.file],
    ):
        return None
    digest = weights_sha256(bundle, candidate)
    kind = (candidate.backend, candidate.precision, digest, isa())
    for run in found.runs:
        if (run.backend, run.precision, run.weights_sha256, run.isa) == kind:
            return list(run.shortfalls(found.gate))
    return None


def weights_sha256(bundle: Bundle, candidate: Candidate) -> str:
    """Return a SHA-256 of all that a candidate runs: its file and those that hold its tensors.

    These begin with its whole name (``encoder.onnx.data``) or are an IR's ``.bin``; another form's
    (``encoder.openvino-int8.xml``) do not count. Of one file it is its own.
    """
    name = candidate.path.relative_to(bundle.root).as_posix()
    own = {name, f"{name.removesuffix('.xml')}.bin"}
    hashes = [
        sha
        for file, sha in sorted(bundle.manifest.files.items())
        if file in own or file.startswith(f"{name}.")
    ]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def choose(
    bundle: Bundle,
    backend: str = "auto",
    precision: str = "auto",
    *,
    allow_unverified: bool = False,
) -> Candidate:
    """Return what is to encode.

    `auto` takes the fastest that may screen: by what `doctor --measure` found on this machine, else
    by what is usual. `EngineError` for an engine that is not installed, saying what to install, and
    for one asked for by name that may not screen, naming the figure, unless `allow_unverified`.
    """
    fitting = _fitting(bundle, backend, precision)
    allowed = [c for c in fitting if objection(bundle, c) is None]
    ready = [c for c in allowed if missing(c.backend) is None]
    if ready:
        speeds = read_speeds(bundle)
        return max(ready, key=lambda c: _preference(c, speeds))
    first = next((c for c in fitting if missing(c.backend) is None), fitting[0])
    require((allowed or [first])[0].backend)
    if not allow_unverified:
        raise EngineError(f"{bundle.root}: {objection(bundle, first)}; or --allow-unverified")
    return first


def _fitting(bundle: Bundle, backend: str, precision: str) -> list[Candidate]:
    """Return the candidates of these names; `EngineError` where the bundle has none."""
    _check_names(backend, precision)
    every = list(candidates(bundle))
    found = [
        c for c in every if backend in ("auto", c.backend) and precision in ("auto", c.precision)
    ]
    if not found:
        have = ", ".join(f"{c.backend} {c.precision}" for c in every)
        raise EngineError(
            f"{bundle.root}: no {precision} for {backend} in this bundle; it has {have}. "
            "`unicas-edge export quantise` makes other forms"
        )
    return found


def _preference(candidate: Candidate, speeds: Speeds) -> tuple[bool, float, int, int]:
    """Order candidates: those measured first, the fastest of them first; then by what is usual."""
    measured = speeds.get((candidate.backend, candidate.precision))
    usual = -_RANK.index(candidate.precision)
    return measured is not None, measured or 0.0, usual, engine(candidate.backend).rank


def _check_names(backend: str, precision: str) -> None:
    for what, value, known in (
        ("backend", backend, BACKENDS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in ("auto", *known):
            raise EngineError(f"unknown {what} {value!r}; there are: auto, {', '.join(known)}")
