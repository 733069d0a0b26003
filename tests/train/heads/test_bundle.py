"""A trained head in a bundle: written whole or not at all, what the command does, real cells."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.support.bundle_case import copy_with
from tests.support.region_case import cell, write_image
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.manifest import TrainingData
from unicas_edge.cli.train.heads import heads
from unicas_edge.engines import EngineOptions
from unicas_edge.errors import BundleError, OutputError, TrainingError
from unicas_edge.heads.classifier import RegionClassifier
from unicas_edge.heads.head import load_heads
from unicas_edge.heads.images import read_image
from unicas_edge.result import UNTRAINED

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from tests.support.heads_case import QUICK, no_pictures, one_thread, regions  # noqa: E402, F401
from unicas_edge.train.cells import dataset as rd  # noqa: E402
from unicas_edge.train.heads.bundle import NewHead, write_heads  # noqa: E402
from unicas_edge.train.heads.cross_validate import final_head, tokens_of  # noqa: E402
from unicas_edge.train.heads.make import Protocol, make_head  # noqa: E402
from unicas_edge.train.heads.probe import Probing  # noqa: E402

# ---- in a bundle --------------------------------------------------------------------------------


def new_head(rng, bundle, name="cells", classes=("a", "b", "c")):
    tokens = rng.normal(0, 1, (30, bundle.manifest.encoder.width)).astype(np.float32)
    labels = np.arange(30) % len(classes)
    made = final_head(tokens, regions(labels, classes=len(classes)), 1, QUICK)
    return NewHead(
        name, classes, "cell", made.weights, TrainingData(name="clouds", licence="none", count=30)
    )


def test_a_head_joins_others_and_replaces_its_own_name(rng, tmp_path, untrained_bundle):
    source = copy_with(untrained_bundle, tmp_path / "source", trained=True, demonstration=True)
    first = write_heads(source, tmp_path / "one", [new_head(rng, source)])
    assert first.root == tmp_path / "one"
    second = write_heads(
        first, tmp_path / "two", [new_head(rng, source, "grade"), new_head(rng, source)]
    )
    assert [h.spec.name for h in load_heads(second)] == ["grade", "cells"]
    assert len(second.manifest.training_data) == 1
    assert first.manifest.files["encoder.onnx"] == second.manifest.files["encoder.onnx"]
    assert Bundle.load(tmp_path / "one").digest == first.digest
    old, new = (load_heads(b, ["cells"])[0].fc1 for b in (first, second))
    assert not np.array_equal(old, new)
    assert second.manifest.aggregator == source.manifest.aggregator
    assert second.manifest.demonstration


def test_nothing_is_left_of_a_bundle_that_could_not_be_written(rng, tmp_path, untrained_bundle):
    head = new_head(rng, untrained_bundle)
    bad = replace(head, weights={**head.weights, "fc2.bias": np.zeros(9, np.float32)})
    with pytest.raises(BundleError, match=r"fc2\.bias is float32 \[9\]"):
        write_heads(untrained_bundle, tmp_path / "out", [bad])
    assert list(tmp_path.iterdir()) == []
    write_heads(untrained_bundle, tmp_path / "out", [head])
    with pytest.raises(OutputError, match="--force replaces it"):
        write_heads(untrained_bundle, tmp_path / "out", [head])
    with pytest.raises(OutputError, match="overlaps with the source"):
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


def test_the_runtime_computes_what_training_did(coloured, tmp_path, untrained_bundle):
    """Images of several sizes through training's tokens and head, and through the bundle's."""
    data = rd.load("sipakmed", coloured).take(range(0, 48, 6))
    tokens = tokens_of(data, untrained_bundle, "cell", threads=1)
    trained = final_head(tokens, data, 2, QUICK)
    source = TrainingData(name="x", licence="y", count=8)
    head = NewHead("colour", data.classes, "cell", trained.weights, source, temperature=0.7)
    made = write_heads(untrained_bundle, tmp_path / "made", [head])
    with RegionClassifier(made, options=EngineOptions(threads=1)) as classifier:
        found = classifier.classify([read_image(r.path) for r in data.regions])["colour"]
    powers = np.exp(trained.logits(tokens) / 0.7)
    assert np.abs(found - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-5


app = typer.Typer()
app.command()(heads)


@app.command()
def other():
    """Typer makes sub-commands of two commands, not of one."""


def run(*args):
    return CliRunner().invoke(app, ["heads", *map(str, args)])


def test_the_command_trains_tests_and_writes_a_head(coloured, tmp_path, untrained_bundle):
    out, reports = tmp_path / "out", tmp_path / "reports"
    result = run(
        untrained_bundle.root,
        "--data",
        coloured,
        "--layout",
        "sipakmed",
        "--name",
        "colour",
        "--positive",
        "red",
        "-o",
        out,
        "--folds",
        3,
        "--shots",
        4,
        "--reports",
        reports,
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert UNTRAINED in result.stderr
    (spec,) = Bundle.load(out).manifest.heads
    assert (spec.name, spec.classes, spec.positive, spec.threshold) == (
        "colour",
        ("rest", "red"),
        1,
        0.5,
    )
    figures = [e for e in Bundle.load(out).manifest.evaluation if e.task == "heads.colour"]
    auc = [e for e in figures if e.metric == "AUC"]
    assert [e.value > 0.9 for e in auc] == [True, True]
    assert "3-fold cross-validation" in auc[0].protocol
    assert "4 images to train on" in auc[1].protocol
    names = {path.name for path in reports.iterdir()}
    assert {"evaluation_heads.colour.json", "evaluation_heads.colour.4-shot.md", "runs"} <= names
    assert sorted(p.name for p in (reports / "runs" / "colour").iterdir()) == [
        *(f"draw-{i}" for i in range(5)),
        "final",
        *(f"fold-{i}" for i in range(3)),
    ]


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (["--name", "Bad Name"], "cannot be a head's name"),
        (["--name", "x", "--positive", "green"], "no class 'green'; there are: blue, red"),
        (["--name", "x", "--folds", "9"], "fewer than 9 folds"),
        (["--name", "x", "--layout", "cric"], r"cells\.csv: cannot be read"),
    ],
)
def test_what_the_command_cannot_do_leaves_nothing(
    coloured, tmp_path, untrained_bundle, args, cause, monkeypatch
):
    monkeypatch.setattr(
        "unicas_edge.train.heads.make.tokens_of", lambda data, *_: np.zeros((len(data), 4), "f4")
    )
    layout = [] if "--layout" in args else ["--layout", "sipakmed"]
    result = run(untrained_bundle.root, "--data", coloured, "-o", tmp_path / "out", *layout, *args)
    assert isinstance(result.exception, TrainingError)
    assert re.search(cause, str(result.exception))
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_command_says_what_to_install(
    coloured, tmp_path, untrained_bundle, monkeypatch
):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else there(name)
    )
    result = run(untrained_bundle.root, "--data", coloured, "--name", "x", "-o", tmp_path / "out")
    assert "needs the package sklearn" in str(result.exception)
    assert "unicas-edge[train]" in str(result.exception)


def test_unreadable_images_are_listed_counted_and_left_out(coloured, tmp_path, untrained_bundle):
    data = shutil.copytree(coloured, tmp_path / "data")
    (data / "red" / "f0_9.png").write_bytes(b"no image")
    args = ("--data", data, "--layout", "sipakmed", "--name", "x", "-o", tmp_path / "out")
    few = ("--folds", 2, "--epochs", 1)
    result = run(untrained_bundle.root, *args, *few)
    assert result.exit_code == 0, result.exception
    assert "f0_9.png: cannot be read" in result.stderr
    assert "1 unreadable images left out" in result.stderr
    (used,) = Bundle.load(tmp_path / "out").manifest.training_data
    assert used.count == 48
    strict = run(untrained_bundle.root, *args, *few, "--force", "--most-unreadable", 0.001)
    assert "1 of 49 images cannot be read" in str(strict.exception)


# ---- real data ----------------------------------------------------------------------------------


def test_real_cells_go_all_the_way_from_files_to_a_classified_image(data_dir, tmp_path):
    """SIPaKMeD, four fields of each of two classes, by the embedded bundle's encoder."""
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
    assert "SIPaKMeD" in {data.name for data in bundle.manifest.training_data}
