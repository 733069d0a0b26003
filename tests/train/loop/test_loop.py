"""The training loop: killed and resumed equals uninterrupted, and everything that may go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from safetensors.torch import load_file  # noqa: E402

from tests.support.loop_case import SETTINGS, Tiny, batch  # noqa: E402
from tests.support.places import ROOT  # noqa: E402
from unicas_edge.errors import OutputError, TrainingError  # noqa: E402
from unicas_edge.train.loop.checkpoints import load_weights  # noqa: E402
from unicas_edge.train.loop.curves import POINTS, curves_of, read_log  # noqa: E402
from unicas_edge.train.loop.fit import BEST, LAST, Settings, fit  # noqa: E402

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_in(folder, settings=SETTINGS, model=None, make=batch, **kwargs):
    model = model or Tiny()
    return model, fit(model, make, settings, folder, **kwargs)


def program(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.loop_case", *map(str, arguments)],
        env=ENVIRONMENT | environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def state_of(folder):
    return torch.load(folder / LAST, weights_only=True)


def same(a, b):
    """Whether two nested states are the same, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


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


def test_another_seed_gives_another_run(tmp_path):
    run_in(tmp_path / "one")
    run_in(tmp_path / "two", replace(SETTINGS, seed=6))
    assert not same(state_of(tmp_path / "one")["modules"], state_of(tmp_path / "two")["modules"])


def test_it_learns_and_keeps_the_weights_that_validated_best(tmp_path):
    settings = replace(SETTINGS, steps=300, lr=5e-2, validate_every=20)
    _, history = run_in(tmp_path, settings)
    errors = [figures["error"] for _, figures in history.validations]
    assert errors[0] > 10 * min(errors)
    best_step, best = history.best
    assert (best, best_step) == min(
        (figures["error"], step) for step, figures in history.validations
    )
    other = Tiny()
    load_weights(tmp_path / BEST, other.modules)
    torch.manual_seed(0)
    assert other.validate()["error"] < errors[0] / 10
    records = list(history.records())
    assert records[0]["lr"] == pytest.approx(5e-2 / 3)
    assert records[-2]["lr"] == 0
    assert {"loss", "drift", "grad_norm", "lr", "weight_decay"} < set(records[0])


def test_without_a_figure_to_keep_the_last_weights_are_the_best(tmp_path):
    model, history = run_in(tmp_path, Settings(steps=3, lr=1e-2))
    assert history.best is None
    kept = load_file(tmp_path / BEST)
    assert kept.keys() == {
        f"{name}.{key}" for name, m in model.modules.items() for key in m.state_dict()
    }
    assert torch.equal(kept["student.0.weight"], model.student[0].weight)


def test_training_stops_early_and_a_resumed_run_stays_stopped(tmp_path):
    settings = replace(SETTINGS, lr=0.0, patience=2, validate_every=1, steps=50)

    class Same(Tiny):
        def validate(self):
            return {"error": 1.0}

    _, history = run_in(tmp_path, settings, Same())
    assert (history.steps, history.best) == (3, (0, 1.0))
    _, again = run_in(tmp_path, settings, Same(), resume=True)
    assert again == history


def test_groups_are_frozen_and_scaled(tmp_path):
    settings = Settings(steps=2, lr=1e-2)
    model, before = Tiny(), Tiny()
    run_in(tmp_path, settings, model)
    assert torch.equal(model.student[2].weight, before.student[2].weight)
    assert not torch.equal(model.student[0].weight, before.student[0].weight)


def test_bf16_keeps_the_weights_in_float32(tmp_path):
    model, history = run_in(tmp_path, replace(SETTINGS, precision="bf16"))
    assert {p.dtype for p in model.student.parameters()} == {torch.float32}
    losses = [record["loss"] for record in history.records() if "loss" in record]
    run_in(tmp_path / "fp32")
    exact = [r["loss"] for r in read_log(tmp_path / "fp32") if "loss" in r]
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.05)


