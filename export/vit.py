"""A vision transformer written straight into ONNX, without torch.

The graph is timm's ``VisionTransformer`` in eval mode with exact savings: prefix tokens are added
to their positions once, LayerScale is folded into the projection before it, and the last block
computes only the row of the class token, unless a pooler reads them all. Runtimes recognise GELU,
SiLU, LayerNormalization and attention in the forms used here. Normalisation, and a constant colour
matrix, can be folded into the patch embedding, which then takes grey levels: exact, as a kernel
that steps by its own size never sees padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

from unicas_edge.export.graph import Array, Graph, Storage
from unicas_edge.models.architectures import (
    NORM_EPS,
    POOL_EPS,
    AttentionPool,
    ViT,
    parameter_shapes,
)

__all__ = ["NORM_EPS", "GreyLevels", "ViT", "build", "fold", "parameter_shapes"]

#: Returns the array of a key of `parameter_shapes`.
Weight = Callable[[str], Array]


@dataclass(frozen=True)
class GreyLevels:
    """What becomes of RGB grey levels before the patch embedding.

    Divided by 255, multiplied by the 3 x 4 `matrix` [[r, g, b, 1] -> r, ...] if there is one, then
    (x - mean) / std. Nothing is rounded or clipped in between.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    matrix: tuple[tuple[float, float, float, float], ...] | None = None


