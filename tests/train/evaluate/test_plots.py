"""The picture of an evaluation: every curve drawn, in its colour and its place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.evaluate_case import simulated
from unicas_edge.report.pictures.palette import TASKS

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from unicas_edge.train.evaluate.figures import evaluate_predictions  # noqa: E402
from unicas_edge.train.evaluate.plots import sheet  # noqa: E402
from unicas_edge.train.evaluate.predictions import predictions  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pixels(report, made):
    with Image.open(io.BytesIO(sheet(report, made))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def near(picture, colour):
    return np.abs(picture - colour).max(axis=-1) < 12


def test_the_sheet_draws_every_curve_in_its_colour_and_its_place(rng):
    labels, values = simulated(rng, 300, 3)
    made = predictions(labels, values, classes=["a $x$", "b_{", "漢字"])
    report = evaluate_predictions(made, resamples=30)
    picture = pixels(report, made)
    panels = [picture[140:530, :520], picture[140:530, 540:1030], picture[560:960, :520]]
    for panel in panels:  # ROC, precision and recall, decision curve
        assert all(near(panel, TASKS[k]).sum() > 100 for k in range(3))
    reliability = picture[140:530, 1070:]
    assert near(reliability, TASKS[1]).sum() > 100
    assert near(reliability, TASKS[0]).sum() == 0


def test_a_better_model_is_drawn_nearer_to_the_corner(rng):
    """The ROC's highest points at a third of its width, in pixels from the top of the page."""
    labels, _ = simulated(rng, 400, 2)
    heights = []
    for pull in (3.0, 0.3):
        score = 1 / (1 + np.exp(-(pull * (labels - 0.5) + rng.normal(size=400))))
        made = predictions(labels, score)
        picture = pixels(evaluate_predictions(made, resamples=20), made)
        heights.append(np.flatnonzero(near(picture[140:530, 220:230], TASKS[0]).any(axis=1)).min())
    assert heights[0] + 60 < heights[1]


def test_a_sheet_of_many_classes_and_notes_is_drawn(rng):
    labels, values = simulated(rng, 400, 30)
    made = predictions(labels, values, notices=["a note that is long " * 10] * 9)
    report = evaluate_predictions(made, resamples=20)
    assert len(report.decision_curves) == 12
    assert pixels(report, made).shape == (1045, 1540, 3)
