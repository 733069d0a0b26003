from __future__ import annotations

import itertools

import pytest

from tests.support.knowledge_case import colour_weights, with_knowledge
from unicas_edge.bundle import Bundle


@pytest.fixture
def made(untrained_bundle, tmp_path):
    """Return a function that makes a bundle; `weights` are options of `colour_weights`."""
    numbers = itertools.count()

    def make(weights=None, tasks=None, **changes):
        built = colour_weights(untrained_bundle, **(weights or {}))
        folder = tmp_path / str(next(numbers))
        return Bundle.load(with_knowledge(untrained_bundle, folder, built, tasks, **changes))

    return make
