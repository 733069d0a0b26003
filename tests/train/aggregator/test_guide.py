"""Attention that is guided finds the few tiles that decide, where slides alone do not teach it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.support.train_case import one_thread
from unicas_edge.train.aggregator import fit as fitting
from unicas_edge.train.aggregator.bags import Bag, BagSet
from unicas_edge.train.aggregator.guide import GuideSettings, Known, _Guide, guide

WIDTH, TASKS = 16, ("cancer", "candidiasis")
SHAPE = {
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 1.0,
    "num_experts": 2,
    "top_m": 32,
}


def tiles(rng, count, task=None):
    """Noise; what decides a task lies a little along an axis of its own."""
    found = rng.normal(size=(count, WIDTH)).astype(np.float32)
    if task is not None:
        found[:, 2 * task] += 3.5
    return found


def bags(rng, count, n=100, decisive=2):
    made = []
    for k in range(count):
        labels = (k % 2, k // 2 % 2)
        tokens = tiles(rng, n)
        for task, label in enumerate(labels):
            if label:
                tokens[rng.permutation(n)[:decisive]] = tiles(rng, decisive, task)
        made.append(Bag(f"b{k}", tokens, labels))
    return BagSet(tuple(made), TASKS, (2, 2), WIDTH)


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    rng = np.random.default_rng(0)
    count = 60
    known = Known(
        np.concatenate([tiles(rng, count, 0), tiles(rng, count, 1), tiles(rng, count)]),
        np.repeat(np.array([[1, 0], [0, 1], [0, 0]], np.float32), count, axis=0),
        np.full(3 * count, 1 / (3 * count)),
    )
    torch.manual_seed(0)
    train = bags(rng, 24)
    model = fitting.make_model(train, **SHAPE)
    untouched = [p.clone() for p in model.model.blocks[1].parameters()]
    with one_thread():
        folder = tmp_path_factory.mktemp("guide")
        guide(model, known, train, GuideSettings(steps=200, lr=3e-3), folder)
    assert all(
        torch.equal(a, b)
        for a, b in zip(untouched, model.model.blocks[1].parameters(), strict=True)
    )
    return model, train, folder


def attended(model, tokens):
    """What the first block's heads think of each tile, [t, n]."""
    with torch.no_grad():
        x = model.model.begun(torch.from_numpy(tokens)[None])
        first = model.model.blocks[0]
        return first.attn.scores(first.norm1(x))[0][0].mean(0)[:, : len(tokens)].numpy()


def test_each_task_attends_to_the_tiles_that_decide_it(guided):
    model, _, _ = guided
    rng = np.random.default_rng(1)
    for task in range(2):
        tokens = np.concatenate([tiles(rng, 50, task), tiles(rng, 200)])
        scores = attended(model.eval(), tokens)
        truth = np.arange(250) < 50
        assert roc_auc_score(truth, scores[task]) > 0.9
        assert roc_auc_score(truth, scores[1 - task]) < 0.7


def test_what_is_not_known_of_a_tile_teaches_nothing(guided):
    model, train, _ = guided
    rng = np.random.default_rng(3)
    labels = np.tile(np.array([[np.nan, 1]], np.float32), (40, 1))
    training = _Guide(model, Known(tiles(rng, 40, 1), labels, np.full(40, 1 / 40)), train)
    torch.manual_seed(0)
    tokens, wanted, known = training.batch(0)
    assert not known[:128, 0].any()
    assert known[:128, 1].all()
    other = wanted.where(known, torch.tensor(1.0))
    torch.manual_seed(1)
    one = training.loss((tokens, wanted, known), 0)["loss"]
    torch.manual_seed(1)
    assert torch.equal(one, training.loss((tokens, other, known), 0)["loss"])
    assert one.isfinite()


def test_slides_then_teach_what_follows_of_it(guided, tmp_path):
    model, train, _ = guided
    held = bags(np.random.default_rng(2), 24)
    settings = fitting.FitSettings(batch=8, lr=3e-3, epochs=12, seed=1)
    with one_thread():
        history = fitting.fit_aggregator(model, train, held, settings, tmp_path)
    assert history.best[1] > 0.85


def test_a_finished_guide_is_taken_from_its_folder(guided):
    _, train, folder = guided
    rng = np.random.default_rng(0)
    known = Known(tiles(rng, 180), np.zeros((180, 2), np.float32), np.full(180, 1 / 180))
    torch.manual_seed(5)
    again = fitting.make_model(train, **SHAPE)
    guide(again, known, train, GuideSettings(steps=200, lr=3e-3), folder, resume=True)
    tokens = tiles(rng, 30)
    assert np.isfinite(attended(again.eval(), tokens)).all()
    first = torch.load(folder / "last.pt", weights_only=True)["modules"]["aggregator"]
    assert all(torch.equal(value, first[key]) for key, value in again.state_dict().items())
