"""Knowledge where a user meets it: files and scans, the terminal, what is written; real engine."""

from __future__ import annotations

import contextlib
import csv
import json

import h5py
import numpy as np
import pytest

from tests.cli.test_screen import call, rows, screen
from tests.screening.test_screener import assert_same, push_all
from tests.support.coloured_slide import CONFORMAL
from tests.support.knowledge_case import FILE, weights_for, with_knowledge
from unicas_edge.aggregator.bag_files import read_bag
from unicas_edge.bundle import Bundle
from unicas_edge.engines import open_encoder
from unicas_edge.report import load_result
from unicas_edge.sample import write_sample
from unicas_edge.screening.options import Options
from unicas_edge.screening.screener import Screener

PLAIN = Bundle.load()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "sample.svs"
    write_sample(path, 3300, 2700, seed=5)
    return path


@pytest.fixture(scope="module")
def halved(sample):
    """Weights by which about half the sample's tiles are cells, the others bubbles."""
    with Screener(PLAIN, Options(max_tiles=40)) as screener:
        tokens = screener.screen(sample).result.features.astype(np.float64)
    axis = np.random.default_rng(2).standard_normal(tokens.shape[1])
    weight, bias = np.zeros((4, len(axis))), np.full(4, -1e6)
    weight[2], bias[0], bias[2] = axis, 0, -np.median(tokens @ axis)
    return weights_for(
        len(axis), kinds_weight=weight, kinds_bias=bias, tokens_mean=tokens.mean(axis=0)
    )


def bundle_at(folder, weights=None, tasks=None, **changes):
    return Bundle.load(with_knowledge(PLAIN, folder, weights, tasks, **changes))


@pytest.mark.parametrize("max_tiles", [20, 40])
def test_pushing_gives_the_bits_the_file_gave(sample, halved, tmp_path, max_tiles):
    bundle = bundle_at(tmp_path / "b", halved, {"conformal": CONFORMAL}, min_squamous_cells=100)
    with Screener(bundle, Options(max_tiles=max_tiles, colour="none")) as screener:
        result = screener.screen(sample).result
    assert {"cell", "bubble"} <= set(result.tiles["kind"])
    assert result.adequacy.squamous.estimate > 10 * result.adequacy.kinds["cell"]
    assert "by their content scores" in result.adequacy.squamous.method
    with contextlib.closing(open_encoder(bundle)) as encoder:
        pushed = push_all(sample, bundle, encoder, max_tiles=max_tiles, scored=True)
    assert_same(result, pushed)


def test_terminal_and_files_say_what_was_found(sample, halved, tmp_path):
    bundle, out = tmp_path / "b", tmp_path / "out"
    bundle_at(bundle, halved, {"conformal": CONFORMAL}, min_cell_share=0.0, min_squamous_cells=0)
    done = screen(sample, "-o", out, "--bundle", bundle)
    assert done.returncode == 0, done.stderr
    result = load_result(out / "slides" / "sample")
    assert result.adequacy.basis == "tokens"
    folder = out / "slides" / "sample"
    table = list(csv.DictReader((folder / "tiles.csv").read_text().splitlines()))
    with h5py.File(folder / "features.h5") as file:
        kinds = file["kinds"][:].astype(str).tolist()
        features = file["features"][:]
    assert kinds == [row["kind"] for row in table if row["token"] != "-1"]
    shown = np.array(kinds) == "cell"
    assert result.adequacy.aggregated == ["cell"]
    assert 0 < shown.sum() < len(shown)
    bag = read_bag(folder / "features.h5", features.shape[1])
    assert np.array_equal(bag, features[shown])  # what is trained and verified is what is screened
    for task in result.tasks:
        words = task.confidence.words
        assert words.startswith("90% set: ")
        assert rows(out)["sample"][f"set_{task.name}"] == words
        assert f"  ({words})" in done.stdout
        left_out = [row for row in table if row["kind"] == "bubble"]
        assert left_out
        assert {float(row[f"prob_{task.name}"]) for row in left_out} == {0.0}
    assert "by pixels alone" not in done.stdout


def test_a_slide_outside_what_the_bundle_knows_is_told_and_shown(sample, tmp_path):
    bundle_at(tmp_path / "b", distance_limit=1e-6)
    done = screen(sample, "-o", tmp_path / "out", "--bundle", tmp_path / "b")
    assert done.returncode == 3
    assert "unsatisfactory: outside what this bundle knows: its tiles lie " in done.stdout
    row = rows(tmp_path / "out")["sample"]
    assert row["decision_cancer"] == "unsatisfactory"
    assert "outside what this bundle knows" in row["error"]
    assert not any(key.startswith("set_") for key in row)


def test_a_spacing_that_the_pixels_contradict_fails_the_slide(sample, tmp_path):
    weights = weights_for(PLAIN.manifest.encoder.width, scale_bias=np.array([1.0]))
    bundle_at(tmp_path / "b", weights, min_squamous_cells=0)
    done = screen(sample, "-o", tmp_path / "out", "--bundle", tmp_path / "b")
    assert done.returncode == 1
    assert "states 0.5 um/px" in done.stderr
    assert "its pixels show 1;" in done.stderr
    assert "--mpp" in done.stderr
    row = rows(tmp_path / "out")["sample"]
    assert (row["status"], row.get("decision_cancer", "")) == ("failed", "")
    assert not list((tmp_path / "out").rglob("result.json"))


def test_a_bundle_without_knowledge_says_so_once(sample, untrained_bundle, tmp_path):
    done = screen(sample, "-o", tmp_path / "out", "--bundle", untrained_bundle.root)
    assert (done.stdout + done.stderr).count("judged by pixels alone") == 1
    content = json.loads((tmp_path / "out/slides/sample/result.json").read_text())
    assert content["adequacy"]["basis"] == "pixels"
    with h5py.File(tmp_path / "out/slides/sample/features.h5") as file:
        assert set(file) == {"features", "coords"}


def test_bundle_check_loads_the_knowledge_and_says_what_adequacy_is_judged_by(
    sample, untrained_bundle, tmp_path
):
    known = with_knowledge(untrained_bundle, tmp_path / "b")
    said = call("bundle", "check", known)
    assert said.returncode == 0, said.stderr
    assert "by tokens; the bundle knows tiles of cell, ink, bubble, out_of_focus" in said.stdout
    assert "by pixels alone" in call("bundle", "check", untrained_bundle.root).stdout
    assert json.loads(call("bundle", "show", known).stdout)["knowledge"]["file"] == FILE
    spoilt = weights_for(192, tokens_covariance=-np.eye(192))
    bad = with_knowledge(untrained_bundle, tmp_path / "bad", spoilt)
    for command in (("bundle", "check", bad), ("screen", sample, "--bundle", bad)):
        done = call(*command, cwd=tmp_path)
        assert done.returncode != 0
        assert "tokens.covariance is not positive definite" in done.stderr
