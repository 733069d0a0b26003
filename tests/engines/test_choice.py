"""Which engine may screen, which is taken, and what is said of one that may not."""

from __future__ import annotations

import hashlib
import shutil
import sys

import pytest

from tests.support.engine_case import run_of, vouched
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import EncoderForm, Gate
from unicas_edge.engines import Candidate, EngineOptions, choose, open_candidate, open_encoder
from unicas_edge.engines import speeds as measured
from unicas_edge.engines.choice import candidates, objection, reference, weights_sha256
from unicas_edge.engines.onnxruntime import OrtEncoder
from unicas_edge.errors import EngineError

SHA = "0" * 64


@pytest.fixture(autouse=True)
def _nothing_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bundle(untrained_bundle):
    return untrained_bundle


def candidate(bundle, backend, precision):
    return Candidate(backend, precision, reference(bundle).path)


@pytest.fixture
def two(bundle, tmp_path):
    """A bundle where OpenVINO passed in fp32 and in bf16."""
    runs = [run_of(bundle, candidate(bundle, "openvino", p)) for p in ("fp32", "bf16")]
    return vouched(bundle, tmp_path / "two", *runs)


def kind(chosen):
    return chosen.backend, chosen.precision


# ---- what there is ------------------------------------------------------------------------------


def test_a_bundle_offers_its_file_to_every_engine_that_can_run_it(bundle):
    first, *others = candidates(bundle)
    assert first == reference(bundle)
    assert {kind(c) for c in others} == {
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("onnxruntime-cuda", "fp32"),
        ("onnxruntime-tensorrt", "fp32"),
    }
    assert {c.path for c in others} == {first.path}


def with_form(bundle, folder, backend, precision, **files):
    """A copy of the bundle with a form whose files hold what is given; it is not opened."""
    shutil.copytree(bundle.root, folder)
    name = f"encoder.{backend}-{precision}.xml"
    files = {name: b"<net/>", name.replace(".xml", ".bin"): b"weights", **files}
    for file, data in files.items():
        (folder / file).write_bytes(data)
    spec = bundle.manifest.encoder
    form = EncoderForm(
        backend=backend,
        precision=precision,
        file=name,
        format="openvino",
        calibration_tiles=0,
        kept=(),
    )
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    manifest = bundle.manifest.model_copy(
        update={
            "encoder": spec.model_copy(update={"forms": (*spec.forms, form)}),
            "files": {**bundle.manifest.files, **hashes},
        }
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return Bundle.load(folder)


def test_a_form_is_another_model_and_takes_the_place_of_its_kind(bundle, tmp_path):
    formed = with_form(bundle, tmp_path / "int8", "openvino", "int8")
    assert ("openvino", "int8") in {kind(c) for c in candidates(formed)}
    stored = with_form(bundle, tmp_path / "half", "openvino", "fp32")
    (only,) = [c for c in candidates(stored) if kind(c) == ("openvino", "fp32")]
    assert only.path.name == "encoder.openvino-fp32.xml"


def test_evidence_is_for_all_the_files_a_model_runs_and_for_no_others(bundle, tmp_path):
    formed = with_form(bundle, tmp_path / "a", "openvino", "int8")
    other = with_form(
        bundle, tmp_path / "b", "openvino", "int8", **{"encoder.openvino-int8.bin": b"other"}
    )
    find = [next(c for c in candidates(b) if c.precision == "int8") for b in (formed, other)]
    assert weights_sha256(formed, find[0]) != weights_sha256(other, find[1])
    # A form that comes beside the reference changes nothing of the reference.
    assert weights_sha256(formed, reference(formed)) == weights_sha256(bundle, reference(bundle))


# ---- what may screen ----------------------------------------------------------------------------


def test_the_reference_needs_no_evidence(bundle):
    assert objection(bundle, reference(bundle)) is None
    assert choose(bundle) == reference(bundle)
    assert open_encoder(bundle).unverified is None


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime-cuda", "fp32")],
)
def test_another_is_refused_until_it_is_verified(bundle, backend, precision, monkeypatch):
    monkeypatch.setattr(OrtEncoder, "missing", lambda backend: None)
    with pytest.raises(EngineError, match=r"was not verified .*`unicas-edge verify`.*--allow-unv"):
        choose(bundle, backend, precision)
    assert kind(choose(bundle, backend, precision, allow_unverified=True)) == (backend, precision)


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"cosine_mean": 0.9876}, "mean cosine 0.9876 is below 0.99"),
        ({"cosine_min": 0.25}, "least cosine 0.25 is below 0.95"),
        ({"centred_cosine_mean": 0.5}, "mean centred cosine 0.5 is below 0.95"),
        ({"overlap": 0.125}, "overlap of the tiles attended to 0.125 is below 0.9"),
        ({"max_probability_change": 0.375}, "probability change 0.375 is above 0.02"),
        ({"changed_decisions": 2}, "changed decisions 2 is above 0"),
        ({"cosine_min": 0.5, "overlap": 0.5}, "least cosine 0.5 .*; overlap .* 0.5 is below"),
    ],
)
def test_what_missed_the_gate_is_refused_with_the_figure(bundle, tmp_path, changes, figure):
    failed = candidate(bundle, "openvino", "fp32")
    evidence = vouched(bundle, tmp_path / "b", run_of(bundle, failed, **changes))
    with pytest.raises(EngineError, match=f"openvino in fp32 did not pass.*{figure}.*--allow-unv"):
        choose(evidence, "openvino", "fp32")
    assert choose(evidence) == reference(evidence)  # `auto` does not take it either
    encoder = open_encoder(evidence, EngineOptions("openvino", "fp32", 1, 1, allow_unverified=True))
    assert figure.split(" .*")[0] in encoder.unverified
    encoder.close()


