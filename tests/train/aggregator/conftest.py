"""The tests of aggregators train in one thread: their bags are too small to share out."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread():
    pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
    from tests.support.train_case import one_thread

    with one_thread():
        yield
