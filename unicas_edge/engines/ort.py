"""The default engine: onnxruntime on the CPU.

One session serves every worker. On a machine with nothing else to do, concurrent single-threaded
runs were no slower than one run on several threads (embedded ViT-Ti, two idle cores: 62 against
54 tiles/s at batch 1, 57 against 56 at batch 4), and they need no thread pool that the reading
threads could disturb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, plan_batches
from unicas_edge.engines.machine import usable_cores
from unicas_edge.engines.onnx_file import external_files
from unicas_edge.errors import EngineError

_OUTPUTS = ("tensor(float)", "tensor(float16)")
_INPUTS = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}
_SILENT = 4  # fatal: whatever is less arrives as an exception
_FINEST_PATCH_PX = 14


def activation_bytes(size: int, width: int) -> int:
    """Return about how many bytes encoding one tile of `size` pixels takes, beside the weights.

    For a vision transformer with T tokens: two copies of the pixels, 16 T `width` for the residual
    stream, the projections and the hidden layer, and two score matrices T x T a head of 64
    channels, in float32. T is for 14-pixel patches, the finest in use. Measured with the default
    bundle (16-pixel patches): 3.6 MB a tile, where this says 5.9.
    """
    tokens = (size // _FINEST_PATCH_PX) ** 2 + 1
    pixels, stream = 2 * 3 * size * size, 16 * tokens * width
    return 4 * (pixels + stream + 2 * tokens * tokens * max(1, width // 64))


class OrtEncoder:
    """An `Encoder` around one onnxruntime session."""

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        spec, self._size = bundle.manifest.encoder, bundle.manifest.tile.crop_px
        self._path = bundle.path(spec.file)
        self.precision = spec.precision
        self.width = spec.width
        self.dtype = np.dtype(bundle.manifest.input.dtype)
        _refuse_foreign_files(bundle, self._path)
        cores = options.threads or usable_cores()
        tile_bytes = activation_bytes(self._size, self.width)
        self.workers, threads, self.batch_size = plan_batches(cores, tile_bytes, options)
        self.threads = self.workers * threads
        self._session, self.version = _session(self._path, threads)
        self._input, self._output = self._checked_names(options.batch_size)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the tokens float32 [B, width] of a full batch; see `Encoder.encode`."""
        session = self._session
        if session is None:
            raise EngineError(f"{self._path}: the encoder is closed; open it again")
        shape = (self.batch_size, 3, self._size, self._size)
        if batch.shape != shape or batch.dtype != self.dtype or not batch.flags.c_contiguous:
            raise EngineError(
                f"a batch must be contiguous {self.dtype} {list(shape)}, not {batch.dtype} "
                f"{list(batch.shape)}; pad the last batch to the full size"
            )
        try:
            (tokens,) = session.run([self._output], {self._input: batch})
        except Exception as error:  # onnxruntime's exceptions share no narrower base
            raise EngineError(f"{self._path}: onnxruntime failed: {error}") from error
        return self._checked(tokens)

    def close(self) -> None:
        """Free the session; a run under way in another thread ends first."""
        self._session = None

    def _checked(self, tokens: NDArray[Any]) -> NDArray[np.float32]:
        if tokens.shape != (self.batch_size, self.width):
            raise EngineError(
                f"{self._path}: returned {list(tokens.shape)}, not "
                f"{[self.batch_size, self.width]}; correct encoder.width or export it again"
            )
        return np.asarray(tokens, dtype=np.float32)

    def _checked_names(self, batch_size: int | None) -> tuple[str, str]:
        """Return the input's and output's name; take over a batch size fixed in the model."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(
                f"{self._path}: {len(inputs)} inputs and {len(outputs)} outputs, not one of each; "
                "export the encoder alone"
            )
        (given,), (out,) = inputs, outputs
        wanted = [3, self._size, self._size]
        if _INPUTS.get(given.type) != self.dtype or not _fits(given.shape, wanted):
            raise EngineError(
                f"{self._path}: takes {given.type} {given.shape}, the manifest says {self.dtype} "
                f"[batch, 3, {self._size}, {self._size}]; correct input.dtype or tile.crop_px"
            )
        if out.type not in _OUTPUTS or not _fits(out.shape, [self.width]):
            raise EngineError(
                f"{self._path}: gives {out.type} {out.shape}, the manifest says "
                f"[batch, {self.width}]; correct encoder.width or export the CLS token alone"
            )
        fixed = given.shape[0]
        if isinstance(fixed, int) and batch_size not in (None, fixed):
            raise EngineError(
                f"{self._path}: is made for batches of {fixed}, not {batch_size}; leave the batch "
                "size at auto"
            )
        self.batch_size = fixed if isinstance(fixed, int) else self.batch_size
        return given.name, out.name


def _fits(shape: list[Any], wanted: list[int]) -> bool:
    """Whether `shape` is [batch, *wanted]; a name instead of a number may be any size."""
    return len(shape) == len(wanted) + 1 and all(
        not isinstance(found, int) or found == want
        for found, want in zip(shape[1:], wanted, strict=True)
    )


def _refuse_foreign_files(bundle: Bundle, path: Path) -> None:
    """Let the model refer only to files of its bundle, which are hash-checked."""
    folder = path.parent
    known = {bundle.path(name) for name in bundle.manifest.files}
    for name in sorted(external_files(path)):
        if folder / name not in known:
            raise EngineError(
                f"{path}: refers to {name!r}, which is not a file of the bundle; list it under "
                "files, or export the model in one file"
            )


def _session(path: Path, threads: int) -> tuple[Any, str]:
    """Return a session of `threads` threads a run, and onnxruntime's version.

    Threads do not spin while they wait (the readers need the cores), and the arena keeps what a
    run took for the next one; memory patterns would take half as much again for nothing.
    """
    try:
        import onnxruntime as ort  # noqa: PLC0415 - heavy, and only this engine needs it
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}); reinstall it") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise EngineError(
            f"{path}: onnxruntime {ort.__version__} cannot load it: {error}; export it again"
        ) from error
    return session, ort.__version__
