"""Bundles: the embedded one, its schema, and everything a manifest can get wrong."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.bundle import MAX_MANIFEST_BYTES
from unicas_edge.errors import BundleError
from unicas_edge.export import untrained
from unicas_edge.heads.head import load_heads
from unicas_edge.result import DEMONSTRATION, caution
from unicas_edge.schemas import schemas, write_schemas

DEFAULT = Bundle.load().root


@pytest.fixture
def copy(tmp_path):
    """A copy of the embedded bundle that a test may spoil."""
    return shutil.copytree(DEFAULT, tmp_path / "bundle")


def read(folder):
    return json.loads((folder / "bundle.json").read_text())


def spoil(folder, change):
    manifest = read(folder)
    change(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def error_of(folder):
    with pytest.raises(BundleError) as error:
        Bundle.load(folder)
    return str(error.value)


# ---- the embedded bundle ------------------------------------------------------------------------


def test_the_embedded_bundle_is_whole_small_and_a_demonstration():
    bundle = Bundle.load()
    manifest = bundle.manifest
    assert manifest.trained
    assert caution(manifest) == DEMONSTRATION
    assert [task.name for task in manifest.tasks] == ["cancer", "candidiasis", "cluecell"]
    assert bundle.path(manifest.encoder.file).stat().st_size <= 25_000_000
    assert sum(path.stat().st_size for path in bundle.root.rglob("*")) < 30_000_000
    assert bundle.digest == hashlib.sha256((DEFAULT / "bundle.json").read_bytes()).hexdigest()
    assert {head.spec.name for head in load_heads(bundle)} == {
        "abnormality",
        "grade",
        "cell_type",
        "candidiasis",
        "cluecell",
    }


def test_the_model_card_has_the_data_with_licences_and_every_figure_with_its_interval():
    manifest = Bundle.load().manifest
    card = (DEFAULT / "MODEL_CARD.md").read_text("utf-8")
    assert "emonstration: not for diagnosis" in card
    assert len(manifest.training_data) == 5
    for data in manifest.training_data:
        assert f"| {data.name} | {data.licence} | {data.count:,} |" in card
    assert {f.task for f in manifest.evaluation if f.metric == "AUC"} >= {
        "cancer",
        "candidiasis",
        "cluecell",
        "heads.abnormality",
        "heads.candidiasis",
    }
    for figure in manifest.evaluation:
        assert figure.ci_low <= figure.value <= figure.ci_high
        assert f"| {figure.task} | {figure.metric} | {figure.value:.3f} |" in card
        assert figure.protocol in card


def test_rebuilding_the_untrained_bundle_gives_the_same_bytes(tmp_path):
    once, again = tmp_path / "once", tmp_path / "again"
    untrained.write(once)
    untrained.write(again)
    assert {path.name for path in once.iterdir()} == {path.name for path in again.iterdir()}
    for path in once.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


# ---- published schemas --------------------------------------------------------------------------


def test_the_committed_schemas_are_the_generated_ones(tmp_path):
    write_schemas(tmp_path)
    published = DEFAULT.parent.parent / "schemas"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bundle.schema.json", "result.schema.json"]
    for name in names:
        assert (published / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), (
            f"{name} is stale: run python -c 'from unicas_edge.bundle import *; write_schemas()'"
        )


def test_the_schema_accepts_the_embedded_manifest_and_refuses_what_the_loader_refuses():
    schema = dict(schemas())["bundle.schema.json"]
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    good = read(DEFAULT)
    validator.validate(good)
    for bad in (
        {**good, "surprise": 1},
        {**good, "trained": "no"},
        {**good, "tile": {**good["tile"], "um_px": 0}},
        {**good, "tasks": []},
        {key: value for key, value in good.items() if key != "licence"},
    ):
        assert not validator.is_valid(bad)


def test_the_result_schema_leaves_out_what_the_json_leaves_out():
    schema = dict(schemas())["result.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"tasks", "coverage", "notices"} <= set(schema["properties"])
    assert not {"features", "tiles"} & set(schema["properties"])


@pytest.mark.parametrize("demonstration", [True, False])
def test_a_manifest_says_that_it_is_a_demonstration_only_if_it_is_one(copy, demonstration):
    spoil(copy, lambda m: m.update(trained=True, demonstration=demonstration))
    manifest = Bundle.load(copy).manifest
    assert manifest.demonstration is demonstration
    written = manifest.model_dump(mode="json")
    assert ("demonstration" in written) is demonstration
    jsonschema.validate(written, dict(schemas())["bundle.schema.json"])


# ---- what a manifest can get wrong --------------------------------------------------------------


def set_at(*keys, value):
    def change(manifest):
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (set_at("surprise", value=1), "surprise: Extra inputs are not permitted"),
        (set_at("tile", "surprise", value=1), "tile.surprise: Extra inputs"),
        (set_at("aggregator", "config", "surprise", value=1), "aggregator.config.surprise: Extra"),
        (lambda m: m.pop("licence"), "licence: Field required"),
        (set_at("schema_version", value=2), "schema_version: Input should be 1"),
        (set_at("trained", value="yes"), "trained: Input should be a valid boolean"),
        (set_at("demonstration", value=1), "demonstration: Input should be a valid boolean"),
        (
            lambda m: m.update(trained=False, demonstration=True),
            "demonstration can only be true if trained is true",
        ),
        (set_at("tasks", 0, "threshold", value=1.5), "tasks.0.threshold: Input should be less"),
        (set_at("tasks", 0, "threshold", value=-0.1), "tasks.0.threshold: Input should be greater"),
        (set_at("tasks", 0, "threshold", value=float("nan")), "tasks.0.threshold"),
        (set_at("tasks", 0, "positive", value=2), "positive 2 is not one of 2 classes"),
        (set_at("tasks", 0, "calibration", "temperature", value=0), "temperature"),
        (set_at("tasks", 1, "name", value="cancer"), "two tasks have the same name"),
        (set_at("tasks", 1, "name", value="../x"), "tasks.1.name"),
        (lambda m: m["tasks"].pop(), "tasks: [2, 2] classes"),
        (set_at("encoder", "width", value=191), "encoder.width is 191"),
        (set_at("encoder", "format", value="pickle"), "encoder.format: Input should be 'onnx'"),
        (set_at("encoder", "file", value="other.onnx"), "encoder.file 'other.onnx' is not listed"),
        (set_at("tile", "crop_px", value=512), "crop_px 512 exceeds size_px 256"),
        (set_at("tile", "size_px", value=10**9), "tile.size_px: Input should be less"),
        (set_at("tile", "max_tiles", value=10**12), "tile.max_tiles: Input should be less"),
        (set_at("aggregator", "config", "embed_dim", value=10**9), "embed_dim: Input should be"),
        (set_at("input", "std", value=[0.2, 0.2, 0]), "input.std.2"),
        (set_at("input", "mean", value=[0.2, 0.2]), "input.mean"),
        (set_at("colour", value={"default": "reinhard", "target": None}), "needs a target"),
        (set_at("detector", value={"file": "d.onnx"}), "detector"),
        (set_at("files", "encoder.onnx", value="ABC"), "files.encoder.onnx"),
        (set_at("files", value={}), "files"),
        (set_at("name", value="x" * 10_000), "name: String should have at most"),
    ],
)
def test_a_manifest_that_breaks_the_schema_names_the_key(copy, change, cause):
    spoil(copy, change)
    text = error_of(copy)
    assert cause in text
    assert text.startswith(str(copy / "bundle.json"))
    assert "schema" in text


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(copy, content):
    (copy / "bundle.json").write_bytes(content)
    assert str(copy / "bundle.json") in error_of(copy)


def test_a_huge_manifest_is_refused_before_it_is_parsed(copy):
    (copy / "bundle.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert "over 1,048,576 bytes" in error_of(copy)


def test_no_folder_no_manifest(tmp_path):
    assert "cannot be read" in error_of(tmp_path / "nothing")
    assert "--bundle takes a folder" in error_of(tmp_path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_random_damage_to_the_manifest_is_a_bundle_error_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    text = bytearray((DEFAULT / "bundle.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (folder / "bundle.json").write_bytes(text)
    for name in ("encoder.onnx", "aggregator.safetensors"):
        (folder / name).symlink_to(folder / "nowhere")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(folder)


# ---- files --------------------------------------------------------------------------------------


def test_a_missing_file_is_named(copy):
    (copy / "encoder.onnx").unlink()
    assert "'encoder.onnx' is missing" in error_of(copy)


def test_a_folder_in_place_of_a_file_is_named(copy):
    (copy / "encoder.onnx").unlink()
    (copy / "encoder.onnx").mkdir()
    assert "'encoder.onnx' is missing" in error_of(copy)


def test_one_changed_bit_is_a_wrong_hash(copy):
    with (copy / "encoder.onnx").open("r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)[0]
        file.seek(5_000_000)
        file.write(bytes([byte ^ 1]))
    assert "'encoder.onnx' has SHA-256" in error_of(copy)


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "C:\\x", "a\\..\\b", "C:x", "", "a//b", "a\0b", "x" * 300, "a\nb", "b/"],
)
def test_a_path_that_is_no_plain_relative_one_breaks_the_schema(copy, name):
    spoil(copy, lambda m: m["files"].update({name: "0" * 64}))
    assert "files." in error_of(copy)


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "..", "weights/../encoder.onnx"])
def test_a_path_that_climbs_out_of_the_bundle_is_refused(copy, name):
    (copy.parent / "outside").write_bytes(b"x")
    spoil(copy, lambda m: m["files"].update({name: hashlib.sha256(b"x").hexdigest()}))
    assert f"{name!r} leads outside the bundle" in error_of(copy)


def test_a_link_that_leads_out_of_the_bundle_is_refused(copy):
    outside = copy.parent / "outside.onnx"
    shutil.move(copy / "encoder.onnx", outside)
    (copy / "encoder.onnx").symlink_to(outside)
    assert "'encoder.onnx' leads outside the bundle" in error_of(copy)


def test_a_link_to_itself_is_refused(copy):
    (copy / "encoder.onnx").unlink()
    (copy / "encoder.onnx").symlink_to(copy / "encoder.onnx")
    assert "'encoder.onnx'" in error_of(copy)


def test_the_bundle_itself_may_be_reached_through_a_link(copy):
    link = copy.parent / "link"
    link.symlink_to(copy)
    assert Bundle.load(link).digest == Bundle.load().digest


def test_only_listed_files_have_a_path(copy):
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"'extra\.bin' is not listed"):
        Bundle.load(copy).path("extra.bin")


def test_a_configuration_that_is_not_the_files_own_is_named(copy):
    spoil(copy, set_at("aggregator", "config", "top_m", value=128))
    text = error_of(copy)
    assert "aggregator.config differs from the metadata" in text
    assert "top_m 128 != 256" in text


def replace(folder, name, write):
    write(folder / name)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    spoil(folder, lambda m: m["files"].update({name: digest}))


def test_a_pickle_in_place_of_the_weights_is_never_loaded(copy, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").write_text, ("x",))

    replace(copy, "aggregator.safetensors", lambda p: p.write_bytes(pickle.dumps(Trap())))
    assert "not a readable safetensors file" in error_of(copy)
    assert not (tmp_path / "sprung").exists()


def test_weights_without_a_configuration_are_refused(copy):
    weights = load_file(copy / "aggregator.safetensors")
    replace(copy, "aggregator.safetensors", lambda path: save_file(weights, path))
    assert "no `config`" in error_of(copy)
