"""Thresholds, temperatures and prediction sets by left-out folds keep what their rule says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from unicas_edge.train.aggregator.bags import MISSING
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.calibration import (
    COVERAGE,
    SENSITIVITY,
    calibration,
    calibrations,
    covered,
    cross_fitted,
    outcomes,
)
from unicas_edge.train.demo.left_out import Unseen
from unicas_edge.train.evaluate.figures import evaluate_predictions


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    """Of the intervals, which are not looked at here."""
    few = partial(evaluate_predictions, resamples=20)
    monkeypatch.setattr("unicas_edge.train.demo.calibration.evaluate_predictions", few)


def unseen(seed=0, count=900, apart=2.0):
    """Slides of three folds; the scores of positive ones lie `apart` higher."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, len(TASKS)))
    scores = rng.normal(size=labels.shape) + apart * labels
    logits = np.stack([np.zeros_like(scores), 3 * scores - 3], axis=-1)
    folds = np.arange(count) % 3
    return Unseen(logits, labels, tuple(f"s{k % 30}" for k in range(count)), folds)


def test_a_threshold_is_the_highest_with_the_sensitivity():
    given = unseen()
    for k, one in enumerate(calibrations(given)):
        shares = one.share(given.logits[:, k])
        sick = given.labels[:, k] == 1
        called = (shares[sick] >= one.threshold).sum()
        assert called / sick.sum() >= SENSITIVITY
        assert (called - 1) / sick.sum() < SENSITIVITY


def test_the_temperature_undoes_what_logits_are_too_sure_of():
    assert all(one.temperature > 1.2 for one in calibrations(unseen(apart=1.0)))


def test_prediction_sets_hold_each_class_with_their_coverage():
    given, fresh = unseen(1, 3000), unseen(2, 3000)
    for k, one in enumerate(calibrations(given)):
        shares, sick = one.share(fresh.logits[:, k]), fresh.labels[:, k] == 1
        assert (shares[sick] >= one.conformal.positive_from).mean() == pytest.approx(
            COVERAGE, abs=0.04
        )
        assert (shares[~sick] <= one.conformal.negative_to).mean() == pytest.approx(
            COVERAGE, abs=0.04
        )


def test_with_few_slides_a_set_holds_everything():
    logits = np.stack([np.zeros(8), np.arange(8.0)], axis=1)
    limits = calibration(logits, np.array([0, 0, 0, 0, 1, 1, 1, 1])).conformal
    assert (limits.positive_from, limits.negative_to) == (0.0, 1.0)


def test_a_fold_is_judged_by_the_others_alone():
    given = unseen(count=300)
    spoilt = given.logits.copy()
    spoilt[given.folds == 1] *= -5
    other = Unseen(spoilt, given.labels, given.slides, given.folds)
    for before, after in zip(cross_fitted(given), cross_fitted(other), strict=True):
        assert before[1] == after[1]
        assert before[0] != after[0]


def test_figures_are_of_what_the_others_thresholds_decide():
    given = unseen()
    crossed = cross_fitted(given)
    for k, (told, report) in enumerate(outcomes(given, "a test")):
        decided = np.zeros(len(given.labels), bool)
        for fold, one in crossed[k].items():
            here = given.folds == fold
            decided[here] = one.share(given.logits[here, k]) >= one.threshold
        assert np.array_equal(told.probabilities[:, 1] >= report.threshold - 1e-12, decided)
    assert all(share > COVERAGE - 0.05 for share in covered(given).values())


def test_slides_whose_label_is_not_known_count_for_nothing():
    given = unseen(count=300)
    labels = given.labels.copy()
    hidden = np.arange(len(labels)) % 5 == 0
    labels[hidden, 1] = MISSING
    part = Unseen(given.logits, labels, given.slides, given.folds)
    spoilt = np.where(hidden[:, None, None], -given.logits, given.logits)
    other = Unseen(spoilt, labels, given.slides, given.folds)
    assert calibrations(part)[1] == calibrations(other)[1] != calibrations(given)[1]
    assert calibrations(part)[0] == calibrations(given)[0]
    assert outcomes(part, "a test")[1][1].n == (~hidden).sum()
    assert covered(part)["candidiasis"] == covered(other)["candidiasis"]
    assert part.task(1).auc() == other.task(1).auc()
