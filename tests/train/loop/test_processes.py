"""Runs in programs of their own: killed, on a full disk, with helpers, and several as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")


from tests.support.loop_case import (  # noqa: E402
    InterruptedRunError,
    Tiny,
    batch,
    run_in,
    same,
    state_of,
    until,
)
from tests.support.places import ROOT  # noqa: E402
from unicas_edge.train.loop.curves import read_log  # noqa: E402
from unicas_edge.train.loop.fit import BEST, LAST  # noqa: E402

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def program(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.loop_case", *map(str, arguments)],
        env=ENVIRONMENT | environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_in(whole)
    with program(killed, "stop", 10) as process:
        while not (killed / "reached").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert state_of(killed)["step"] == 8
    assert [r["step"] for r in read_log(killed) if "loss" in r] == list(range(10))
    with (killed / "log.jsonl").open("ab") as log:
        log.write(b'{"step": 10, "lo')  # what a kill while writing leaves
    (killed / f".{LAST}.0123abcd.part").write_bytes(b"half")
    _, history = run_in(killed, resume=True)
    assert not list(killed.glob(".*.part"))
    assert same(state_of(whole), state_of(killed))
    for name in (BEST, "log.jsonl", "curves.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert [step for step, _ in history.validations] == [4, 9, 11]


def test_batches_made_by_other_processes_change_nothing(tmp_path):
    """In a program of its own: once a test process with many libraries loaded died of it."""
    run_in(tmp_path / "one")
    apart = program(tmp_path / "two", "workers")
    told = apart.communicate(timeout=120)[1]
    assert apart.returncode == 0, told
    assert same(state_of(tmp_path / "one"), state_of(tmp_path / "two"))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    with pytest.raises(InterruptedRunError):
        run_in(tmp_path, make=until(5))
    before = (tmp_path / LAST).read_bytes()
    assert len(before) > 2000
    with program(tmp_path, "full") as process:
        _, text = process.communicate()
    assert process.returncode == 1
    assert "OutputError" in text
    assert f"{LAST}: cannot be written: File too large" in text
    assert (tmp_path / LAST).read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


_TWO = """
import sys, torch
from pathlib import Path
from dataclasses import replace
from tests.support.loop_case import SETTINGS, Tiny, batch
from unicas_edge.train.loop.feed import seed_all
from unicas_edge.train.loop.fit import fit
from unicas_edge.train.loop.processes import place
torch.set_num_threads(1)
model, here = Tiny(), place()
model.student[1].p = 0.0
if here.rank:
    for p in model.student.parameters():
        p.data.zero_()  # the first process's weights count
def part(step):
    seed_all(1, step)
    x, y = batch(step)
    return x[here.rank::2], y[here.rank::2]
fit(model, part, SETTINGS, Path(sys.argv[1]))
torch.save(model.student.state_dict(), f"{sys.argv[1]}-{here.rank}.pt")
"""


def test_two_processes_train_as_one_does_on_the_whole_batch(tmp_path):
    from unicas_edge.train.loop.feed import seed_all

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", _TWO, str(tmp_path / "two")]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            command,
            env=ENVIRONMENT | where | {"RANK": rank, "LOCAL_RANK": rank},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    told = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told
    first, second = (torch.load(f"{tmp_path}/two-{r}.pt", weights_only=True) for r in "01")
    assert same(first, second)

    def whole(step):
        seed_all(1, step)
        return batch(step)

    model = Tiny()
    model.student[1].p = 0.0
    run_in(tmp_path / "one", model=model, make=whole)
    for key, value in model.student.state_dict().items():
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-6)
    logs = [[r["loss"] for r in read_log(tmp_path / n) if "loss" in r] for n in ("one", "two")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
