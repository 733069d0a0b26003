"""Which encoders can be imported: shapes of vision transformers, and the published ones by name.

Keys and shapes are those of timm's ``VisionTransformer`` (github.com/huggingface/pytorch-image-
models, timm/models/vision_transformer.py): class token, learned positions, pre-norm blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Shape = tuple[int, ...]

#: Of timm's blocks; CONCH's pooler keeps PyTorch's default.
NORM_EPS, POOL_EPS = 1e-6, 1e-5


@dataclass(frozen=True)
class AttentionPool:
    """CONCH's pooler: one learned query of `width` channels attends to all tokens."""

    width: int
    heads: int


@dataclass(frozen=True)
class ViT:
    """The shape of a vision transformer; `size` and `patch` in pixels.

    `hidden` counts the units of the MLP that its second layer reads; with `gated` (SwiGLU: timm's
    ``SwiGLUPacked``, ``GluMlp(gate_last=False)`` with SiLU) the first layer makes twice as many,
    gates first. `registers` are extra tokens behind the class token. With `embed_class` class token
    and registers have positions of their own, without it (``no_embed_class``) the patches alone.
    """

    size: int = 224
    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 3
    hidden: int = 768
    gated: bool = False
    layer_scale: bool = False
    registers: int = 0
    embed_class: bool = True
    pool: AttentionPool | None = None

    @property
    def patches(self) -> int:
        """Patch tokens of one tile."""
        return (self.size // self.patch) ** 2

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return 1 + self.registers

    @property
    def out_width(self) -> int:
        """Channels of the one token that a tile becomes."""
        return self.pool.width if self.pool else self.width


def parameter_shapes(vit: ViT) -> dict[str, Shape]:
    """Return every key and shape; matrices are [out, in]. The pooler's keys are CONCH's."""
    c = vit.width
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, c),
        "pos_embed": (1, vit.patches + vit.prefix * vit.embed_class, c),
        "patch_embed.proj.weight": (c, 3, vit.patch, vit.patch),
        "patch_embed.proj.bias": (c,),
    }
    if vit.registers:
        shapes["reg_token"] = (1, vit.registers, c)
    for i in range(vit.depth):
        shapes.update(_block_shapes(vit, f"blocks.{i}."))
    shapes.update(_norm("norm", c))
    if vit.pool:
        shapes.update(_pool_shapes(vit.pool, c))
    return shapes


def _block_shapes(vit: ViT, block: str) -> Iterator[tuple[str, Shape]]:
    c = vit.width
    yield from _linear(block + "attn.qkv", 3 * c, c)
    yield from _linear(block + "attn.proj", c, c)
    yield from _linear(block + "mlp.fc1", vit.hidden * (1 + vit.gated), c)
    yield from _linear(block + "mlp.fc2", c, vit.hidden)
    for n in "12":
        yield from _norm(block + "norm" + n, c)
        if vit.layer_scale:
            yield f"{block}ls{n}.gamma", (c,)


def _pool_shapes(pool: AttentionPool, width: int) -> Iterator[tuple[str, Shape]]:
    key, d = "attn_pool_contrast.", pool.width
    yield key + "query", (1, d)
    yield key + "attn.q_proj_weight", (d, d)
    yield key + "attn.k_proj_weight", (d, width)
    yield key + "attn.v_proj_weight", (d, width)
    yield key + "attn.in_proj_bias", (3 * d,)
    yield from _linear(key + "attn.out_proj", d, d)
    yield from _norm(key + "ln_q", d)
    yield from _norm(key + "ln_k", width)
    yield from _norm("ln_contrast", d)


def _linear(name: str, out: int, into: int) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", (out, into)
    yield name + ".bias", (out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", (width,)
    yield name + ".bias", (width,)


@dataclass(frozen=True)
class Architecture:
    """A published encoder: its shape and how it wants its tiles.

    `mean` and `std` are of RGB in [0, 1]; `tile_px` is cut at 0.5 um/px and its centre of
    `vit.size` encoded. `licence` is that of the published weights.
    """

    vit: ViT
    licence: str
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    tile_px: int = 256


_GIANT = ViT(width=1536, depth=40, heads=24, hidden=4096, gated=True, layer_scale=True)
_ASK = "as the publisher of the weights says"

#: Where each line comes from:
#:
#: - unicas: github.com/peter-fei/UniCAS, readme.md (weights: huggingface.co/jianght/UniCAS); its
#:   mlp_ratio 2 * 2.671875 makes 5,472 units, half of them gates.
#: - uni: github.com/mahmoodlab/UNI, README_old.md (timm's vit_large_patch16_224, init_values 1e-5).
#: - h-optimus-0: huggingface.co/bioptimus/H-optimus-0, config.json
#:   (timm's vit_giant_patch14_reg4_dinov2).
#: - prov-gigapath: huggingface.co/prov-gigapath/prov-gigapath, config.json, which is gated: as its
#:   users quote it (timm's vit_giant_patch14_dinov2 with patch_size 16).
#: - hibou-b: github.com/HistAI/hibou, hibou/models/__init__.py; DINOv2's SwiGLU keeps 2/3 of
#:   4 x 768. Mean and std are huggingface.co/histai/hibou-b's, as TRIDENT and others quote them.
#: - conch: github.com/mahmoodlab/CONCH, model_configs/conch_ViT-B-16.json and vision_tower.py; what
#:   encode_image(proj_contrast=False, normalize=False) returns, as its README advises for slides.
#:   It takes 448 pixels; the margin around them is ours.
#: - vit-s16, vit-ti16: Touvron et al., ICML 2021 (DeiT), table 1; timm's vit_small_patch16_224 and
#:   vit_tiny_patch16_224.
ARCHITECTURES: dict[str, Architecture] = {
    "unicas": Architecture(
        ViT(width=1024, depth=24, heads=16, hidden=2736, gated=True, layer_scale=True), _ASK
    ),
    "uni": Architecture(
        ViT(width=1024, depth=24, heads=16, hidden=4096, layer_scale=True), "CC-BY-NC-ND-4.0"
    ),
    "h-optimus-0": Architecture(
        ViT(
            patch=14,
            width=1536,
            depth=40,
            heads=24,
            hidden=4096,
            gated=True,
            layer_scale=True,
            registers=4,
            embed_class=False,
        ),
        "Apache-2.0",
        (0.707223, 0.578729, 0.703617),
        (0.211883, 0.230117, 0.177517),
    ),
    "prov-gigapath": Architecture(_GIANT, "Apache-2.0"),
    "hibou-b": Architecture(
        ViT(
            patch=14,
            width=768,
            depth=12,
            heads=12,
            hidden=2048,
            gated=True,
            layer_scale=True,
            registers=4,
            embed_class=False,
        ),
        "Apache-2.0",
        (0.7068, 0.5755, 0.722),
        (0.195, 0.2316, 0.1816),
    ),
    "conch": Architecture(
        ViT(size=448, width=768, depth=12, heads=12, hidden=3072, pool=AttentionPool(512, 8)),
        "CC-BY-NC-ND-4.0",
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        tile_px=512,
    ),
    # for processors alone: 100 patches, and DINOv2's ViT-S/14 to begin with (`train.pretrained`)
    "vit-s22-8": Architecture(
        ViT(size=220, patch=22, width=384, depth=8, heads=6, hidden=1536, layer_scale=True),
        _ASK,
    ),
    "vit-s16": Architecture(ViT(width=384, heads=6, hidden=1536), _ASK),
    "vit-ti16": Architecture(ViT(), _ASK),
}
