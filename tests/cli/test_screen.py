"""The command line as a user meets it: real processes, exit codes, what is left on the disk."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.support.bundle_case import copy_with
from tests.support.report_case import CAUTIONS
from unicas_edge.bundle import Bundle
from unicas_edge.report import load_result
from unicas_edge.result import NOTICE, caution
from unicas_edge.sample import write_sample

WIDTH, HEIGHT = 2600, 2100
COMMAND = [sys.executable, "-m", "unicas_edge"]
MANIFEST = Bundle.load().manifest
CAUTION = caution(MANIFEST)
assert CAUTION, "the embedded bundle is none to diagnose with"


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(3):
        write_sample(folder / f"s{seed}.svs", WIDTH, HEIGHT, seed=seed)
    return folder


def call(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    options.setdefault("timeout", 120)
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def screen(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return call("screen", *arguments, "--max-tiles", 40, **options)


def slide_events(text: str) -> list[dict]:
    """Return what ``--json`` said of slides."""
    events = [json.loads(line) for line in text.splitlines()]
    return [event for event in events if event["event"] == "slide"]


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_one_slide_gives_every_file_and_says_where_it_lies(slides, tmp_path):
    out = tmp_path / "out"
    done = screen(slides / "s0.svs", "-o", out)
    assert done.returncode == 0, done.stderr
    found = {path.name for path in (out / "slides" / "s0").iterdir()}
    assert found == {
        "result.json",
        "tiles.csv",
        "features.h5",
        "annotations.geojson",
        "overview.jpg",
        "contact.jpg",
    }
    assert str(out / "slides" / "s0" / "result.json") in done.stdout
    assert CAUTION in done.stderr
    assert CAUTION in (out / "slides" / "s0" / "result.json").read_text()
    assert CAUTION in (out / "summary.csv").read_text()
    assert len(list((out / "runs").glob("*.json"))) == 1
    assert rows(out)["s0"]["status"] == "done"


def test_the_same_again_is_kept_and_another_setting_is_refused_until_forced(slides, tmp_path):
    slide, out = slides / "s0.svs", tmp_path / "out"
    assert screen(slide, "-o", out).returncode == 0
    made = (out / "slides" / "s0" / "result.json").stat().st_mtime_ns
    assert "kept" in screen(slide, "-o", out).stdout
    refused = call("screen", slide, "-o", out, "--max-tiles", 12)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert "--skip-existing" in refused.stderr
    assert call("screen", slide, "-o", out, "--max-tiles", 12, "--skip-existing").returncode == 0
    assert (out / "slides" / "s0" / "result.json").stat().st_mtime_ns == made
    assert rows(out)["s0"]["prob_cancer"], "the refusal did not cost the summary its row"
    assert call("screen", slide, "-o", out, "--max-tiles", 12, "--force").returncode == 3
    assert load_result(out / "slides" / "s0").coverage.planned == 12


def test_a_batch_goes_on_past_bad_slides_and_exits_1(slides, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a_empty.svs").touch()
    (folder / "b_text.svs").write_text("not a slide")
    (folder / "c_cut.svs").write_bytes((slides / "s0.svs").read_bytes()[:50_000])
    (folder / "d_good.svs").write_bytes((slides / "s0.svs").read_bytes())
    done = screen(folder, "-o", out)
    assert done.returncode == 1
    for name in ("a_empty", "b_text", "c_cut"):
        assert name in done.stderr
        assert rows(out)[name]["status"] == "failed"
        assert rows(out)[name]["error"]
    assert rows(out)["d_good"]["status"] == "done"
    record = json.loads(next((out / "runs").glob("*.json")).read_text())
    assert [slide["status"] for slide in record["slides"]] == ["failed"] * 3 + ["done"]


def test_json_mode_prints_json_lines_and_nothing_else(slides, tmp_path):
    (tmp_path / "list.csv").write_text(f"wsi\n{slides / 's0.svs'}\nmissing.svs\n")
    done = screen(tmp_path / "list.csv", "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    good, bad = (event for event in events if event["event"] == "slide")
    assert {event["event"] for event in events} == {"progress", "slide", "summary"}
    assert good["status"] == "done"
    assert CAUTION in good["result"]["notices"]
    assert bad["status"] == "failed"
    assert "no such file" in bad["error"]
    assert events[-1]["counts"] == {"done": 1, "failed": 1}
    assert events[-1]["exit_code"] == 1


@pytest.mark.parametrize(("weights", "said"), CAUTIONS)
def test_quiet_prints_problems_only_and_the_caution_with_them(
    slides, tmp_path, untrained_bundle, weights, said
):
    bundle = copy_with(untrained_bundle, tmp_path / "bundle", **weights).root
    done = screen(slides / "s0.svs", "--bundle", bundle, "-o", tmp_path / "out", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    result = load_result(tmp_path / "out" / "slides" / "s0")
    assert result.notices[0] == caution(result.bundle) == said
    (tmp_path / "bad.svs").write_text("no slide")
    done = screen(tmp_path / "bad.svs", "--bundle", bundle, "-o", tmp_path / "out", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == said
    assert call("bundle", "show", bundle).stderr.strip() == said
    about = json.loads(call("doctor", "--bundle", bundle, "--json").stdout)
    assert about["notices"] == [said]
    assert about["bundle"]["demonstration"] == weights["demonstration"]


def test_weights_that_are_neither_untrained_nor_a_demonstration_need_no_caution(
    slides, tmp_path, untrained_bundle
):
    bundle = copy_with(untrained_bundle, tmp_path / "bundle", trained=True).root
    done = screen(slides / "s0.svs", "--bundle", bundle, "-o", tmp_path / "out", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert load_result(tmp_path / "out" / "slides" / "s0").notices == [NOTICE]


def test_two_processes_share_a_folder_without_doing_a_slide_twice(slides, tmp_path):
    out = tmp_path / "out"
    command = [*COMMAND, "screen", str(slides), "-o", str(out), "--max-tiles", "64", "--force"]
    pair = [subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) for _ in "12"]
    printed = [process.communicate(timeout=120)[0] for process in pair]
    outcomes = [event for text in printed for event in slide_events(text)]
    assert [process.returncode for process in pair] == [0, 0]
    done = sorted(outcome["name"] for outcome in outcomes if outcome["status"] == "done")
    assert done == ["s0", "s1", "s2"]
    assert sorted(rows(out)) == ["s0", "s1", "s2"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_half_written_and_resumes(slides, tmp_path, number):
    out = tmp_path / "out"
    command = [*COMMAND, "screen", str(slides), "-o", str(out), "--max-tiles", "all", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a background job of a shell inherits an ignored Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    first = next(event for line in process.stdout for event in slide_events(line))
    # the first slide is done, the second begun
    time.sleep(0.5)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "run the same command" in stderr
    for folder in (out / "slides").iterdir():
        assert not (folder / "result.json").exists() or load_result(folder)
    again = call(*command[3:])
    assert again.returncode == 0, again.stderr
    statuses = {o["name"]: o["status"] for o in slide_events(again.stdout)}
    assert statuses[first["name"]] == "kept"
    assert len(statuses) == 3
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_an_error(slides, tmp_path):
    (tmp_path / "out").mkdir(mode=0o555)
    done = screen(slides / "s0.svs", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "writable" in done.stderr


def test_an_output_that_is_a_file_is_an_error(slides, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = screen(slides / "s0.svs", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert str(tmp_path / "out") in done.stderr
    assert (tmp_path / "out").read_text() == "mine"
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_fails_the_slide_and_leaves_no_half(slides, tmp_path):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = screen(slides / "s0.svs", "-o", tmp_path / "out", preexec_fn=limit)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("result.json"))
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["screen", "nothing.svs"], 2, "no such file"),
        (["screen", "."], 1, "no slides"),
        (["info", "nothing.svs"], 2, "no such file"),
        (["bundle", "check", "nothing"], 1, "bundle.json"),
        (["screen", ".", "--max-tiles", "0"], 2, "at least 1"),
        (["screen", ".", "--max-tiles", "-3"], 2, "at least 1"),
        (["screen", ".", "--batch-size", "many"], 2, "auto"),
        (["screen", ".", "--backend", "foo"], 2, "onnxruntime"),
        (["screen", ".", "--precision", "foo"], 2, "bf16"),
        (["screen", ".", "--bundle", "nowhere"], 2, "no such folder"),
        (["screen", ".", "--bundle", "."], 2, "no bundle.json"),
        (["screen", ".", "--profile", "foo"], 2, "x86-cpu"),
        (["screen", ".", "--profile", "foo.toml"], 2, "no such file"),
        (["screen", ".", "--reader", "foo"], 2, "openslide"),
        (["screen", ".", "--colour", "foo"], 2, "reinhard"),
        (["screen", ".", "--mpp", "-1"], 2, "um/px"),
        (["screen", ".", "--mpp", "nan"], 2, "um/px"),
        (["screen", ".", "--quiet", "--verbose"], 2, "one of"),
        (["screen", "*.svs"], 2, "matches"),
        (["info", ".", "--reader", "foo"], 2, "openslide"),
        (["doctor", "--bundle", "nowhere"], 2, "no such folder"),
        (["screen"], 2, "Missing argument"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, arguments, code, message):
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_mpp_is_asked_for_when_the_slide_does_not_say(tmp_path):
    Image.new("RGB", (600, 400), (200, 180, 190)).save(tmp_path / "plain.png")
    done = screen(tmp_path / "plain.png", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "--mpp" in done.stderr
    blank = screen(tmp_path / "plain.png", "-o", tmp_path / "out", "--mpp", 0.5)
    assert "unsatisfactory" in blank.stdout
    assert blank.returncode == 3
    assert screen(tmp_path / "plain.png", "-o", tmp_path / "out", "--mpp", 0.5).returncode == 3


def test_info_and_doctor_and_bundle_and_sample(slides, tmp_path):
    about = json.loads(call("info", slides / "s0.svs", "--json").stdout)
    assert (about["reader"], about["width"], about["um_px"]) == ("tiff", WIDTH, 0.5)
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["problems"] == []
    assert facts["kernels"]["used"] in facts["kernels"]["available"]
    check = call("bundle", "check")
    assert check.returncode == 0
    assert CAUTION in check.stderr
    assert facts["notices"] == [CAUTION]
    assert json.loads(call("bundle", "show").stdout)["trained"] is MANIFEST.trained
    path = tmp_path / "new" / "x.svs"
    made = call("sample", path, "--width", 600, "--height", 500)
    assert made.returncode == 0
    assert path.with_name("x.truth.json").exists()
    again = call("sample", path)
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_help_and_version():
    assert "screen" in call("--help").stdout
    assert call("--version").stdout.strip()
