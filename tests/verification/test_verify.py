"""Verification: what is compared, what it writes into the bundle, and what that then allows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

from tests.support.bundle_case import fingerprint
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Gate
from unicas_edge.cli.app import app
from unicas_edge.engines import EngineOptions, choose, open_encoder
from unicas_edge.engines.choice import reference
from unicas_edge.errors import EngineError, OutputError, SlideError
from unicas_edge.sample import write_sample
from unicas_edge.verification import engine_process
from unicas_edge.verification import verify as verifying
from unicas_edge.verification.engine_process import encode_apart
from unicas_edge.verification.tile_samples import sample_slides
from unicas_edge.verification.verify import cosine, overlaps, verify, write_verification


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "sample.svs"
    write_sample(path, 2048, 2048, seed=3)
    return path


@pytest.fixture
def bundle(tmp_path, untrained_bundle):
    return Bundle.load(shutil.copytree(untrained_bundle.root, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def verified(slide, untrained_bundle, tmp_path_factory):
    """An untrained bundle, verified: it and what `verify` returned."""
    root = shutil.copytree(untrained_bundle.root, tmp_path_factory.mktemp("verified") / "bundle")
    found = verify(Bundle.load(root), [slide], 8, tell=lambda _: None)
    return write_verification(Bundle.load(root), found.verification), found


def ask(bundle, **changes):
    """Rewrite the bundle's verification with changes to the run of OpenVINO in fp32."""
    content = json.loads((bundle.root / "bundle.json").read_text())
    for run in content["verification"]["runs"]:
        if (run["backend"], run["precision"]) == ("openvino", "fp32"):
            run.update(changes)
    (bundle.root / "bundle.json").write_text(json.dumps(content))
    return Bundle.load(bundle.root)


# ---- sampling -----------------------------------------------------------------------------------


def test_a_sample_is_what_the_screening_would_encode(slide, bundle):
    (sample,) = sample_slides([slide], bundle, 6)
    assert sample.pixels.shape == (6, 224, 224, 3)
    batch = sample.normalised(bundle)
    spec = bundle.manifest.input
    expected = (sample.pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(batch, expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert len({tile.tobytes() for tile in sample.pixels}) == 6


def test_a_slide_that_cannot_be_read_is_not_passed_over(tmp_path, slide, bundle):
    broken = tmp_path / "broken.svs"
    broken.write_bytes(slide.read_bytes()[:1000])
    with pytest.raises(SlideError, match=r"broken\.svs"):
        sample_slides([slide, broken], bundle, 4)
    with pytest.raises(SlideError, match="more than 20,000"):
        sample_slides([slide] * 3, bundle, 10_000)


# ---- a process of its own -----------------------------------------------------------------------


def test_an_engine_apart_gives_the_tokens_that_the_engine_gives(slide, bundle):
    batch = sample_slides([slide], bundle, 5)[0].normalised(bundle)
    found = encode_apart(bundle, reference(bundle), batch)
    encoder = open_encoder(bundle, EngineOptions("onnxruntime", batch_size=1))
    expected = np.concatenate([encoder.encode(np.ascontiguousarray(t[None])) for t in batch])
    assert np.array_equal(found.tokens, expected)
    assert found.tiles_per_second > 0
    assert found.peak_mb > 50


def test_an_engine_that_crashes_is_an_error_and_not_the_end(bundle, monkeypatch):
    monkeypatch.setattr(engine_process.sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="onnxruntime in fp32 ended with code 1: no message"):
        encode_apart(bundle, reference(bundle), np.zeros((1, 3, 224, 224), "f4"))


def test_an_engine_that_refuses_says_why(bundle):
    (bundle.root / "encoder.onnx").write_bytes(b"damaged")
    with pytest.raises(EngineError, match="has SHA-256"):
        encode_apart(bundle, reference(bundle), np.zeros((1, 3, 224, 224), "f4"))


# ---- figures ------------------------------------------------------------------------------------


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(-1e3, 1e3, width=32)))
def test_a_cosine_is_1_of_itself_and_0_beside_nothing(a):
    found = cosine(a, a)
    zero = np.linalg.norm(a.astype("f8"), axis=1) == 0
    np.testing.assert_allclose(found[~zero], 1, atol=1e-9)
    assert (found[zero] == 0).all()
    np.testing.assert_allclose(cosine(a, -a), -found, atol=1e-9)


