"""Linear probing: what is learnt, what is folded, what is reported, and the head in a bundle."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.region_case import cell, write_image
from unicas_edge.bundle import Bundle
from unicas_edge.cli_train_heads import register
from unicas_edge.errors import BundleError, OutputError, TrainingError
from unicas_edge.images import read_image
from unicas_edge.manifest import TrainingData
from unicas_edge.regions import RegionClassifier, load_heads

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from unicas_edge.train import regions_data as rd  # noqa: E402
from unicas_edge.train.heads import cross_validate, few_shot, final_head, tokens_of  # noqa: E402
from unicas_edge.train.heads_bundle import NewHead, write_heads  # noqa: E402
from unicas_edge.train.heads_make import Protocol, make_head, temperature  # noqa: E402
from unicas_edge.train.heads_probe import Probing, _Probe, probe  # noqa: E402

#: Small and quick; the paper's own numbers are the defaults, and tested as such.
QUICK = Probing(hidden=32, batch=16, lr=3e-3, epochs=8)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Curves take longer than these runs do; the tests of the loop draw them."""
    monkeypatch.setattr("unicas_edge.train.curves.draw", lambda *_: None)


def clouds(rng, n=120, width=12, classes=3, apart=3.0, offset=50.0):
    """Tokens of normal clouds about class means, far from 0 and of uneven spread."""
    labels = np.arange(n) % classes
    means = rng.normal(0, apart, (classes, width))
    scale = np.geomspace(0.01, 10, width)
    tokens = (means[labels] + rng.normal(0, 1, (n, width))) * scale + offset
    return tokens.astype(np.float32), labels.astype(np.int64)


def regions(labels, groups=None, classes=3):
    places = tuple(rd.Region(Path(f"{i}.png")) for i in range(len(labels)))
    names = tuple(groups or (f"g{i // 3}" for i in range(len(labels))))
    return rd.Regions("clouds", "none", tuple("abc"[:classes]), places, labels, names)


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


# ---- in a bundle --------------------------------------------------------------------------------


def new_head(rng, name="cells", classes=("a", "b", "c")):
    tokens = rng.normal(0, 1, (30, Bundle.load().manifest.encoder.width)).astype(np.float32)
    labels = np.arange(30) % len(classes)
    made = final_head(tokens, regions(labels, classes=len(classes)), 1, QUICK)
    return NewHead(name, classes, "cell", made.weights, TrainingData(
        name="clouds", licence="none", count=30
    ))  # fmt: skip


def test_a_head_joins_others_and_replaces_its_own_name(rng, tmp_path):
    first = write_heads(Bundle.load(), tmp_path / "one", [new_head(rng)])
    assert first.root == tmp_path / "one"
    second = write_heads(first, tmp_path / "two", [new_head(rng, "grade"), new_head(rng)])
    assert [h.spec.name for h in load_heads(second)] == ["grade", "cells"]
    assert len(second.manifest.training_data) == 1
    assert first.manifest.files["encoder.onnx"] == second.manifest.files["encoder.onnx"]
    assert Bundle.load(tmp_path / "one").digest == first.digest
    old, new = (load_heads(b, ["cells"])[0].fc1 for b in (first, second))
    assert not np.array_equal(old, new)
    assert second.manifest.aggregator == Bundle.load().manifest.aggregator


