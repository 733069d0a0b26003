"""Engines: an untrained encoder against NumPy, its bits in any batch, and what can go wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine_case import encode
from tests.support.fake_encoder import FakeEncoder
from tests.support.numpy_maths import gelu, layer_norm, softmax
from unicas_edge.core import machine
from unicas_edge.engines import Encoder, EngineOptions, open_encoder
from unicas_edge.engines.base import plan_batches
from unicas_edge.errors import EngineError
from unicas_edge.export import untrained, vit


@pytest.fixture(scope="module")
def bundle(untrained_bundle):
    return untrained_bundle


@pytest.fixture(scope="module")
def tiles():
    return np.random.default_rng(3).standard_normal((9, 3, 224, 224), dtype="f4")


@pytest.fixture(scope="module")
def reference(bundle, tiles):
    encoder = open_encoder(bundle, EngineOptions(batch_size=4, threads=2))
    return encode(encoder, tiles)


# ---- an untrained encoder -----------------------------------------------------------------------


def vit_in_numpy(tile):
    """The published ViT, every row of every block, from the weights as they are stored (fp16)."""
    shapes, model = vit.parameter_shapes(untrained.VIT), untrained.VIT

    def weight(key):
        value = untrained.draw(key, shapes[key])
        return value.astype("f2").astype("f4") if value.ndim > 1 else value

    def linear(x, key):
        return x @ weight(key + ".weight").T + weight(key + ".bias")

    def norm(x, key):
        return layer_norm(x, weight(key + ".weight"), weight(key + ".bias"), vit.NORM_EPS)

    side, c = model.size // model.patch, model.width
    patches = tile.reshape(3, side, model.patch, side, model.patch).transpose(1, 3, 0, 2, 4)
    kernel = weight("patch_embed.proj.weight").reshape(c, -1)
    x = patches.reshape(side * side, -1) @ kernel.T + weight("patch_embed.proj.bias")
    x = np.concatenate([weight("cls_token")[0], x]) + weight("pos_embed")[0]
    for i in range(model.depth):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.reshape(len(x), 3, model.heads, -1).transpose(1, 2, 0, 3)
        p = softmax(q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1])))
        x = x + linear((p @ v).transpose(1, 0, 2).reshape(x.shape), f"blocks.{i}.attn.proj")
        hidden = gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(hidden, f"blocks.{i}.mlp.fc2")
    return norm(x, "norm")[0]


def test_an_untrained_encoder_is_the_vision_transformer_it_claims_to_be(tiles, reference):
    for tile, token in zip(tiles[:2], reference, strict=False):
        np.testing.assert_allclose(token, vit_in_numpy(tile), atol=2e-3)
    assert np.abs(reference[0] - reference[1]).max() > 0.05  # and it does look at the tile


def test_a_tile_gives_the_same_bits_at_any_place_among_any_neighbours(bundle, tiles, reference):
    encoder = open_encoder(bundle, EngineOptions(batch_size=4, threads=2))
    rng = np.random.default_rng(5)
    for _ in range(3):
        assert np.array_equal(encode(encoder, tiles, rng.permutation(len(tiles))), reference)
    alone = np.full((4, 3, 224, 224), 1e3, dtype="f4")
    for row in range(4):
        alone[row] = tiles[0]
        assert np.array_equal(encoder.encode(alone)[row], reference[0])
        alone[row] = -1e3


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 1), (8, 2)])
def test_and_in_any_batch_size(bundle, tiles, reference, batch_size, threads):
    encoder = open_encoder(bundle, EngineOptions(batch_size=batch_size, threads=threads))
    assert np.array_equal(encode(encoder, tiles), reference)


def test_workers_may_encode_at_once(bundle, tiles, reference):
    encoder = open_encoder(bundle, EngineOptions(batch_size=1, threads=2))
    assert (encoder.workers, encoder.threads) == (2, 2)
    with ThreadPoolExecutor(encoder.workers) as pool:
        tokens = list(pool.map(lambda tile: encoder.encode(tile[None])[0], tiles))
    assert np.array_equal(np.stack(tokens), reference)


def test_an_open_encoder_says_what_it_is(bundle):
    encoder: Encoder = open_encoder(bundle)
    assert (encoder.name, encoder.device, encoder.precision) == ("onnxruntime", "cpu", "fp32")
    assert (encoder.width, encoder.dtype) == (192, np.float32)
    assert encoder.version
    assert encoder.workers <= encoder.threads == machine.usable_cores()
    encoder.close()
    encoder.close()
    with pytest.raises(EngineError, match="closed"):
        encoder.encode(np.zeros((encoder.batch_size, 3, 224, 224), "f4"))


def test_choosing_an_engine_does_not_import_it():
    code = "import sys, unicas_edge.engines; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- batches and machines -----------------------------------------------------------------------


@given(
    cores=st.integers(1, 256),
    tile=st.integers(1, 10**9),
    batch=st.none() | st.integers(1, 64),
    memory=st.integers(0, 1 << 34),
)
def test_a_plan_keeps_to_cores_and_memory(cores, tile, batch, memory):
    workers, threads, size = plan_batches(cores, tile, memory, batch)
    assert workers >= 1
    assert threads >= 1
    assert workers * threads <= cores
    assert size == batch or (batch is None and size >= 1)
    assert workers * size * tile <= memory or workers == 1
    assert batch is not None or size == 1 or workers * size * tile <= memory


def test_memory_decides_the_batch(bundle):
    assert open_encoder(bundle, EngineOptions(memory_mb=1, threads=2)).batch_size == 1
    assert open_encoder(bundle, EngineOptions(memory_mb=1, threads=2)).workers == 1
    assert open_encoder(bundle, EngineOptions(memory_mb=4096, threads=2)).batch_size > 1


# ---- what can go wrong --------------------------------------------------------------------------


def test_an_unknown_backend_lists_the_known_ones(bundle):
    with pytest.raises(EngineError, match="unknown backend 'abacus'; there are: auto, onnxruntime"):
        open_encoder(bundle, EngineOptions("abacus"))


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch_size": 0}, {"batch_size": 10**9}])
def test_absurd_options_are_refused(bundle, options):
    with pytest.raises(EngineError, match="choose 1 to"):
        open_encoder(bundle, EngineOptions(**options))


def test_a_runtime_that_is_not_installed_is_an_engine_error(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="onnxruntime is not installed; pip install onnxruntime"):
        open_encoder(bundle)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 3, 224, 224), "f4"),
        np.zeros((2, 3, 224, 224), "f8"),
        np.zeros((2, 3, 224, 223), "f4"),
        np.zeros((2, 224, 224, 3), "f4").transpose(0, 3, 1, 2),
    ],
)
def test_a_batch_of_another_shape_type_or_order_is_refused(bundle, batch):
    with pytest.raises(EngineError, match="pad the last batch"):
        open_encoder(bundle, EngineOptions(batch_size=2)).encode(batch)


# ---- the fake -----------------------------------------------------------------------------------


def test_the_fake_depends_on_the_tile_alone(tiles):
    one, four = FakeEncoder(64, batch_size=1), FakeEncoder(64, batch_size=4)
    tokens = encode(one, tiles)
    assert tokens.dtype == np.float32
    assert np.array_equal(encode(four, tiles, np.arange(9)[::-1]), tokens)
    assert len(np.unique(tokens, axis=0)) == len(tiles)
    one.close()
    with pytest.raises(EngineError, match="closed"):
        one.encode(tiles[:1])
    with pytest.raises(EngineError, match=r"must be float32 \[4, 3, 224, 224\]"):
        four.encode(tiles[:3])


def test_the_onnx_file_passes_the_checker(bundle):
    onnx.checker.check_model(onnx.load(bundle.path("encoder.onnx")), full_check=True)
