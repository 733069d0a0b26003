"""Loading a bundle's knowledge: what is read is what was written, and nothing wrong is taken."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import jsonschema
import numpy as np
import pytest

from tests.support.knowledge_case import (
    FILE,
    KINDS,
    change_manifest,
    spec_for,
    weights_for,
    with_knowledge,
)
from unicas_edge.adequacy import knowledge as module
from unicas_edge.adequacy.knowledge import knowledge_for, load_knowledge
from unicas_edge.bundle import Bundle
from unicas_edge.errors import BundleError
from unicas_edge.schemas import schemas

WIDTH = 192


@pytest.fixture(scope="module")
def folder(untrained_bundle, tmp_path_factory):
    return with_knowledge(untrained_bundle, tmp_path_factory.mktemp("k") / "b")


def random_weights(seed: int = 0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((WIDTH, WIDTH)) / WIDTH
    return weights_for(
        WIDTH,
        kinds_weight=rng.standard_normal((len(KINDS), WIDTH)),
        kinds_bias=rng.standard_normal(len(KINDS)),
        tokens_mean=rng.standard_normal(WIDTH),
        tokens_covariance=root @ root.T + np.eye(WIDTH),
        cells_weight=rng.standard_normal(WIDTH),
        scale_weight=rng.standard_normal(WIDTH) / 10,
        scale_bias=np.array([0.25]),
    )


# ---- what is read -------------------------------------------------------------------------------


def test_a_bundle_without_knowledge_has_none(untrained_bundle):
    assert load_knowledge(untrained_bundle) is None
    assert "knowledge" not in untrained_bundle.manifest.model_dump(mode="json")


def test_every_reading_is_what_its_formula_says(untrained_bundle, tmp_path):
    """Against the formulas written out tile by tile, with a solver in place of the whitening."""
    weights = random_weights()
    aggregated = ["cell", "bubble"]
    folder = with_knowledge(untrained_bundle, tmp_path / "b", weights, aggregated=aggregated)
    tokens = np.random.default_rng(5).standard_normal((60, WIDTH)).astype(np.float32)
    reading = load_knowledge(Bundle.load(folder)).read(tokens)
    w = {key: value.astype(np.float64) for key, value in weights.items()}
    for row, token in enumerate(tokens.astype(np.float64)):
        logits = [float(w["kinds.weight"][k] @ token + w["kinds.bias"][k]) for k in range(4)]
        kind = KINDS[int(np.argmax(logits))]
        apart = token - w["tokens.mean"]
        square = apart @ np.linalg.solve(w["tokens.covariance"], apart)
        cells = max(0.0, float(w["cells.weight"] @ token + w["cells.bias"][0]))
        assert reading.kinds[row] == kind
        assert reading.aggregated[row] == (kind in aggregated)
        assert reading.distance[row] == pytest.approx(np.sqrt(square / WIDTH))
        assert reading.cells[row] == pytest.approx(cells if kind in aggregated else 0)
        octave = float(w["scale.weight"] @ token + 0.25)
        assert reading.octaves[row] == pytest.approx(octave)
    assert 0 < reading.aggregated.sum() < 60
    assert reading.counts == {kind: reading.kinds.count(kind) for kind in KINDS}
    chosen = reading.aggregated
    assert reading.slide_distance == np.median(reading.distance[chosen])
    assert reading.um_px_factor == pytest.approx(2 ** np.median(reading.octaves[chosen]))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_slides_of_hardly_any_tile(folder, count):
    reading = load_knowledge(Bundle.load(folder)).read(np.ones((count, WIDTH), np.float32))
    assert reading.counts == {"cell": count, "ink": 0, "bubble": 0, "out_of_focus": 0}
    assert (reading.slide_distance, reading.um_px_factor) == ((1, 1) if count else (None, None))


def test_the_distance_without_an_aggregated_tile_is_that_of_all(untrained_bundle, tmp_path):
    weights = weights_for(WIDTH, kinds_bias=np.eye(4)[2])
    knowledge = load_knowledge(
        Bundle.load(with_knowledge(untrained_bundle, tmp_path / "b", weights))
    )
    reading = knowledge.read(np.full((5, WIDTH), 3, np.float32))
    assert reading.kinds == ["bubble"] * 5
    assert not reading.aggregated.any()
    assert reading.slide_distance == pytest.approx(3)
    assert reading.um_px_factor is None
    assert reading.cells.sum() == 0


def test_extreme_tokens_give_finite_figures(untrained_bundle, tmp_path):
    weights = weights_for(WIDTH, scale_weight=np.full(WIDTH, 3e38), cells_weight=np.ones(WIDTH))
    knowledge = load_knowledge(
        Bundle.load(with_knowledge(untrained_bundle, tmp_path / "b", weights))
    )
    reading = knowledge.read(np.full((3, WIDTH), 3e38, np.float32))
    assert np.isfinite([reading.slide_distance, reading.um_px_factor, *reading.cells]).all()


def test_a_part_of_another_bundle_is_refused(folder, untrained_bundle, tmp_path):
    bundle = Bundle.load(folder)
    knowledge = load_knowledge(bundle)
    assert knowledge_for(bundle, knowledge) is knowledge
    with pytest.raises(BundleError, match="open the knowledge again"):
        knowledge_for(untrained_bundle, knowledge)
    stricter = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(deep=True))
    object.__setattr__(
        stricter.manifest,
        "knowledge",
        bundle.manifest.knowledge.model_copy(update={"min_cell_share": 0.9}),
    )
    with pytest.raises(BundleError, match="load the knowledge again"):
        knowledge_for(stricter, knowledge)


# ---- what the file can get wrong ----------------------------------------------------------------


def uneven():
    covariance = np.eye(WIDTH)
    covariance[3, 5] = 0.01
    return covariance


def spoilt(value):
    covariance = np.eye(WIDTH)
    covariance[7, 7] = value
    return covariance


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"tokens_mean": np.full(WIDTH, np.nan)}, "tokens.mean is not finite"),
        ({"tokens_covariance": spoilt(np.inf)}, "tokens.covariance is not finite"),
        ({"tokens_covariance": uneven()}, "tokens.covariance is not symmetric"),
        ({"tokens_covariance": spoilt(-1.0)}, "tokens.covariance is not positive definite"),
        ({"tokens_covariance": spoilt(0.0)}, "tokens.covariance is not positive definite"),
        ({"tokens_covariance": np.ones((WIDTH, WIDTH))}, "covariance is not positive definite"),
        ({"tokens_covariance": np.eye(WIDTH - 1)}, r"tokens.covariance is float32 \[191, 191\]"),
        ({"tokens_covariance": np.ones(WIDTH)}, r"not float \[192, 192\]"),
        ({"kinds_weight": np.zeros((5, WIDTH))}, r"kinds.weight is float32 \[5, 192\]"),
        ({"kinds_bias": np.zeros(3)}, r"kinds.bias is float32 \[3\], not float \[4\]"),
        ({"cells_weight": np.zeros(7)}, r"cells.weight is float32 \[7\]"),
        ({"cells_bias": np.zeros(2)}, r"cells.bias is float32 \[2\], not float \[1\]"),
        ({"scale_bias": np.array([np.nan])}, "scale.bias is not finite"),
        ({"scale_weight": None}, "missing scale.weight"),
        ({"ink_weight": np.zeros(3)}, "unexpected ink.weight"),
        ({"cells_weight": np.zeros(WIDTH, np.int64)}, "cells.weight is int64"),
    ],
)
def test_statistics_that_cannot_be_used_are_refused(untrained_bundle, tmp_path, changes, cause):
    folder = with_knowledge(untrained_bundle, tmp_path / "b", weights_for(WIDTH, **changes))
    bundle = Bundle.load(folder)
    with pytest.raises(BundleError, match=cause) as error:
        load_knowledge(bundle)
    assert f"{FILE}: knowledge: " in str(error.value)
    assert "fit the knowledge again" in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\xff" * 100])
def test_a_file_that_holds_no_tensors_is_refused(untrained_bundle, tmp_path, data):
    folder = with_knowledge(untrained_bundle, tmp_path / "b", data)
    with pytest.raises(BundleError, match="not a readable safetensors file"):
        load_knowledge(Bundle.load(folder))


def test_a_huge_file_is_refused_before_it_is_read(untrained_bundle, tmp_path):
    folder = with_knowledge(untrained_bundle, tmp_path / "b", b"")
    with (folder / FILE).open("r+b") as file:
        file.truncate(module.MAX_BYTES + 1)  # sparse: it takes no room
    digest = hashlib.sha256(bytes(module.MAX_BYTES + 1)).hexdigest()
    change_manifest(folder, lambda m: m["files"].update({FILE: digest}))
    with pytest.raises(BundleError, match="knowledge: too large"):
        load_knowledge(Bundle.load(folder))


# ---- what the manifest can get wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"encoder_sha256": "ab" * 32}, "made for another encoder; fit it again"),
        ({"kinds": ["ink", "bubble"], "aggregated": ["ink"]}, "the first must be 'cell'"),
        ({"kinds": ["ink", "cell"]}, "the first must be 'cell', not 'ink'"),
        ({"kinds": ["cell"]}, "kinds"),
        ({"kinds": ["cell", *(f"k{n}" for n in range(64))]}, "kinds"),
        ({"kinds": ["cell", "ink", "ink"]}, "kinds: two have the same name"),
        ({"kinds": ["cell", "=1+1"]}, "kinds.1"),
        ({"kinds": ["cell", "k" * 33]}, "kinds.1"),
        ({"aggregated": ["cell", "cell"]}, "aggregated: two have the same name"),
        ({"aggregated": ["cell", "glass"]}, "aggregated: 'glass' is not one of kinds"),
        ({"aggregated": ["ink"]}, "aggregated: lacks 'cell'"),
        ({"aggregated": []}, "aggregated"),
        ({"file": "../knowledge.safetensors"}, "leads outside|not listed"),
        ({"file": "other.safetensors"}, "knowledge.file 'other.safetensors' is not listed"),
        ({"min_cell_share": 1.5}, "min_cell_share"),
        ({"min_cell_share": "0.3"}, "min_cell_share"),
        ({"min_squamous_cells": -1}, "min_squamous_cells"),
        ({"preparation_mm2": 0}, "preparation_mm2"),
        ({"distance_limit": 0}, "distance_limit"),
        ({"distance_limit": float("nan")}, "distance_limit"),
        ({"distance_limit": float("inf")}, "distance_limit"),
        ({"calibration": {"temperature": 0}}, "temperature"),
        ({"um_px_tolerance": -0.1}, "um_px_tolerance"),
        ({"cell_error": -1.0}, "cell_error"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(
    untrained_bundle, tmp_path, changes, cause
):
    folder = with_knowledge(untrained_bundle, tmp_path / "b", **changes)
    with pytest.raises(BundleError, match=cause) as error:
        Bundle.load(folder)
    assert "bundle.json" in str(error.value)


@pytest.mark.parametrize("key", ["kinds", "aggregated", "min_squamous_cells", "calibration"])
def test_a_key_left_out_is_named(folder, tmp_path, untrained_bundle, key):
    made = with_knowledge(untrained_bundle, tmp_path / "b")
    change_manifest(made, lambda m: m["knowledge"].pop(key))
    with pytest.raises(BundleError, match=f"knowledge.{key}"):
        Bundle.load(made)


def test_a_listed_file_that_is_missing_or_another_is_refused(untrained_bundle, tmp_path):
    folder = with_knowledge(untrained_bundle, tmp_path / "b")
    bundle = Bundle.load(folder)
    (folder / FILE).write_bytes(b"other")
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.load(folder)
    with pytest.raises(BundleError, match="is not the file that the manifest names"):
        load_knowledge(bundle)
    (folder / FILE).unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.load(folder)


def test_the_manifest_keeps_its_knowledge_and_fits_the_schema(folder, untrained_bundle):
    written = Bundle.load(folder).manifest.model_dump(mode="json")
    assert written["knowledge"] == spec_for(untrained_bundle)
    assert written == json.loads((folder / "bundle.json").read_text())
    jsonschema.validate(written, dict(schemas())["bundle.schema.json"])
