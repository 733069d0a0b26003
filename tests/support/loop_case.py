"""A small thing to train, for the tests of the loop; as a program, a run that waits to be killed.

``python -m tests.support.loop_case FOLDER stop STEP``: make the file
FOLDER/reached at batch STEP and wait.
``python -m tests.support.loop_case FOLDER full``: save under a limit on file size,
as on a full disk.
``python -m tests.support.loop_case FOLDER workers``: let another process make the batches.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from unicas_edge.train.loop.fit import LAST, Settings, fit

SETTINGS = Settings(
    steps=12,
    lr=1e-2,
    warmup_steps=3,
    weight_decay=0.1,
    final_weight_decay=0.2,
    clip_norm=1.0,
    seed=5,
    save_every=4,
    validate_every=5,
    keep=("error", "min"),
)


class Tiny:
    """A student with dropout that follows its own average and a linear truth."""

    def __init__(self, wide=4):
        torch.manual_seed(0)
        self.student = nn.Sequential(nn.Linear(6, wide), nn.Dropout(0.2), nn.Linear(wide, 1))
        self.teacher = nn.Linear(6, wide).requires_grad_(False)
        self.modules = {"student": self.student, "teacher": self.teacher}
        self.fail_at = None

    def parameters(self):
        first, last = self.student[0], self.student[2]
        return [
            {"params": first.parameters(), "lr_scale": 0.5},
            {"params": last.parameters(), "frozen_steps": 2, "wd_scale": 0.0},
        ]

    def loss(self, batch, step):
        x, y = batch
        error = (self.student(x)[:, 0] - y).square().mean()
        drift = (self.student[0](x) - self.teacher(x)).square().mean()
        factor = float("nan") if step == self.fail_at else 1.0
        return {"loss": factor * (error + 0.1 * drift), "drift": drift.detach()}

    def after_step(self, step):
        for mine, theirs in zip(
            self.teacher.parameters(), self.student[0].parameters(), strict=True
        ):
            mine.data.lerp_(theirs.data, 0.1)

    def validate(self):
        self.student.eval()
        x = torch.randn(16, 6)
        return {"error": (self.student(x)[:, 0] - x.sum(1)).square().mean().item()}


def batch(step):
    x = torch.randn(8, 6)
    return x, x.sum(dim=1) + 0.01 * (step % 3)


def run_in(folder, settings=SETTINGS, model=None, make=batch, **kwargs):
    """Train a `Tiny` unless told otherwise; return the model and the history."""
    model = model or Tiny()
    return model, fit(model, make, settings, folder, **kwargs)


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


class InterruptedRunError(Exception):
    """What ends a run in the middle."""


def until(step):
    """Batches that end in an error, as a run does that is interrupted."""

    def make(current):
        if current == step:
            raise InterruptedRunError
        return batch(current)

    return make


def _waiting(folder, step):
    def make(current):
        if current == step:
            (folder / "reached").touch()
            time.sleep(600)
        return batch(current)

    return make


def main():
    torch.set_num_threads(1)
    folder, what, *rest = sys.argv[1:]
    if what == "workers":
        fit(Tiny(), batch, SETTINGS, Path(folder), workers=1)
        return
    if what == "stop":
        fit(Tiny(), _waiting(Path(folder), int(rest[0])), SETTINGS, Path(folder))
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    fit(Tiny(), batch, SETTINGS, Path(folder), resume=True)


if __name__ == "__main__":
    main()