def test_the_overlap_is_of_the_tiles_attended_to_most():
    before = np.array([[8, 7, 6, 5, 4, 3, 2, 1]], "f4")
    after = np.array([[8, 1, 6, 5, 4, 3, 2, 7]], "f4")
    assert list(overlaps(before, after, 256)) == [0.5]  # a quarter of eight: {0, 1} and {0, 7}
    assert list(overlaps(before, after, 1)) == [1.0]
    assert list(overlaps(before[:, :1], after[:, :1], 256)) == [1.0]


def test_the_reference_agrees_with_itself_and_every_engine_is_measured(verified):
    _, found = verified
    first, *others = found.verification.runs
    assert (first.backend, first.precision) == ("onnxruntime", "fp32")
    assert first.cosine_min == pytest.approx(1)
    assert (first.overlap, first.max_probability_change, first.changed_decisions) == (1, 0, 0)
    assert ("openvino", "fp32") in {(run.backend, run.precision) for run in others}
    assert all(run.cosine_mean > 0.999 for run in others)
    assert all("onnxruntime-gpu" in cause for cause in found.refused.values() if "cuda" in cause)
    assert found.verification.tiles == 8


def test_an_engine_that_says_something_else_is_found_out(slide, bundle, monkeypatch):
    def spoilt(bundle_, candidate, batch):
        found = encode_apart(bundle_, candidate, batch)
        if candidate.backend == "openvino":
            found.tokens[:] = found.tokens[::-1]
        return found

    monkeypatch.setattr(verifying, "encode_apart", spoilt)
    found = verify(bundle, [slide], 8, tell=lambda _: None)
    wrong = next(run for run in found.verification.runs if run.backend == "openvino")
    assert "mean centred cosine" in next(wrong.shortfalls(Gate()))
    verdicts = {row["engine"]: row["verdict"] for row in verifying.rows(found)}
    assert verdicts["openvino fp32"].startswith("refused: mean centred cosine")
    assert verdicts["onnxruntime fp32"] == "passed"


# ---- the gate -----------------------------------------------------------------------------------


def test_a_bundle_that_says_nothing_screens_with_the_reference_alone(bundle):
    assert choose(bundle) == reference(bundle)
    with pytest.raises(EngineError, match="openvino in fp32 was not verified"):
        choose(bundle, "openvino", "fp32")


def test_what_passed_may_screen(verified):
    bundle, _ = verified
    assert choose(bundle, "openvino", "fp32").backend == "openvino"
    assert choose(bundle, precision="fp32").precision == "fp32"
    encoder = open_encoder(bundle, EngineOptions("openvino", "fp32"))
    assert encoder.unverified is None
    encoder.close()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"cosine_mean": 0.5}, "mean cosine 0.5 is below 0.99"),
        ({"cosine_min": 0.25}, "least cosine 0.25 is below 0.95"),
        ({"centred_cosine_mean": 0.5}, "mean centred cosine 0.5 is below 0.95"),
        ({"overlap": 0.0}, "overlap of the tiles attended to 0 is below 0.9"),
        ({"max_probability_change": 0.125}, "probability change 0.125 is above 0.02"),
        ({"changed_decisions": 3}, "changed decisions 3 is above 0"),
        ({"isa": "another"}, "was not verified"),
        ({"weights_sha256": "0" * 64}, "was not verified"),
    ],
)
def test_what_did_not_pass_is_refused_with_its_figure(verified, tmp_path, change, cause):
    copy = Bundle.load(shutil.copytree(verified[0].root, tmp_path / "copy"))
    spoilt = ask(copy, **change)
    with pytest.raises(EngineError, match=cause):
        choose(spoilt, "openvino", "fp32")
    encoder = open_encoder(spoilt, EngineOptions("openvino", "fp32", allow_unverified=True))
    assert cause in encoder.unverified
    encoder.close()


