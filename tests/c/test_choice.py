"""Which form of a bundle's encoder may screen: C chooses what Python chooses, and says the same."""

from __future__ import annotations

import subprocess
from pathlib import PurePosixPath
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.c.test_aggregator import ADDRESS, build
from tests.support.engine_case import PERFECT
from tests.support.places import ROOT
from unicas_edge.bundle.encoder import EncoderForm, EngineRun, Gate, Verification
from unicas_edge.engines import choice
from unicas_edge.engines.registry import BACKENDS, ENGINES
from unicas_edge.errors import EngineError

__all__ = ["build"]  # the fixture that compiles
pytestmark = pytest.mark.slow

#: As the enums of choice.h have them.
BACKENDS_IN_C = ("onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt")
PRECISIONS = ("int8", "int8w", "bf16", "fp16", "fp32")
ISAS = ("x86_64", "x86_64+avx2")
FIGURES = (
    "cosine_mean",
    "cosine_min",
    "centred_cosine_mean",
    "overlap",
    "max_probability_change",
    "changed_decisions",
)
LIMITS = (
    "min_cosine_mean",
    "min_cosine",
    "min_centred_cosine_mean",
    "min_overlap",
    "max_probability_change",
    "max_changed_decisions",
)
NO_RUNTIME, BAD_OPTIONS = 18, 9


def sha_of(number):
    return f"{number:064x}"


FILES = {f"form{n}.onnx": sha_of(n) for n in range(6)} | {"aggregator": sha_of(100)}
KINDS = st.tuples(st.sampled_from(BACKENDS), st.sampled_from(PRECISIONS))
SHARES = st.sampled_from([0.0, 0.02, 0.5, 0.9, 0.95, 0.98765, 0.99, 1.0])


def form(backend, precision, number):
    return EncoderForm(
        backend=backend,
        precision=precision,
        file=f"form{number}.onnx",
        format="onnx",
        calibration_tiles=0,
        kept=(),
    )


def bundle_of(forms=(), verification=None, precision="fp32"):
    """As much of a bundle as the choice looks at. Its reference is the first of the files."""
    root = PurePosixPath("/bundle")
    manifest = SimpleNamespace(
        encoder=SimpleNamespace(file="form0.onnx", precision=precision, forms=tuple(forms)),
        aggregator=SimpleNamespace(file="aggregator"),
        files=FILES,
        verification=verification,
    )
    return SimpleNamespace(manifest=manifest, root=root, path=lambda name: root / name)


#: Of an engine that just passes the gate.
LEAST = PERFECT | {
    "cosine_mean": 0.99,
    "cosine_min": 0.95,
    "centred_cosine_mean": 0.95,
    "overlap": 0.9,
    "max_probability_change": 0.02,
}
FIGURE = st.just(PERFECT) | st.just(LEAST)
FIGURE |= st.builds(lambda key, value: LEAST | {key: value}, st.sampled_from(FIGURES[:-1]), SHARES)
FIGURE |= st.builds(lambda value: LEAST | {"changed_decisions": value}, st.integers(0, 12345))


def run_of(backend, precision, number, isa, figures):
    facts = {"engine_version": "1", "processor": "p", "isa": isa}
    kind = {"backend": backend, "precision": precision, "weights_sha256": sha_of(number)}
    return EngineRun(**kind, **facts, **figures)


def vouched(*runs, encoder=0, aggregator=100, gate=None):
    return Verification(
        encoder_sha256=sha_of(encoder),
        aggregator_sha256=sha_of(aggregator),
        slides=1,
        tiles=8,
        gate=gate or Gate(),
        runs=runs,
    )


@st.composite
def verifications(draw, known):
    """Evidence of engines that the bundle has, most of it for its own files."""
    kinds = draw(st.lists(st.sampled_from(known) | st.tuples(KINDS, st.integers(0, 6)), max_size=8))
    runs = [run_of(*kind, n, draw(st.sampled_from(ISAS)), draw(FIGURE)) for kind, n in kinds]
    gate = draw(st.none() | st.builds(Gate, min_overlap=SHARES, max_probability_change=SHARES))
    encoder, aggregator = (
        draw(st.sampled_from([0] * 7 + [5])),
        draw(st.sampled_from([100] * 7 + [5])),
    )
    return vouched(*runs, encoder=encoder, aggregator=aggregator, gate=gate)


