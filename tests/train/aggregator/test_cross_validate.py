"""Subtypes by cross-validation; from a table to a calibrated bundle by the commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.bundle_case import make_bundle  # noqa: E402
from tests.support.labelled_bags import QUICK, TINY, WIDTH, bag_set, write_bags  # noqa: E402
from unicas_edge.aggregator.aggregator import Aggregator  # noqa: E402
from unicas_edge.cli.train import train_app  # noqa: E402
from unicas_edge.core.arrays import softmax  # noqa: E402
from unicas_edge.train.aggregator import fit as fitting  # noqa: E402
from unicas_edge.train.aggregator.bags import MISSING  # noqa: E402
from unicas_edge.train.aggregator.cross_validate import cross_validate, write_predictions  # noqa: E402
from unicas_edge.train.aggregator.model import MultiTaskAggregator  # noqa: E402
from unicas_edge.train.evaluate.csv import read_predictions  # noqa: E402


def test_subtypes_are_predicted_by_models_that_did_not_see_the_slide(tmp_path):
    bags = bag_set(40, classes=(3,))
    bags = replace(bags, bags=(replace(bags.bags[0], labels=(MISSING,)), *bags.bags[1:]))
    settings = replace(QUICK, epochs=1)
    found = cross_validate(
        bags, "cancer", settings, tmp_path / "runs", classes=("a", "b", "c"), folds=2, **TINY
    )
    assert len(found.labels) == 39
    for fold in (0, 1):
        run = tmp_path / "runs" / f"fold-{fold}"
        state = torch.load(run / "last.pt", weights_only=True)
        learned = {name for name, _ in json.loads(state["identity"])["bags"]}
        test = [i for i in range(39) if found.folds[i] == fold]
        tested = bags.only("cancer").chosen(test)
        assert not learned & {bag.name for bag in tested.bags}
        again = fitting.predict(MultiTaskAggregator.load(run / fitting.WEIGHTS), tested)[0]
        assert np.allclose(softmax(again), found.probabilities[test], atol=1e-6)
    for group in range(found.groups.max() + 1):
        assert len(set(found.folds[found.groups == group].tolist())) == 1
    write_predictions(tmp_path / "p.csv", found)
    again = read_predictions(tmp_path / "p.csv")
    assert (again.labels == found.labels).all()
    assert (again.folds == found.folds).all()
    assert np.allclose(again.probabilities, found.probabilities)


def run(*arguments):
    result = CliRunner().invoke(train_app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_table_to_a_calibrated_bundle_on_the_command_line(tmp_path):
    folder = tmp_path / "bags"
    table = write_bags(folder, bag_set(40))
    said = run(
        "aggregator",
        table,
        "--bags",
        folder,
        "-o",
        tmp_path / "run",
        "--width",
        WIDTH,
        "--embed-dim",
        12,
        "--depth",
        1,
        "--heads",
        2,
        "--experts",
        2,
        "--top-m",
        4,
        "--epochs",
        2,
        "--batch",
        8,
        "--lr",
        0.005,
        "--device",
        "cpu",
    )
    assert "mean AUC" in said
    assert "export aggregator" in said
    config = Aggregator.load(tmp_path / "run" / fitting.WEIGHTS).config
    bundle = make_bundle(tmp_path / "bundle", config)
    shutil.copy(tmp_path / "run" / fitting.WEIGHTS, bundle.root / "weights")
    bundle = make_bundle(tmp_path / "other", config)
    said = run("calibrate", bundle.root, table, "--bags", folder, "-o", tmp_path / "new")
    assert "cluecell: temperature" in said
    said = run(
        "aggregator",
        table,
        "--bags",
        folder,
        "-o",
        tmp_path / "cv",
        "--width",
        WIDTH,
        "--task",
        "cancer",
        "--folds",
        2,
        "--embed-dim",
        12,
        "--depth",
        1,
        "--heads",
        2,
        "--epochs",
        1,
        "--device",
        "cpu",
    )
    assert len(read_predictions(tmp_path / "cv" / "predictions.csv").labels) == 40