def test_evidence_for_other_weights_counts_for_nothing(verified, tmp_path):
    copy = Bundle.load(shutil.copytree(verified[0].root, tmp_path / "copy"))
    content = json.loads((copy.root / "bundle.json").read_text())
    content["verification"]["aggregator_sha256"] = "0" * 64
    (copy.root / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(EngineError, match="was not verified"):
        choose(Bundle.load(copy.root), "openvino", "fp32")


def test_runs_of_other_processors_are_kept(verified, tmp_path):
    copy = ask(Bundle.load(shutil.copytree(verified[0].root, tmp_path / "copy")), isa="another")
    again = write_verification(copy, verified[1].verification)
    kinds = [(run.backend, run.precision, run.isa) for run in again.manifest.verification.runs]
    assert ("openvino", "fp32", "another") in kinds
    assert len(kinds) == len(set(kinds)) == len(verified[1].verification.runs) + 1


def test_a_bundle_that_cannot_be_written_is_left_as_it_was(verified, bundle, monkeypatch):
    before = fingerprint(bundle.root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"bundle\.json"):
        write_verification(bundle, verified[1].verification)
    assert fingerprint(bundle.root) == before


# ---- the command line ---------------------------------------------------------------------------


def test_the_commands_tell_a_table_json_and_the_verdict(slide, bundle, tmp_path):
    run = CliRunner().invoke
    arguments = ["verify", str(bundle.root), "--slides", str(slide), "--tiles", "6"]
    table = run(app, arguments)
    assert table.exit_code == 0, table.output
    assert "openvino fp32: passed" in table.output
    found = json.loads(run(app, [*arguments, "--json"]).stdout)
    assert found["gate"]["min_cosine_mean"] == 0.99
    assert {row["engine"] for row in found["engines"]} >= {"onnxruntime fp32", "openvino fp32"}
    screened = run(
        app,
        [
            "screen",
            str(slide),
            "--bundle",
            str(bundle.root),
            "-o",
            str(tmp_path / "out"),
            "--backend",
            "openvino",
            "--precision",
            "fp32",
            "--max-tiles",
            "16",
        ],
    )
    assert screened.exit_code in (0, 3), screened.output  # 3: too few tiles for a decision
    result = json.loads((tmp_path / "out" / "slides" / "sample" / "result.json").read_text())
    assert (result["engine"]["name"], result["engine"]["unverified"]) == ("openvino", None)


def test_what_is_allowed_unverified_is_stamped_on_the_result(slide, bundle, tmp_path):
    result = CliRunner().invoke(
        app,
        [
            "screen",
            str(slide),
            "--bundle",
            str(bundle.root),
            "-o",
            str(tmp_path),
            "--backend",
            "openvino",
            "--precision",
            "fp32",
            "--max-tiles",
            "16",
            "--allow-unverified",
        ],
    )
    assert "unverified engine" in result.output
    written = json.loads((tmp_path / "slides" / "sample" / "result.json").read_text())
    assert "was not verified" in written["engine"]["unverified"]
    assert any(notice.startswith("unverified engine") for notice in written["notices"])
    assert "unverified engine" in (tmp_path / "summary.csv").read_text()


def test_doctor_measures_and_auto_then_takes_the_fastest(verified, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle, _ = verified
    told = CliRunner().invoke(app, ["doctor", "--measure", "--json", "--bundle", str(bundle.root)])
    facts = json.loads(told.stdout)
    assert set(facts["speeds"]) >= {"onnxruntime fp32", "openvino fp32"}
    assert "onnxruntime-cuda fp32" in facts["not_measured"]
    speeds = facts["speeds"]
    chosen = choose(bundle)
    assert speeds[f"{chosen.backend} {chosen.precision}"] == max(speeds.values())
