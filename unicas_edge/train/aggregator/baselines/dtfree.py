"""DTFree: slides diagnosed from their labels alone, without a detector, in two stages.

Cao et al., "Detection-free pipeline for cervical cancer screening of whole slide images", MICCAI
2023. A coarse pooling transformer sees everything and predicts the slide; its attention scores say
which images are suspicious; a fine one sees only those. Both learn from slide labels. Sources, the
paper's text not being open: [F] the figure of the pipeline and [R] the model released with it
(github.com/thebestannie/Detection-free-MICCAI2023, fig1.png and vit_model_res18.py); [U] how
UniCAS's authors ran it, as far as their repository tells (github.com/peter-fei/UniCAS at b534316,
slide-level/models, byte code of vit_model_res18).

Our reading where they are silent:

- A token is one 256-pixel tile and not an image of 1024 pixels, so the eight images kept [F] are
  the 128 tiles of eight fields, scored one by one.
- The score is the class token's attention in the last block, averaged over the heads.
- [R] works on features 512 wide, so a linear layer brings tokens there; it stands where the coarse
  and fine encoders stood, whose MoCo pre-training the tile encoder's own replaces.
- [R] imports a clustering of tokens and never calls it, nor does [U]; neither does this.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.train.aggregator.model import TOKEN_STD, check_tokens, initialise

#: Width, heads, blocks before and after the class token, epsilon and hidden units: [R]; heads and
#: blocks also [U].
WIDTH, HEADS, TILE_BLOCKS, CLASS_BLOCKS, EPS, MLP_RATIO = 512, 2, 4, 2, 1e-6, 4
#: 8 images [F] of 16 tiles.
KEEP = 8 * 16


class Stages(NamedTuple):
    """`coarse` and `fine` logits [classes], and the indices of the tiles `kept`, int64 [k]."""

    coarse: Tensor
    fine: Tensor
    kept: Tensor


class DTFree(nn.Module):
    """Both stages for tokens `width` wide; train on the losses of `stages`, ask `forward`."""

    def __init__(self, width: int, classes: int, keep: int = KEEP) -> None:
        super().__init__()
        self.width, self.keep = width, keep
        self.coarse = PoolingTransformer(width, classes)
        self.fine = PoolingTransformer(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the fine logits [classes] of `tokens` [n, width], n >= 1."""
        return self.stages(tokens).fine

    def stages(self, tokens: Tensor) -> Stages:
        """Return what both stages say of `tokens` [n, width], and which tiles the fine one saw.

        All tiles are kept where there are no more than `keep`. The choice has no gradient: the
        coarse stage learns from its own logits. `AggregatorError` for no tokens or another width.
        """
        check_tokens(tokens, self.width)
        coarse, suspicion = self.coarse(tokens)
        kept = suspicion.detach().topk(min(self.keep, len(tokens))).indices
        fine, _ = self.fine(tokens[kept])
        return Stages(coarse, fine, kept)


class PoolingTransformer(nn.Module):
    """Blocks over the tiles alone, then a class token that pools them; no position anywhere [R]."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, WIDTH)
        self.tile_blocks = nn.Sequential(*(_Block() for _ in range(TILE_BLOCKS)))
        self.class_token = nn.Parameter(torch.empty(1, WIDTH))
        self.class_blocks = nn.Sequential(*(_Block() for _ in range(CLASS_BLOCKS - 1)))
        self.last = _Block()
        self.norm = nn.LayerNorm(WIDTH, eps=EPS)  # the same one twice [R]
        self.head = nn.Linear(WIDTH, classes)
        self.apply(initialise)
        nn.init.trunc_normal_(self.class_token, std=TOKEN_STD)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [classes] and every tile's attention [n]; they sum to less than 1."""
        x = self.norm(self.tile_blocks(self.embed(tokens)))
        x = self.class_blocks(torch.cat([self.class_token, x]))
        pooled, attention = self.last.first(x)
        return self.head(self.norm(pooled)), attention[1:]


class _Block(nn.Module):
    """A pre-norm transformer block over [rows, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPS)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPS)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, MLP_RATIO * WIDTH), nn.GELU(), nn.Linear(MLP_RATIO * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._heads(x)
        mixed = functional.scaled_dot_product_attention(q, k, v)[0]  # [heads, rows, D]
        x = x + self.proj(mixed.transpose(0, 1).flatten(1))
        return x + self.mlp(self.norm2(x))

    def first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first row of `forward` [WIDTH], which needs no other, and its attention.

        The attention [rows] is averaged over the heads.
        """
        q, k, v = self._heads(x)[:, 0]  # [heads, rows, D]
        shares = (q[:, :1] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        row = x[0] + self.proj((shares @ v).flatten())
        return row + self.mlp(self.norm2(row)), shares.mean(dim=0)[0]

    def _heads(self, x: Tensor) -> Tensor:
        """Return queries, keys and values, [3, 1, heads, rows, D]."""
        return self.qkv(self.norm1(x)).unflatten(1, (3, HEADS, -1)).permute(1, 2, 0, 3)[:, None]
