"""The encoders against timm and the golden tokens, in torch and through the exported ONNX."""

from __future__ import annotations

import importlib.util
import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.encoder_case import (
    SMALL,
    cosines,
    in_onnx,
    in_torch,
    module_of,
    run,
    shallow,
    tensors,
    tiles_of,
    weights_of,
)
from unicas_edge.bundle.edit import Draft
from unicas_edge.export.encoder import write_encoder
from unicas_edge.models.architectures import ARCHITECTURES, parameter_shapes
from unicas_edge.train.encoder.model import VisionTransformer

# ---- the golden tokens --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden_vitl(golden_dir):
    """The golden ViT-L: (weights, normalised tiles, their tokens); its 1.2 GB are filled once."""
    spec = importlib.util.spec_from_file_location("fill", golden_dir / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    case = json.loads((golden_dir / "encoder.json").read_text())
    shapes = {key: tuple(shape) for key, shape in case["shapes"].items()}
    assert parameter_shapes(ARCHITECTURES["unicas"].vit) == shapes
    with np.load(golden_dir / "encoder.npz") as arrays:
        grey, tokens = arrays["tiles_uint8"][::4], arrays["cls"][::4]
    tiles = (grey.astype("f4") / 255 - np.float32(case["mean"])) / np.float32(case["std"])
    return fill.fill(shapes), np.ascontiguousarray(tiles.transpose(0, 3, 1, 2)), tokens


@pytest.fixture(scope="module")
def golden_torch(golden_vitl):
    weights, tiles, _ = golden_vitl
    return in_torch(module_of(ARCHITECTURES["unicas"].vit, weights), tiles)


def test_the_torch_module_gives_the_golden_tokens(golden_vitl, golden_torch):
    _, _, tokens = golden_vitl
    np.testing.assert_allclose(golden_torch, tokens, atol=1e-3)
    assert cosines(golden_torch, tokens).min() > 0.99999


def test_the_exported_onnx_gives_the_golden_tokens(golden_vitl, golden_torch, tmp_path):
    weights, tiles, tokens = golden_vitl
    vit = ARCHITECTURES["unicas"].vit
    files = write_encoder(vit, weights.__getitem__, Draft(tmp_path, tmp_path), "fp32")
    assert files == ["encoder.onnx", "encoder.onnx.data"]
    found = run(str(tmp_path / "encoder.onnx"), tiles)
    shutil.rmtree(tmp_path)  # 1.2 GB
    np.testing.assert_allclose(found, golden_torch, atol=1e-4)
    np.testing.assert_allclose(found, tokens, atol=1e-3)
    assert cosines(found, tokens).min() > 0.99999


# ---- timm ---------------------------------------------------------------------------------------


def timm_model(name, depth=2):
    """The published model as its authors build it in timm (see `ARCHITECTURES`), uninitialised."""
    timm = pytest.importorskip("timm", reason="timm is the reference here")
    from timm.layers import GluMlp, SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer as Reference

    plain = {"img_size": 224, "num_classes": 0, "depth": depth}
    create = partial(timm.create_model, **plain)
    with torch.device("meta"):
        return {
            "unicas": lambda: Reference(
                **plain,
                patch_size=16,
                embed_dim=1024,
                num_heads=16,
                init_values=1e-5,
                mlp_ratio=5.34375,
                mlp_layer=partial(GluMlp, gate_last=False),
                act_layer=nn.SiLU,
                no_embed_class=False,
            ),
            "uni": lambda: create("vit_large_patch16_224", init_values=1e-5),
            "h-optimus-0": lambda: create("vit_giant_patch14_reg4_dinov2", init_values=1e-5),
            "prov-gigapath": lambda: create("vit_giant_patch14_dinov2", patch_size=16),
            "hibou-b": lambda: create(
                "vit_base_patch14_reg4_dinov2",
                mlp_layer=SwiGLUPacked,
                act_layer=nn.SiLU,
                mlp_ratio=5.33334,
            ),
            "conch": lambda: Conch(
                Reference(**plain | {"img_size": 448}, patch_size=16, embed_dim=768, num_heads=12)
            ),
            "vit-s22-8": lambda: create("vit_small_patch14_dinov2", img_size=220, patch_size=22),
            "vit-s16": lambda: create("vit_small_patch16_224"),
            "vit-ti16": lambda: create("vit_tiny_patch16_224"),
        }[name]()


class Conch(nn.Module):
    """timm's trunk under the pooler of CONCH, written down a second time."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk
        self.query = nn.Parameter(torch.empty(1, 512))
        self.attn = nn.MultiheadAttention(512, 8, kdim=768, vdim=768)
        self.ln_q, self.ln_k, self.ln = nn.LayerNorm(512), nn.LayerNorm(768), nn.LayerNorm(512)

    def load_state_dict(self, state, **options):
        def ours(key):
            pooled = key.startswith("attn_pool_contrast.")
            key = key.removeprefix("attn_pool_contrast.").replace("ln_contrast.", "ln.")
            return key if pooled or key.startswith("ln.") else "trunk." + key

        return super().load_state_dict({ours(k): v for k, v in state.items()}, **options)

    def forward(self, x):
        h = self.ln_k(self.trunk.forward_features(x)).permute(1, 0, 2)
        query = self.ln_q(self.query).unsqueeze(1).repeat(1, h.shape[1], 1)
        return self.ln(self.attn(query, h, h, need_weights=False)[0].permute(1, 0, 2)[:, 0])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_timms_in_torch_and_in_onnx(name):
    vit = shallow(name)
    weights, tiles = weights_of(vit), tiles_of(vit)
    reference = timm_model(name)
    reference.load_state_dict(tensors(weights), strict=True, assign=True)
    wanted = in_torch(reference.eval(), tiles)
    assert wanted.shape == (2, vit.out_width)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.05  # and it looks at the tiles
    np.testing.assert_allclose(in_torch(module_of(vit, weights), tiles), wanted, atol=2e-5)
    np.testing.assert_allclose(in_onnx(vit, weights, tiles), wanted, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_the_keys_and_shapes_of_the_whole_model(name):
    vit = ARCHITECTURES[name].vit
    with torch.device("meta"):
        ours = VisionTransformer(vit).state_dict()
    shapes = {key: tuple(value.shape) for key, value in ours.items()}
    assert shapes == parameter_shapes(vit)
    if name != "conch":
        theirs = timm_model(name, vit.depth).state_dict()
        assert {key: tuple(value.shape) for key, value in theirs.items()} == shapes
    assert (
        vit.out_width
        == {
            "unicas": 1024,
            "uni": 1024,
            "h-optimus-0": 1536,
            "prov-gigapath": 1536,
            "hibou-b": 768,
            "conch": 512,
            "vit-s22-8": 384,
            "vit-s16": 384,
            "vit-ti16": 192,
        }[name]
    )


# ---- what training needs ------------------------------------------------------------------------


def test_patches_come_with_the_class_token_and_can_be_masked():
    module = module_of(SMALL, weights_of(SMALL))
    tiles = torch.from_numpy(tiles_of(SMALL, 3))
    token, patches = module.forward_features(tiles)
    assert patches.shape == (3, 16, 32)
    assert torch.equal(token, module(tiles))
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[1, 5] = True
    replaced = nn.Parameter(torch.ones(32))
    masked, _ = module.forward_features(tiles, mask, replaced)
    assert torch.equal(masked[0], token[0])
    assert not torch.allclose(masked[1], token[1])
    masked.square().sum().backward()
    assert replaced.grad.abs().max() > 0
    assert all(p.grad is not None for p in module.parameters())
    other = tiles.clone()
    other[1, :, 14:28, 14:28] += 1  # the masked patch: row 1, column 1
    again, _ = module.forward_features(other, mask, replaced)
    torch.testing.assert_close(again[1], masked[1])


@pytest.mark.parametrize("side", [28, 42, 84])
def test_positions_of_other_sizes_are_resampled_as_timm_does(side):
    pytest.importorskip("timm", reason="timm is the reference here")
    from timm.layers import resample_abs_pos_embed

    module = module_of(SMALL, weights_of(SMALL))
    rows = side // SMALL.patch
    wanted = resample_abs_pos_embed(module.pos_embed, [rows, rows], num_prefix_tokens=0)
    torch.testing.assert_close(module._positions((rows, rows)), wanted)
    assert module(torch.zeros(1, 3, side, side)).shape == (1, 32)


def test_a_fresh_module_is_finite_and_learns():
    torch.manual_seed(0)
    module = VisionTransformer(SMALL)
    tiles = torch.from_numpy(tiles_of(SMALL, 4))
    goal = torch.randn(4, 32)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = (module(tiles) - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
