"""onnxruntime: the reference on the CPU, and its CUDA and TensorRT providers by name.

One session serves every worker. On a machine with nothing else to do, concurrent single-threaded
runs were no slower than one run on several threads (embedded ViT-Ti, two idle cores: 62 against
54 tiles/s at batch 1, 57 against 56 at batch 4), and they need no thread pool that the reading
threads could disturb.

On a GPU one worker feeds the device; no figure for one exists, as nothing has been run on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.engines.base import Candidate, CheckedEncoder
from unicas_edge.engines.model_files import ModelFiles, read_model
from unicas_edge.engines.onnx_file import files_named_in
from unicas_edge.engines.options import EngineOptions
from unicas_edge.engines.registry import engine
from unicas_edge.errors import BundleError, EngineError

_DTYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}
#: backend -> execution provider
_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_SILENT = 4  # fatal: whatever is less arrives as an exception
_GPU_BATCH = 32


class OrtEncoder(CheckedEncoder):
    """An `Encoder` around one onnxruntime session."""

    def __init__(self, bundle: Bundle, candidate: Candidate, options: EngineOptions) -> None:
        if engine(candidate.backend).device == "gpu":
            self.device = "cuda:0"
            batch = options.batch_size or _GPU_BATCH
            options = replace(options, threads=1, batch_size=batch)
        super().__init__(bundle, candidate, options)
        in_memory = _takes_weights_from_memory(candidate.backend)
        files = read_model(bundle, self._path, files_named_in, in_memory=in_memory)
        self.digests = files.digests()
        self._session: Any = None
        self._session, self.version = _session(candidate, files, self._threads_each)
        self._run_options = _runtime().RunOptions
        self._check_model(options.batch_size)

    @classmethod
    def missing(cls, backend: str) -> str | None:
        """Return what to install where this onnxruntime lacks the provider of `backend`.

        Asks for a list that was made when onnxruntime was built: nothing of a GPU is touched.
        Every build has the CPU's.
        """
        if engine(backend).device == "cpu":
            return None
        provider = _PROVIDERS[backend]
        if provider in _runtime().get_available_providers():
            return None
        return (
            f"{backend}: this onnxruntime has no {provider}; install onnxruntime-gpu for this "
            "machine's CUDA in place of onnxruntime"
        )

    def _run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        options = self._run_options()
        self._interruptible(lambda: setattr(options, "terminate", True))
        (tokens,) = self._session.run([self._output], {self._input: batch}, options)
        return np.asarray(tokens)

    def _free(self) -> None:
        self._session = None

    def _check_model(self, batch_size: int | None) -> None:
        """Compare the model with the manifest; take over a batch size fixed in the model."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        given, out = inputs[0], outputs[0]
        self._check_ports(
            (_DTYPES.get(given.type, given.type), given.shape),
            (_DTYPES.get(out.type, out.type), out.shape),
            count=(len(inputs), len(outputs)),
        )
        self._input, self._output = given.name, out.name
        fixed = given.shape[0]
        if isinstance(fixed, int) and batch_size not in (None, fixed):
            raise EngineError(
                f"{self._path}: is made for batches of {fixed}, not {batch_size}; leave the batch "
                "size at auto"
            )
        self.batch_size = fixed if isinstance(fixed, int) else self.batch_size


def _takes_weights_from_memory(backend: str) -> bool:
    """TensorRT reads a model anew, by its path; an older onnxruntime knows files alone."""
    options = _runtime().SessionOptions
    return backend != "onnxruntime-tensorrt" and hasattr(
        options, "add_external_initializers_from_files_in_memory"
    )


def _source(files: ModelFiles, options: Any) -> bytes | str:  # noqa: ANN401 - onnxruntime's
    """Return what a session is made of: bytes, or a path for weights that are too large."""
    if files.weights is None:
        return str(files.path)
    if files.weights:
        sizes = [len(data) for data in files.weights.values()]
        options.add_external_initializers_from_files_in_memory(
            list(files.weights), list(files.weights.values()), sizes
        )
    return files.graph


def _runtime() -> Any:  # noqa: ANN401 - onnxruntime has no types
    try:
        import onnxruntime as ort  # noqa: PLC0415 - heavy, and only this engine needs it
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}); reinstall it") from error
    return ort


def _session(candidate: Candidate, files: ModelFiles, threads: int) -> tuple[Any, str]:
    """Return a session of `threads` threads a run, and onnxruntime's version.

    Threads do not spin while they wait (the readers need the cores), and the arena keeps what a
    run took for the next one; memory patterns would take half as much again for nothing.
    """
    ort, provider = _runtime(), _PROVIDERS[candidate.backend]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever it looks like
    try:
        with files.in_place():
            source = _source(files, options)
            session = ort.InferenceSession(source, options, providers=[provider])
    except BundleError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise EngineError(
            f"{candidate.path}: onnxruntime {ort.__version__} cannot load it: {error}; "
            "export it again"
        ) from error
    if provider not in session.get_providers():
        raise EngineError(
            f"{candidate.backend}: {provider} does not start on this machine; check its driver and "
            "libraries, or use --backend auto"
        )
    return session, ort.__version__
