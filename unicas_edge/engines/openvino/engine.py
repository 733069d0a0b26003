"""OpenVINO on the CPU (extra `openvino`): fp32, bf16 where the processor has it, int8 forms.

One compiled model serves every worker, each with a stream and an inference request of its own.
Batches are of a fixed size: a dynamic one is compiled anew for every size it meets. `f16` is never
asked for: on a CPU it silently runs bf16 (measured).
"""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.engines.base import Candidate, CheckedEncoder
from unicas_edge.engines.model_files import ModelFiles, read_model
from unicas_edge.engines.onnx_file import files_named_in
from unicas_edge.engines.openvino.pages import given_back
from unicas_edge.engines.options import EngineOptions
from unicas_edge.errors import BundleError, EngineError

#: Precision -> what arithmetic outside int8 layers is done in. int8w multiplies by weights that
#: are widened, with activations quantised row by row in groups (`_GROUP`): no row sees another.
_ARITHMETIC = {"fp32": "f32", "bf16": "bf16", "int8w": "f32", "int8": "f32"}
_GROUP = 64
#: Without VNNI a layer of widened int8 weights computes one row alone otherwise than two or more
#: (last bits; seen with OpenVINO 2026.4 held to AVX2 and to AVX-512), as the last block has it.
_LEAST_BATCH = {"int8w": 2}
_DTYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "u8": np.dtype(np.uint8)}


class OpenVinoEncoder(CheckedEncoder):
    """An `Encoder` around one compiled OpenVINO model."""

    def __init__(self, bundle: Bundle, candidate: Candidate, options: EngineOptions) -> None:
        super().__init__(bundle, candidate, options)
        self.batch_size = max(self.batch_size, _LEAST_BATCH.get(self.precision, 1))
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        files = _files(bundle, self._path)
        self.digests = files.digests()
        self._compiled, self.version = self._compile(files)
        self.threads = self._compiled.get_property("INFERENCE_NUM_THREADS")  # no more than cores
        for _ in range(self.workers):
            self._requests.put(self._compiled.create_infer_request())
        self._wake()

    def _run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        request = self._requests.get()
        self._interruptible(request.cancel)
        try:
            request.infer([batch], share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            self._requests.put(request)

    def _wake(self) -> None:
        """Run once on this thread before several may.

        The first use of the binding's type table takes its lock and the interpreter's in turn: two
        threads that come first together wait for each other forever (seen with OpenVINO 2026.4).
        """
        self._run(np.zeros((self.batch_size, 3, self._size, self._size), self.dtype))

    def _free(self) -> None:
        self._requests = queue.SimpleQueue()
        self._compiled = None

    def _compile(self, files: ModelFiles) -> tuple[Any, str]:
        try:
            import openvino as ov  # noqa: PLC0415 - heavy, and only this engine needs it
        except ImportError as error:
            raise EngineError(
                f"openvino cannot be imported ({error}): reinstall it, or use --backend auto"
            ) from error
        core = ov.Core()
        try:
            with files.in_place(), given_back(files.mapped):
                model = _read(core, files)
                self._check_model(model)
                model.reshape([self.batch_size, 3, self._size, self._size])
                compiled = core.compile_model(model, "CPU", self._settings(core))
        except (BundleError, EngineError):
            raise
        except Exception as error:  # openvino raises RuntimeError and more for a bad model
            raise EngineError(
                f"{self._path}: openvino {ov.__version__} cannot load it: "
                f"{' '.join(str(error).split())}; export it again"
            ) from error
        return compiled, str(ov.__version__).split("-", 1)[0]

    def _check_model(self, model: Any) -> None:  # noqa: ANN401 - openvino has no types
        ports = [
            (_DTYPES.get(name, name), [d.get_length() if d.is_static else "batch" for d in shape])
            for port in (*model.inputs[:1], *model.outputs[:1])
            for name, shape in [(port.element_type.get_type_name(), port.partial_shape)]
        ]
        self._check_ports(ports[0], ports[1], count=(len(model.inputs), len(model.outputs)))

    def _settings(self, core: Any) -> dict[str, Any]:  # noqa: ANN401
        arithmetic = _ARITHMETIC[self.precision]
        if arithmetic == "bf16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise EngineError(
                f"{self._path}: this processor has no bf16 arithmetic; use --precision fp32"
            )
        return {
            "INFERENCE_PRECISION_HINT": arithmetic,
            "NUM_STREAMS": self.workers,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # other processes, and our readers, need the cores too
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if self.precision == "int8w" else 0,
        }


def _files(bundle: Bundle, path: Path) -> ModelFiles:
    """Return the model's files: an IR's in memory; ONNX finds weights beside it by its path alone.

    Other formats, which OpenVINO knows by their names, might bring files along.
    """
    if path.suffix not in (".xml", ".onnx"):
        raise EngineError(f"{path}: is neither .onnx nor .xml; export the form again")
    return read_model(bundle, path, _referred, in_memory=path.suffix == ".xml")


def _referred(data: memoryview, path: Path) -> set[str]:
    """Return the other files a model refers to: an ONNX file's tensors, or the weights of an IR.

    OpenVINO goes by the content: ONNX in an ``.xml`` would bring files along that nobody hashed.
    """
    if path.suffix != ".xml":
        return files_named_in(data, path)
    if bytes(data[:1]) != b"<":
        raise EngineError(f"{path}: is no .xml; export the form again")
    return {path.with_suffix(".bin").name}


def _read(core: Any, files: ModelFiles) -> Any:  # noqa: ANN401 - openvino has no types
    """Return the model: of an IR from memory, of ONNX too unless its weights lie beside it."""
    if files.weights is None:
        return core.read_model(files.path)
    (weights,) = files.weights.values() or (b"",)
    return core.read_model(files.graph, bytes(weights))
