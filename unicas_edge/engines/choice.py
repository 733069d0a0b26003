"""Which engine, in which precision: what the bundle has, what passed its gate, what is fastest.

The reference, onnxruntime in fp32, always may screen. Anything else needs evidence in the bundle,
made on a processor of this instruction class, that passes the bundle's gate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import get_args

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Backend, Precision
from unicas_edge.core.machine import isa
from unicas_edge.engines.base import Model
from unicas_edge.engines.speeds import Speeds, read_speeds
from unicas_edge.errors import EngineError

BACKENDS: tuple[str, ...] = get_args(Backend)
PRECISIONS: tuple[str, ...] = get_args(Precision)
#: Where nothing was measured: each is usually faster than the next (`cpu-engines`, two machines).
_RANK = ("int8", "int8w", "bf16", "fp16", "fp32")


def reference(bundle: Bundle) -> Model:
    """Return what every other model is measured against: the encoder's file in onnxruntime."""
    spec = bundle.manifest.encoder
    return Model("onnxruntime", spec.precision, bundle.path(spec.file))


def models(bundle: Bundle) -> Iterator[Model]:
    """Yield every engine and precision that the bundle's files allow, the reference first.

    A CPU that has bf16 runs the reference file in it; int8 needs a form of its own.
    """
    spec, first = bundle.manifest.encoder, reference(bundle)
    yield first
    forms = {(form.backend, form.precision): form for form in spec.forms}
    if spec.precision == "fp32":
        same: tuple[tuple[Backend, Precision], ...] = (
            ("openvino", "fp32"),
            ("openvino", "bf16"),
            ("onnxruntime-cuda", "fp32"),
            ("onnxruntime-tensorrt", "fp32"),
        )
        yield from (Model(*kind, first.path) for kind in same if kind not in forms)
    for kind, form in forms.items():
        yield Model(*kind, bundle.path(form.file))


def installed(model: Model) -> bool:
    """Whether the package that runs this model is there; onnxruntime is a dependency."""
    return model.backend != "openvino" or find_spec("openvino") is not None


def objection(bundle: Bundle, model: Model) -> str | None:
    """Return why this model must not screen unasked, naming the figure; None if it may."""
    if model == reference(bundle):
        return None
    what = f"{model.backend} in {model.precision}"
    missed = _shortfalls(bundle, model)
    if missed is None:
        return (
            f"{what} was not verified for this bundle on a processor like this one; run "
            "`unicas-edge verify` with slides of yours"
        )
    return f"{what} did not pass the bundle's gate: {'; '.join(missed)}" if missed else None


def _shortfalls(bundle: Bundle, model: Model) -> list[str] | None:
    """Return what the evidence says against these files on this class of processor; None: none."""
    manifest = bundle.manifest
    found = manifest.verification
    if found is None or (found.encoder_sha256, found.aggregator_sha256) != (
        weights_sha256(bundle, reference(bundle)),
        manifest.files[manifest.aggregator.file],
    ):
        return None
    kind = (model.backend, model.precision, weights_sha256(bundle, model), isa())
    for run in found.runs:
        if (run.backend, run.precision, run.weights_sha256, run.isa) == kind:
            return list(run.shortfalls(found.gate))
    return None


def weights_sha256(bundle: Bundle, model: Model) -> str:
    """Return a SHA-256 of all that a model runs: its file and those that hold its tensors.

    These begin with its whole name (``encoder.onnx.data``) or are an IR's ``.bin``; another form's
    (``encoder.openvino-int8.xml``) do not count. Of one file it is its own.
    """
    name = model.path.relative_to(bundle.root).as_posix()
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
) -> Model:
    """Return what is to encode.

    `auto` takes the fastest that may screen: by what `doctor --measure` found on this machine, else
    by what is usual. A precision asked for by name that may not is an `EngineError` naming the
    figure, unless `allow_unverified`.
    """
    _check_names(backend, precision)
    fitting = [
        m
        for m in models(bundle)
        if backend in ("auto", m.backend) and precision in ("auto", m.precision)
    ]
    if not fitting:
        have = ", ".join(f"{m.backend} {m.precision}" for m in models(bundle))
        raise EngineError(
            f"{bundle.root}: no {precision} for {backend} in this bundle; it has {have}. "
            "`unicas-edge export quantise` makes other forms"
        )
    objections = {m: objection(bundle, m) for m in fitting}
    ready = [m for m in fitting if objections[m] is None and (installed(m) or backend != "auto")]
    if ready:
        speeds = read_speeds(bundle)
        return max(ready, key=lambda m: _preference(m, speeds))
    first = next((m for m in fitting if installed(m)), fitting[0])
    if not allow_unverified:
        raise EngineError(f"{bundle.root}: {objections[first]}; or --allow-unverified")
    return first


def _preference(model: Model, speeds: Speeds) -> tuple[bool, float, int, bool]:
    """Order models: those measured first, the fastest of them first; GPUs before nothing."""
    measured = speeds.get((model.backend, model.precision))
    usual = -_RANK.index(model.precision)
    return measured is not None, measured or 0.0, usual, model.backend == "openvino"


def _check_names(backend: str, precision: str) -> None:
    for what, value, known in (
        ("backend", backend, BACKENDS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in ("auto", *known):
            raise EngineError(f"unknown {what} {value!r}; there are: auto, {', '.join(known)}")