def build(
    vit: ViT,
    weight: Weight,
    *,
    storage: Storage = "fp32",
    levels: GreyLevels | None = None,
    data: BinaryIO | None = None,
    location: str = "",
    notes: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Return the model: `pixels` [B, 3, size, size] in, `tokens` float32 [B, out_width] out.

    Pixels are float32, normalised, or with `levels` uint8. `storage` is of matrices and kernels;
    biases and norms are float32, positions float32 or float16. With `data` the weights go there
    (see `Graph`). `notes` become the file's metadata.
    """
    net = _Net(vit, weight, Graph(data, location), storage)
    x = net.embed("pixels", levels)
    for i in range(vit.depth):
        x = net.block(x, f"blocks.{i}", last=i == vit.depth - 1 and vit.pool is None)
    x = net.norm(x, "norm")
    if vit.pool:
        x = net.pool(x, vit.pool)
    net.graph.op("Squeeze", x, net.graph.ints("axis_1", [1]), out="tokens")
    kind = TensorProto.UINT8 if levels else TensorProto.FLOAT
    return net.graph.model(
        ("pixels", kind, ["batch", 3, vit.size, vit.size]),
        ("tokens", TensorProto.FLOAT, ["batch", vit.out_width]),
        dict(notes or {}),
    )


def fold(kernel: Array, bias: Array, levels: GreyLevels) -> tuple[Array, Array]:
    """Return kernel [C, 3, p, p] and bias [C] that give for grey levels what these give for x."""
    matrix = np.eye(3, 4) if levels.matrix is None else np.array(levels.matrix, dtype=np.float64)
    std = np.array(levels.std)
    gain = matrix[:, :3] / (255 * std[:, None])
    shift = (matrix[:, 3] - np.array(levels.mean)) / std
    wide = kernel.astype(np.float64)
    folded = np.einsum("cipq,ij->cjpq", wide, gain)
    return (
        folded.astype(np.float32),
        (bias + np.einsum("cipq,i->c", wide, shift)).astype(np.float32),
    )


class _Net:
    """The parts of the network; every method returns the name of its output."""

    def __init__(self, vit: ViT, weight: Weight, graph: Graph, storage: Storage) -> None:
        self.vit, self.weight, self.graph, self.storage = vit, weight, graph, storage

    def linear(
        self,
        x: str,
        key: str,
        rows: slice = slice(None),
        suffix: str = "",
        scale: str | None = None,
    ) -> str:
        """Return x W^T + b for some `rows` of the weight, times the LayerScale `scale`."""
        weight, bias = self.weight(key + ".weight")[rows], self.weight(key + ".bias")[rows]
        if scale is not None:
            gamma = self.weight(scale)
            weight, bias = weight * gamma[:, None], bias * gamma
        return self.affine(x, key + suffix, weight, bias)

    def affine(self, x: str, name: str, weight: Array, bias: Array) -> str:
        matrix = self.graph.weight(name + ".weight", weight.T, self.storage, channels=1)
        shift = self.graph.constant(name + ".bias", bias)
        return self.graph.op("Add", self.graph.op("MatMul", x, matrix), shift)

    def vector(self, key: str) -> str:
        return self.graph.constant(key, self.weight(key))

    def norm(self, x: str, key: str, epsilon: float = NORM_EPS) -> str:
        scale, shift = self.vector(key + ".weight"), self.vector(key + ".bias")
        return self.graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def embed(self, pixels: str, levels: GreyLevels | None) -> str:
        """Return the tokens [B, prefix + patches, width], class token first, positions added."""
        vit, graph = self.vit, self.graph
        kernel, bias = self.kernel(levels)
        if levels:
            pixels = graph.op("Cast", pixels, to=TensorProto.FLOAT)
        size = [vit.patch, vit.patch]
        grid = graph.op("Conv", pixels, kernel, bias, kernel_shape=size, strides=size)
        flat = graph.op("Reshape", grid, graph.ints("flat", [0, vit.width, vit.patches]))
        patches = graph.op("Transpose", flat, perm=[0, 2, 1])
        room = graph.op("Pad", patches, graph.ints("one_before", [0, vit.prefix, 0, 0, 0, 0]))
        stored: Storage = "fp32" if self.storage == "fp32" else "fp16"
        return graph.op("Add", room, graph.weight("positions", self.positions(), stored, 2))

    def kernel(self, levels: GreyLevels | None) -> tuple[str, str]:
        """Return the patch embedding's kernel and bias.

        Made for grey levels it stays float32: divided by 255 it would be too small for float16.
        """
        key = "patch_embed.proj"
        kernel, bias = self.weight(key + ".weight"), self.weight(key + ".bias")
        stored = self.storage
        if levels:
            (kernel, bias), stored = fold(kernel, bias, levels), "fp32"
        return (
            self.graph.weight(key + ".weight", kernel, stored, channels=0),
            self.graph.constant(key + ".bias", bias),
        )

    def positions(self) -> Array:
        """Return what is added to [zeros, patches], [1, prefix + patches, width]."""
        keys = ["cls_token"] + ["reg_token"] * bool(self.vit.registers)
        prefix = np.concatenate([self.weight(key) for key in keys], axis=1)
        position = self.weight("pos_embed")
        if not self.vit.embed_class:
            return np.concatenate([prefix, position], axis=1)
        position = position.copy()
        position[:, : self.vit.prefix] += prefix
        return position

    def block(self, x: str, key: str, *, last: bool) -> str:
        """Return x after attention and MLP; after the `last` block only the class token's row."""
        h = self.norm(x, key + ".norm1")
        queries = h
        if last:
            queries, x = self.first_row(h), self.first_row(x)
        x = self.graph.op("Add", x, self.attention(queries, h, key))
        return self.graph.op("Add", x, self.mlp(self.norm(x, key + ".norm2"), key))

    def first_row(self, x: str) -> str:
        start, stop, axis = (self.graph.ints(f"axis_{k}", [k]) for k in (0, 1, 1))
        return self.graph.op("Slice", x, start, stop, axis)

    def attention(self, queries: str, h: str, key: str) -> str:
        c, heads = self.vit.width, self.vit.heads
        q, k, v = (
            self.by_head(
                self.linear(source, key + ".attn.qkv", slice(i * c, (i + 1) * c), f".{'qkv'[i]}"),
                heads,
                c // heads,
                keys=i == 1,
            )
            for i, source in enumerate((queries, h, h))
        )
        mixed = self.attend(q, k, v, c, heads)
        return self.linear(mixed, key + ".attn.proj", scale=self.scale_of(key, 1))

    def by_head(self, x: str, heads: int, channels: int, *, keys: bool, where: str = "") -> str:
        """Return [B, heads, rows, channels], for keys with the last two exchanged."""
        shape = self.graph.ints(where + "by_head", [0, -1, heads, channels])
        split = self.graph.op("Reshape", x, shape)
        return self.graph.op("Transpose", split, perm=[0, 2, 3, 1] if keys else [0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, width: int, heads: int, where: str = "") -> str:
        """Return softmax(q k / sqrt(channels)) v, the heads joined: [B, rows, width]."""
        graph = self.graph
        scale = graph.scalar(where + "scale", (width // heads) ** -0.5)
        scores = graph.op("Mul", graph.op("MatMul", q, k), scale)
        mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)
        rows = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.op("Reshape", rows, graph.ints(where + "joined", [0, -1, width]))

    def scale_of(self, block: str, n: int) -> str | None:
        return f"{block}.ls{n}.gamma" if self.vit.layer_scale else None

    def mlp(self, x: str, key: str) -> str:
        name, hidden = key + ".mlp.fc1", self.vit.hidden
        if self.vit.gated:
            gate = self.linear(x, name, slice(hidden), ".gate")
            value = self.linear(x, name, slice(hidden, None), ".value")
            inner = self.graph.op("Mul", self.silu(gate), value)
        else:
            inner = self.gelu(self.linear(x, name))
        return self.linear(inner, key + ".mlp.fc2", scale=self.scale_of(key, 2))

    def gelu(self, x: str) -> str:
        """Return x (1 + erf(x / sqrt 2)) / 2, in the form that runtimes recognise and fuse."""
        root = self.graph.scalar("sqrt_2", 2**0.5)
        one, half = self.graph.scalar("one", 1), self.graph.scalar("half", 0.5)
        erf = self.graph.op("Add", self.graph.op("Erf", self.graph.op("Div", x, root)), one)
        return self.graph.op("Mul", self.graph.op("Mul", x, erf), half)

    def silu(self, x: str) -> str:
        """Return x sigmoid(x), in the form that runtimes recognise and fuse."""
        return self.graph.op("Mul", x, self.graph.op("Sigmoid", x))

    def pool(self, x: str, pool: AttentionPool) -> str:
        """Return the token [B, 1, pool.width] of CONCH's pooler; its query is a constant."""
        key, d, channels = "attn_pool_contrast", pool.width, pool.width // pool.heads
        bias = self.weight(key + ".attn.in_proj_bias")
        h = self.norm(x, key + ".ln_k", POOL_EPS)
        k, v = (
            self.by_head(
                self.affine(
                    h,
                    f"{key}.{name}",
                    self.weight(f"{key}.attn.{name}_proj_weight"),
                    bias[i * d : (i + 1) * d],
                ),
                pool.heads,
                channels,
                keys=name == "k",
                where="pool.",
            )
            for i, name in enumerate("kv", 1)
        )
        query = self.query(key) @ self.weight(key + ".attn.q_proj_weight").T + bias[:d]
        q = self.graph.constant(key + ".q", query.reshape(1, pool.heads, 1, channels))
        mixed = self.attend(q, k, v, d, pool.heads, where="pool.")
        return self.norm(self.linear(mixed, key + ".attn.out_proj"), "ln_contrast", POOL_EPS)

    def query(self, key: str) -> Array:
        """Return LayerNorm of the learned query, [1, pool.width]."""
        query = self.weight(key + ".query")
        centred = query - query.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(POOL_EPS))
        normal = centred / spread
        scaled: Array = normal * self.weight(key + ".ln_q.weight")
        return scaled + self.weight(key + ".ln_q.bias")
