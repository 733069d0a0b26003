"""Where intervals come from and what they are worth: resamples, groups, folds, coverage."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.evaluate_case import simulated
from unicas_edge.errors import TrainingError

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from scipy import stats  # noqa: E402
from sklearn import metrics as sk  # noqa: E402

from unicas_edge.train.evaluate import intervals as evaluate_intervals  # noqa: E402
from unicas_edge.train.evaluate.figures import evaluate  # noqa: E402
from unicas_edge.train.evaluate.intervals import bootstrap, resampled, t_interval  # noqa: E402
from unicas_edge.train.evaluate.metrics import Weighted  # noqa: E402
from unicas_edge.train.evaluate.predictions import predictions  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_an_interval_is_the_percentiles_over_resamples_drawn_one_by_one(rng):
    labels, values = simulated(rng, 60, 2)
    groups = rng.integers(0, 12, 60)
    report = evaluate(labels, values, groups=groups, resamples=200, seed=5)
    weights = np.concatenate(list(resampled(predictions_groups(groups), 200, 5)))
    aucs = []
    for row in weights:
        cases = np.repeat(np.arange(60), row.astype(int))
        aucs.append(sk.roc_auc_score(labels[cases], values[cases, 1]))
    figure = report.figure("auc")
    expected = np.quantile(aucs, [0.025, 0.975])
    assert (figure.ci_low, figure.ci_high) == pytest.approx(tuple(expected))
    assert report.interval.units == report.groups == 12


def predictions_groups(groups):
    """Groups as they are numbered, by their first appearance."""
    return predictions(np.arange(60) % 2, np.full(60, 0.5), groups=groups).groups


def test_what_groups_are_called_does_not_change_the_intervals(rng):
    labels, values = simulated(rng, 60, 2)
    groups = rng.integers(0, 12, 60)
    names = np.array([f"field {99 - g}" for g in groups])
    one, other = (evaluate(labels, values, groups=g, resamples=50) for g in (groups, names))
    assert one == other


def test_groups_are_drawn_whole_and_as_many_as_there_are(rng):
    groups = rng.integers(0, 7, 50)
    weights = np.concatenate(list(resampled(groups, 300, 1)))
    assert weights.shape == (300, 50)
    for group in range(7):
        own = weights[:, groups == group]
        assert (own == own[:, :1]).all()
    first = [np.flatnonzero(groups == group)[0] for group in range(7)]
    assert (weights[:, first].sum(axis=1) == 7).all()


def test_resamples_are_seeded_and_do_not_depend_on_the_block(rng, monkeypatch):
    labels, values = simulated(rng, 50, 3)
    one, other = (evaluate(labels, values, resamples=100, seed=seed) for seed in (0, 1))
    assert one.figures != other.figures
    monkeypatch.setattr(evaluate_intervals, "_BLOCK", 50 * 7)
    assert evaluate(labels, values, resamples=100, seed=0) == one


def coverage(rng, trials, *, clustered, grouped):
    """How often the interval of an AUC holds the true one, 0.7602 by the binormal formula."""
    truth = stats.norm.cdf(1 / np.sqrt(2))
    held = 0
    for _ in range(trials):
        fields, size = 40, 6
        labels = np.repeat(np.arange(fields) % 2, size)
        shared = np.repeat(rng.normal(size=fields), size)
        own = rng.normal(size=fields * size)
        score = labels + (0.9 * shared + np.sqrt(1 - 0.81) * own if clustered else own)
        groups = np.repeat(np.arange(fields), size)
        made = predictions(labels, stats.norm.cdf(score), groups=groups if grouped else None)
        units = made.groups if grouped else np.arange(len(labels))
        weighted = Weighted(made, 0.5)
        found, _ = bootstrap(weighted, units, 200, int(rng.integers(2**31)))
        low, high = np.nanquantile(
            found[:, [k.metric for k in weighted.keys].index("auc")], [0.025, 0.975]
        )
        held += low <= truth <= high
    return held / trials


def test_an_interval_holds_the_truth_about_as_often_as_it_says(rng):
    assert 0.88 <= coverage(rng, 200, clustered=False, grouped=False) <= 0.985
    assert 0.88 <= coverage(rng, 200, clustered=True, grouped=True) <= 0.985
    # taking cells of one field for independent is what groups are for
    assert coverage(rng, 60, clustered=True, grouped=False) < 0.8


def test_folds_give_the_t_interval_of_their_figures(rng):
    labels, values = simulated(rng, 250, 3)
    folds = np.array(["a", "b", "c", "d", "e"])[np.arange(250) % 5]
    report = evaluate(labels, values, folds=folds, resamples=20)
    own = [
        sk.f1_score(labels[folds == f], values[folds == f].argmax(axis=1), average="macro")
        for f in "abcde"
    ]
    low, high = stats.t.interval(0.95, 4, np.mean(own), stats.sem(own))
    figure = report.figure("f1", "macro")
    assert (figure.value, figure.ci_low, figure.ci_high) == pytest.approx(
        (np.mean(own), low, high), abs=1e-6
    )
    assert report.interval.method == "folds"
    assert report.interval.seed is None
    assert any("too narrow" in notice for notice in report.notices)


def test_a_t_interval_holds_the_truth_about_as_often_as_it_says(rng):
    _, low, high = t_interval(rng.normal(size=(5, 4000)))
    assert 0.93 < ((low <= 0) & (high >= 0)).mean() < 0.97


def test_intervals_across_folds_stay_within_0_and_1(rng):
    labels, values = simulated(rng, 60, 2, pull=4)
    report = evaluate(labels, values, folds=np.arange(60) % 3)
    assert all(0 <= f.ci_low <= f.ci_high <= 1 for f in report.figures if f.at is None)


def test_resamples_that_lack_a_class_are_counted_and_left_out(rng):
    labels = np.array([1] + [0] * 19)
    score = np.linspace(0.9, 0.1, 20)
    report = evaluate(labels, score, resamples=1000)
    figure = report.figure("auc")
    assert 300 < figure.undefined < 420  # (19/20)**20 = 0.358 of resamples
    assert report.figure("accuracy").undefined == 0
    assert report.figure("net_benefit").undefined == 0
    assert any("lack a class" in notice for notice in report.notices)
    assert any("say nothing about new cases" in notice for notice in report.notices)
    assert figure.value == figure.ci_low == figure.ci_high == 1


def test_a_fold_that_lacks_a_class_is_counted_and_too_many_are_refused(rng):
    labels, values = simulated(rng, 90, 3)
    labels[:30] %= 2
    report = evaluate(labels, values, folds=np.repeat([0, 1, 2], 30))
    assert report.figure("auc", "macro").undefined == 1
    assert report.figure("auc", "class", "0").undefined == 0
    assert report.figure("accuracy").undefined == 0
    with pytest.raises(TrainingError, match="fewer than two of 90 folds hold every class"):
        evaluate(labels, values, folds=np.arange(90))


def test_a_class_without_cases_is_left_out_and_said(rng):
    labels, values = simulated(rng, 100, 3)
    labels[labels == 2] = 0
    report = evaluate(labels, values, classes=["a", "b", "c"], resamples=50)
    assert any("no case of c" in notice for notice in report.notices)
    recall = sk.recall_score(labels, values.argmax(axis=1), labels=[0, 1], average="macro")
    assert report.figure("sensitivity", "macro").value == pytest.approx(recall, abs=1e-6)
    with pytest.raises(KeyError):
        report.figure("auc", "class", "c")


def test_groups_in_several_folds_are_said(rng):
    labels, values = simulated(rng, 100, 2)
    groups, folds = np.arange(100) // 2, np.arange(100) % 4
    report = evaluate(labels, values, groups=groups, folds=folds)
    assert any("50 groups lie in more than one fold" in notice for notice in report.notices)
    apart = evaluate(labels, values, groups=groups, folds=groups % 4)
    assert not any("more than one fold" in notice for notice in apart.notices)
