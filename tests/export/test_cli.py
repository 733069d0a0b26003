"""`unicas-edge export` as it is typed."""

from __future__ import annotations

import sys

import pytest
import torch
from typer.testing import CliRunner

from tests.support.bundle_case import copy_with
from tests.support.encoder_case import tensors, weights_of
from tests.support.export_case import TINY, make_checkpoints
from unicas_edge.bundle import Bundle
from unicas_edge.cli.export import export_app
from unicas_edge.errors import CheckpointError
from unicas_edge.result import DEMONSTRATION, UNTRAINED


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def test_the_commands_of_the_documentation(folder, tmp_path):
    run, target = CliRunner().invoke, str(tmp_path / "bundle")
    state = {"teacher": {"backbone." + k: v for k, v in tensors(weights_of(TINY)).items()}}
    torch.save(state, tmp_path / "wrapped.pth")
    first = run(export_app, ["encoder", str(tmp_path / "wrapped.pth"), "-o", target])
    assert first.exit_code == 0, first.output
    assert "vit-ti16, tokens of width 192, fp32" in first.stdout
    assert "used 'teacher'" in first.stderr
    assert UNTRAINED in first.stderr
    second = run(
        export_app,
        [
            "aggregator",
            str(folder / "model-7.pth"),
            "-o",
            target,
            "--task",
            "cancer=0.4",
            "--task",
            "candidiasis",
            "--task",
            "cluecell",
        ],
    )
    assert second.exit_code == 0, second.output
    assert "cancer at 0.4, candidiasis at 0.5, cluecell at 0.5" in second.stdout
    assert second.stderr == ""
    made = Bundle.load(tmp_path / "bundle")
    assert made.manifest.trained
    shown = copy_with(made, tmp_path / "shown", demonstration=True)
    third = run(
        export_app, ["aggregator", str(folder / "model-7.pth"), "-o", str(shown.root), "--force"]
    )
    assert third.stderr.strip() == DEMONSTRATION


@pytest.mark.parametrize(
    "arguments",
    [
        ["encoder", "x.pth", "-o", "b", "--uint8", "--colour-matrix", "1 2 3"],
        ["encoder", "x.pth", "-o", "b", "--uint8", "--colour-matrix", "nan" + " 0" * 11],
        ["encoder", "x.pth", "-o", "b", "--storage", "int4"],
        ["encoder", "x.pth"],
        ["aggregator", "x.pth", "-o", "b", "--task", "cancer=2"],
        ["aggregator", "x.pth", "-o", "b", "--task", "cancer=high"],
        ["aggregator", "x.pth", "-o", "b", "--task", "a", "--task", "a"],
        ["aggregator", "x.pth", "-o", "b", "--heads", "0"],
    ],
)
def test_wrong_arguments_are_usage_errors(arguments):
    assert CliRunner().invoke(export_app, arguments).exit_code == 2


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [n for n in sys.modules if n.startswith("unicas_edge.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("unicas_edge.export")
    result = CliRunner().invoke(export_app, ["encoder", "x.pth", "-o", "b"])
    assert isinstance(result.exception, CheckpointError)
    assert "pip install 'unicas-edge[export]'" in str(result.exception)
