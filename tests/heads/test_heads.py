"""Region heads at run time: what is loaded, what is refused, what comes out, and the command."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tests.support.bundle_case import copy_with
from tests.support.region_case import WIDTH, cell, head_spec, head_weights, with_heads, write_image
from tests.support.report_case import CAUTIONS
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.linear_weights import tensors_in
from unicas_edge.cli.classify import classify
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import BundleError, RegionError
from unicas_edge.heads.classifier import RegionClassifier, view_tokens
from unicas_edge.heads.head import load_heads
from unicas_edge.heads.images import read_image, to_view
from unicas_edge.tiles.normalise import Normaliser

THREE = head_spec("kind", ("a", "b", "c"), temperature=2.0)
TWO = head_spec("abnormal", ("normal", "abnormal"), view="tile", positive=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_heads(tmp_path_factory.mktemp("heads") / "bundle", THREE, TWO)


@pytest.fixture
def images(rng):
    return [
        cell(rng, size, colour)
        for size, colour in (
            ((60, 80), (120, 60, 140)),
            ((300, 260), (60, 60, 160)),
            ((16, 12), (180, 70, 90)),
        )
    ]


app = typer.Typer()
app.command()(classify)


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


# ---- loading ------------------------------------------------------------------------------------


def test_a_bundle_without_heads_says_how_to_train_them(untrained_bundle):
    with pytest.raises(BundleError, match="no region heads; train them with: unicas-edge train"):
        load_heads(untrained_bundle)


def test_a_manifest_keeps_its_bytes():
    bundle = Bundle.load()
    written = bundle.manifest.model_dump_json(indent=2) + "\n"
    assert written == (bundle.root / "bundle.json").read_text()


def test_heads_are_chosen_by_name_in_the_order_asked(folder):
    bundle = Bundle.load(folder)
    assert [h.spec.name for h in load_heads(bundle)] == ["kind", "abnormal"]
    assert [h.spec.name for h in load_heads(bundle, ["abnormal", "kind", "abnormal"])] == [
        "abnormal",
        "kind",
    ]
    with pytest.raises(BundleError, match="no head 'cancer'; there are: kind, abnormal"):
        load_heads(bundle, ["cancer"])


def changed(key, value):
    weights = head_weights(3)
    weights[key] = value
    return {k: v for k, v in weights.items() if v is not None}


@pytest.mark.parametrize(
    ("weights", "cause"),
    [
        (changed("fc1.bias", None), "missing fc1.bias"),
        (changed("fc3.weight", np.zeros(3, np.float32)), "unexpected fc3.weight"),
        (changed("fc2.bias", np.zeros(4, np.float32)), r"fc2.bias is float32 \[4\], not float \[3"),
        (changed("fc2.bias", np.zeros(3, np.int64)), r"fc2.bias is int64"),
        (changed("fc1.weight", np.zeros((WIDTH, 16), np.float32)), rf"not float \[16, {WIDTH}\]"),
        (changed("fc1.bias", np.full(16, np.nan, np.float32)), "fc1.bias is not finite"),
    ],
)
def test_weights_that_are_not_what_the_manifest_says_are_refused(tmp_path, weights, cause):
    bundle = Bundle.load(with_heads(tmp_path / "b", (THREE, weights)))
    with pytest.raises(BundleError, match=cause) as error:
        load_heads(bundle)
    assert "kind.safetensors: head 'kind'" in str(error.value)


def test_a_file_that_is_no_safetensors_file_is_refused(folder, tmp_path):
    path = tmp_path / "kind.safetensors"
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(BundleError, match="not a readable safetensors file"):
        tensors_in(memoryview(path.read_bytes()), path)


def test_half_precision_weights_are_taken(tmp_path):
    half = {key: w.astype(np.float16) for key, w in head_weights(3).items()}
    (head,) = load_heads(Bundle.load(with_heads(tmp_path / "b", (THREE, half))))
    assert head.fc1.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"positive": 3, "threshold": 0.5}, "positive 3 is not one of 3"),
        ({"positive": 1}, "give both positive and threshold"),
        ({"threshold": 0.5}, "give both positive and threshold"),
        ({"classes": ["a", "a", "b"]}, "two classes have the same name"),
        ({"classes": ["a"]}, "heads.0.classes"),
        ({"view": "slide"}, "heads.0.view"),
        ({"name": "../x"}, "heads.0.name"),
        ({"hidden": 0}, "heads.0.hidden"),
        ({"file": "other.safetensors"}, "heads.0.file 'other.safetensors' is not listed"),
        ({"calibration": {"temperature": 0}}, "temperature"),
    ],
)
def test_a_head_that_breaks_the_schema_is_refused(folder, tmp_path, change, cause):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((copy / "bundle.json").read_text())
    content["heads"][0] |= change
    (copy / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as error:
        Bundle.load(copy)
    assert cause in str(error.value)


def test_two_heads_of_one_name_are_refused(tmp_path):
    with pytest.raises(BundleError, match="two heads have the same name"):
        Bundle.load(with_heads(tmp_path / "b", THREE, THREE))


# ---- computing ----------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_equations(folder, images):
    """Each view encoded one by one, and the head in float64, give the same probabilities."""
    bundle = Bundle.load(folder)
    with RegionClassifier(bundle, options=EngineOptions(threads=1, batch_size=4)) as classifier:
        found = classifier.classify(images)
        for head in classifier.heads:
            tokens = np.stack([token(bundle, classifier.encoder, i, head.spec) for i in images])
            wanted = dense(head, tokens.astype(np.float64))
            assert found[head.spec.name].dtype == np.float32
            assert np.abs(found[head.spec.name] - wanted).max() < 1e-5
            assert np.abs(found[head.spec.name].sum(axis=1) - 1).max() < 1e-6


def token(bundle, encoder, image, spec):
    shown = to_view(image, bundle.manifest.tile, spec.view)
    batch = np.zeros((encoder.batch_size, 3, *shown.shape[:2]), encoder.dtype)
    Normaliser(bundle.manifest.input.mean, bundle.manifest.input.std).into(shown, batch[0])
    return encoder.encode(batch)[0]


def dense(head, x):
    hidden = np.maximum(x @ head.fc1.T.astype(np.float64) + head.bias1, 0)
    logits = (
        hidden @ head.fc2.T.astype(np.float64) + head.bias2
    ) / head.spec.calibration.temperature
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_tokens_do_not_depend_on_company_or_batch_size(folder, images):
    bundle = Bundle.load(folder)
    found = []
    for batch, many in ((2, images * 2), (5, images)):
        encoder = open_encoder(bundle, EngineOptions(threads=1, batch_size=batch))
        found.append(view_tokens(bundle, encoder, many, ("cell",))["cell"][:3])
        encoder.close()
    assert np.array_equal(*found)


def test_no_image_gives_no_row_and_a_bad_one_an_error(folder):
    with RegionClassifier(
        Bundle.load(folder), options=EngineOptions(threads=1, batch_size=1)
    ) as classifier:
        assert classifier.classify([])["kind"].shape == (0, 3)
        with pytest.raises(RegionError, match="uint8"):
            classifier.classify([np.zeros((50, 50, 3))])


def test_extreme_logits_stay_probabilities(tmp_path, rng):
    huge = {key: w * 1e4 for key, w in head_weights(3).items()}
    (head,) = load_heads(Bundle.load(with_heads(tmp_path / "b", (THREE, huge))))
    shares = head.probabilities(rng.normal(0, 50, (20, WIDTH)).astype(np.float32))
    assert np.isfinite(shares).all()
    assert np.abs(shares.sum(axis=1) - 1).max() < 1e-6


def test_the_threshold_decides_for_the_positive_class_alone(folder):
    kind, abnormal = load_heads(Bundle.load(folder))
    shares = np.array([[0.2, 0.5, 0.3], [0.4, 0.35, 0.25]], np.float32)
    assert kind.decide(shares).tolist() == [1, 0]
    low = dataclasses.replace(
        kind, spec=kind.spec.model_copy(update={"positive": 2, "threshold": 0.3})
    )
    assert low.decide(shares).tolist() == [2, 0]
    high = dataclasses.replace(
        kind, spec=kind.spec.model_copy(update={"positive": 1, "threshold": 0.6})
    )
    assert high.decide(shares).tolist() == [2, 0]
    assert abnormal.decide(np.array([[0.5, 0.5]], np.float32)).tolist() == [1]


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path, images):
    for number, pixels in enumerate(images):
        write_image(tmp_path / "in" / f"{number}.png", pixels)
    return tmp_path / "in"


def test_a_folder_becomes_a_csv_with_every_probability(folder, pictures, tmp_path):
    out = tmp_path / "new" / "out.csv"
    result = run(pictures, "--bundle", folder, "-o", out)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(pictures / f"{n}.png") for n in range(3)]
    with RegionClassifier(Bundle.load(folder)) as classifier:
        found = classifier.classify([read_image(pictures / f"{n}.png") for n in range(3)])
    for row, shares in zip(rows, found["kind"], strict=True):
        assert [np.float32(row[f"kind.{c}"]) for c in "abc"] == pytest.approx(shares, abs=1e-6)
        assert row["kind"] == "abc"[int(shares.argmax())]
        assert row["abnormal"] in {"normal", "abnormal"}
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.csv"]


@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_json_names_bundle_heads_and_notices(folder, pictures, tmp_path, weights, caution):
    folder = copy_with(Bundle.load(folder), tmp_path / "b", **weights).root
    result = run(pictures / "0.png", "--bundle", folder, "--head", "abnormal", "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["bundle"]["sha256"] == Bundle.load(folder).digest
    assert [head["name"] for head in content["heads"]] == ["abnormal"]
    (image,) = content["images"]
    assert sum(image["heads"]["abnormal"]["probabilities"]) == pytest.approx(1)
    assert caution in content["notices"]
    assert caution in result.stderr
    assert content["failed"] == []


def test_bad_images_are_listed_and_counted_and_the_others_classified(folder, pictures, tmp_path):
    (pictures / "bad.png").write_bytes(b"no")
    (pictures / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "out.csv"
    result = run(pictures, "--bundle", folder, "-o", out)
    assert result.exit_code == 1
    assert "bad.png: cannot be read as an image" in result.stderr
    assert "cut.jpg" in result.stderr
    assert "2 of 5 images could not be read" in result.stderr
    assert len(list(csv.DictReader(out.read_text().splitlines()))) == 3


def test_lines_are_printed_without_an_output_file(folder, pictures):
    result = run(pictures / "0.png", "--bundle", folder)
    assert "0.png" in result.stdout
    assert "  kind: " in result.stdout
    assert "%)" in result.stdout


def test_an_existing_file_stays_unless_forced(folder, pictures, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("mine")
    result = run(pictures, "--bundle", folder, "-o", out)
    assert "exists; --force replaces it" in str(result.exception)
    assert out.read_text() == "mine"
    assert run(pictures, "--bundle", folder, "-o", out, "--force").exit_code == 0
    assert out.read_text() != "mine"


def test_a_name_like_a_formula_is_made_harmless(folder, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)
    (pictures / "0.png").rename(pictures / "=1+1.png")
    assert run("=1+1.png", "--bundle", folder, "-o", tmp_path / "out.csv").exit_code == 0
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["image"] == "./=1+1.png"


def test_weights_can_be_saved_and_read_again(tmp_path):
    """The helper's own file is what the runtime reads: the layout is the documented one."""
    path = tmp_path / "x.safetensors"
    save_file(head_weights(2), path)
    assert set(tensors_in(memoryview(path.read_bytes()), path)) == {
        "fc1.weight",
        "fc1.bias",
        "fc2.weight",
        "fc2.bias",
    }
