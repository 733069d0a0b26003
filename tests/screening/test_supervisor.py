"""Slides that take the process with them: one failure each, in processes that really end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.crashing_reader import installed_in
from tests.support.places import ROOT
from unicas_edge.bundle import Bundle
from unicas_edge.errors import BundleError, EngineError
from unicas_edge.sample import write_sample
from unicas_edge.screening.batch import screen_all
from unicas_edge.screening.job import Job
from unicas_edge.screening.options import Options
from unicas_edge.screening.outcome import Outcome
from unicas_edge.screening.screener import Screener
from unicas_edge.screening.supervisor import Supervisor
from unicas_edge.screening.wire import Setup
from unicas_edge.slide.find import Target

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
COMMAND = [sys.executable, "-m", "unicas_edge", "screen", "--max-tiles", "36"]
#: A user's script, with no guard around what it does.
SCRIPT = """
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from unicas_edge.screening.batch import screen_all
from unicas_edge.screening.options import Options
from unicas_edge.screening.supervisor import Supervisor
from unicas_edge.screening.wire import Setup
from unicas_edge.slide.find import find_targets

print("script", flush=True)
class Reporter:
    def slide(self, name, number, total): return nullcontext(lambda *_: None)
    def outcome(self, outcome): print(outcome.name, outcome.status, outcome.error)
    def summary(self, counts): print(sorted(counts.items()))

with Supervisor(hang_seconds=2) as supervisor:
    supervisor.begin(Setup(None, "auto", Options(max_tiles=16)))
    supervisor.loaded()
    screen_all(find_targets([Path(sys.argv[1])]).targets, Path(sys.argv[2]), supervisor, Reporter())
"""


@pytest.fixture
def world(tmp_path):
    """An environment that knows the crashing reader, and a folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "in").mkdir()
    return installed_in(tmp_path / "site") | {"TMPDIR": str(tmp_path / "tmp")}


def crash(folder: Path, name: str, where: str, how: str) -> Path:
    path = folder / "in" / f"{name}.svs"
    if not path.exists() or path.read_text() != f"CRASH {where} {how}\n":
        path.write_text(f"CRASH {where} {how}\n")
    return path


