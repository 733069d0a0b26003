"""The aggregator's plain semantics, dense and in float64, and small configurations to try it on."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from unicas_edge.aggregator.aggregator import AggregatorConfig
from unicas_edge.bundle.aggregator_file import parameter_shapes


def config_of(**changes):
    base = {
        "embed_dim_in": 6,
        "embed_dim": 8,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "num_tasks": 2,
        "classes": (2, 3),
        "num_experts": 3,
        "slots_per_expert": 2,
        "top_m": 5,
    }
    return AggregatorConfig(**(base | changes))


def weights_of(config, seed=0):
    rng = np.random.default_rng(seed)
    return {
        key: (rng.standard_normal(shape) / np.sqrt(max(1, math.prod(shape[1:])))).astype("f4")
        for key, shape in parameter_shapes(config).items()
    }


def published_widths():
    """The published widths and heads, with few and narrow experts, so that it is small."""
    config = config_of(
        embed_dim_in=8,
        embed_dim=768,
        depth=1,
        num_heads=12,
        mlp_ratio=0.01,
        num_tasks=3,
        classes=(2, 2, 2),
        num_experts=8,
        slots_per_expert=1,
        top_m=256,
    )
    return weights_of(config), config


@st.composite
def cases(draw):
    """Draw a small configuration of any shape, a number of tiles and a seed."""
    heads = draw(st.integers(1, 3))
    tasks = draw(st.integers(1, 3))
    small = st.integers(1, 3)
    config = config_of(
        embed_dim_in=draw(st.integers(1, 9)),
        num_heads=heads,
        embed_dim=heads * draw(st.integers(2, 5)),
        depth=draw(small),
        mlp_ratio=draw(st.sampled_from([0.5, 1.0, 2.5])),
        num_tasks=tasks,
        classes=tuple(draw(st.lists(st.integers(1, 4), min_size=tasks, max_size=tasks))),
        num_experts=draw(small),
        slots_per_expert=draw(small),
        top_m=draw(st.sampled_from([1, 3, 8, 256])),
        qkv_bias=draw(st.booleans()),
    )
    return config, draw(st.integers(1, 30)), draw(st.integers(0, 2**32 - 1))


class Dense:
    """aggregator.md step by step: K, V, the dense projection and every row of the mixture."""

    def __init__(self, weights, config):
        self.w = {key: value.astype(np.float64) for key, value in weights.items()}
        self.c = config
        self.margin = np.inf  # smallest gap between the last score kept and the first one left

    def linear(self, x, key):
        return x @ self.w[key + ".weight"].T + self.w.get(key + ".bias", 0)

    def norm(self, x, key, eps):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)
        return x * self.w[key + ".weight"] + self.w[key + ".bias"]

    @staticmethod
    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    @staticmethod
    def softmax(x, axis):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def run(self, tokens):
        c, t, n = self.c, self.c.num_tasks, len(tokens)
        x = self.linear(tokens.astype(np.float64), "model.layer1.0")
        x = self.gelu(self.norm(x, "model.layer1.1", c.layer1_norm_eps))
        side = math.ceil(math.sqrt(n))
        source = np.arange(side * side) % n
        x = np.concatenate([self.w["model.task_tokens"][0], self.ppeg(x[source], side)])
        attention = np.zeros((t, n))
        for block in range(c.depth):
            key = f"model.blocks.{block}"
            x = x + self.attention(self.norm(x, key + ".norm1", c.norm_eps), key, source, attention)
            x = x + self.moe(self.norm(x, key + ".norm2", c.norm_eps), key + ".mlp")
        final = self.norm(x[:t], "model.norm", c.norm_eps)
        logits = [self.linear(final[i], f"model.heads.{i}") for i in range(t)]
        return logits, attention / (c.depth * c.num_heads)

    def ppeg(self, x, side):
        grid = x.reshape(side, side, -1)
        out = grid.copy()
        for name, size in (("proj", 7), ("proj1", 5), ("proj2", 3)):
            kernel = self.w[f"model.pos_layer.{name}.weight"][:, 0]
            r = size // 2
            for row, col, dy, dx in np.ndindex(side, side, size, size):
                if 0 <= row + dy - r < side and 0 <= col + dx - r < side:
                    out[row, col] += grid[row + dy - r, col + dx - r] * kernel[:, dy, dx]
            out += self.w[f"model.pos_layer.{name}.bias"]
        return out.reshape(x.shape)

    def attention(self, h, key, source, mass):
        c, t = self.c, self.c.num_tasks
        f, d = h[t:], c.head_dim
        k, v = np.split(self.linear(f, key + ".attn.kv"), 2, axis=1)
        out = np.zeros_like(h)
        for i in range(t):
            q = self.linear(h[i], f"{key}.attn.qs.{i}")
            task, patches = np.zeros(c.embed_dim), np.zeros_like(f)
            for head in range(c.num_heads):
                cut = slice(head * d, (head + 1) * d)
                score = k[:, cut] @ q[cut] / math.sqrt(d)
                order = np.lexsort((np.arange(len(f)), -score))
                kept = order[: c.top_m]
                if len(f) > c.top_m:
                    gap = score[order[c.top_m - 1]] - score[order[c.top_m]]
                    self.margin = min(self.margin, gap)
                p = np.zeros(len(f))
                p[kept] = self.softmax(score[kept], 0)
                task[cut] = p @ v[:, cut]
                patches[:, cut] = p[:, None] * f[:, cut]
                np.add.at(mass[i], source, p)
            out[i] = self.linear(task, f"{key}.attn.experts.{i}")
            out[t:] += self.linear(patches, f"{key}.attn.experts.{i}")
        return out

    def moe(self, h, key):
        c = self.c
        y = h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
        phi = self.w[key + ".phi"]
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0, keepdims=True), 1e-12)
        logits = np.einsum("nc,ces->nes", y, phi * self.w[key + ".scale"])
        combine = self.softmax(logits.reshape(len(y), -1), 1).reshape(logits.shape)
        slots = np.einsum("nes,nc->esc", self.softmax(logits, 0), y)
        out = [
            self.linear(
                self.gelu(self.linear(slots[e], f"{key}.experts.{e}.fc1")), f"{key}.experts.{e}.fc2"
            )
            for e in range(c.num_experts)
        ]
        return np.einsum("nes,esc->nc", combine, np.stack(out))