@st.composite
def bundles(draw):
    made = draw(st.lists(st.tuples(KINDS, st.integers(1, 5)), max_size=5))
    known = [((row.name, precision), 0) for row in ENGINES for precision in row.precisions] + made
    precision = draw(st.sampled_from(["fp32", "fp32", "int8"]))
    verification = draw(st.none() | verifications(known) | verifications(known))
    return bundle_of([form(*kind, number) for kind, number in made], verification, precision)


# ---- a case for C -------------------------------------------------------------------------------


def kind_of(backend, precision, sha256):
    return [BACKENDS_IN_C.index(backend), PRECISIONS.index(precision), short(sha256)]


def short(sha256):
    return sha256[-8:]  # the driver's words are short


def evidence_of(found):
    if found is None:
        return [0]
    numbers = [getattr(found.gate, name) for name in LIMITS]
    words = [1, short(found.encoder_sha256), short(found.aggregator_sha256), *numbers]
    words.append(len(found.runs))
    for run in found.runs:
        words += kind_of(run.backend, run.precision, run.weights_sha256)
        words += [run.isa, *(getattr(run, name) for name in FIGURES)]
    return words


def case_of(bundle, isa, installed, speeds, wish):
    manifest = bundle.manifest
    encoder = manifest.encoder
    words = kind_of("onnxruntime", encoder.precision, FILES[encoder.file])
    words += [short(FILES["aggregator"]), len(encoder.forms)]
    for form in encoder.forms:
        words += kind_of(form.backend, form.precision, FILES[form.file])
    words += evidence_of(manifest.verification)
    words += [isa, *(int(name in installed) for name in BACKENDS_IN_C)]
    words += [speeds.get((b, p), 0) for b in BACKENDS_IN_C for p in PRECISIONS]
    backend, precision, allowed = wish
    words.append(-1 if backend == "auto" else BACKENDS_IN_C.index(backend))
    words.append(-1 if precision == "auto" else PRECISIONS.index(precision))
    return " ".join(map(str, [*words, int(allowed)])) + "\n"


@pytest.fixture(scope="module")
def ask(build):
    program = build("test_choice.c", ADDRESS, sources=[ROOT / "csrc/encoders/choice.c"])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([program], **pipes) as running:

        def ask(case):
            running.stdin.write(case)
            running.stdin.flush()
            line = running.stdout.readline()
            assert line, "the program has ended"
            status, *facts, text = line.rstrip("\n").split("|", 5)
            return int(status), facts, text

        yield ask
        running.stdin.close()
        assert running.wait(60) == 0


def in_python(bundle, isa, installed, speeds, wish):
    """What Python chooses and what is against it; or None and its error."""
    backend, precision, allowed = wish

    def missing(name):
        return None if name in installed else f"{name} is not installed"

    def require(name):
        if missing(name):
            raise EngineError(missing(name))

    with (
        patch.object(choice, "isa", lambda: isa),
        patch.object(choice, "missing", missing),
        patch.object(choice, "require", require),
        patch.object(choice, "read_speeds", lambda _: speeds),
    ):
        try:
            found = choice.choose(bundle, backend, precision, allow_unverified=allowed)
        except EngineError as error:
            return None, str(error)
        return found, choice.objection(bundle, found)


# ---- the comparison -----------------------------------------------------------------------------


def check(ask, *case):
    status, (backend, precision, sha, unverified), text = ask(case_of(*case))
    found, said = in_python(*case)
    if found:
        assert (status, backend, precision) == (0, found.backend, found.precision)
        assert sha == short(FILES[found.path.name])
        assert (unverified, text) == (str(int(said is not None)), said or "")
    elif "is not installed" in said:
        assert status == NO_RUNTIME
        assert said in text
    else:
        assert status == BAD_OPTIONS
        told = said.removeprefix("/bundle: ").removesuffix("; or --allow-unverified")
        listed = told.partition("it has ")[2].partition(".")[0]
        assert text.endswith(listed) if listed else text == told


