"""Temperatures and thresholds, and their place in a bundle."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.bundle_case import make_bundle, three_tasks  # noqa: E402
from tests.support.labelled_bags import WIDTH, bag_set  # noqa: E402
from unicas_edge.aggregator.aggregator import Aggregator  # noqa: E402
from unicas_edge.bundle import Bundle  # noqa: E402
from unicas_edge.errors import TrainingError  # noqa: E402
from unicas_edge.screening.decide import probability  # noqa: E402
from unicas_edge.train.aggregator.calibrate import calibrate, fit_temperature, fit_threshold  # noqa: E402


def test_a_temperature_undoes_logits_that_are_too_sure(rng):
    labels = rng.integers(2, size=4000)
    p = np.where(labels == 1, rng.beta(4, 2, 4000), rng.beta(2, 4, 4000))
    logits = np.stack([np.zeros(4000), np.log(p / (1 - p))], axis=1)
    honest, *_ = fit_temperature(logits, labels)
    sure, before, after = fit_temperature(3 * logits, labels)
    assert sure == pytest.approx(3 * honest, rel=1e-3)
    assert after < before
    grid = [
        float(torch.nn.functional.cross_entropy(torch.tensor(3 * logits / t), torch.tensor(labels)))
        for t in np.linspace(0.5, 8, 76)
    ]
    assert after <= min(grid) + 1e-9


def test_the_temperature_of_perfect_logits_stops_at_its_limit():
    labels = np.array([0, 1, 0, 1])
    logits = np.array([[4, -4], [-4, 4], [3, -3], [-3, 3]], dtype=np.float32)
    temperature, before, after = fit_temperature(logits, labels)
    assert 0.05 <= temperature < 1
    assert after <= before


def test_thresholds_by_youden_and_by_sensitivity():
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
    positive = np.array([False] * 4 + [True] * 4)
    assert fit_threshold(scores, positive) == pytest.approx(0.35)
    assert fit_threshold(scores, positive, 0.75) == pytest.approx(0.65)
    assert fit_threshold(scores, positive, 1.0) == pytest.approx(0.35)
    with pytest.raises(TrainingError, match=r"the sensitivity is 1\.5"):
        fit_threshold(scores, positive, 1.5)


def test_a_calibrated_bundle_decides_as_was_fitted_and_nothing_else_changes(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", three_tasks(embed_dim_in=WIDTH))
    bags = bag_set(40)
    made, fitted = calibrate(bundle, tmp_path / "new", bags, sensitivity=0.9)
    again = Bundle.load(tmp_path / "new")
    assert again.manifest == made.manifest
    assert again.manifest.verification is None
    assert again.manifest.files == bundle.manifest.files
    aggregator = Aggregator.load(again.path(again.manifest.aggregator.file))
    for number, (task, one) in enumerate(zip(again.manifest.tasks, fitted, strict=True)):
        scores = np.array(
            [probability(aggregator.logits(bags.tokens(i))[number], task) for i in range(40)]
        )
        called, sick = scores >= task.threshold, bags.labels[:, number] == task.positive
        assert called[sick].mean() == pytest.approx(one.sensitivity)
        assert one.sensitivity >= 0.9
        assert one.nll_after <= one.nll_before
        assert task.calibration.temperature == one.temperature
        assert not [e for e in again.manifest.evaluation if e.task == task.name]
    kept = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert {t["threshold"] for t in kept["tasks"]} == {0.5}


def test_bags_that_do_not_fit_a_bundle_leave_nothing_behind(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", three_tasks(embed_dim_in=WIDTH))
    bags = bag_set(20)
    wrong = [
        (replace(bags, tasks=("a", "b", "c")), "the bundle has cancer"),
        (bag_set(20, classes=(3, 2, 2)), "cancer: bags have 3 classes"),
        (bags.chosen(np.flatnonzero(bags.labels[:, 0] == 1)), "0 negative slides"),
    ]
    for given, message in wrong:
        with pytest.raises(TrainingError, match=message):
            calibrate(bundle, tmp_path / "new", given)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
