"""The tile encoder as its equations stand: a vision transformer in torch, trainable.

Keys and shapes are those of timm's ``VisionTransformer`` (`export.architectures.parameter_shapes`),
whose state dicts load here strictly, or CONCH's for its attention pooler. What the exported ONNX
graph is measured against, and what pre-training differentiates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.models.architectures import NORM_EPS, POOL_EPS, AttentionPool, ViT

#: As timm draws them: linear layers and positions, class and register tokens, LayerScale.
_STD, _TOKEN_STD, _GAMMA = 0.02, 1e-6, 1e-5


class VisionTransformer(nn.Module):
    """An encoder of shape `vit`, freshly initialised as timm does."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, c = vit, vit.width
        self.patch_embed = _PatchEmbed(vit.patch, c)
        self.cls_token = nn.Parameter(torch.empty(1, 1, c))
        if vit.registers:
            self.reg_token = nn.Parameter(torch.empty(1, vit.registers, c))
        rows = vit.patches + vit.prefix * vit.embed_class
        self.pos_embed = nn.Parameter(torch.empty(1, rows, c))
        self.blocks = nn.ModuleList(_Block(vit) for _ in range(vit.depth))
        self.norm = nn.LayerNorm(c, eps=NORM_EPS)
        if vit.pool:
            self.attn_pool_contrast = _AttentionPool(vit.pool, c)
            self.ln_contrast = nn.LayerNorm(vit.pool.width, eps=POOL_EPS)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed, std=_STD)
        for token in self._prefix():
            nn.init.normal_(token, std=_TOKEN_STD)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the tokens [B, out_width] of normalised `pixels` [B, 3, H, W].

        The class token, or what the pooler makes of all tokens.
        """
        x = self._encode(pixels, None, None)
        if self.vit.pool is None:
            return x[:, 0]
        pooled: Tensor = self.ln_contrast(self.attn_pool_contrast(x))
        return pooled

    def forward_features(
        self, pixels: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the class token [B, width] and the patches [B, H/patch * W/patch, width].

        Patches where `mask` (bool, [B, patches]) is true are replaced by `mask_token` [width]
        before positions are added (DINOv2, Oquab et al. 2024); the token belongs to the caller and
        not to the checkpoint.
        """
        x = self._encode(pixels, mask, mask_token)
        return x[:, 0], x[:, self.vit.prefix :]

    def _encode(self, pixels: Tensor, mask: Tensor | None, mask_token: Tensor | None) -> Tensor:
        grid = self.patch_embed(pixels)
        patches = grid.flatten(2).transpose(1, 2)
        if mask is not None and mask_token is not None:
            patches = torch.where(mask.unsqueeze(-1), mask_token.to(patches.dtype), patches)
        x = self._with_positions(patches, (grid.shape[2], grid.shape[3]))
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def _prefix(self) -> list[nn.Parameter]:
        return [self.cls_token, *([self.reg_token] if self.vit.registers else [])]

    def _with_positions(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        prefix = [token.expand(len(patches), -1, -1) for token in self._prefix()]
        positions = self._positions(grid)
        if self.vit.embed_class:
            return torch.cat([*prefix, patches], dim=1) + positions
        return torch.cat([*prefix, patches + positions], dim=1)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions of a grid of any size: bicubic, antialiased, as timm resamples."""
        side = self.vit.size // self.vit.patch
        if grid == (side, side):
            return self.pos_embed
        keep = self.vit.prefix * self.vit.embed_class
        prefix, patches = self.pos_embed[:, :keep], self.pos_embed[:, keep:]
        square = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        resampled = functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
        return torch.cat([prefix, resampled.flatten(2).transpose(1, 2)], dim=1)


class _PatchEmbed(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patches [B, width, rows, columns]; what is left over at the edges is not seen.

        The convolution as a product: on a processor its backward pass takes a third of the time.
        """
        side = self.proj.kernel_size[0]
        rows, columns = (n // side for n in pixels.shape[2:])
        cut = pixels[:, :, : rows * side, : columns * side]
        patches = cut.unflatten(3, (columns, side)).unflatten(2, (rows, side))
        flat = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return functional.linear(flat, self.proj.weight.flatten(1), self.proj.bias).permute(
            0, 3, 1, 2
        )


class _Block(nn.Module):
    def __init__(self, vit: ViT) -> None:
        super().__init__()
        scale = _LayerScale if vit.layer_scale else _Unscaled
        self.norm1 = nn.LayerNorm(vit.width, eps=NORM_EPS)
        self.attn = _Attention(vit.width, vit.heads)
        self.ls1 = scale(vit.width)
        self.norm2 = nn.LayerNorm(vit.width, eps=NORM_EPS)
        self.mlp = _Mlp(vit)
        self.ls2 = scale(vit.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _LayerScale(nn.Module):
    """Touvron et al., ICCV 2021 (CaiT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), _GAMMA))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Unscaled(nn.Identity):
    def __init__(self, width: int) -> None:  # noqa: ARG002 - in the place of _LayerScale
        super().__init__()


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = self._mixed(*qkv.unbind(0))
        joined: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return joined

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.training and q.device.type == "cpu":  # the fused kernel is the slower backwards
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            return scores.softmax(dim=-1).to(v.dtype) @ v
        mixed: Tensor = functional.scaled_dot_product_attention(q, k, v)
        return mixed


class _Mlp(nn.Module):
    """GELU, or SwiGLU (Shazeer 2020) with the gates in the first half of ``fc1``."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.gated = vit.gated
        self.fc1 = nn.Linear(vit.width, vit.hidden * (1 + vit.gated))
        self.fc2 = nn.Linear(vit.hidden, vit.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        if self.gated:
            gates, values = x.chunk(2, dim=-1)
            x = functional.silu(gates) * values
        else:
            x = functional.gelu(x)
        out: Tensor = self.fc2(x)
        return out


class _AttentionPool(nn.Module):
    """CONCH's ``AttentionalPooler`` with one query: [B, tokens, width] -> [B, pool.width]."""

    def __init__(self, pool: AttentionPool, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, pool.width))
        self.attn = nn.MultiheadAttention(
            pool.width, pool.heads, kdim=width, vdim=width, batch_first=True
        )
        self.ln_q = nn.LayerNorm(pool.width, eps=POOL_EPS)
        self.ln_k = nn.LayerNorm(width, eps=POOL_EPS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_k(x)
        query = self.ln_q(self.query).expand(len(x), 1, -1)
        pooled: Tensor = self.attn(query, h, h, need_weights=False)[0]
        return pooled[:, 0]


def _initialise(module: Any) -> None:  # noqa: ANN401 - nn.Module, for `apply`
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
