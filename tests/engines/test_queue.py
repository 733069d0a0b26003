"""The queue before the encoder: how much it holds, and that what it holds arrives."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.engines.queue import EncodeQueue
from unicas_edge.screening import feed as reading
from unicas_edge.tiles.normalise import Normaliser


class Slow(FakeEncoder):
    """A fake encoder that waits until it may go on."""

    def __init__(self, **options):
        super().__init__(**options)
        self.go = threading.Event()

    def encode(self, batch):
        assert self.go.wait(30)
        return super().encode(batch)


@pytest.mark.parametrize(("workers", "spare"), [(1, 1), (1, 3), (2, 2)])
def test_the_queue_holds_a_batch_a_worker_and_the_spare_ones(rng, workers, spare):
    encoder, tokens, put = Slow(batch_size=2, workers=workers), {}, []
    queue = EncodeQueue(
        encoder, Normaliser((0, 0, 0), (1, 1, 1), None, "float32"), 224, tokens.__setitem__, spare
    )
    crops = rng.integers(0, 256, (16, 224, 224, 3), dtype="u1")

    def fill():
        for key, crop in enumerate(crops):
            queue.put(key, crop)
            put.append(key)

    filling = threading.Thread(target=fill)
    filling.start()
    held = 2 * (workers + spare)
    for _ in range(600):
        if len(put) >= held:
            break
        filling.join(0.05)
    filling.join(0.2)
    assert len(put) == held  # the next one waits for a buffer
    encoder.go.set()
    filling.join()
    queue.flush()
    queue.close()
    assert sorted(tokens) == list(range(16))
    assert len(np.unique(list(tokens.values()), axis=0)) == 16


@pytest.mark.parametrize("readers", [1, 3])
def test_so_many_threads_read(readers):
    """Each waits for the others, so that fewer would never end and more would break the barrier."""
    barrier, names, session = threading.Barrier(readers), set(), SimpleNamespace()
    session.grid = SimpleNamespace(origin=lambda cell: cell, tile=8, downsample=1)
    session.push = lambda tile, x, y, score: None

    def read(x, y, size, downsample, buffer):
        barrier.wait(30)
        names.add(threading.current_thread().name)
        return buffer

    slide = SimpleNamespace(read=read)
    cells = [(0, n) for n in range(3 * readers)]
    reading.feed(slide, session, cells, None, lambda *_: None, readers)
    assert len(names) == readers
