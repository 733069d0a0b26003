"""A deterministic encoder without a model, for tests: a fixed projection of pooled pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import EngineError

_POOLED = 7  # divides 224


class FakeEncoder:
    """An `Encoder` whose tokens depend on a tile's pixels alone; never selected by `open_encoder`.

    A token is the 7 x 7 x 3 block means of the tile times a random matrix that depends on `width`
    alone, computed row by row, so that neighbours and batch size cannot matter.
    """

    name = "fake"
    version = "1"
    precision = "fp32"
    device = "cpu"
    unverified = None

    def __init__(
        self,
        width: int = 192,
        batch_size: int = 4,
        workers: int = 1,
        size: int = 224,
        dtype: str = "float32",
    ) -> None:
        self.width = width
        self.batch_size = batch_size
        self.workers = self.threads = workers
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._size = size
        self._projection = np.random.default_rng(width).standard_normal((width, 3 * _POOLED**2))
        self._closed = False

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the tokens float32 [B, width]; see `Encoder.encode`."""
        shape = (self.batch_size, 3, self._size, self._size)
        if self._closed:
            raise EngineError("the fake encoder is closed")
        if batch.shape != shape or batch.dtype != self.dtype:
            raise EngineError(
                f"a batch must be {self.dtype} {list(shape)}, not {batch.dtype} {list(batch.shape)}"
            )
        return np.stack([self._token(tile) for tile in batch])

    def close(self) -> None:
        """Refuse to encode from now on."""
        self._closed = True

    def _token(self, tile: NDArray[np.generic]) -> NDArray[np.float32]:
        block = self._size // _POOLED
        used = tile[:, : block * _POOLED, : block * _POOLED].astype(np.float64)
        pooled = used.reshape(3, _POOLED, block, _POOLED, block).mean(axis=(2, 4))
        return np.asarray(self._projection @ pooled.ravel(), dtype=np.float32)
