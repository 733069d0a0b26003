"""A bundle whose encoder keeps its weights in a file of their own."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from onnx import TensorProto, helper

from unicas_edge.bundle import Bundle
from unicas_edge.export import untrained


def bundle_with_weights_beside(folder):
    """The untrained bundle with an encoder of one step, its row of weights in ``row.bin``."""
    untrained.write(folder)
    width = 192
    row = TensorProto(name="row", data_type=TensorProto.FLOAT, dims=[1, width])
    row.data_location = TensorProto.EXTERNAL
    row.external_data.add(key="location", value="row.bin")
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", ["mean", "shape"], ["column"]),
            helper.make_node("MatMul", ["column", "row"], ["y"]),
        ],
        "beside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        [row, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = json.loads((folder / "bundle.json").read_text())
    weights = np.arange(width, dtype="<f4").tobytes()
    for name, data in (("encoder.onnx", model.SerializeToString()), ("row.bin", weights)):
        (folder / name).write_bytes(data)
        content["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(content))
    return Bundle.load(folder)
