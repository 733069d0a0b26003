"""Checkpoints in other layouts than timm's, and which architecture a checkpoint is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.encoder_case import SMALL, shallow, tensors, weights_of
from unicas_edge.errors import CheckpointError
from unicas_edge.export.encoder import identify
from unicas_edge.models.architectures import ARCHITECTURES, parameter_shapes
from unicas_edge.models.checkpoint import check_fit, load
from unicas_edge.models.layouts import as_timm


def saved(path, state, **options):
    torch.save(state, path, **options)
    return path


def read(found):
    return {key: found.read(key) for key in found.shapes}


def same(found, weights):
    assert set(found.shapes) == set(weights)
    for key, value in read(found).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, weights[key], err_msg=key)


# ---- other layouts ------------------------------------------------------------------------------


def hibou(weights):
    """DINOv2's names and positions for a state dict in timm's (a position for the class token)."""
    names = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
    made = {"mask_token": np.ones((1, 768), "f4"), "register_tokens": weights["reg_token"]}
    position = np.full((1, 1, 768), 0.25, "f4")
    made["cls_token"] = weights["cls_token"] - position
    made["pos_embed"] = np.concatenate([position, weights["pos_embed"]], axis=1)
    for key, value in weights.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901
        made.setdefault(key, value)
    del made["reg_token"]
    return made


def transformers_hibou(weights):
    """The same weights under the names of transformers' Dinov2Model."""
    theirs = {
        "norm.": "layernorm.",
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
    }
    inner = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    made = {}
    for key, value in hibou(weights).items():
        if not key.startswith("blocks."):
            start = next(name for name in theirs if key.startswith(name))
            made[theirs[start] + key[len(start) :]] = value
            continue
        _, block, rest = key.split(".", 2)
        layer = f"encoder.layer.{block}."
        if rest.startswith("attn.qkv"):
            # in an order that is not q, k, v
            for i, name in ((2, "value"), (0, "query"), (1, "key")):
                part = value[i * 768 : (i + 1) * 768]
                made[f"{layer}attention.attention.{name}.{rest.rsplit('.', 1)[1]}"] = part
            continue
        start = next((name for name in inner if rest.startswith(name)), "")
        made[layer + inner.get(start, "") + rest[len(start) :]] = value
    return made


@pytest.mark.parametrize("layout", [hibou, transformers_hibou])
def test_hibous_layouts_become_timms(tmp_path, layout):
    weights = weights_of(shallow("hibou-b"))
    found = as_timm(load(saved(tmp_path / "hibou.pth", tensors(layout(weights)))))
    assert set(found.shapes) == set(weights)
    for key, value in read(found).items():
        np.testing.assert_allclose(value, weights[key], atol=1e-6, err_msg=key)
        assert found.shapes[key] == value.shape
    assert "ignored 1 tensors" in found.notes[0]


def test_dinov2s_layout_is_converted_as_timm_does():
    pytest.importorskip("timm", reason="timm is the reference here")
    import timm
    from timm.layers import SwiGLUPacked
    from timm.models.vision_transformer import checkpoint_filter_fn

    weights = weights_of(shallow("hibou-b"))
    with torch.device("meta"):
        model = timm.create_model(
            "vit_base_patch14_reg4_dinov2",
            img_size=224,
            num_classes=0,
            depth=2,
            mlp_ratio=5.33334,
            mlp_layer=SwiGLUPacked,
            act_layer=torch.nn.SiLU,
        )
    theirs = checkpoint_filter_fn(tensors(hibou(weights)), model)
    assert set(theirs) == set(weights)
    for key, value in theirs.items():
        np.testing.assert_allclose(value.numpy(), weights[key], atol=1e-6, err_msg=key)