def screen(folder: Path, world, *arguments: str) -> dict[str, tuple[str, str]]:
    """Screen all slides of a test; return each one's status and error."""
    command = [*COMMAND, str(folder / "in"), "-o", str(folder / "out"), "--json", *arguments]
    done = subprocess.run(
        command, env=world, capture_output=True, text=True, timeout=200, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert not list((folder / "tmp").iterdir())
    events = [json.loads(line) for line in done.stdout.splitlines()]  # nobody else printed there
    found = [event for event in events if event["event"] == "slide"]
    return {one["name"]: (one["status"], one["error"] or "") for one in found}


def begun(folder: Path, world, **options) -> tuple[subprocess.Popen[str], int]:
    """Start a run that hangs over its slide; return it with the number of the process that does."""
    crash(folder, "hung", "read", "hang")
    command = [*COMMAND, str(folder / "in"), "-o", str(folder / "out")]
    run = subprocess.Popen(
        command, env=world, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    pid = folder / "site" / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    return run, int(pid.read_text())


def wait_for(what, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_crash_is_one_slides_failure_and_is_not_tried_for_ever(tmp_path, world):
    crash(tmp_path, "a", "open", "SIGSEGV")
    crash(tmp_path, "b", "read", "SIGKILL")
    crash(tmp_path, "c", "overview", "exit7")
    crash(tmp_path, "d", "open", "noise")
    write_sample(tmp_path / "in" / "e.svs", 2600, 2100)
    first = screen(tmp_path, world)
    assert {name: status for name, (status, _) in first.items()} == {
        "a": "failed",
        "b": "failed",
        "c": "failed",
        "d": "unsatisfactory",
        "e": "done",
    }
    assert "segmentation fault while opening it" in first["a"][1]
    assert "crashing_reader.py" in first["a"][1]
    assert "killed, perhaps for want of memory, while ranking" in first["b"][1]
    assert "exit code 7 while finishing" in first["c"][1]
    slides = tmp_path / "out" / "slides"
    assert {path.name for path in slides.iterdir()} == {"d", "e"}
    assert "--force" in screen(tmp_path, world)["a"][1]
    third = screen(tmp_path, world)
    assert "ended the process twice (segmentation fault while opening it" in third["a"][1]
    assert all("not tried again" in third[name][1] for name in "abc")
    assert "not tried" not in screen(tmp_path, world, "--force")["c"][1]
    crash(tmp_path, "a", "open", "nothing")  # another file of that name
    assert screen(tmp_path, world)["a"][0] == "unsatisfactory"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "spin"])
def test_a_hang_is_one_slides_failure_in_a_script_without_a_guard(tmp_path, world, how):
    crash(tmp_path, "a", "read", how)
    crash(tmp_path, "b", "never", "ends")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "in"), str(tmp_path / "out")],
        env=world,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "script"
    assert "a failed" in lines[1]
    assert "ended the process: no progress for 2 s while ranking its tiles" in lines[1]
    assert lines[2:] == ["b unsatisfactory None", "[('failed', 1), ('unsatisfactory', 1)]"]
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_both_processes_and_is_no_attempt(tmp_path, world, number, to_all):
    run, pid = begun(
        tmp_path, world, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    (os.killpg if to_all else os.kill)(run.pid, number)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Traceback" not in said
    assert "run the same command" in said
    wait_for(lambda: not lives(pid), 10)
    assert not list((tmp_path / "out" / "slides").iterdir())
    assert not list((tmp_path / "out" / ".locks").glob("attempt-*"))
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
def test_the_process_ends_with_a_batch_that_is_killed(tmp_path, world):
    run, pid = begun(tmp_path, world)
    marker = tmp_path / "out" / ".locks" / "attempt-hung.json"
    assert json.loads(marker.read_text())["attempts"] == 1
    run.kill()
    run.communicate(timeout=30)
    wait_for(lambda: not lives(pid), 10)
    assert not marker.exists()
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
def test_a_computer_that_stops_counts(tmp_path, world):
    for _ in "12":
        run, pid = begun(tmp_path, world)
        os.kill(run.pid, signal.SIGSTOP)  # so that neither lives to see the other end
        os.kill(pid, signal.SIGKILL)
        run.kill()
        run.communicate(timeout=30)
        (tmp_path / "site" / "pid").unlink()
        shutil.rmtree(tmp_path / "tmp")
        (tmp_path / "tmp").mkdir()
    (status, error) = screen(tmp_path, world)["hung"]
    assert status == "failed"
    assert "ended the process twice (the process or the computer ended)" in error


def test_what_cannot_be_loaded_is_told_as_ever(tmp_path):
    with Supervisor() as supervisor:
        supervisor.begin(Setup(tmp_path / "none", "auto", Options()))
        with pytest.raises(BundleError, match=r"bundle\.json"):
            supervisor.loaded()


def test_a_process_that_dies_while_it_loads_is_no_slides_fault():
    with Supervisor() as supervisor:
        supervisor.begin(Setup(None, "auto", Options()))
        supervisor._process._popen.kill()
        with pytest.raises(EngineError, match="loaded the model: killed, perhaps for want"):
            supervisor.loaded()


def test_the_batchs_side_loads_no_engine_and_no_reader():
    code = (
        "import sys; import unicas_edge.screening.supervisor, unicas_edge.screening.batch\n"
        "heavy = {'onnxruntime', 'openvino', 'h5py', 'tifffile', 'pyvips', 'openslide'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_same_batch_in_one_process(tmp_path):
    """What embeds the package may screen many slides where it is, without a second process."""
    slide = tmp_path / "a.svs"
    write_sample(slide, 2600, 2100)
    targets = [Target(slide), Target(tmp_path / "none.svs"), Target(slide, problem="listed twice")]
    told = Told()
    for _ in "12":
        with Screener(Bundle.load(), Options(max_tiles=64)) as screener:
            assert not screen_all(targets, tmp_path / "out", Job(screener), told)
    assert [outcome.status for outcome in told.outcomes] == [
        "done",
        *["failed"] * 2,
        "kept",
        *["failed"] * 2,
    ]
    assert "no such file" in told.outcomes[1].error
    assert not list((tmp_path / "out" / ".locks").glob("attempt-*"))


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def slide(self, name, number, total):
        return contextlib.nullcontext(lambda *_: None)

    def outcome(self, outcome):
        self.outcomes.append(outcome)

    def summary(self, counts):
        assert counts.total() == 3
