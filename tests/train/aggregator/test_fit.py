"""Aggregators fitted on bags: what the loss is, what is kept, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.labelled_bags import QUICK, TINY, bag_set  # noqa: E402
from unicas_edge.aggregator.aggregator import Aggregator  # noqa: E402
from unicas_edge.errors import TrainingError  # noqa: E402
from unicas_edge.train.aggregator import fit as fitting  # noqa: E402
from unicas_edge.train.aggregator.bags import MISSING  # noqa: E402


def test_a_task_learns_from_its_own_bags_only():
    bags = bag_set(12, masked=True)
    torch.manual_seed(0)
    model = fitting.make_model(bags, **TINY)
    training = fitting._BagTraining(model, bags, bags, QUICK)
    batch = [b for b in training.batch(0) if b[1][0] == MISSING]
    training.loss(batch, 0)["loss"].backward()
    heads = model.model.heads
    assert heads[0].weight.grad is None
    assert heads[1].weight.grad.abs().sum() > 0


def test_the_loss_is_the_sum_over_tasks_of_the_mean_over_labelled_bags():
    bags = bag_set(10, masked=True)
    torch.manual_seed(0)
    model = fitting.make_model(bags, **TINY).eval()
    training = fitting._BagTraining(model, bags, bags, QUICK)
    batch = training.batch(0)
    wanted = 0.0
    for task in range(3):
        losses = [
            torch.nn.functional.cross_entropy(model(tokens)[task], labels[task]).item()
            for tokens, labels in batch
            if labels[task] != MISSING
        ]
        wanted += np.mean(losses) if losses else 0.0
    assert training.loss(batch, 0)["loss"].item() == pytest.approx(wanted, rel=1e-5)


def test_an_aggregator_learns_and_its_file_is_what_screening_reads(tmp_path):
    train, held = bag_set(48, 0), bag_set(24, 1)
    torch.manual_seed(0)
    model = fitting.make_model(train, **TINY)
    history = fitting.fit_aggregator(model, train, held, replace(QUICK, epochs=12), tmp_path)
    assert history.best[1] > 0.9
    assert history.best[1] == max(found["auc"] for _, found in history.validations)
    aggregator = Aggregator.load(tmp_path / fitting.WEIGHTS)
    logits = fitting.predict(model, held)
    for index in range(4):
        ours = aggregator.logits(held.tokens(index))
        for task in range(3):
            assert np.allclose(ours[task], logits[task][index], atol=1e-4)
    best = np.mean([fitting.auc(logits[i], held.labels[:, i]) for i in range(3)])
    assert best == pytest.approx(history.best[1])


def test_export_takes_the_trained_file(tmp_path):
    from unicas_edge.export.aggregator import infer_config
    from unicas_edge.models.checkpoint import load

    bags = bag_set(16)
    model = fitting.make_model(bags, **TINY)
    settings = replace(QUICK, epochs=1)
    fitting.fit_aggregator(model, bags, bags, settings, tmp_path)
    config = infer_config(load(tmp_path / fitting.WEIGHTS, ("module.",)), heads=2, top_m=4)
    assert config == model.config


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    train, held = bag_set(16, 0), bag_set(12, 1)
    settings = replace(QUICK, epochs=4, drop_tiles=0.5)
    weights = []
    for kill in (False, True):
        torch.manual_seed(3)
        model = fitting.make_model(train, **TINY)
        folder = tmp_path / str(kill)
        if kill:
            training = fitting._BagTraining.loss

            def dies(self, batch, step, real=training):
                if step == 5:
                    raise KeyboardInterrupt
                return real(self, batch, step)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fitting._BagTraining, "loss", dies)
                with pytest.raises(KeyboardInterrupt):
                    fitting.fit_aggregator(model, train, held, settings, folder)
            torch.manual_seed(99)
            model = fitting.make_model(train, **TINY)
        fitting.fit_aggregator(model, train, held, settings, folder, resume=kill)
        weights.append((folder / fitting.WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    with pytest.raises(TrainingError, match="another configuration"):
        fitting.fit_aggregator(
            fitting.make_model(train, **TINY),
            train,
            held,
            replace(settings, batch=5),
            tmp_path / "True",
            resume=True,
        )


def test_without_validation_the_last_epoch_is_kept(tmp_path):
    train = bag_set(16, 0)
    torch.manual_seed(3)
    model = fitting.make_model(train, **TINY)
    history = fitting.fit_aggregator(model, train, None, replace(QUICK, epochs=2), tmp_path)
    assert (history.steps, history.best, history.validations) == (4, None, [])
    last = torch.load(tmp_path / "last.pt", weights_only=True)["modules"]["aggregator"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["TransMIL", "DTFD-MIL", "DTFree"])
def test_every_baseline_takes_a_step(tmp_path, kind):
    bags = bag_set(4).only("candidiasis")
    torch.manual_seed(0)
    model = fitting.make_model(bags, kind)
    before = [p.detach().clone() for p in model.parameters()]
    settings = fitting.FitSettings(batch=4, lr=1e-4, epochs=1)
    fitting.fit_aggregator(model, bags, bags, settings, tmp_path)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert fitting.predict(model, bags)[0].shape == (4, 2)
    assert not (tmp_path / fitting.WEIGHTS).exists()


def test_what_cannot_be_trained_is_refused(tmp_path):
    bags = bag_set(12)
    one = bags.chosen(np.flatnonzero(bags.labels[:, 1] == 0))
    model = fitting.make_model(bags, **TINY)
    with pytest.raises(TrainingError, match="training: candidiasis has labels of 1"):
        fitting.fit_aggregator(model, one, bags, QUICK, tmp_path)
    with pytest.raises(TrainingError, match="validation: candidiasis"):
        fitting.fit_aggregator(model, bags, one, QUICK, tmp_path)
    with pytest.raises(TrainingError, match="differ in tasks"):
        fitting.fit_aggregator(model, bags, bags.only("cancer"), QUICK, tmp_path)
    with pytest.raises(TrainingError, match="take one"):
        fitting.make_model(bags, "TransMIL")
    with pytest.raises(TrainingError, match="an aggregator cannot have this shape"):
        fitting.make_model(bags, **(TINY | {"num_heads": 5}))
    with pytest.raises(TrainingError, match="drop_tiles"):
        fitting.FitSettings(drop_tiles=1)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match="not finite"):
        fitting.fit_aggregator(model, bags, bags, QUICK, tmp_path / "inf")
