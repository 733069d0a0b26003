"""How far a probability may be trusted: the classes that it leaves, with stated coverage."""

from __future__ import annotations

import pytest

from tests.support.coloured_slide import (
    CONFORMAL,
    always,
    run,
)


@pytest.mark.parametrize(
    ("positive_from", "negative_to", "classes", "words"),
    [
        (0.0, 0.0, ["positive"], "90% set: positive"),
        (1.0, 1.0, ["negative"], "90% set: negative"),
        (0.0, 1.0, ["negative", "positive"], "90% set: undecided"),
        (1.0, 0.0, [], "90% set: none (unlike the slides it was set on)"),
    ],
)
def test_the_set_of_a_probability(made, positive_from, negative_to, classes, words):
    conformal = CONFORMAL | {"positive_from": positive_from, "negative_to": negative_to}
    result = run(made(tasks={"conformal": conformal}), always("cell"))
    for task in result.tasks:
        assert 0 < task.probability < 1
        assert task.confidence.classes == classes
        assert (task.confidence.coverage, task.confidence.slides) == (0.9, 200)
        assert task.confidence.words == words


def test_the_limits_themselves_are_in_the_set(made):
    first = run(made(), always("cell"))
    limits = {
        "positive_from": first.tasks[0].probability,
        "negative_to": first.tasks[0].probability,
    }
    again = run(made(tasks={"conformal": CONFORMAL | limits}), always("cell"))
    assert again.tasks[0].confidence.classes == ["negative", "positive"]


def test_a_slide_that_is_unsatisfactory_has_no_set(made):
    """Its probability is kept for who wants to know, but what the set promises does not hold."""
    bundle = made(weights={"cells": 0.1}, tasks={"conformal": CONFORMAL})
    result = run(bundle, always("cell"))
    assert all(task.probability is not None for task in result.tasks)
    assert all(task.confidence is None for task in result.tasks)