def test_a_loss_that_is_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    model = Tiny()
    model.fail_at = 6
    with pytest.raises(TrainingError, match=r"step 6: loss, grad_norm is not finite.*last\.pt"):
        run_in(tmp_path, model=model)
    state = state_of(tmp_path)
    assert state["step"] == 4
    assert all(v.isfinite().all() for v in state["modules"]["student"].values())
    run_in(tmp_path, resume=True)  # the cause gone, it goes on
    run_in(tmp_path / "whole")
    assert same(state_of(tmp_path), state_of(tmp_path / "whole"))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    with pytest.raises(InterruptedRunError):
        run_in(tmp_path, make=_until(5))
    before = (tmp_path / LAST).read_bytes()
    assert len(before) > 2000
    with program(tmp_path, "full") as process:
        _, text = process.communicate()
    assert process.returncode == 1
    assert "OutputError" in text
    assert f"{LAST}: cannot be written: File too large" in text
    assert (tmp_path / LAST).read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


class InterruptedRunError(Exception):
    pass


def _until(step):
    """Batches that end in an error, as a run does that is interrupted."""

    def make(current):
        if current == step:
            raise InterruptedRunError
        return batch(current)

    return make


@pytest.fixture
def interrupted(tmp_path):
    with pytest.raises(InterruptedRunError):
        run_in(tmp_path, make=_until(6))
    return tmp_path


def test_a_folder_with_a_run_is_not_overwritten(interrupted):
    before = (interrupted / LAST).read_bytes()
    with pytest.raises(TrainingError, match="a run is there"):
        run_in(interrupted)
    assert (interrupted / LAST).read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "kwargs", "named"),
    [
        (replace(SETTINGS, lr=0.5), {}, r"settings\.lr: 0\.01 there, 0\.5 here"),
        (SETTINGS, {"identity": {"data": {"slides": "abc"}}}, r"data\.slides: None there, abc"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(interrupted, settings, kwargs, named):
    before = (interrupted / LAST).read_bytes()
    with pytest.raises(TrainingError, match=rf"another configuration \({named}"):
        run_in(interrupted, settings, resume=True, **kwargs)
    assert (interrupted / LAST).read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(interrupted):
    with pytest.raises(TrainingError, match="does not fit the model to train"):
        run_in(interrupted, model=Tiny(wide=5), resume=True)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("damage", ["short", "text", "pickle", "empty", "other"])
def test_a_damaged_or_hostile_checkpoint_is_refused(interrupted, damage, monkeypatch):
    monkeypatch.chdir(interrupted)
    path = interrupted / LAST
    if damage in ("pickle", "other"):
        torch.save(Evil() if damage == "pickle" else {"step": 3}, path)
    else:
        held = path.read_bytes()
        path.write_bytes({"short": held[: len(held) // 2], "text": b"x" * 99, "empty": b""}[damage])
    with pytest.raises(TrainingError, match=r"last\.pt: "):
        run_in(interrupted, resume=True)
    assert not (interrupted / "evil").exists()


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    def make(step):
        with pytest.raises(TrainingError, match="another run is writing there"):
            run_in(tmp_path, resume=True)
        return batch(step)

    run_in(tmp_path, Settings(steps=1, lr=1e-2), make=make)


def test_a_figure_that_validation_does_not_give_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"no auc to keep the best by \(it gave: error\)"):
        run_in(tmp_path, replace(SETTINGS, keep=("auc", "max")))


def test_an_unwritable_folder_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        run_in(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"clip_norm": 0.0},
        {"seed": -1},
        {"warmup_steps": -1},
        {"patience": 2},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(TrainingError):
        Settings(**({"steps": 3, "lr": 1e-2} | wrong))


def test_a_gpu_that_is_not_there_is_an_error(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(TrainingError, match="sees no GPU"):
        run_in(tmp_path, device="cuda")


def test_long_curves_are_averaged_over_windows():
    records = [{"step": i, "loss": float(i % 2)} for i in range(3 * POINTS)]
    curve = curves_of([*records, {"step": 7, "validation": {"loss": 3.0}}])
    assert len(curve["loss"]["step"]) == POINTS
    assert curve["loss"]["step"][1] == 4
    assert curve["loss"]["value"][:2] == pytest.approx([1 / 3, 2 / 3])
    assert curve["validation/loss"] == {"step": [7], "value": [3.0]}


def test_the_curves_are_a_picture(tmp_path):
    from PIL import Image

    run_in(tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (31, 119, 180) in colours  # the curve
    assert (255, 127, 14) in colours  # its validation
    assert json.loads((tmp_path / "curves.json").read_text())["loss"]["step"] == list(range(12))


# ---- several processes --------------------------------------------------------------------------

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
