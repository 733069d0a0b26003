"""Shared fixtures: where the real data lies, seeded randomness."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.support.dense_aggregator import config_of, weights_of
from tests.support.golden import golden_cases, read_bag
from tests.support.longest import LONGEST_FIRST
from tests.support.places import ROOT, TESTS

# Machines that run tests are shared: how long an example takes says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / default))
    if not path.is_dir():
        pytest.skip(f"{variable}: no folder {path}; real data is not part of the repository")
    return path


def pytest_configure(config: pytest.Config) -> None:
    """Files are handed out in the order below: xdist would begin with those of the most tests.

    What takes longest is often one test, and would run alone at the end. Each worker has a
    processor: threads of PyTorch beyond one would wait for each other, spinning.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is loaded
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist >= 3.7
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes real data, so that `-m "not data"` leaves it out; let the longest begin."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(str(item.path.relative_to(TESTS)), len(place)))
    for item in items:
        if {"data_dir", "golden_dir"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("data")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return _folder("UNICAS_EDGE_DATA", "shared/data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return _folder("UNICAS_EDGE_GOLDEN", "shared/golden")


@pytest.fixture(scope="session")
def golden(golden_dir):
    return golden_cases(golden_dir)


@pytest.fixture(scope="session")
def bags(data_dir):
    """The four real bags of UniCAS tokens, float32 [800, 1024], by slide."""
    paths = (data_dir / "unicas_features").glob("**/images.pt")
    found = {path.parent.parent.name: read_bag(path) for path in paths}
    assert len(found) == 4
    return found


@pytest.fixture(scope="session")
def untrained_bundle(tmp_path_factory):
    """The bundle of random weights that the program can write itself, whatever is embedded."""
    from unicas_edge.bundle import Bundle
    from unicas_edge.export import untrained

    folder = tmp_path_factory.mktemp("untrained") / "bundle"
    untrained.write(folder)
    return Bundle.load(folder)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    seed = abs(hash(request.node.name)) % 2**32 if os.environ.get("UNICAS_EDGE_SEED") else 20260101
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def medium():
    """Weights and configuration of an aggregator that takes every path and is quick to try."""
    config = config_of(
        embed_dim_in=40,
        embed_dim=48,
        depth=3,
        num_heads=4,
        num_tasks=3,
        classes=(2, 3, 2),
        num_experts=5,
        top_m=60,
    )
    return weights_of(config), config
