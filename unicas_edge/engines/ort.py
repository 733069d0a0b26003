"""onnxruntime on the CPU: one model, called by as many single-threaded workers as there are cores.

Workers that each encode a batch of their own need no barrier inside an operator, so this beats one
call on all cores (measured with the embedded ViT-Ti, two cores: 53 against 45 tiles/s at batch 4),
and reading threads that take a few per cent of a core delay one worker, not all of them.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.errors import EngineError

_MAX_BATCH = 8  # past that, throughput on a CPU no longer grows
_MEMORY_SHARE, _MAX_MEMORY_MB = 4, 2048
#: Activations of a transformer block per token and channel: input, norm, q, k, v, attention
#: output, and the two hidden layers of the MLP, in floats; attention scores come on top.
_FLOATS_PER_CHANNEL = 16
_PATCH = 14  # the smallest patch of the encoders the paper compares: the most tokens


class OrtEncoder:
    """A bundle's ONNX encoder on the CPU in fp32; see `engines.Encoder`."""

    name = "onnxruntime"
    version = onnxruntime.__version__
    device = "cpu"

    def __init__(
        self, bundle: Bundle, threads: int, batch_size: int | None, memory_mb: int | None
    ) -> None:
        manifest = bundle.manifest
        self._path = bundle.path(manifest.encoder.file)
        self._shape = (3, manifest.tile.crop_px, manifest.tile.crop_px)
        self.precision = manifest.encoder.precision
        self.width = manifest.encoder.width
        self.dtype = np.dtype(manifest.input.dtype)
        self.threads = self.workers = threads
        self.batch_size = batch_size or _fitting_batch(
            manifest.tile.crop_px, self.width, threads, memory_mb or _memory_budget_mb()
        )
        self._session = self._load()
        self._input = self._session.get_inputs()[0].name
        self._check()

    def _load(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions; print nothing
        # Given as bytes a model has no folder, so that it cannot reach files beside it.
        try:
            return onnxruntime.InferenceSession(
                self._path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise EngineError(f"{self._path}: does not load: {error}; export it again") from error

    def _check(self) -> None:
        """Encode one black tile, so that a model of the wrong shape fails here and not mid-slide."""
        if len(self._session.get_inputs()) != 1:
            raise EngineError(f"{self._path}: needs one input; export it again")
        self.encode(np.zeros((1, *self._shape), self.dtype))

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return float32 [B, width]; `EngineError` when the model does not give that."""
        try:
            tokens = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise EngineError(f"{self._path}: fails on {list(batch.shape)}: {error}") from error
        if tokens.shape != (len(batch), self.width):
            raise EngineError(
                f"{self._path}: gives {list(tokens.shape)} for a batch of {len(batch)}, not "
                f"[{len(batch)}, {self.width}]; the bundle's encoder.width does not fit the model"
            )
        return np.asarray(tokens, dtype=np.float32)

    def close(self) -> None:
        """Nothing to release before the object itself goes."""


def _fitting_batch(crop: int, width: int, workers: int, memory_mb: int) -> int:
    tokens = (crop // _PATCH) ** 2 + 1
    floats = tokens * width * _FLOATS_PER_CHANNEL + tokens**2 * max(1, width // 64)
    return max(1, min(_MAX_BATCH, (memory_mb << 20) // (4 * floats * workers)))


def _memory_budget_mb() -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return _MAX_MEMORY_MB // _MEMORY_SHARE
    return int(min(_MAX_MEMORY_MB, (total >> 20) // _MEMORY_SHARE))