def test_the_bundles_own_gate_decides(bundle, tmp_path):
    run = run_of(bundle, candidate(bundle, "openvino", "fp32"), cosine_min=0.9)
    assert kind(choose(vouched(bundle, tmp_path / "b", run, gate=Gate(min_cosine=0.8)))) == (
        "openvino",
        "fp32",
    )
    strict = vouched(bundle, tmp_path / "c", run, gate=Gate(min_cosine=0.91))
    assert choose(strict) == reference(strict)


def test_what_passed_may_screen_and_says_nothing(two):
    encoder = open_encoder(two, EngineOptions("openvino", "fp32", 1, 1))
    assert (encoder.name, encoder.precision, encoder.unverified) == ("openvino", "fp32", None)
    encoder.close()


@pytest.mark.parametrize(
    ("run", "changes"),
    [
        ({"isa": "x86_64+another"}, {}),
        ({"weights_sha256": SHA}, {}),
        ({"precision": "bf16"}, {}),
        ({"backend": "onnxruntime-cuda"}, {}),
        ({}, {"encoder_sha256": SHA}),
        ({}, {"aggregator_sha256": SHA}),
    ],
)
def test_evidence_for_something_else_does_not_count(bundle, tmp_path, run, changes):
    wanted = candidate(bundle, "openvino", "fp32")
    other = vouched(bundle, tmp_path / "b", run_of(bundle, wanted, **run), **changes)
    with pytest.raises(EngineError, match="openvino in fp32 was not verified"):
        choose(other, "openvino", "fp32")


# ---- which is taken -----------------------------------------------------------------------------


def test_of_what_may_screen_the_usually_fastest_is_taken(bundle, two):
    assert kind(choose(two)) == ("openvino", "bf16")
    assert kind(choose(two, "openvino")) == ("openvino", "bf16")
    assert kind(choose(two, precision="fp32")) == ("openvino", "fp32")
    assert kind(choose(two, "onnxruntime")) == ("onnxruntime", "fp32")


def test_a_measured_speed_decides(two):
    measured.write_speeds(two, {("onnxruntime", "fp32"): 5.0, ("openvino", "fp32"): 4.0})
    assert kind(choose(two)) == ("onnxruntime", "fp32")
    assert kind(choose(two, "openvino")) == ("openvino", "fp32")  # bf16 has no figure
    measured.write_speeds(two, {("onnxruntime", "fp32"): 5.0, ("openvino", "bf16"): 5.5})
    assert kind(choose(two)) == ("openvino", "bf16")


def test_no_speed_makes_up_for_evidence(bundle):
    measured.write_speeds(bundle, {("openvino", "bf16"): 1e6})
    assert choose(bundle) == reference(bundle)


def test_auto_never_takes_what_is_not_installed(two, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(two) == reference(two)


# ---- what can go wrong --------------------------------------------------------------------------


def test_unknown_names_list_the_known(bundle):
    with pytest.raises(EngineError, match="unknown backend 'tpu'; there are: auto, onnxruntime"):
        choose(bundle, "tpu")
    with pytest.raises(EngineError, match="unknown precision 'fp8'; there are: auto, fp32, bf16"):
        choose(bundle, precision="fp8")


def test_a_form_that_the_bundle_lacks_is_named_with_what_it_has(bundle):
    with pytest.raises(EngineError, match=r"no int8 for openvino in this bundle; it has onnxrunt"):
        choose(bundle, "openvino", "int8")


def test_openvino_that_is_not_installed_names_the_extra_verified_or_not(bundle, two, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    extra = (
        r"openvino is not installed; pip install 'unicas-edge\[openvino\]', or use --backend auto"
    )
    for asked in (bundle, two):
        with pytest.raises(EngineError, match=extra):
            choose(asked, "openvino", "fp32")
    with pytest.raises(EngineError, match=extra):
        open_candidate(two, candidate(two, "openvino", "fp32"))


@pytest.mark.parametrize(
    ("backend", "provider"),
    [
        ("onnxruntime-cuda", "CUDAExecutionProvider"),
        ("onnxruntime-tensorrt", "TensorrtExecutionProvider"),
    ],
)
def test_a_provider_that_is_not_installed_names_the_package(bundle, backend, provider):
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(EngineError, match=f"{provider}; install onnxruntime-gpu .*--backend auto"):
        open_encoder(bundle, EngineOptions(backend, allow_unverified=True))


def test_the_threads_of_an_engine_are_no_more_than_asked_for(bundle):
    for threads in (1, 2):
        for backend in ("onnxruntime", "openvino"):
            encoder = open_candidate(
                bundle,
                candidate(bundle, backend, "fp32"),
                EngineOptions(threads=threads, batch_size=1),
            )
            assert encoder.threads == threads
            assert encoder.workers <= threads
            encoder.close()
