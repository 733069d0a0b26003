"""A vision transformer written straight into ONNX, without torch.

The graph is timm's ``VisionTransformer`` (class token, learned positions, pre-norm, erf GELU) with
two exact savings: the class token is added to its position once, and the last block computes only
the row of the class token. Matrices are stored as float16 and cast to float32 at load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Shape = tuple[int, ...]
Attribute = int | float | list[int]

#: The oldest operator set with LayerNormalization, and the file format that came with it.
OPSET, IR_VERSION = 17, 8
NORM_EPS = 1e-6


@dataclass(frozen=True)
class ViT:
    """The shape of a vision transformer; `size` and `patch` in pixels."""

    size: int = 224
    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: int = 4

    @property
    def patches(self) -> int:
        """Patch tokens of one tile."""
        return (self.size // self.patch) ** 2


def parameter_shapes(vit: ViT) -> dict[str, Shape]:
    """Return timm's keys and shapes; matrices are [out, in]."""
    c, hidden = vit.width, vit.width * vit.mlp_ratio
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, c),
        "pos_embed": (1, vit.patches + 1, c),
        "patch_embed.proj.weight": (c, 3, vit.patch, vit.patch),
        "patch_embed.proj.bias": (c,),
    }
    for i in range(vit.depth):
        linears = {
            "attn.qkv": (3 * c, c),
            "attn.proj": (c, c),
            "mlp.fc1": (hidden, c),
            "mlp.fc2": (c, hidden),
        }
        for name, shape in linears.items():
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
        for norm in (f"blocks.{i}.norm1", f"blocks.{i}.norm2"):
            shapes |= {norm + ".weight": (c,), norm + ".bias": (c,)}
    return shapes | {"norm.weight": (c,), "norm.bias": (c,)}


def build(vit: ViT, weight: Callable[[str], Array]) -> onnx.ModelProto:
    """Return the model: `pixels` float32 [B, 3, size, size] in, `tokens` float32 [B, width] out.

    `weight` returns the array of a key of `parameter_shapes`.
    """
    graph = _Graph(vit, weight)
    x = graph.embed("pixels")
    for i in range(vit.depth):
        x = graph.block(x, f"blocks.{i}", last=i == vit.depth - 1)
    x = graph.norm(x, "norm")
    graph.op("Squeeze", x, graph.ints("axis_1", [1]), out="tokens")
    return graph.model()


class _Graph:
    """Collects nodes and initialisers; every method returns the name of its output."""

    def __init__(self, vit: ViT, weight: Callable[[str], Array]) -> None:
        self.vit = vit
        self.weight = weight
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Attribute) -> str:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name)
        node.attribute.extend(helper.make_attribute(k, attributes[k]) for k in sorted(attributes))
        self.nodes.append(node)
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, name: str, values: list[int]) -> str:
        return self.constant(name, np.array(values, dtype=np.int64))

    def half(self, name: str, value: Array) -> str:
        """Store a float16 constant; the cast is folded away when the model is loaded."""
        stored = self.constant(name + ".fp16", value.astype(np.float16))
        return self.op("Cast", stored, out=name, to=TensorProto.FLOAT)

    def vector(self, key: str) -> str:
        return self.constant(key, self.weight(key))

    def linear(self, x: str, key: str, rows: slice = slice(None), suffix: str = "") -> str:
        """Return x W^T + b, for some `rows` of the weight."""
        weight = self.half(f"{key}{suffix}.weight", self.weight(key + ".weight")[rows].T)
        bias = self.constant(f"{key}{suffix}.bias", self.weight(key + ".bias")[rows])
        return self.op("Add", self.op("MatMul", x, weight), bias)

    def norm(self, x: str, key: str) -> str:
        scale, shift = self.vector(key + ".weight"), self.vector(key + ".bias")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=NORM_EPS)

    def embed(self, pixels: str) -> str:
        """Return the tokens [B, 1 + patches, width], class token first, positions added."""
        vit, key = self.vit, "patch_embed.proj"
        kernel, bias = (
            self.half(key + ".weight", self.weight(key + ".weight")),
            self.vector(key + ".bias"),
        )
        size = [vit.patch, vit.patch]
        grid = self.op("Conv", pixels, kernel, bias, kernel_shape=size, strides=size)
        flat = self.op("Reshape", grid, self.ints("flat", [0, vit.width, vit.patches]))
        patches = self.op("Transpose", flat, perm=[0, 2, 1])
        room = self.op("Pad", patches, self.ints("one_before", [0, 1, 0, 0, 0, 0]))
        position = self.weight("pos_embed").copy()
        position[:, :1] += self.weight("cls_token")
        return self.op("Add", room, self.half("positions", position))

    def block(self, x: str, key: str, *, last: bool) -> str:
        """Return x after attention and MLP; after the `last` block only the class token's row."""
        h = self.norm(x, key + ".norm1")
        queries = h
        if last:
            queries, x = self.first_row(h), self.first_row(x)
        x = self.op("Add", x, self.attention(queries, h, key + ".attn"))
        hidden = self.linear(self.norm(x, key + ".norm2"), key + ".mlp.fc1")
        return self.op("Add", x, self.linear(self.gelu(hidden), key + ".mlp.fc2"))

    def first_row(self, x: str) -> str:
        start, stop, axis = (self.ints(f"axis_{k}", [k]) for k in (0, 1, 1))
        return self.op("Slice", x, start, stop, axis)

    def attention(self, queries: str, h: str, key: str) -> str:
        c, heads = self.vit.width, self.vit.heads
        q, k, v = (
            self.op(
                "Transpose",
                self.op(
                    "Reshape",
                    self.linear(source, key + ".qkv", slice(i * c, (i + 1) * c), f".{'qkv'[i]}"),
                    self.ints("by_head", [0, -1, heads, c // heads]),
                ),
                perm=[0, 2, 3, 1] if i == 1 else [0, 2, 1, 3],
            )
            for i, source in enumerate((queries, h, h))
        )
        scale = self.constant("scale", np.array((c // heads) ** -0.5, dtype=np.float32))
        weights = self.op("Softmax", self.op("Mul", self.op("MatMul", q, k), scale), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self.linear(
            self.op("Reshape", mixed, self.ints("joined", [0, -1, c])), key + ".proj"
        )

    def gelu(self, x: str) -> str:
        """Return x (1 + erf(x / sqrt 2)) / 2, in the form that runtimes recognise and fuse."""
        root = self.constant("sqrt_2", np.array(2**0.5, dtype=np.float32))
        one, half = (
            self.constant(n, np.array(v, dtype=np.float32)) for n, v in (("one", 1), ("half", 0.5))
        )
        erf = self.op("Add", self.op("Erf", self.op("Div", x, root)), one)
        return self.op("Mul", self.op("Mul", x, erf), half)

    def model(self) -> onnx.ModelProto:
        vit = self.vit
        pixels = helper.make_tensor_value_info(
            "pixels", TensorProto.FLOAT, ["batch", 3, vit.size, vit.size]
        )
        tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", vit.width])
        graph = helper.make_graph(
            self.nodes, "vit", [pixels], [tokens], list(self.constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="unicas-edge"
        )
        onnx.checker.check_model(model)
        return model