def test_nothing_is_left_of_a_bundle_that_could_not_be_written(rng, tmp_path):
    head = new_head(rng)
    bad = replace(head, weights={**head.weights, "fc2.bias": np.zeros(9, np.float32)})
    with pytest.raises(BundleError, match=r"fc2\.bias is float32 \[9\]"):
        write_heads(Bundle.load(), tmp_path / "out", [bad])
    assert list(tmp_path.iterdir()) == []
    write_heads(Bundle.load(), tmp_path / "out", [head])
    with pytest.raises(OutputError, match="--force replaces it"):
        write_heads(Bundle.load(), tmp_path / "out", [head])
    with pytest.raises(OutputError, match="is, holds or lies inside"):
        write_heads(Bundle.load(tmp_path / "out"), tmp_path / "out", [head], force=True)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Two classes of cells that differ in colour, three cells a field, eight fields a class."""
    root, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    for name, colour in (("blue", (60, 60, 170)), ("red", (190, 60, 70))):
        for field in range(8):
            for number in range(3):
                size = rng.integers(20, 60, 2)
                pixels = cell(rng, size, colour)
                write_image(root / name / f"f{field}_{number}.png", pixels)
    return root


def test_the_runtime_computes_what_training_did(coloured, tmp_path):
    """Images of several sizes through training's tokens and head, and through the bundle's."""
    data = rd.load("sipakmed", coloured).take(range(0, 48, 6))
    bundle = Bundle.load()
    tokens = tokens_of(data, bundle, "cell", threads=1)
    trained = final_head(tokens, data, 2, QUICK)
    source = TrainingData(name="x", licence="y", count=8)
    head = NewHead("colour", data.classes, "cell", trained.weights, source, temperature=0.7)
    made = write_heads(bundle, tmp_path / "made", [head])
    with RegionClassifier(made, threads=1) as classifier:
        found = classifier.classify([read_image(r.path) for r in data.regions])["colour"]
    powers = np.exp(trained.logits(tokens) / 0.7)
    assert np.abs(found - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-5


app = typer.Typer()
register(app)


@app.command()
def other():
    """Typer makes sub-commands of two commands, not of one."""


def run(*args):
    return CliRunner().invoke(app, ["heads", *map(str, args)])


def test_the_command_trains_tests_and_writes_a_head(coloured, tmp_path):
    out, reports = tmp_path / "out", tmp_path / "reports"
    result = run(
        Bundle.load().root, "--data", coloured, "--layout", "sipakmed", "--name", "colour",
        "--positive", "red", "-o", out, "--folds", 3, "--shots", 4,
        "--reports", reports,
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    assert "untrained weights" in result.stderr
    (spec,) = Bundle.load(out).manifest.heads
    assert (spec.name, spec.classes, spec.positive, spec.threshold) == (
        "colour", ("rest", "red"), 1, 0.5,
    )  # fmt: skip
    figures = [e for e in Bundle.load(out).manifest.evaluation if e.task == "heads.colour"]
    auc = [e for e in figures if e.metric == "AUC"]
    assert [e.value > 0.9 for e in auc] == [True, True]
    assert "3-fold cross-validation" in auc[0].protocol
    assert "4 images to train on" in auc[1].protocol
    names = {path.name for path in reports.iterdir()}
    assert {"evaluation_heads.colour.json", "evaluation_heads.colour.4-shot.md", "runs"} <= names
    assert sorted(p.name for p in (reports / "runs" / "colour").iterdir()) == [
        *(f"draw-{i}" for i in range(5)), "final", *(f"fold-{i}" for i in range(3)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (["--name", "Bad Name"], "cannot name a head"),
        (["--name", "x", "--positive", "green"], "no class 'green'; there are: blue, red"),
        (["--name", "x", "--folds", "9"], "fewer than 9 folds"),
        (["--name", "x", "--layout", "cric"], r"cells\.csv: cannot be read"),
    ],
)
def test_what_the_command_cannot_do_leaves_nothing(coloured, tmp_path, args, cause, monkeypatch):
    monkeypatch.setattr(
        "unicas_edge.train.heads_make.tokens_of", lambda data, *_: np.zeros((len(data), 4), "f4")
    )
    layout = [] if "--layout" in args else ["--layout", "sipakmed"]
    result = run(
        Bundle.load().root, "--data", coloured, "-o", tmp_path / "out", *layout, *args
    )  # fmt: skip
    assert isinstance(result.exception, TrainingError)
    assert re.search(cause, str(result.exception))
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_command_says_what_to_install(coloured, tmp_path, monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else there(name)
    )
    result = run(Bundle.load().root, "--data", coloured, "--name", "x", "-o", tmp_path / "out")
    assert "needs sklearn" in str(result.exception)
    assert "unicas-edge[train]" in str(result.exception)


def test_unreadable_images_are_listed_counted_and_left_out(coloured, tmp_path):
    data = shutil.copytree(coloured, tmp_path / "data")
    (data / "red" / "f0_9.png").write_bytes(b"no image")
    args = ("--data", data, "--layout", "sipakmed", "--name", "x", "-o", tmp_path / "out")
    few = ("--folds", 2, "--epochs", 1)
    result = run(Bundle.load().root, *args, *few)
    assert result.exit_code == 0, result.exception
    assert "f0_9.png: cannot be read" in result.stderr
    assert "1 unreadable images left out" in result.stderr
    (used,) = Bundle.load(tmp_path / "out").manifest.training_data
    assert used.count == 48
    strict = run(Bundle.load().root, *args, *few, "--force", "--most-unreadable", 0.001)
    assert "1 of 49 images cannot be read" in str(strict.exception)


# ---- real data ----------------------------------------------------------------------------------


def test_real_cells_go_all_the_way_from_files_to_a_classified_image(data_dir, tmp_path):
    """SIPaKMeD, four fields of each of two classes, by the embedded bundle's untrained encoder."""
    whole = rd.sipakmed(data_dir / "sipakmed")
    first = {group: index for index, group in reversed(list(enumerate(whole.groups)))}
    chosen = [
        index
        for kind in ("dyskeratotic", "superficial_intermediate")
        for index in sorted(i for group, i in first.items() if group.startswith(kind))[:4]
    ]
    data = rd.readable(whole.take(chosen)).against_rest(["dyskeratotic"])
    probing = Probing(epochs=20, lr=1e-3)
    made = make_head("cells", data, Bundle.load(), Protocol(folds=2, probing=probing))
    bundle = write_heads(Bundle.load(), tmp_path / "out", [made.head])
    with RegionClassifier(bundle) as classifier:
        shares = classifier.classify(data.images())["cells"]
    assert (shares.argmax(axis=1) == data.labels).mean() >= 0.9
    assert 0 <= made.tests[0][1].figure("auc").value <= 1
    assert bundle.manifest.training_data[-1].name == "SIPaKMeD"
