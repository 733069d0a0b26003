"""A bundle whose encoder, a valid ONNX model, never returns."""

from __future__ import annotations

import hashlib
import json

from onnx import TensorProto, helper

from unicas_edge.bundle import Bundle
from unicas_edge.export import untrained


def endless_bundle(folder):
    """The untrained bundle with a model that adds to its answer 2**62 times."""
    untrained.write(folder)
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
        ],
        "body",
        [
            scalar("turn", TensorProto.INT64, []),
            scalar("go", TensorProto.BOOL, []),
            scalar("sum", TensorProto.FLOAT, ["batch", 192]),
        ],
        [
            scalar("on", TensorProto.BOOL, []),
            scalar("more", TensorProto.FLOAT, ["batch", 192]),
        ],
    )
    constants = [
        helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("row", TensorProto.FLOAT, [1, 192], [1.0] * 192),
        helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1]),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", ["mean", "shape"], ["column"]),
            helper.make_node("MatMul", ["column", "row"], ["first"]),
            helper.make_node("Loop", ["turns", "yes", "first"], ["y"], body=body),
        ],
        "endless",
        [scalar("x", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [scalar("y", TensorProto.FLOAT, ["batch", 192])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "encoder.onnx").write_bytes(model.SerializeToString())
    content = json.loads((folder / "bundle.json").read_text())
    digest = hashlib.sha256((folder / "encoder.onnx").read_bytes()).hexdigest()
    content["files"]["encoder.onnx"] = digest
    (folder / "bundle.json").write_text(json.dumps(content))
    return Bundle.load(folder)
