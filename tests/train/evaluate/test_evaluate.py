"""Figures against torchmetrics and scikit-learn, what is refused, and what a report says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.evaluate_case import simulated
from unicas_edge.errors import TrainingError

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from sklearn import metrics as sk  # noqa: E402
from torchmetrics.functional import classification as tm  # noqa: E402

from unicas_edge.bundle.manifest import Evaluation  # noqa: E402
from unicas_edge.train.evaluate.figures import evaluate, to_manifest  # noqa: E402
from unicas_edge.train.evaluate.metrics import BENEFIT_AT, Weighted, figures  # noqa: E402
from unicas_edge.train.evaluate.predictions import predictions  # noqa: E402
from unicas_edge.train.evaluate.report import Report  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("digits", [None, 1])
def test_binary_figures_are_those_of_scikit_learn(rng, digits):
    labels, values = simulated(rng, 400, 2, digits=digits)
    report = evaluate(labels, values, threshold=0.4, resamples=20)
    score = values[:, 1]
    called = (score >= 0.4).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(labels, called),
        "auc": sk.roc_auc_score(labels, score),
        "sensitivity": sk.recall_score(labels, called),
        "specificity": sk.recall_score(labels, called, pos_label=0),
        "f1": sk.f1_score(labels, called),
        "average_precision": sk.average_precision_score(labels, score),
    }
    found = {name: report.figure(name, "overall").value for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    macro = sk.f1_score(labels, called, average="macro")
    assert report.figure("f1", "macro").value == pytest.approx(macro, abs=1e-6)
    assert report.confusion == sk.confusion_matrix(labels, called).tolist()
    error = tm.binary_calibration_error(torch.tensor(score), torch.tensor(labels), n_bins=15)
    assert report.figure("calibration_error").value == pytest.approx(error.item(), abs=1e-6)


@pytest.mark.parametrize("classes", [3, 5])
def test_macro_figures_are_those_of_torchmetrics_and_scikit_learn(rng, classes):
    labels, values = simulated(rng, 500, classes)
    report = evaluate(labels, values, resamples=20)
    p, y = torch.from_numpy(values), torch.from_numpy(labels)
    expected = {
        "auc": tm.multiclass_auroc(p, y, classes, average="macro"),
        "sensitivity": tm.multiclass_recall(p, y, classes, average="macro"),
        "specificity": tm.multiclass_specificity(p, y, classes, average="macro"),
        "f1": tm.multiclass_f1_score(p, y, classes, average="macro"),
        "average_precision": tm.multiclass_average_precision(p, y, classes, average="macro"),
    }
    found = {name: report.figure(name, "macro").value for name in expected}
    assert found == pytest.approx({k: v.item() for k, v in expected.items()}, abs=1e-6)
    assert found["auc"] == pytest.approx(
        sk.roc_auc_score(labels, values, multi_class="ovr", average="macro"), abs=1e-6
    )
    error = tm.multiclass_calibration_error(p, y, classes, n_bins=15)
    assert report.figure("calibration_error").value == pytest.approx(error.item(), abs=1e-5)
    each = sk.f1_score(labels, values.argmax(axis=1), average=None)
    found = [report.figure("f1", "class", str(k)).value for k in range(classes)]
    assert found == pytest.approx(each, abs=1e-6)


@settings(max_examples=40)
@given(st.data())
def test_weights_give_what_torchmetrics_says_of_the_repeated_cases(data):
    classes = data.draw(st.integers(2, 4))
    n = data.draw(st.integers(classes, 25))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    labels, values = simulated(rng, n, classes, digits=data.draw(st.sampled_from([None, 1, 2])))
    made = predictions(labels, values, positive=0 if classes == 2 else None)
    weighted = Weighted(made, 0.5)
    times = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any))
    own = weighted.of(np.array([times], float))[0][0]
    cases = np.repeat(np.arange(n), times)
    repeated = predictions_of(made, cases)
    exact = (
        figures(
            repeated,
            0.5,
            np.ones(len(cases), bool),
        )
        if repeated
        else None
    )
    if exact is not None and set(labels[cases]) == set(labels):
        benefit = np.array([key.metric == "net_benefit" for key in weighted.keys])
        np.testing.assert_allclose(own[~benefit], exact[~benefit], atol=2e-6)
    elif classes == 2:  # one class alone
        defined = {k.metric for k, x in zip(weighted.keys, own, strict=True) if np.isfinite(x)}
        assert defined == {"accuracy", "calibration_error", "net_benefit"}


def predictions_of(made, cases):
    """The chosen cases as predictions of their own, None where they are of one class."""
    if len(set(made.labels[cases])) < 2:
        return None
    return predictions(made.labels[cases], made.probabilities[cases], positive=made.positive)


def test_net_benefit_is_counted_as_vickers_and_elkin_do(rng):
    labels, values = simulated(rng, 300, 2, digits=2)
    report = evaluate(labels, values, resamples=20)
    score = values[:, 1]
    for at in BENEFIT_AT:
        called = score >= at
        odds = at / (1 - at)
        benefit = ((called & (labels == 1)).sum() - odds * (called & (labels == 0)).sum()) / 300
        figure = report.figure("net_benefit", at=at)
        assert figure.value == pytest.approx(benefit, abs=1e-12)
        everyone = (labels.sum() - odds * (labels == 0).sum()) / 300
        assert figure.without_model == pytest.approx(max(0, everyone), abs=1e-12)
    (curve,) = report.decision_curves
    assert len(curve.thresholds) == len(curve.net_benefit) == 99
    assert all(low <= high for low, high in zip(curve.ci_low, curve.ci_high, strict=True))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.2, 5))
def test_what_does_not_matter_does_not_change_the_figures(seed, scale):
    rng = np.random.default_rng(seed)
    labels, values = simulated(rng, 40, 2)
    order = rng.permutation(40)
    one = Weighted(predictions(labels, values), 0.5).of(np.ones((1, 40)))[0]
    same = Weighted(predictions(labels[order], values[order]), 0.5).of(np.ones((1, 40)))[0]
    np.testing.assert_allclose(one, same, atol=1e-12)
    # ranks alone count for the AUC, and the other class's is its mirror image
    bent = values[:, 1] ** scale
    auc = [evaluate_auc(labels, score) for score in (values[:, 1], bent)]
    assert auc[0] == pytest.approx(auc[1])
    assert evaluate_auc(labels, values[:, 0]) == pytest.approx(1 - auc[0])
    assert np.all((one[:, :8] >= 0) & (one[:, :8] <= 1))


def evaluate_auc(labels, score):
    weighted = Weighted(predictions(labels, score), 0.5)
    return weighted.of(np.ones((1, len(labels))))[0][
        0, [k.metric for k in weighted.keys].index("auc")
    ]


@pytest.mark.parametrize(
    ("labels", "values", "more", "message"),
    [
        ([], [], {}, "no cases"),
        ([1, 1], [0.2, 0.8], {}, "all 2 cases are of class '1'"),
        ([0, 2], [0.2, 0.8], {}, "not one of the 2 classes in row 1"),
        ([0, -1], [0.2, 0.8], {}, "not one of the 2 classes in row 1"),
        ([0, 1], [0.2, np.nan], {}, "not finite in row 1"),
        ([0, 1], [0.2, np.inf], {}, "not finite in row 1"),
        ([0, 1], [1.2, 0.3], {}, "not between 0 and 1 in row 0"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.2]], {}, "do not sum to 1 .* in row 1"),
        ([0, 1], [[0.5], [0.5]], {}, "must be \\[n, C\\]"),
        ([0, 1, 1], [0.5, 0.5], {}, "labels of shape"),
        ([0.0, 1.0], [0.5, 0.5], {}, "whole numbers"),
        ([0, 1], [0.5, 0.5], {"groups": ["x", "x"]}, "same group"),
        ([0, 1], [0.5, 0.5], {"folds": [1, 1]}, "same fold"),
        ([0, 1], [0.5, 0.5], {"groups": [1]}, "1 groups for 2 cases"),
        ([0, 1], [0.5, 0.5], {"classes": ["a"]}, "1 class names for 2"),
        ([0, 1], [0.5, 0.5], {"classes": ["a", "a"]}, "class names"),
        ([0, 1], [0.5, 0.5], {"classes": ["a", "b\n"]}, "not printable"),
        ([0, 1], [0.5, 0.5], {"positive": "c"}, "not one of two classes"),
        ([0, 1], [0.5, 0.5], {"threshold": 1.5}, "not between 0 and 1"),
        ([0, 1], [0.5, 0.5], {"resamples": 1}, "resamples"),
        ([0, 1], [0.5, 0.5], {"protocol": "x" * 2001}, "2,001 signs"),
    ],
)
def test_what_is_no_evaluation_is_refused_by_its_cause(labels, values, more, message):
    with pytest.raises(TrainingError, match=message):
        evaluate(np.array(labels) if labels else np.zeros(0, int), values, **more)


def test_many_bad_rows_are_named_up_to_five_and_counted():
    values = np.full(50, 0.5)
    values[3:20] = np.nan
    with pytest.raises(TrainingError, match="row 3, row 4, row 5, row 6, row 7 and 12 more"):
        evaluate(np.arange(50) % 2, values)


def test_the_other_class_may_be_the_positive_one(rng):
    labels, values = simulated(rng, 100, 2)
    normal = evaluate(labels, values, classes=["bad", "good"], positive="bad", resamples=20)
    assert normal.positive == "bad"
    recall = sk.recall_score(labels, (values[:, 0] < 0.5).astype(int), pos_label=0)
    assert normal.figure("sensitivity").value == pytest.approx(recall, abs=1e-6)


def test_a_report_survives_json_and_enters_a_manifest(rng):
    labels, values = simulated(rng, 120, 5)
    report = evaluate(
        labels, values, groups=np.arange(120) // 3, resamples=50, task="cells", protocol="by field."
    )
    text = report.model_dump_json()
    assert Report.model_validate_json(text) == report
    said = json.loads(text)
    assert said["schema_version"] == 1
    assert said["versions"]["torchmetrics"]
    entries = to_manifest(report, "cells", "")
    assert all(isinstance(entry, Evaluation) for entry in entries)
    by_name = {entry.metric: entry for entry in entries}
    assert set(by_name) == {
        "accuracy",
        "AUC (macro)",
        "sensitivity (macro)",
        "specificity (macro)",
        "F1 (macro)",
        "average precision (macro)",
        "calibration error",
    }
    assert by_name["AUC (macro)"].value == report.figure("auc", "macro").value
    protocol = by_name["accuracy"].protocol
    assert protocol.startswith("by field. 120 cases in 40 groups")
    assert "50 bootstrap resamples of 40 groups, seed 0" in protocol
    assert to_manifest(report, "cells", "other")[0].protocol.startswith("other. ")
