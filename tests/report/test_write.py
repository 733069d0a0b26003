"""The files of one slide, read the way others read them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.report_case import (
    CAUTIONS,
    FILES,
    TASKS,
    check_whole,
    make_overview,
    make_result,
    tile_pixels,
)
from unicas_edge import result as model
from unicas_edge.errors import OutputError
from unicas_edge.report import load_result, top_places, write_result
from unicas_edge.report.features_h5 import magnification, write_features_h5
from unicas_edge.report.geojson import features, write_geojson
from unicas_edge.report.result_json import result_bytes, write_result_json
from unicas_edge.report.tiles_csv import write_tiles_csv

SCHEMA = Path(model.__file__).parent / "schemas" / "result.schema.json"


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "case 17"
    write_result(path, result, make_overview(), tile_pixels)
    return path


def test_every_file_is_there_and_whole_and_result_json_is_last(folder):
    assert {entry.name for entry in folder.iterdir()} == FILES
    check_whole(folder)
    times = {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()}
    assert max(times, key=times.__getitem__) == "result.json"


def test_writing_twice_gives_the_same_bytes(folder, result, tmp_path):
    pixels = {place: tile_pixels(*place) for place in top_places(result)}
    write_result(tmp_path, result, make_overview(), pixels)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_result_json_reads_back_and_keeps_to_its_schema(folder, result):
    text = (folder / "result.json").read_text(encoding="utf-8")
    jsonschema.validate(json.loads(text), json.loads(SCHEMA.read_text(encoding="utf-8")))
    loaded = load_result(folder)
    assert loaded.features is None
    assert loaded.tiles is None
    assert result_bytes(loaded).decode() == text
    assert loaded == result.model_copy(update={"features": None, "tiles": None})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema_version": 1}, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_nan_becomes_null_where_null_means_something_and_an_error_elsewhere(tmp_path):
    result = make_result()
    task = result.tasks[0].model_copy(update={"probability": math.nan})
    path = tmp_path / "result.json"
    write_result_json(path, result.model_copy(update={"tasks": [task]}))
    assert "NaN" not in path.read_text(encoding="utf-8")
    assert load_result(path).tasks[0].probability is None
    spoiled = result.model_copy(update={"timings_seconds": {"read": math.inf}})
    with pytest.raises(OutputError, match=r"timings_seconds\.read"):
        write_result_json(tmp_path / "other.json", spoiled)
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 1, "odd": 2}', "\x00\xff"])
def test_what_is_no_result_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(OutputError, match=r"result\.json: not a result.*move it away"):
        load_result(tmp_path)
    with pytest.raises(OutputError, match="cannot be read"):
        load_result(tmp_path / "absent.json")


def test_tiles_csv_has_wsinfers_layout_and_exact_numbers(folder, result):
    with (folder / "tiles.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames is not None
    assert reader.fieldnames[:7] == [
        "minx",
        "miny",
        "width",
        "height",
        *(f"prob_{t}" for t in TASKS),
    ]
    assert reader.fieldnames[7:] == [
        "field",
        "rank",
        "token",
        "score",
        "status",
        "cellular",
        "focus",
        "in_focus",
        "kind",
    ]
    assert len(rows) == len(result.tiles)
    for name in ("minx", "rank", "prob_cancer", "cellular"):
        read = np.array([row[name] for row in rows], result.tiles[name].dtype)
        np.testing.assert_array_equal(read, result.tiles[name])
    failed = [row for row in rows if row["status"] == "failed"]
    assert failed
    assert all(row["focus"] == "" for row in failed)
    assert {row["in_focus"] for row in rows} == {"0", "1"}


def test_tiles_csv_streams_more_rows_than_a_chunk(tmp_path, result):
    many = np.tile(result.tiles, 9)
    write_tiles_csv(tmp_path / "tiles.csv", many)
    with (tmp_path / "tiles.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == 1 + len(many) > 8192


def test_features_load_as_trident_and_clam_load_them(folder, result):
    # TRIDENT, WSI.extract_slide_features and IO.read_coords; CLAM, dataset_generic.py
    with h5py.File(folder / "features.h5", "r") as file:
        coords = file["coords"][:]
        patch_features = file["features"][:]
        attributes = dict(file["coords"].attrs)
        name = file["features"].attrs["name"]
    batch = patch_features[np.newaxis]
    assert batch.shape == (1, len(result.features), 64)
    assert patch_features.dtype == np.float32
    assert coords.dtype == np.int64
    np.testing.assert_array_equal(patch_features, result.features)
    for token, (x, y) in enumerate(coords):
        row = result.tiles[result.tiles["token"] == token]
        assert (x, y) == (row["minx"][0], row["miny"][0])
    assert int(attributes["patch_size_level0"]) == 512
    expected = {
        "patch_size": 256,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "case 17.svs",
        "level0_width": 20_000,
        "level0_height": 16_000,
    }
    assert {key: attributes[key] for key in expected} == expected
    assert name == "case 17.svs"


@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_features_say_the_caution_of_their_bundle(tmp_path, weights, caution):
    for changes in ({}, {"notices": []}):
        write_features_h5(tmp_path / "f.h5", make_result(keep=9, **weights, **changes))
        with h5py.File(tmp_path / "f.h5", "r") as file:
            for attributes in (file.attrs, file["features"].attrs):
                assert caution in attributes["notice"]
                assert attributes["bundle_trained"] == weights["trained"]
                assert attributes["bundle_demonstration"] == weights["demonstration"]


@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_result_json_says_the_caution_of_its_bundle(tmp_path, weights, caution):
    write_result_json(tmp_path / "result.json", make_result(keep=9, **weights))
    loaded = load_result(tmp_path)
    assert caution in loaded.notices
    assert model.caution(loaded.bundle) == caution


def test_a_result_from_before_there_were_demonstrations_is_read(tmp_path):
    content = json.loads(result_bytes(make_result(keep=9, trained=True)))
    assert content["bundle"].pop("demonstration") is False
    (tmp_path / "result.json").write_text(json.dumps(content))
    loaded = load_result(tmp_path)
    assert not loaded.bundle.demonstration
    assert model.notices(loaded) == [model.NOTICE]


def test_rows_can_be_appended_as_both_projects_append_them(tmp_path, result):
    write_features_h5(tmp_path / "f.h5", result)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        data = file["features"]
        data.resize(len(data) + 3, axis=0)
        data[-3:] = 1.0
    with h5py.File(tmp_path / "f.h5", "r") as file:
        assert len(file["features"]) == len(result.features) + 3


def test_a_slide_without_tokens_has_empty_datasets(tmp_path):
    result = make_result(keep=0, tasks=(), features=None)
    write_result(tmp_path, result, make_overview(), tile_pixels)
    with h5py.File(tmp_path / "features.h5", "r") as file:
        assert file["features"].shape == (0, 0)
        assert file["coords"].shape == (0, 2)


def test_tokens_that_the_table_does_not_name_are_an_error(tmp_path, result):
    short = result.model_copy(update={"features": result.features[:-1]})
    with pytest.raises(OutputError, match="tokens but the tile table names"):
        write_features_h5(tmp_path / "f.h5", short)
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize(
    ("um_px", "expected"),
    [(0.5, 20), (0.499, 20), (0.25, 40), (0.2278, 40), (0.17, 60), (0.7, 14.29)],
)
def test_magnifications_are_those_that_scanners_name(um_px, expected):
    assert magnification(um_px) == expected
    assert type(magnification(um_px)) is type(expected)


def check_qupath(document: dict, width: int, height: int) -> None:
    """The rules QuPath's import keeps to."""
    assert document["type"] == "FeatureCollection"
    for item in document["features"]:
        assert item["type"] == "Feature"
        assert item["geometry"]["type"] == "Polygon"
        (ring,) = item["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        assert all(0 <= x <= width and 0 <= y <= height for x, y in ring)
        assert len({tuple(point) for point in ring}) == len(ring) - 1
        about = item["properties"]
        assert about["objectType"] in {"annotation", "detection", "tile", "cell"}
        assert isinstance(about["name"], str)
        assert about["classification"]["name"]
        assert ":" not in about["classification"]["name"]
        colour = about["classification"]["color"]
        assert len(colour) == 3
        assert all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
        assert isinstance(about["measurements"], dict)
        assert all(math.isfinite(value) for value in about["measurements"].values())
        assert about["isLocked"] is True


def test_annotations_keep_to_qupaths_rules(folder, result):
    document = json.loads((folder / "annotations.geojson").read_text(encoding="utf-8"))
    check_qupath(document, result.slide.width, result.slide.height)
    kinds = [item["properties"]["classification"]["name"] for item in document["features"]]
    assert kinds.count("cancer top tile") == len(result.tasks[0].top_tiles) == 10
    assert kinds.count("unreadable tile") == len(result.coverage.failures) == 5
    assert kinds.count("HSIL") == 1


@given(
    st.lists(
        st.tuples(
            st.integers(-9000, 30_000),
            st.integers(-9000, 30_000),
            st.integers(-5, 20_000),
            st.integers(-5, 20_000),
            st.text(max_size=20),
            st.floats(),
        ),
        max_size=6,
    )
)
def test_annotations_keep_to_the_rules_whatever_was_detected(cells):
    found = [
        model.Detection(x=x, y=y, width=w, height=h, label="a:" + label, score=score)
        for x, y, w, h, label, score in cells
    ]
    result = make_result(keep=4, width=2000, height=1500, detections=found)
    document = {"type": "FeatureCollection", "features": list(features(result))}
    check_qupath(json.loads(json.dumps(document)), 2000, 1500)


def test_a_result_without_findings_is_an_empty_collection(tmp_path):
    result = make_result(tasks=(), keep=0, detections=[], features=None)
    write_geojson(tmp_path / "a.geojson", result)
    document = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert document == {"type": "FeatureCollection", "features": []}


def test_a_result_that_cannot_be_kept_does_not_cost_the_older_one(tmp_path, result):
    write_result(tmp_path, result, make_overview(), tile_pixels)
    before = (tmp_path / "result.json").read_bytes()
    spoiled = result.model_copy(update={"timings_seconds": {"read": math.nan}})
    with pytest.raises(OutputError):
        write_result(tmp_path, spoiled, make_overview(), tile_pixels)
    with pytest.raises(OutputError, match="tile table"):
        write_result(tmp_path, load_result(tmp_path), make_overview(), tile_pixels)
    assert (tmp_path / "result.json").read_bytes() == before
