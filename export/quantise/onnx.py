"""int8 for onnxruntime: QuantizeLinear and DequantizeLinear around matrix products, in the graph.

Symmetric (every zero point is 0), int8 on both sides, weights one scale an output channel,
activations one scale a tensor, biases and outputs in floating point: the form that TensorRT takes
as explicit quantisation (its developer guide, "Working with Quantized Types"). The scales are
constants, so no tile sees its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from unicas_edge.errors import EngineError
from unicas_edge.export.quantise.calibrate import Pixels

OPERATORS = ("MatMul", "Gemm", "Conv")
#: Protobuf ends at 2 GiB; above this, tensors go into a file of their own.
_INLINE_BYTES = 1 << 30
_SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,  # or a layer that is kept would share the rounded input of another
    "OpTypesToExcludeOutputQuantization": list(OPERATORS),
    "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1, "Gemm": 1, "Conv": 0},
}


def prepare(source: Path, work: Path) -> Path:
    """Write `source` with its stored weights widened to float32 into `work`; return the file.

    Quantisers know a weight by its being a constant of the graph, not the cast of one.
    `EngineError` where the model is quantised already or has no matrix product.
    """
    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        _bring_in(tensor, source.parent)
    kinds = {node.op_type for node in model.graph.node}
    if kinds & {"QuantizeLinear", "DequantizeLinear"}:
        raise EngineError(f"{source}: is quantised already; quantise the bundle it was made from")
    if not kinds & set(OPERATORS):
        raise EngineError(f"{source}: has nothing to quantise ({', '.join(OPERATORS)})")
    _widen(model.graph)
    entry = model.metadata_props.add()  # what onnxruntime's own preparation leaves behind
    entry.key, entry.value = "onnx.quant.pre_process", "onnxruntime.quant"
    path = work / "prepared.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="prepared.data")
    return path


def _bring_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read a tensor's data from its file in `folder`.

    onnx itself reads no file with a second hard link, which a bundle's may have; that the file is
    one of the bundle was checked.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / place["location"]).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        tensor.raw_data = file.read(int(place.get("length", -1)))
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT


def _widen(graph: onnx.GraphProto) -> None:
    """Replace casts of constants, and their products with constants, by the constants they give."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type in ("Cast", "Mul") and all(name in constants for name in node.input):
            values = [numpy_helper.to_array(constants[name]) for name in node.input]
            value = _cast(node, values[0]) if node.op_type == "Cast" else values[0] * values[1]
            constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    whole = onnx.GraphProto(node=kept, initializer=[constants[n] for n in constants if n in used])
    del graph.node[:]
    del graph.initializer[:]
    graph.MergeFrom(whole)


def _cast(node: onnx.NodeProto, value: NDArray[Any]) -> NDArray[Any]:
    kind = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    return value.astype(helper.tensor_dtype_to_np_dtype(kind))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, tiles: Pixels, name: str) -> None:
        self._feeds = iter([{name: tile[None]} for tile in tiles])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def quantise_onnx(prepared: Path, target: Path, tiles: Pixels, kept: Sequence[str] = ()) -> None:
    """Write the prepared model to `target` with every matrix product in int8 but those `kept`.

    `kept` are names of nodes. Ranges are the extremes seen on `tiles` [n, 3, S, S]; they are found
    once, and kept beside `prepared` for the next call. The file `target`.data is made for a model
    beyond 1 GiB alone.
    """
    name = onnx.load(prepared, load_external_data=False).graph.input[0].name
    scratch = prepared.with_name("quantised.onnx")
    quantize_static(
        prepared,
        scratch,
        _Reader(tiles, name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=list(OPERATORS),
        nodes_to_exclude=list(kept),
        calibrate_method=CalibrationMethod.MinMax,
        use_external_data_format=True,
        extra_options=dict(_SYMMETRIC),
        calibration_cache_path=prepared.with_name("ranges.json"),
    )
    model = onnx.load(scratch)
    for path in scratch.parent.glob(scratch.name + "*"):
        path.unlink()
    if model.ByteSize() < _INLINE_BYTES:
        onnx.save_model(model, target)
    else:
        onnx.save_model(model, target, save_as_external_data=True, location=target.name + ".data")
