"""A run that is there: gone on with bit for bit, refused where it is for something else."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")


from tests.support.loop_case import (  # noqa: E402
    SETTINGS,
    InterruptedRunError,
    Tiny,
    run_in,
    until,
)
from unicas_edge.errors import TrainingError  # noqa: E402
from unicas_edge.train.loop.fit import LAST  # noqa: E402


@pytest.fixture
def interrupted(tmp_path):
    with pytest.raises(InterruptedRunError):
        run_in(tmp_path, make=until(6))
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
