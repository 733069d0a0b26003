"""A deterministic encoder for tests: a fixed random projection of pooled pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class FakeEncoder:
    """Returns a projection of each tile's 8 x 8 block means; see `engines.Encoder`."""

    name = "fake"
    version = "1"
    precision = "fp32"
    device = "cpu"
    threads = 1

    def __init__(self, width: int, *, batch_size: int = 8, workers: int = 1) -> None:
        self.width = width
        self.batch_size = batch_size
        self.workers = workers
        self.dtype: np.dtype[np.generic] = np.dtype(np.float32)
        rng = np.random.default_rng(1)
        self._projection = rng.standard_normal((3 * 64, width)) / np.sqrt(3 * 64)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return float32 [B, width], each row from its own tile alone."""
        side = batch.shape[-1] // 8
        whole = batch[..., : 8 * side, : 8 * side].astype(np.float64)
        pooled = whole.reshape(len(batch), 3, 8, side, 8, side).mean(axis=(3, 5))
        # Row by row: a matrix product may round a row differently with its neighbours.
        rows = [row @ self._projection for row in pooled.reshape(len(batch), -1)]
        return np.asarray(rows, dtype=np.float32).reshape(len(batch), self.width)

    def close(self) -> None:
        """Nothing to release."""
