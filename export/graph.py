"""Nodes and constants of an ONNX graph, and where its weights are kept.

Small models hold their weights themselves. Large ones keep them in one file beside the model,
written tensor by tensor while the graph is built, so that no more than one is in memory; every
tensor starts on a page, so that a runtime can map the file.
"""

from __future__ import annotations

from typing import BinaryIO, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Attribute = int | float | list[int]
Storage = Literal["fp32", "fp16", "int8"]
STORAGES: tuple[Storage, ...] = get_args(Storage)

#: The oldest operator set with LayerNormalization, and the file format that came with it.
OPSET, IR_VERSION = 17, 8
#: What a runtime maps.
_PAGE = 4096
#: Smaller constants stay in the model: shape inference reads some of them.
_SMALL = 1024
_Q_MAX = 127


class Graph:
    """Collects nodes and constants; every method returns the name of its output.

    Constants of more than a kilobyte go to the file `data`, called `location` in the model, if
    there is one.
    """

    def __init__(self, data: BinaryIO | None = None, location: str = "") -> None:
        self._data, self._location = data, location
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Attribute) -> str:
        """Add a node; attributes are written in alphabetical order."""
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name)
        node.attribute.extend(helper.make_attribute(k, attributes[k]) for k in sorted(attributes))
        self.nodes.append(node)
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant as it is. The same small one may be added again, by the same name."""
        value = np.ascontiguousarray(value)
        if self._data is None or value.nbytes < _SMALL:
            tensor = numpy_helper.from_array(value, name)
        else:
            tensor = self._external(name, value, self._data)
        known = self.constants.setdefault(name, tensor)
        if known is not tensor and (value.nbytes >= _SMALL or known != tensor):
            raise ValueError(f"two constants are called {name}")
        return name

    def _external(self, name: str, value: NDArray[np.generic], data: BinaryIO) -> onnx.TensorProto:
        offset = -(-data.tell() // _PAGE) * _PAGE
        data.seek(offset)
        data.write(value.reshape(-1).view(np.uint8).data)
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=value.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._location, "offset": offset, "length": value.nbytes}
        for key, content in place.items():
            tensor.external_data.add(key=key, value=str(content))
        return tensor

    def scalar(self, name: str, value: float) -> str:
        """Add a float32 number."""
        return self.constant(name, np.array(value, dtype=np.float32))

    def ints(self, name: str, values: list[int]) -> str:
        """Add a list of int64."""
        return self.constant(name, np.array(values, dtype=np.int64))

    def weight(self, name: str, value: Array, storage: Storage, channels: int) -> str:
        """Add a matrix or kernel whose output channels lie on axis `channels`, stored as asked.

        It is float32 for whoever reads it: Cast and Mul are computed once, when the model is
        loaded. DequantizeLinear would leave the arithmetic to the runtime (onnxruntime 1.32 puts
        MatMulNBits in its place, older ones repeat it on every run).
        """
        if storage == "fp32":
            return self.constant(name, value)
        if storage == "fp16":
            stored = self.constant(name + ".fp16", value.astype(np.float16))
            return self.op("Cast", stored, out=name, to=TensorProto.FLOAT)
        levels, scale = quantise(value, channels)
        stored = self.constant(name + ".int8", levels)
        whole = self.op("Cast", stored, to=TensorProto.FLOAT)
        return self.op("Mul", whole, self.constant(name + ".scale", scale), out=name)

    def model(
        self,
        given: tuple[str, int, list[int | str]],
        out: tuple[str, int, list[int | str]],
        notes: dict[str, str],
    ) -> onnx.ModelProto:
        """Return the model from one input to one output, each (name, type, shape)."""
        graph = helper.make_graph(
            self.nodes,
            "vit",
            [helper.make_tensor_value_info(*given)],
            [helper.make_tensor_value_info(*out)],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="unicas-edge",
        )
        helper.set_model_props(model, notes)
        return model


def quantise(value: Array, channels: int) -> tuple[NDArray[np.int8], Array]:
    """Return int8 levels and a scale a channel, so that `value` is about levels x scale.

    Symmetric, to the nearest, ties to even. The scale has the dimensions of `value`, all 1 but
    `channels`.
    """
    others = tuple(axis for axis in range(value.ndim) if axis != channels)
    peak = np.abs(value).max(axis=others, keepdims=True)
    scale = np.maximum(peak / np.float32(_Q_MAX), np.finfo(np.float32).tiny)
    return np.rint(value / scale).clip(-_Q_MAX, _Q_MAX).astype(np.int8), scale
