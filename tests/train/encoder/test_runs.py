"""What pre-training and distillation share of a run."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from unicas_edge.errors import TrainingError
from unicas_edge.train.encoder.runs import share_of_batch


def test_the_batch_is_shared_by_the_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert share_of_batch(12) == 4
    with pytest.raises(TrainingError, match="batch = 10 cannot be shared by 3"):
        share_of_batch(10)
