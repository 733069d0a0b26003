"""The multi-task aggregator as its equations stand: dense, in torch, trainable.

The runtime's `Aggregator` computes the same for inference and never forms K, V or the dense
projection; here everything is written out, so this is what it is measured against, and what
training differentiates. The semantics and every key of the state dict are those of UniCAS
(github.com/peter-fei/UniCAS, slide-level), whose checkpoints load here strictly.

Letters: B bags, n tiles, N patch rows after padding to a square, C inner width, H heads of D
channels, t tasks, m tiles kept by a head, s slots in all. X [B, t + N, C] holds the task tokens
first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.bundle.aggregator_file import check_weights, load_weights
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.errors import AggregatorError

#: Of task and class tokens; of linear layers: github.com/peter-fei/UniCAS,
#: slide-level/models/multitask_agg.py, and github.com/thebestannie/Detection-free-MICCAI2023,
#: vit_model_res18.py, alike.
TOKEN_STD, LINEAR_STD = 0.02, 0.01

#: Called with (block, task tokens [B, t, C]) after every block; for tests and auxiliary losses.
Observer = Callable[[int, Tensor], None]


def check_tokens(tokens: Tensor, width: int, dimensions: tuple[int, ...] = (2,)) -> None:
    """Raise `AggregatorError` unless `tokens` is floating point [..., n, width] with n >= 1.

    `dimensions` lists the permitted numbers of dimensions: 2 is a bag, 3 a batch of equal bags.
    """
    shape = list(tokens.shape)
    if tokens.ndim not in dimensions or shape[-1] != width or not tokens.is_floating_point():
        raise AggregatorError(
            f"tokens must be floating point [n, {width}], not {tokens.dtype} {shape}: "
            "use the encoder that the module was made for"
        )
    if not tokens.numel():
        raise AggregatorError("no tokens: a bag needs at least one tile; check the tile plan")


def initialise(module: nn.Module) -> None:
    """Draw the weights of one layer in place, for `nn.Module.apply`; biases become 0.

    Linear: truncated normal; convolution: Kaiming normal by fan-out. `nn.LayerNorm` is born as it
    should be.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_STD)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class MultiTaskAggregator(nn.Module):
    """The aggregator of a configuration; its state dict has exactly `parameter_shapes(config)`."""

    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Model(config)  # the published keys begin with its name

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, NDArray[np.floating[Any]]], config: AggregatorConfig
    ) -> Self:
        """Return the module with these weights, float32, whose memory it shares where it can.

        `AggregatorError` names a missing, unexpected or mis-shaped key.
        """
        checked = check_weights(weights, config)
        with torch.device("meta"):  # no memory, no random numbers: every parameter is replaced
            module = cls(config)
        tensors = {
            key: torch.from_numpy(np.require(weight, requirements="W"))
            for key, weight in checked.items()
        }
        module.load_state_dict(tensors, strict=True, assign=True)
        return module

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the module of a ``.safetensors`` file, as `Aggregator` reads it."""
        return cls.from_weights(*load_weights(Path(path)))

    def forward(self, tokens: Tensor, observe: Observer | None = None) -> list[Tensor]:
        """Return the logits of every task, [classes] each, for `tokens` [n, embed_dim_in], n >= 1.

        A batch of equal bags [B, n, embed_dim_in] gives [B, classes] each. `AggregatorError` for
        no tokens, another width or integers.
        """
        check_tokens(tokens, self.config.embed_dim_in, dimensions=(2, 3))
        if tokens.ndim == 2:
            return [logits[0] for logits in self.model(tokens[None], observe)]
        logits: list[Tensor] = self.model(tokens, observe)
        return logits


class _Model(nn.Module):
    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        c, t = config.embed_dim, config.num_tasks
        self.layer1 = nn.Sequential(
            nn.Linear(config.embed_dim_in, c),
            nn.LayerNorm(c, eps=config.layer1_norm_eps),
            nn.GELU(),
        )
        self.pos_layer = _Ppeg(c)
        self.task_tokens = nn.Parameter(torch.empty(1, t, c))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(c, eps=config.norm_eps)
        self.heads = nn.ModuleList(nn.Linear(c, classes) for classes in config.classes)
        self.apply(initialise)
        nn.init.trunc_normal_(self.task_tokens, std=TOKEN_STD)

    def begun(self, tokens: Tensor) -> Tensor:
        """Return what the first block is given, [B, t + N, C]."""
        bags, n, _ = tokens.shape
        side = math.isqrt(n - 1) + 1
        patches = self.layer1(tokens)
        patches = torch.cat([patches, patches[:, : side * side - n]], dim=1)
        patches = self.pos_layer(patches, side)
        return torch.cat([self.task_tokens.expand(bags, -1, -1), patches], dim=1)

    def forward(self, tokens: Tensor, observe: Observer | None) -> list[Tensor]:
        t = len(self.heads)
        x = self.begun(tokens)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if observe is not None:
                observe(index, x[:, :t])
        tasks = self.norm(x[:, :t])
        return [head(tasks[:, i]) for i, head in enumerate(self.heads)]


class _Ppeg(nn.Module):
    """Pyramid position encoding (TransMIL): x + dw7x7(x) + dw5x5(x) + dw3x3(x) on the square."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.proj1 = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.proj2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        grid = x.transpose(1, 2).unflatten(2, (side, side))
        mixed = grid + self.proj(grid) + self.proj1(grid) + self.proj2(grid)
        return mixed.flatten(2).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = _TaskAttention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = _SoftMoE(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _TaskAttention(nn.Module):
    """Every task attends to the m patches that suit it best, and writes back to those."""

    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        c, t, bias = config.embed_dim, config.num_tasks, config.qkv_bias
        self.heads, self.top_m, self.scale = config.num_heads, config.top_m, config.head_dim**-0.5
        self.qs = nn.ModuleList(nn.Linear(c, c, bias=bias) for _ in range(t))
        self.kv = nn.Linear(c, 2 * c, bias=bias)
        self.experts = nn.ModuleList(nn.Linear(c, c, bias=False) for _ in range(t))
        self.proj = nn.Linear(c, c)  # in the published checkpoints, and never used

    def scores(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each task's heads think of each patch [B, H, t, N], and the values."""
        t = len(self.qs)
        queries = torch.stack([q(h[:, i]) for i, q in enumerate(self.qs)], dim=1)
        keys, values = self.kv(h[:, t:]).chunk(2, dim=-1)
        return self._split(queries) @ self._split(keys).transpose(-1, -2) * self.scale, values

    def forward(self, h: Tensor) -> Tensor:
        patches = h[:, len(self.qs) :]
        scores, values = self.scores(h)
        best, kept = scores.topk(min(self.top_m, scores.shape[-1]), dim=-1)
        shares = torch.zeros_like(scores).scatter(-1, kept, best.softmax(dim=-1))  # [B, H, t, N]
        pooled = (shares @ self._split(values)).transpose(1, 2).flatten(2)  # [B, t, C]
        tasks, written = [], torch.zeros_like(patches)
        for i, expert in enumerate(self.experts):
            tasks.append(expert(pooled[:, i]))
            written = written + expert(self._weighted(patches, shares[:, :, i]))
        return torch.cat([torch.stack(tasks, dim=1), written], dim=1)

    def _split(self, x: Tensor) -> Tensor:
        """Return the heads [B, H, rows, D] of [B, rows, C]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _weighted(self, patches: Tensor, shares: Tensor) -> Tensor:
        """Return `patches` [B, N, C], each head's channels times its share [B, H, N]."""
        heads = patches.unflatten(-1, (self.heads, -1))
        return (heads * shares.transpose(1, 2).unsqueeze(-1)).flatten(2)


class _SoftMoE(nn.Module):
    """Soft mixture of experts (Puigcerver et al., ICLR 2024) with normalised rows and slots."""

    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        c, experts, slots = config.embed_dim, config.num_experts, config.slots_per_expert
        self.phi = nn.Parameter(torch.empty(c, experts, slots).normal_(std=c**-0.5))
        self.scale = nn.Parameter(torch.ones(1))
        self.experts = nn.ModuleList(_Expert(c, config.hidden_dim) for _ in range(experts))

    def forward(self, h: Tensor) -> Tensor:
        y = functional.normalize(h, dim=-1)
        phi = functional.normalize(self.phi, dim=0) * self.scale
        logits = y @ phi.flatten(1)  # [B, t + N, s]
        slots = logits.softmax(dim=1).transpose(1, 2) @ y  # dispatch: over the rows
        per = self.phi.shape[-1]
        parts = zip(self.experts, slots.split(per, dim=1), strict=True)
        outputs = torch.cat([expert(part) for expert, part in parts], dim=1)
        return logits.softmax(dim=-1) @ outputs  # combine: over the slots


class _Expert(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))
