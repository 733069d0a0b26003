"""What the tests of encoders share: one thread, a folder of pictures."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread():
    pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
    from tests.support.train_case import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve pictures of 80 x 80 pixels."""
    from tests.support.train_case import make_images

    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def source(images):
    from unicas_edge.train.encoder.tile_sources import ImageTiles

    return ImageTiles([images], 80)