def test_conchs_vision_tower_is_taken_out_of_the_whole_model(tmp_path):
    weights = weights_of(shallow("conch"))
    pooled = ("attn_pool_contrast.", "ln_contrast.")
    state = {
        ("visual." if k.startswith(pooled) else "visual.trunk.") + k: v for k, v in weights.items()
    }
    others = (
        "logit_scale",
        "text.cls_emb",
        "text_decoder.x",
        "visual.proj_contrast",
        "visual.attn_pool_caption.query",
        "visual.ln_caption.bias",
    )
    state |= {key: np.ones(2, "f4") for key in others}
    found = as_timm(load(saved(tmp_path / "conch.bin", tensors(state))))
    same(found, weights)
    assert found.notes == (
        "read in CONCH's layout, ignored 6 tensors that are not needed to encode tiles",
    )


def test_what_a_layout_does_not_know_is_unexpected(tmp_path):
    weights = weights_of(shallow("hibou-b", 12))
    state = hibou(weights) | {"surprise": np.ones(3, "f4")}
    found = as_timm(load(saved(tmp_path / "hibou.pth", tensors(state))))
    with pytest.raises(
        CheckpointError, match=r"not the encoder hibou-b: unexpected surprise \[3\]"
    ):
        identify(found)


def test_parts_that_do_not_go_together_fit_nothing(tmp_path):
    state = tensors(transformers_hibou(weights_of(shallow("hibou-b", 1))))
    state["encoder.layer.0.attention.attention.key.weight"] = torch.zeros(768, 9)
    found = as_timm(load(saved(tmp_path / "hibou.pth", state)))
    assert found.shapes["blocks.0.attn.qkv.weight"] == ()


# ---- another architecture -----------------------------------------------------------------------


class Shapes:
    """A checkpoint that is only asked for its shapes."""

    path = "x.pth"

    def __init__(self, shapes):
        self.shapes = shapes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_recognised_by_its_shapes(name):
    shapes = Shapes(parameter_shapes(ARCHITECTURES[name].vit))
    assert identify(shapes)[0] == name
    assert identify(shapes, name)[0] == name
    for other in set(ARCHITECTURES) - {name}:
        with pytest.raises(CheckpointError, match=f"It is {name}: give --architecture {name}"):
            identify(shapes, other)


def test_what_differs_is_listed():
    shapes = parameter_shapes(ARCHITECTURES["uni"].vit)
    del shapes["cls_token"], shapes["blocks.3.ls1.gamma"]
    shapes["norm.weight"] = (7,)
    shapes |= {f"head.{i}": (i,) for i in range(6)}
    with pytest.raises(CheckpointError) as error:
        identify(Shapes(shapes))
    assert str(error.value) == (
        "x.pth: is not the encoder uni: missing cls_token [1, 1, 1024]; missing blocks.3.ls1.gamma "
        "[1024]; norm.weight is [7], not [1024]; unexpected head.0 [0]; unexpected head.1 [1] and "
        f"4 more. There are: {', '.join(ARCHITECTURES)}"
    )


def test_an_aggregator_is_no_encoder():
    with pytest.raises(CheckpointError, match=r"x\.pth: has no tensor of an encoder \(model\.task"):
        identify(Shapes({"model.task_tokens": (1, 3, 768), "model.norm.bias": (768,)}))


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(
        CheckpointError, match=r"unknown architecture 'resnet'; there are: auto, uni"
    ):
        identify(Shapes({}), "resnet")


@settings(max_examples=50)
@given(st.data())
def test_a_fit_is_exact(data):
    wanted = parameter_shapes(SMALL)
    shapes = dict(wanted)
    for key in data.draw(st.lists(st.sampled_from(sorted(wanted)), max_size=3)):
        shapes.pop(key, None)
    for key in data.draw(st.lists(st.sampled_from(sorted(wanted)) | st.text(max_size=3))):
        shapes[key] = tuple(data.draw(st.lists(st.integers(0, 40), max_size=4)))
    found = Shapes(shapes)
    if shapes == wanted:
        check_fit(found, wanted, "it", "")
    else:
        with pytest.raises(CheckpointError):
            check_fit(found, wanted, "it", "")
