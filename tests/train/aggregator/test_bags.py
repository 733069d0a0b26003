"""Bags with labels: read, masked, balanced; aggregators fitted on them; calibration in a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.bundle_case import make_bundle, three_tasks
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import softmax
from unicas_edge.errors import TrainingError
from unicas_edge.screening.decide import probability

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from unicas_edge.cli.train import train_app  # noqa: E402
from unicas_edge.train.aggregator import fit as fitting  # noqa: E402
from unicas_edge.train.aggregator.bags import MISSING, Bag, BagSet, Balanced, read_table, split_bags  # noqa: E402
from unicas_edge.train.aggregator.calibrate import calibrate, fit_temperature, fit_threshold  # noqa: E402
from unicas_edge.train.aggregator.cross_validate import cross_validate, write_predictions  # noqa: E402
from unicas_edge.train.aggregator.model import MultiTaskAggregator  # noqa: E402
from unicas_edge.train.evaluate.csv import read_predictions  # noqa: E402

WIDTH = 8
TASKS = ("cancer", "candidiasis", "cluecell")
TINY = {"embed_dim": 12, "depth": 1, "num_heads": 2, "num_experts": 2, "top_m": 4}
QUICK = fitting.FitSettings(batch=8, lr=2e-3, epochs=9, seed=1)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bag_of(rng, labels, n=None):
    """Noise; tile k of a positive task points along axis k."""
    tokens = rng.normal(0, 0.3, (n or int(rng.integers(6, 14)), WIDTH)).astype(np.float32)
    for task, label in enumerate(labels):
        if label > 0:
            tokens[task, task + (3 if label > 1 else 0)] += 4 * label
    return tokens


def bag_set(count, seed=0, classes=(2, 2, 2), masked=False):
    rng = np.random.default_rng(seed)
    bags = []
    for k in range(count):
        labels = tuple(int(rng.integers(c)) for c in classes)
        tokens = bag_of(rng, labels)
        if masked:
            labels = tuple(v if i == k % len(classes) else MISSING for i, v in enumerate(labels))
        bags.append(Bag(f"b{seed}-{k}", tokens, labels, f"g{seed}-{k // 2}"))
    return BagSet(tuple(bags), TASKS[: len(classes)], classes, WIDTH)


# ---- bags ---------------------------------------------------------------------------------------


def test_the_published_table_masks_all_tasks_but_its_own(data_dir):
    folder = data_dir / "unicas_features"
    place = folder / "Pathology_UniCAS_patch"
    classes = dict.fromkeys(TASKS, 2)
    with pytest.raises(TrainingError, match=r"line .*no bag"):
        read_table(folder / "csvs" / "test.csv", place, 1024, classes)
    bags = read_table(folder / "csvs" / "test.csv", place, 1024, classes, missing=True)
    assert (len(bags), len(bags.left_out)) == (4, 2)
    assert ((bags.labels != MISSING).sum(axis=1) == 1).all()
    assert bags.tokens(0).shape == (800, 1024)
    by_name = dict(zip([b.name for b in bags.bags], bags.labels.tolist(), strict=True))
    assert by_name["20230930/C23093000068C10101_122135_20"] == [MISSING, 0, MISSING]
    assert by_name["20230630/C23063000579C10101_173900_20"] == [1, MISSING, MISSING]
    assert sum(len(b.tokens) for b in bags.loaded().bags) == 3200


def write_bags(folder, bags):
    rows = ["name," + ",".join(bags.tasks) + ",group"]
    for bag in bags.bags:
        (folder / bag.name).mkdir(parents=True)
        with h5py.File(folder / bag.name / "features.h5", "w") as file:
            file["features"] = bag.tokens
        cells = ["" if label == MISSING else str(label) for label in bag.labels]
        rows.append(",".join([bag.name, *cells, bag.group]))
    table = folder / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def test_a_table_of_our_own_bags_reads_back(tmp_path):
    bags = bag_set(4, masked=True)
    table = write_bags(tmp_path, bags)
    found = read_table(table, tmp_path, WIDTH, dict.fromkeys(TASKS, 2))
    assert (found.labels == bags.labels).all()
    assert [b.group for b in found.bags] == [b.group for b in bags.bags]
    assert all(np.array_equal(found.tokens(i), bags.tokens(i)) for i in range(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,cancer\n", "lists no bag"),
        ("name,grade\nb0-0,1\n", "no column cancer"),
        ("name,cancer\nb0-0,2\n", "cancer is 2; labels are 0 to 1"),
        ("name,cancer\nb0-0,-2\n", "cancer is -2"),
        ("name,cancer\nb0-0,yes\n", "line 2: cancer: 'yes' is not a whole number"),
        ("name,cancer,task_id\nb0-0,1,1\n", "task_id is 1"),
        ("name,cancer\n../b0-0,1\n", "not a name inside"),
        ("name,cancer\nnowhere,1\n", "line 2: no bag nowhere"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path, text, message):
    write_bags(tmp_path, bag_set(1))
    table = tmp_path / "wrong.csv"
    table.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_table(table, tmp_path, WIDTH, {"cancer": 2})


def test_unreadable_bags_are_named_and_too_many_are_an_error(tmp_path):
    table = write_bags(tmp_path, bag_set(4))
    (tmp_path / "b0-2" / "features.h5").write_bytes(b"no HDF5")
    found = read_table(table, tmp_path, WIDTH, dict.fromkeys(TASKS, 2))
    kept = found.loaded(0.3)
    assert [b.name for b in kept.bags] == ["b0-0", "b0-1", "b0-3"]
    assert len(kept.left_out) == 1
    assert "b0-2" in kept.left_out[0]
    with pytest.raises(TrainingError, match="1 of 4 bags cannot be read"):
        found.loaded()


def test_bags_that_do_not_fit_are_refused():
    bags = bag_set(4)
    with pytest.raises(TrainingError, match="0 bags"):
        bags.chosen([])
    with pytest.raises(TrainingError, match=r"not float32 \[n, 9\]"):
        replace(bags, width=9)
    spoilt = bags.bags[0].tokens.copy()
    spoilt[0, 0] = np.nan
    with pytest.raises(TrainingError, match="finite"):
        replace(bags, bags=(replace(bags.bags[0], tokens=spoilt),))
    with pytest.raises(TrainingError, match="cancer has labels of 1 classes"):
        bags.chosen(np.flatnonzero(bags.labels[:, 0] == 1)).check_classes("training")
    with pytest.raises(TrainingError, match="no task 'grade'"):
        bags.only("grade")


def test_every_task_and_class_comes_equally_often_whatever_their_numbers():
    labels = np.full((40, 2), MISSING)
    labels[:30, 0], labels[30:33, 0] = 0, 1
    labels[33:40, 1] = [0, 0, 0, 0, 0, 1, 1]
    order = Balanced(labels, 0).at(range(400))
    for task in (0, 1):
        for label in (0, 1):
            of = [i for i in order if labels[i, task] == label]
            assert len(of) == 100
            per_bag = [of.count(i) for i in set(of)]
            assert max(per_bag) - min(per_bag) <= 1
    assert Balanced(labels, 0).at(range(100, 110)) == order[100:110]
    assert Balanced(labels, 1).at(range(400)) != order


def test_groups_stay_together_and_every_bag_is_in_one_fold():
    bags = bag_set(40)
    folds = split_bags(bags, 4, 0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    groups = [{bags.bags[i].group for i in fold} for fold in folds]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 20
    with pytest.raises(TrainingError, match="too few for 2 folds"):
        split_bags(bags.chosen([0, 1]), 2)


# ---- fitting ------------------------------------------------------------------------------------


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


# ---- calibration --------------------------------------------------------------------------------


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


# ---- commands -----------------------------------------------------------------------------------


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
