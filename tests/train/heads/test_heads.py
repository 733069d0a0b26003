"""Linear probing: what is learnt, what is folded into the weights, what heads are tested on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from unicas_edge.errors import TrainingError

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from tests.support.heads_case import QUICK, clouds, no_pictures, one_thread, regions  # noqa: E402, F401
from unicas_edge.train.heads.cross_validate import cross_validate, few_shot  # noqa: E402
from unicas_edge.train.heads.make import temperature  # noqa: E402
from unicas_edge.train.heads.probe import Probing, _Probe, probe  # noqa: E402

# ---- one head -----------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    paper = Probing()
    assert (paper.hidden, paper.batch, paper.lr, paper.epochs) == (768, 32, 1e-4, 30)


def test_a_head_learns_what_can_be_told_apart_and_nothing_from_chance(rng):
    tokens, labels = clouds(rng)
    found = probe(tokens, labels, 3, QUICK)
    fresh, truth = tokens[:60], labels[:60]
    assert (found.logits(fresh).argmax(axis=1) == truth).mean() > 0.95
    assert set(found.weights) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert found.epochs == QUICK.epochs


def test_folding_leaves_the_logits_as_they_were(rng):
    """The weights on raw tokens compute what the layers compute on standardised ones."""
    tokens, labels = clouds(rng)
    task = _Probe(tokens, labels, 3, QUICK, None)
    standard = (tokens.astype(np.float64) - task.mean) / task.std
    assert np.abs(standard.mean(axis=0)).max() < 1e-6
    wanted = task.layers(torch.from_numpy(standard).float()).detach().numpy()
    w = {key: weight.astype(np.float64) for key, weight in task.folded().items()}
    hidden = np.maximum(tokens @ w["fc1.weight"].T + w["fc1.bias"], 0)
    found = hidden @ w["fc2.weight"].T + w["fc2.bias"]
    assert np.abs(found - wanted).max() < 1e-3


def test_a_channel_that_never_changes_is_no_division_by_zero(rng):
    tokens, labels = clouds(rng)
    tokens[:, 0] = 7.0
    assert np.isfinite(probe(tokens, labels, 3, QUICK).logits(tokens)).all()


def test_training_is_the_same_for_the_same_seed_alone(rng):
    tokens, labels = clouds(rng)
    first, again = (probe(tokens, labels, 3, QUICK).weights for _ in range(2))
    other = probe(tokens, labels, 3, replace(QUICK, seed=1)).weights
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["fc1.weight"], other["fc1.weight"])


def test_early_stopping_keeps_the_best_epoch_of_the_held_out(rng, tmp_path):
    """Held-out labels of chance: learning can only make them worse, so it stops early."""
    tokens, labels = clouds(rng, n=90)
    held_out = np.arange(90) >= 60
    labels = np.where(held_out, (labels + rng.integers(1, 3, 90)) % 3, labels)
    patient = replace(QUICK, epochs=30, patience=2)
    found = probe(tokens, labels, 3, patient, tmp_path, held_out=held_out)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [r["validation"]["loss"] for r in records if "validation" in r]
    assert found.epochs == 1 + int(np.argmin(losses))
    assert len(losses) == found.epochs + 2 < 30
    logits = found.logits(tokens[held_out])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(30), labels[held_out]]).mean()
    assert loss == pytest.approx(min(losses), abs=1e-4)


def test_every_case_is_seen_once_an_epoch(rng):
    tokens, labels = clouds(rng, n=50)
    task = _Probe(tokens, labels, 3, QUICK, None)
    assert task.per_epoch == 4
    for epoch in range(2):
        seen = np.concatenate([task.batch(4 * epoch + i)[0].numpy() for i in range(4)])
        assert len(np.unique(seen, axis=0)) == 50


def test_what_cannot_be_trained_on_is_refused(rng):
    tokens, labels = clouds(rng, n=30)
    with pytest.raises(TrainingError, match="fewer than two classes to train on"):
        probe(tokens, labels, 3, QUICK, held_out=labels > 0)
    with pytest.raises(TrainingError, match="not one each"):
        probe(tokens[:20], labels, 3, QUICK)
    tokens[4, 2] = np.inf
    with pytest.raises(TrainingError, match="token of image 4 is not finite"):
        probe(tokens, labels, 3, QUICK)
    with pytest.raises(TrainingError, match="at least 1"):
        Probing(epochs=0)


# ---- tests of heads -----------------------------------------------------------------------------


def test_cross_validation_tests_every_case_once_on_a_head_that_never_saw_its_group(rng):
    """Groups that carry nothing but their own mark: labels of a fold cannot be known from others.

    A head that had seen a group would know its label; the accuracy would be far above chance.
    """
    marks = rng.normal(0, 5, (40, 12))
    groups = np.repeat(np.arange(40), 4)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 4)
    tokens = (marks[groups] + rng.normal(0, 0.01, (160, 12))).astype(np.float32)
    data = regions(labels, [f"g{g}" for g in groups], 2)
    longer = Probing(hidden=128, batch=16, lr=1e-2, epochs=12, patience=None)
    found = cross_validate(tokens, data, 4, longer)
    assert np.array_equal(found.cases, np.arange(160))
    assert found.logits.shape == (160, 2)
    assert len(found.epochs) == 4
    assert (found.logits.argmax(axis=1) == labels).mean() < 0.75
    seen = probe(tokens, labels, 2, longer).logits(tokens).argmax(axis=1)
    assert (seen == labels).mean() > 0.95


def test_few_shots_are_tested_on_other_groups(rng):
    tokens, labels = clouds(rng, n=180)
    data = regions(labels)
    found = few_shot(tokens, data, 12, replace(QUICK, epochs=40), draws=3)
    assert set(found.folds) == {0, 1, 2}
    for draw in range(3):
        cases = found.cases[found.folds == draw]
        assert 180 - 12 * 3 <= len(cases) <= 180 - 12
    right = (found.logits.argmax(axis=1) == labels[found.cases]).mean()
    assert right > 0.8


def test_the_temperature_undoes_what_logits_were_multiplied_by(rng):
    labels = rng.integers(0, 3, 4000)
    logits = rng.normal(0, 1.5, (4000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(4000)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    assert temperature(logits, labels) == pytest.approx(1, abs=0.1)
    assert temperature(logits * 4, labels) == pytest.approx(4, abs=0.4)
    assert temperature(logits / 4, labels) == pytest.approx(0.25, abs=0.03)
