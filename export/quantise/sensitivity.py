"""Which layers resist int8: the change in a tile's token when one layer alone is quantised.

Measured end to end with the kernels that will run: every matrix product of the model becomes an
ONNX ``If`` between itself and its quantised twin, and the model is run once for each with one of
them switched. A layer's sensitivity is the mean of 1 - cosine with the unquantised token.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from unicas_edge.export.quantise.calibrate import Pixels
from unicas_edge.export.quantise.onnx import OPERATORS
from unicas_edge.verification.verify import cosine

_SWITCHES = "quantised_layers"
_MOST_LAYERS = 4096


def rank_layers(prepared: Path, quantised: Path, tiles: Pixels) -> list[tuple[str, float]]:
    """Return (name of the node, sensitivity) of each quantised layer, the most sensitive first.

    `quantised` is what `quantise_onnx` made of `prepared` with nothing kept. A pass over `tiles`
    [n, 3, S, S] is made for every layer, so n is to be small.
    """
    model, names = _switchable(prepared, quantised)
    path = prepared.with_name("switchable.onnx")
    onnx.save_model(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pixels = session.get_inputs()[0].name

    def tokens(layer: int | None) -> NDArray[np.float32]:
        on = np.zeros(len(names), np.bool_)
        if layer is not None:
            on[layer] = True
        found: list[NDArray[np.float32]] = session.run(None, {pixels: tiles, _SWITCHES: on})
        return found[0]

    plain = tokens(None)
    scores = [float(np.mean(1 - cosine(tokens(i), plain))) for i in range(len(names))]
    path.unlink()
    return sorted(zip(names, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))


def _switchable(prepared: Path, quantised: Path) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model with its switches, and the layers' names in the order of the switches.

    Its weights stay in the file beside `prepared`; the int8 ones are added.
    """
    model = onnx.load(prepared, load_external_data=False)
    twin = onnx.load(quantised)
    made = {output: node for node in twin.graph.node for output in node.output}
    twins = {
        node.name: node
        for node in twin.graph.node
        if node.op_type in OPERATORS
        and any(made[i].op_type == "DequantizeLinear" for i in node.input if i in made)
    }
    layers = [node for node in model.graph.node if node.name in twins][:_MOST_LAYERS]
    known = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(t for t in twin.graph.initializer if t.name not in known)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in twins:
            number = sum(1 for n in nodes if n.op_type == "If")
            nodes.extend(_choice(number, node, twins[node.name], made))
        else:
            nodes.append(node)
    numbers = [
        helper.make_tensor(f"{_SWITCHES}.{i}", TensorProto.INT64, [], [i])
        for i in range(len(layers))
    ]
    switches = helper.make_tensor_value_info(_SWITCHES, TensorProto.BOOL, [len(layers)])
    graph = helper.make_graph(
        nodes,
        "switchable",
        [*model.graph.input, switches],
        list(model.graph.output),
        [*model.graph.initializer, *numbers],
    )
    opsets, version = list(model.opset_import), model.ir_version
    whole = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    return whole, [node.name for node in layers]


def _choice(
    number: int, node: onnx.NodeProto, twin: onnx.NodeProto, made: dict[str, onnx.NodeProto]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that give `node`'s output, or its quantised twin's, by switch `number`."""
    output, switch = node.output[0], f"{_SWITCHES}.{number}"
    branches = {}
    for name, layer in (("else_branch", node), ("then_branch", twin)):
        inside = list(_with_rounding(layer, made, f"{switch}.")) if layer is twin else [layer]
        last = onnx.NodeProto()
        last.CopyFrom(inside[-1])
        last.output[0] = f"{switch}.{name}"
        result = helper.make_tensor_value_info(last.output[0], TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([*inside[:-1], last], name, [], [result])
    yield helper.make_node("Gather", [_SWITCHES, switch], [switch + ".on"])
    yield helper.make_node("If", [switch + ".on"], [output], name=node.name, **branches)


def _with_rounding(
    layer: onnx.NodeProto, made: dict[str, onnx.NodeProto], prefix: str
) -> Iterator[onnx.NodeProto]:
    """Yield copies of the (Quantize and) Dequantize steps before `layer`, then of `layer`."""
    copy = onnx.NodeProto()
    copy.CopyFrom(layer)
    for i, name in enumerate(layer.input):
        step = made.get(name)
        if step is not None and step.op_type in ("DequantizeLinear", "QuantizeLinear"):
            copy.input[i] = f"{prefix}{i}.{name}"
            *before, last = _with_rounding(step, made, f"{prefix}{i}.")
            last.output[0] = copy.input[i]
            yield from (*before, last)
    yield copy
