"""Stage 5: a bag of CLS tokens becomes logits per task, and says which tiles carried them.

NumPy only, float32, and exact: it is the portable fallback and the oracle of the native kernel.
What UniCAS computes (github.com/peter-fei/UniCAS, slide-level) is reordered so that most of it
never has to be computed; `_attend` and `_soft_moe` say how.

Letters: n tiles, N patch rows after padding to a square, C inner width, H heads of D channels,
t tasks, m tiles kept by a head, s slots. X [t + N, C] holds the task tokens first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.numpy_maths import Float32, depthwise, gelu, layer_norm, softmax, top_m
from unicas_edge.aggregator.aggregator import Explanation
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.aggregator_file import check_weights, load_weights
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.errors import AggregatorError

__all__ = ["Aggregator", "AggregatorConfig", "Explanation"]

#: Called with (block, task tokens float32 [t, C]) after every block; for tests and debugging.
Observer = Callable[[int, Float32], None]


class Aggregator:
    """The multi-task aggregator for one set of weights; calls do not change it, so share it freely.

    `weights` maps the published checkpoint's keys (``model.blocks.0...``) to float32 arrays. A
    missing, unexpected or mis-shaped key is an `AggregatorError` that names it.
    """

    def __init__(
        self, weights: Mapping[str, NDArray[np.floating]], config: AggregatorConfig
    ) -> None:
        self.config = config
        self._w = check_weights(weights, config)
        self._kernel = _one_kernel(self._w)

    @classmethod
    def load(cls, source: str | Path | Bundle) -> Aggregator:
        """Return the aggregator of a ``.safetensors`` file, a bundle folder or a `Bundle`.

        The configuration is the JSON under ``config`` in the file's metadata. `AggregatorError` for
        a file that does not hold what it says; `BundleError` for a folder that is no bundle.
        """
        if not isinstance(source, Bundle) and Path(source).is_dir():
            source = Bundle.load(source)
        if isinstance(source, Bundle):
            source = source.path(source.manifest.aggregator.file)
        return cls(*load_weights(Path(source)))

    def logits(self, tokens: NDArray[np.floating]) -> Float32:
        """Return float32 [t, classes] for `tokens` float32 [n, embed_dim_in], n >= 1.

        Where tasks differ in their number of classes, the shorter rows end in -inf, which a softmax
        turns into probability 0. `AggregatorError` for no tokens, a wrong width or values that are
        not finite (naming the first bad tile).
        """
        return self.explain(tokens).logits

    def explain(self, tokens: NDArray[np.floating], observe: Observer | None = None) -> Explanation:
        """Return the logits, as `logits` does, and each tile's share of the attention mass."""
        bag = self._checked(tokens)
        t, n = self.config.num_tasks, len(bag)
        with np.errstate(over="ignore", invalid="ignore"):  # the logits are checked at the end
            x = self._embed(bag)
            mass = np.zeros((t, len(x) - t))
            for block in range(self.config.depth):
                mass += self._attend(x, f"model.blocks.{block}.")
                self._soft_moe(x, f"model.blocks.{block}.", last=block == self.config.depth - 1)
                if observe is not None:
                    observe(block, x[:t].copy())
            logits = self._heads(x[:t])
        return Explanation(logits, _fold(mass, n))

    def _checked(self, tokens: NDArray[np.floating]) -> Float32:
        width = self.config.embed_dim_in
        if tokens.ndim != 2 or tokens.shape[1] != width or tokens.dtype.kind != "f":
            raise AggregatorError(
                f"tokens must be float32 [n, {width}], not {tokens.dtype} {list(tokens.shape)}: "
                "use the encoder that the aggregator was trained with"
            )
        if not len(tokens):
            raise AggregatorError("no tokens: a bag needs at least one tile; check the tile plan")
        bad = np.flatnonzero(~np.isfinite(tokens).all(axis=1))
        if bad.size:
            raise AggregatorError(
                f"token {bad[0]} is not finite ({bad.size} of {len(tokens)} are not): "
                "look at that tile and at the encoder's precision"
            )
        return np.ascontiguousarray(tokens, dtype=np.float32)

    def _embed(self, bag: Float32) -> Float32:
        """Return X [t + N, C]: project, pad to a square by repetition, mix neighbours (PPEG)."""
        w, config = self._w, self.config
        patches = bag @ w["model.layer1.0.weight"].T + w["model.layer1.0.bias"]
        patches = gelu(
            layer_norm(
                patches,
                w["model.layer1.1.weight"],
                w["model.layer1.1.bias"],
                config.layer1_norm_eps,
            )
        )
        side = math.isqrt(len(bag) - 1) + 1
        padded = np.concatenate([patches, patches[: side * side - len(bag)]])
        grid = padded.reshape(side, side, config.embed_dim)
        mixed = depthwise(grid, *self._kernel).reshape(side * side, config.embed_dim)
        return np.concatenate([w["model.task_tokens"][0], mixed])

    def _attend(self, x: Float32, block: str) -> NDArray[np.float64]:
        """Add a block's task attention to `x` in place; return each patch's mass, float64 [t, N].

        Neither K nor V is computed for the N patches f. With q = Wq e + bq the score of patch j is
        q . (Wk f_j + bk) = (Wk^T q) . f_j + const, and a constant moves neither the top m nor the
        softmax: t * H effective queries do. As the weights p sum to one,
        sum_j p_j (Wv f_j + bv) = Wv (sum_j p_j f_j) + bv. Patch rows that no head keeps are zero,
        so the output projection touches only m rows a head.
        """
        w, (t, heads) = self._w, (self.config.num_tasks, self.config.num_heads)
        h = layer_norm(x, w[block + "norm1.weight"], w[block + "norm1.bias"], self.config.norm_eps)
        tasks, patches = h[:t], h[t:]
        scores = self._effective_queries(tasks, block) @ patches.T  # [t * H, N]
        mass = np.zeros((t, len(patches)))
        for task in range(t):
            pooled = np.empty((heads, x.shape[1]), dtype=np.float32)
            projection = w[f"{block}attn.experts.{task}.weight"]
            for head in range(heads):
                score = scores[task * heads + head]
                kept = top_m(score, self.config.top_m)
                p = softmax(score[kept])
                f = patches[kept]
                pooled[head] = p @ f
                channels = self._channels(head)
                x[t + kept] += (p[:, None] * f[:, channels]) @ projection[:, channels].T
                mass[task, kept] += p
            x[task] += projection @ self._values(pooled, block)
        return mass / (heads * self.config.depth)

    def _channels(self, head: int) -> slice:
        return slice(head * self.config.head_dim, (head + 1) * self.config.head_dim)

    def _effective_queries(self, tasks: Float32, block: str) -> Float32:
        """Return Wk^T q / sqrt(D) for every task and head, float32 [t * H, C]."""
        w, c = self._w, self.config.embed_dim
        key = w[block + "attn.kv.weight"][:c]
        scale = np.float32(self.config.head_dim**-0.5)
        queries = []
        for i, e in enumerate(tasks):
            q = w[f"{block}attn.qs.{i}.weight"] @ e
            if self.config.qkv_bias:
                q = q + w[f"{block}attn.qs.{i}.bias"]
            for head in range(self.config.num_heads):
                channels = self._channels(head)
                queries.append((scale * q[channels]) @ key[channels])
        return np.stack(queries)

    def _values(self, pooled: Float32, block: str) -> Float32:
        """Return the heads' outputs [C] from their pooled patches [H, C]."""
        w, c = self._w, self.config.embed_dim
        value = w[block + "attn.kv.weight"][c:]
        out = np.empty(c, dtype=np.float32)
        for head, patch in enumerate(pooled):
            out[self._channels(head)] = value[self._channels(head)] @ patch
        return out + w[block + "attn.kv.bias"][c:] if self.config.qkv_bias else out

    def _soft_moe(self, x: Float32, block: str, *, last: bool) -> None:
        """Add a block's soft mixture of experts to `x` in place.

        An expert sees its slots alone, so it is a few matrix-vector products whatever N is. After
        the `last` block nothing reads the patch rows, so only the task rows are combined.
        """
        w = self._w
        y = layer_norm(x, w[block + "norm2.weight"], w[block + "norm2.bias"], self.config.norm_eps)
        y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), np.float32(1e-12))
        phi = w[block + "mlp.phi"]
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0), np.float32(1e-12))
        phi = (phi * w[block + "mlp.scale"]).reshape(x.shape[1], -1)  # [C, experts * slots]
        logits = y @ phi
        slots = softmax(logits, axis=0).T @ y  # dispatch: over the rows
        outputs = self._experts(slots, block)
        rows = self.config.num_tasks if last else len(x)
        x[:rows] += softmax(logits[:rows], axis=1) @ outputs  # combine: over the slots

    def _experts(self, slots: Float32, block: str) -> Float32:
        """Return what the experts make of their slots, [experts * slots, C] in and out."""
        per, w = self.config.slots_per_expert, self._w
        outputs = np.empty_like(slots)
        for expert in range(self.config.num_experts):
            rows = slice(expert * per, (expert + 1) * per)
            name = f"{block}mlp.experts.{expert}."
            hidden = gelu(slots[rows] @ w[name + "fc1.weight"].T + w[name + "fc1.bias"])
            outputs[rows] = hidden @ w[name + "fc2.weight"].T + w[name + "fc2.bias"]
        return outputs

    def _heads(self, tasks: Float32) -> Float32:
        w, config = self._w, self.config
        final = layer_norm(tasks, w["model.norm.weight"], w["model.norm.bias"], config.norm_eps)
        logits = np.full((config.num_tasks, max(config.classes)), -np.inf, dtype=np.float32)
        for i, classes in enumerate(config.classes):
            head = f"model.heads.{i}."
            logits[i, :classes] = w[head + "weight"] @ final[i] + w[head + "bias"]
            if not np.isfinite(logits[i, :classes]).all():
                raise AggregatorError(
                    f"the logits of task {i} are not finite: the tokens are too large or the "
                    "weights are damaged; check the encoder's precision and the weights' hash"
                )
        return logits


def _one_kernel(w: Mapping[str, Float32]) -> tuple[Float32, Float32]:
    """Return PPEG as one depth-wise kernel [7, 7, C] and bias [C].

    x + dw7(x) + dw5(x) + dw3(x) is linear: centred, the smaller kernels and the identity add up.
    """
    layers = ["model.pos_layer.proj", "model.pos_layer.proj1", "model.pos_layer.proj2"]
    total = np.zeros((7, 7, len(w[layers[0] + ".bias"])), dtype=np.float32)
    total[3, 3] = 1
    for layer in layers:
        kernel = w[layer + ".weight"][:, 0].transpose(1, 2, 0)
        inside = slice((7 - len(kernel)) // 2, (7 + len(kernel)) // 2)
        total[inside, inside] += kernel
    return total, sum((w[layer + ".bias"] for layer in layers), np.zeros_like(total[0, 0]))


def _fold(mass: NDArray[np.float64], n: int) -> Float32:
    """Return [t, n] from a mass [t, N]: the rows from n on repeat the first ones."""
    folded = mass[:, :n].copy()
    folded[:, : mass.shape[1] - n] += mass[:, n:]
    return folded.astype(np.float32)
