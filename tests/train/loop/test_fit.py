"""The training loop: seeded, what it keeps, when it stops, and everything that may go wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from safetensors.torch import load_file  # noqa: E402

from tests.support.loop_case import (  # noqa: E402
    SETTINGS,
    Tiny,
    batch,
    run_in,
    same,
    state_of,
)
from unicas_edge.errors import OutputError, TrainingError  # noqa: E402
from unicas_edge.train.loop.checkpoints import load_weights  # noqa: E402
from unicas_edge.train.loop.curves import read_log  # noqa: E402
from unicas_edge.train.loop.fit import BEST, Settings  # noqa: E402


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
