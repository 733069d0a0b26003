"""What a manifest says of converted experts."""

from __future__ import annotations

import json
import shutil

import jsonschema
import pytest

from unicas_edge.bundle import Bundle
from unicas_edge.errors import BundleError
from unicas_edge.schemas import schemas

STORAGE = {
    "experts": "int8",
    "source_sha256": "0" * 64,
    "bags": 2,
    "tiles": 9,
    "max_probability_change": 0.25,
    "mean_probability_change": 0.125,
    "changed_decisions": 1,
}


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(Bundle.load().root, tmp_path / "bundle")


def spoil(folder, storage):
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["aggregator"]["storage"] = storage
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return manifest


def test_a_record_of_converted_experts_is_kept_and_none_is_not_written(copy):
    assert "storage" not in json.loads(Bundle.load(copy).manifest.model_dump_json())["aggregator"]
    written = spoil(copy, STORAGE)
    manifest = Bundle.load(copy).manifest
    assert json.loads(manifest.model_dump_json())["aggregator"]["storage"] == STORAGE
    jsonschema.validate(written, dict(schemas())["bundle.schema.json"])
    spoil(copy, None)
    assert Bundle.load(copy).manifest.aggregator.storage is None


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"bags": 0}, "null if there are none"),
        ({"changed_decisions": None}, "give the three figures if there are bags"),
        ({"max_probability_change": 1.5}, "max_probability_change"),
        ({"experts": "int4"}, "experts"),
        ({"source_sha256": "x"}, "source_sha256"),
        ({"surprise": 1}, "surprise: Extra inputs"),
    ],
)
def test_a_record_of_converted_experts_that_cannot_be_is_refused(copy, change, cause):
    spoil(copy, STORAGE | change)
    with pytest.raises(BundleError, match=r"aggregator\.storage") as error:
        Bundle.load(copy)
    assert cause in str(error.value)