WISHES = st.tuples(
    st.sampled_from(["auto", "auto", *BACKENDS]),
    st.sampled_from(["auto", "auto", *PRECISIONS]),
    st.booleans(),
)


@settings(max_examples=600)
@given(
    bundle=bundles(),
    isa=st.sampled_from(ISAS),
    installed=st.sets(st.sampled_from(BACKENDS)) | st.just(set(BACKENDS)),
    speeds=st.dictionaries(KINDS, st.sampled_from([1.0, 2.5, 7.0]), max_size=6),
    wish=WISHES,
)
def test_c_chooses_what_python_chooses(ask, bundle, isa, installed, speeds, wish):
    check(ask, bundle, isa, installed, speeds, wish)


ANY, OPENVINO = ("auto", "auto", False), ("openvino", "int8", False)
INT8 = [form("openvino", "int8", 1)]
GOOD = run_of("openvino", "int8", 1, ISAS[1], LEAST)
BAD = run_of("openvino", "int8", 1, ISAS[1], PERFECT | {"overlap": 0.25, "changed_decisions": 3})
SAME = run_of("openvino", "fp32", 0, ISAS[1], PERFECT)
MISSED = (
    "openvino in int8 did not pass the bundle's gate: overlap of the tiles attended to 0.25 is "
    "below 0.9; changed decisions 3 is above 0"
)
SLOW = {("openvino", "int8"): 1.0, ("onnxruntime", "fp32"): 2.0}


@pytest.mark.parametrize(
    ("bundle", "isa", "speeds", "wish", "wanted"),
    [
        (bundle_of(), 1, {}, ANY, "onnxruntime fp32"),
        (bundle_of(INT8), 1, {}, ANY, "onnxruntime fp32"),
        (bundle_of(INT8, vouched(GOOD)), 1, {}, ANY, "openvino int8"),
        (bundle_of(INT8, vouched(GOOD)), 1, SLOW, ANY, "onnxruntime fp32"),
        (bundle_of(INT8, vouched(GOOD)), 0, {}, ANY, "onnxruntime fp32"),
        (bundle_of(INT8, vouched(SAME)), 1, {}, ANY, "openvino fp32"),
        (bundle_of(INT8, vouched(GOOD, SAME)), 1, {}, ANY, "openvino int8"),
        (bundle_of(INT8, vouched(GOOD, aggregator=5)), 1, {}, OPENVINO, "was not verified"),
        (bundle_of(INT8, vouched(BAD)), 1, {}, ANY, "onnxruntime fp32"),
        (bundle_of(INT8, vouched(BAD)), 1, {}, OPENVINO, MISSED),
        (bundle_of(), 1, {}, ("auto", "int8", False), "no int8 for any engine"),
    ],
)
def test_the_gate(ask, bundle, isa, speeds, wish, wanted):
    case = (bundle, ISAS[isa], set(BACKENDS), speeds, wish)
    status, (backend, precision, *_), text = ask(case_of(*case))
    assert wanted in (text if status else f"{backend} {precision}")
    check(ask, *case)


def test_of_equals_the_first_counts_and_what_is_installed_before_what_is_not(ask):
    equal = bundle_of((), vouched(run_of("onnxruntime-cuda", "fp32", 0, ISAS[1], PERFECT)))
    check(ask, equal, ISAS[1], set(BACKENDS), {}, ANY)
    two = bundle_of([form("onnxruntime-cuda", "int8", 1), *INT8])
    for allowed in (False, True):
        check(ask, two, ISAS[1], {"openvino"}, {}, ("auto", "int8", allowed))


def test_c_knows_every_engine():
    assert set(BACKENDS_IN_C) == set(BACKENDS)
