"""Every example runs as a user would run it, and does what it says."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.places import ROOT
from tests.support.region_case import cell, write_image
from tests.support.slides import smear
from unicas_edge.bundle import Bundle
from unicas_edge.sample import write_sample

EXAMPLES = ROOT / "examples"


def run(script, *words, code=0, **environment):
    """Run a Python script; return what it printed, or what it said on failing."""
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "sample.svs"
    write_sample(path, 3072, 2048)
    return path


def decisions(printed):
    tasks = [task.name for task in Bundle.load().manifest.tasks]
    lines = [line for line in printed.splitlines() if "attention" not in line]
    return [line.split() for line in lines if line.split()[0] in tasks]


def test_a_session_in_scan_order_prints_what_the_file_gives(slide, tmp_path):
    """32 of 96 tiles are taken, so that fields push each other out as they come.

    Colours are corrected by other tiles than the file's: probabilities may differ a little.
    """
    whole = run(EXAMPLES / "screen.py", slide, "--max-tiles", 32, "--output", tmp_path)
    scanned = run(EXAMPLES / "scanner_session.py", slide, "--max-tiles", 32)
    assert len(decisions(whole)) == len(Bundle.load().manifest.tasks)
    assert [row[0::2] for row in decisions(scanned)] == [row[0::2] for row in decisions(whole)]
    assert [float(row[1]) for row in decisions(scanned)] == pytest.approx(
        [float(row[1]) for row in decisions(whole)], abs=0.1
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row[0::2] for row in decisions(whole)] == [
        [task["name"], task["decision"]] for task in result["tasks"]
    ]
    top = result["tasks"][0]["top_tiles"][0]
    assert f"tile at ({top['x']}, {top['y']})" in whole
    assert "research use only" in scanned


@pytest.mark.parametrize("page", ["README.md", "docs/guide/session.md"])
def test_the_page_s_session_runs_as_it_stands(page):
    text = (ROOT / page).read_text()
    snippet = next(t for t in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "push(" in t)
    tiles = np.random.default_rng(0).integers(0, 255, (4, 256, 256, 3), np.uint8)
    names = {
        "tiles_at_focus_points": tiles,
        "scanner": [(tile, 256 * k, 0, 9_000 + k) for k, tile in enumerate(tiles)],
    }
    exec(snippet, names)
    assert {task.decision for task in names["result"].tasks} == {"unsatisfactory"}


def test_an_error_is_one_line_and_an_exit_code(tmp_path):
    said = run(EXAMPLES / "screen.py", tmp_path / "absent.svs", code=1)
    assert said == f"error: {tmp_path / 'absent.svs'}: no such file; check the path\n"


def test_the_plug_in_installs_and_is_found(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLES / "plugin_reader", source)  # building leaves files beside it
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", site, source],
        check=True,
    )
    np.save(tmp_path / "slide.npy", smear(700, 600))
    (tmp_path / "info.py").write_text(
        "import sys, unicas_edge\n"
        "with unicas_edge.open_slide(sys.argv[1], mpp=0.5) as slide:\n"
        "    print(slide.reader, slide.width, slide.height)\n"
    )
    info = tmp_path / "info.py"
    assert run(info, tmp_path / "slide.npy", PYTHONPATH=str(site)) == "npy 700 600\n"


@pytest.mark.slow
def test_a_head_is_trained_and_classifies(tmp_path, rng, monkeypatch, capsys):
    for extra in ("torch", "torchmetrics", "sklearn", "scipy"):
        pytest.importorskip(extra, reason=f"the extra `train` ({extra}) is not installed")
    colours = {"blue": (60, 60, 200), "red": (200, 60, 60)}
    for name, colour in colours.items():
        for i in range(6):
            field = tmp_path / "cells" / name / f"field-{i // 2}"
            write_image(field / f"{i}.png", cell(rng, colour=colour))
    given = (tmp_path / "cells", "--name", "hue", "-o", tmp_path / "new")
    printed = run(EXAMPLES / "train_head.py", *given, "--folds", 2, "--epochs", 5)
    assert "12 images: {'blue': 6, 'red': 6}" in printed
    made = Bundle.load(tmp_path / "new").manifest
    assert [head.name for head in made.heads][-1] == "hue"
    assert any(figure.task == "heads.hue" for figure in made.evaluation)
    script = str(EXAMPLES / "train_head.py")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="2"):
        patch.setattr(sys, "argv", [script, *map(str, given)])
        runpy.run_path(script, run_name="__main__")  # a process would load PyTorch once more
    assert "choose another folder" in capsys.readouterr().err
