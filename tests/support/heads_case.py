"""What the tests of region heads share: quick settings, clouds of tokens, fixtures for speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unicas_edge.train.cells import dataset as rd
from unicas_edge.train.heads.probe import Probing

#: Small and quick; the paper's own numbers are the defaults, and tested as such.
QUICK = Probing(hidden=32, batch=16, lr=3e-3, epochs=8)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Curves take longer than these runs do; the tests of the loop draw them."""
    monkeypatch.setattr("unicas_edge.train.loop.curves.draw", lambda *_: None)


def clouds(rng, n=120, width=12, classes=3, apart=3.0, offset=50.0):
    """Tokens of normal clouds about class means, far from 0 and of uneven spread."""
    labels = np.arange(n) % classes
    means = rng.normal(0, apart, (classes, width))
    scale = np.geomspace(0.01, 10, width)
    tokens = (means[labels] + rng.normal(0, 1, (n, width))) * scale + offset
    return tokens.astype(np.float32), labels.astype(np.int64)


def regions(labels, groups=None, classes=3):
    places = tuple(rd.Region(Path(f"{i}.png")) for i in range(len(labels)))
    names = tuple(groups or (f"g{i // 3}" for i in range(len(labels))))
    return rd.Regions("clouds", "none", tuple("abc"[:classes]), places, labels, names)
