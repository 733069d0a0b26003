"""Every simplification of the exported graph beside what it replaces, and how weights are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.encoder_case import (
    SMALL,
    in_onnx,
    in_torch,
    module_of,
    run,
    tiles_of,
    weights_of,
)
from unicas_edge.export import vit as exported
from unicas_edge.export.graph import STORAGES, Graph, quantise
from unicas_edge.models.architectures import AttentionPool, ViT, parameter_shapes

SHAPES = {
    "registers": SMALL,
    "gelu": replace(SMALL, gated=False, registers=0, embed_class=True),
    "bare": replace(SMALL, layer_scale=False, registers=0, embed_class=True),
    "positions of registers": replace(SMALL, embed_class=True),
    "pool": replace(SMALL, registers=0, pool=AttentionPool(24, 3)),
    "one block": replace(SMALL, depth=1),
}
LEVELS = exported.GreyLevels((0.7, 0.5, 0.6), (0.2, 0.3, 0.1))
MATRIX = ((0.9, 0.1, -0.05, 0.02), (0.0, 1.1, 0.05, -0.1), (0.2, -0.3, 0.8, 0.05))


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


# ---- the graph beside torch ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_graph_is_the_torch_module(shape):
    weights, tiles = weights_of(shape), tiles_of(shape, 3)
    wanted = in_torch(module_of(shape, weights), tiles)
    np.testing.assert_allclose(in_onnx(shape, weights, tiles), wanted, atol=1e-5)


shapes = st.builds(
    lambda patch, side, heads, channels, **rest: ViT(
        patch=patch, size=patch * side, heads=heads, width=heads * channels, **rest
    ),
    patch=st.integers(1, 5),
    side=st.integers(1, 4),
    heads=st.integers(1, 3),
    channels=st.integers(4, 7),
    depth=st.integers(1, 3),
    hidden=st.integers(1, 9),
    gated=st.booleans(),
    layer_scale=st.booleans(),
    registers=st.integers(0, 3),
    embed_class=st.booleans(),
    pool=st.none()
    | st.builds(lambda h, c: AttentionPool(h * c, h), st.integers(1, 3), st.integers(4, 6)),
).filter(  # PyTorch names the matrices of equal widths otherwise
    lambda shape: shape.pool is None or shape.pool.width != shape.width
)


@settings(max_examples=60)
@given(shapes, st.integers(0, 10), st.integers(1, 4))
def test_any_shape_is_the_torch_module(shape, seed, batch):
    weights, tiles = weights_of(shape, seed), tiles_of(shape, batch, seed)
    wanted = in_torch(module_of(shape, weights), tiles)
    np.testing.assert_allclose(in_onnx(shape, weights, tiles), wanted, atol=1e-4)


def test_one_file_takes_any_batch_and_a_tile_ignores_its_neighbours():
    tiles = tiles_of(SMALL, 7)
    weights = weights_of(SMALL)
    model = exported.build(SMALL, weights.__getitem__).SerializeToString()
    together = run(model, tiles)
    for i, tile in enumerate(tiles):
        np.testing.assert_allclose(run(model, tile[None])[0], together[i], atol=1e-6)


def test_layer_scale_is_folded_exactly():
    weights, tiles = weights_of(SMALL), tiles_of(SMALL)
    folded = dict(weights)
    for i in range(SMALL.depth):
        for n, last in ((1, "attn.proj"), (2, "mlp.fc2")):
            gamma = folded.pop(f"blocks.{i}.ls{n}.gamma")
            for part in ("weight", "bias"):
                key = f"blocks.{i}.{last}.{part}"
                folded[key] = (folded[key].T * gamma).T
    model = exported.build(SMALL, weights.__getitem__)
    assert not any("gamma" in tensor.name for tensor in model.graph.initializer)
    plain = replace(SMALL, layer_scale=False)
    np.testing.assert_array_equal(
        in_onnx(plain, folded, tiles), run(model.SerializeToString(), tiles)
    )


def test_the_last_block_computes_one_row_unless_a_pooler_reads_all():
    def rows(shape):
        """How many rows the last MLP computes, told by shape inference."""
        model = exported.build(shape, weights_of(shape).__getitem__)
        infos = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
        sizes = {info.name: info.type.tensor_type.shape.dim for info in infos}
        last = next(
            node
            for node in model.graph.node
            if f"blocks.{shape.depth - 1}.mlp.fc2.weight" in node.input
        )
        return sizes[last.output[0]][1].dim_value

    assert rows(SMALL) == 1
    assert rows(SHAPES["pool"]) == SMALL.patches + 1


def test_norms_stay_whole_and_activations_in_the_forms_that_runtimes_fuse(tmp_path):
    import onnxruntime

    for shape, fused in ((SMALL, "QuickGelu"), (SHAPES["gelu"], "BiasGelu")):
        model = exported.build(shape, weights_of(shape).__getitem__, storage="fp16")
        assert kinds(model)["LayerNormalization"] == 2 * shape.depth + 1
        assert {opset.version for opset in model.opset_import} == {17}
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4  # it says that the file is for this machine alone
        onnxruntime.InferenceSession(model.SerializeToString(), options)
        optimised = kinds(onnx.load(tmp_path / "optimised.onnx"))
        assert optimised[fused] == shape.depth
        assert not optimised["Cast"]


# ---- grey levels --------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [None, MATRIX])
def test_normalisation_and_colour_are_folded_into_the_patch_embedding(matrix):
    levels = replace(LEVELS, matrix=matrix)
    shape = (3, 3, SMALL.size, SMALL.size)
    grey = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    weights = weights_of(SMALL)
    pixels = grey / 255
    if matrix is not None:
        pixels = np.einsum("ij,bjhw->bihw", np.array(matrix)[:, :3], pixels)
        pixels += np.array(matrix)[:, 3, None, None]
    mean, std = (np.array(v)[:, None, None] for v in (levels.mean, levels.std))
    tiles = ((pixels - mean) / std).astype("f4")
    found = in_onnx(SMALL, weights, grey, levels=levels)
    np.testing.assert_allclose(found, in_torch(module_of(SMALL, weights), tiles), atol=1e-4)


@settings(max_examples=50)
@given(
    arrays.arrays(np.uint8, (3, 4, 4)),
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-2, 2)),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.05, 1)] * 3),
)
def test_a_folded_kernel_is_normalisation_then_the_kernel(grey, matrix, mean, std):
    rng = np.random.default_rng(7)
    kernel, bias = (rng.standard_normal(s).astype("f4") for s in ((5, 3, 4, 4), 5))
    levels = exported.GreyLevels(mean, std, tuple(map(tuple, matrix)))
    wide, shift = exported.fold(kernel, bias, levels)
    affine = np.concatenate([grey.reshape(3, -1) / 255, np.ones((1, 16))])
    x = (matrix @ affine - np.array(mean)[:, None]) / np.array(std)[:, None]
    wanted = kernel.reshape(5, -1) @ x.reshape(-1) + bias
    found = wide.reshape(5, -1).astype("f8") @ grey.reshape(-1) + shift
    np.testing.assert_allclose(found, wanted, atol=1e-4 * (1 + np.abs(x).max()))


# ---- storage ------------------------------------------------------------------------------------


def as_float32(model, plain):
    """`plain`, the same graph in float32, with the values that `model` stores its weights as."""
    kept = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    changed = onnx.ModelProto()
    changed.CopyFrom(plain)
    rounded = 0
    for tensor in changed.graph.initializer:
        name = tensor.name
        if name + ".fp16" in kept:
            value = kept[name + ".fp16"].astype("f4")
        elif name + ".int8" in kept:
            value = kept[name + ".int8"] * kept[name + ".scale"]
        else:
            np.testing.assert_array_equal(kept[name], onnx.numpy_helper.to_array(tensor))
            continue
        rounded += 1
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))
    return changed, rounded


@pytest.mark.parametrize("levels", [None, LEVELS], ids=["normalised", "grey"])
@pytest.mark.parametrize("name", ["registers", "gelu", "pool"])
@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_stored_weights_give_what_their_rounded_values_give(name, storage, levels):
    shape = SHAPES[name]
    weights, tiles = weights_of(shape), tiles_of(shape)
    if levels:
        tiles = (tiles * 40 + 128).clip(0, 255).astype(np.uint8)
    small = exported.build(shape, weights.__getitem__, storage=storage, levels=levels)
    plain = exported.build(shape, weights.__getitem__, levels=levels)
    rounded, count = as_float32(small, plain)
    # three matrices of qkv, proj, fc2, gate and value (or fc1); positions; the kernel; the pooler's
    assert count == 2 * (7 if shape.gated else 6) + 1 + (levels is None) + 3 * bool(shape.pool)
    found = run(small.SerializeToString(), tiles)
    np.testing.assert_allclose(found, run(rounded.SerializeToString(), tiles), atol=1e-4)
    off = np.abs(found - run(plain.SerializeToString(), tiles)).max()
    assert 1e-5 < off < (0.02 if storage == "fp16" else 0.5)


def test_storage_is_what_it_takes():
    weights = weights_of(SMALL)
    sizes = {
        storage: exported.build(SMALL, weights.__getitem__, storage=storage).ByteSize()
        for storage in STORAGES
    }
    matrices = sum(w.size for k, w in weights.items() if w.ndim > 1 and k.endswith("weight"))
    assert sizes["fp32"] - sizes["fp16"] > 1.9 * matrices
    assert sizes["fp16"] - sizes["int8"] > 0.5 * matrices


finite = st.floats(-(2.0**60), 2.0**60, width=32)


@given(
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=finite
    ),
    st.data(),
)
def test_quantised_channels_keep_to_half_a_step(value, data):
    channels = data.draw(st.integers(0, value.ndim - 1))
    levels, scale = quantise(value, channels)
    assert levels.dtype == np.int8
    assert np.abs(levels.astype(int)).max() <= 127
    assert scale.shape == tuple(n if i == channels else 1 for i, n in enumerate(value.shape))
    error = np.abs(levels.astype("f8") * scale - value)
    assert (error <= scale * 0.5001).all()


# ---- weights beside the model -------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_weights_beside_the_model_give_the_same_bits(tmp_path, storage):
    weights, tiles = weights_of(SMALL), tiles_of(SMALL)
    inline = exported.build(SMALL, weights.__getitem__, storage=storage)
    with (tmp_path / "w.data").open("wb") as data:
        beside = exported.build(
            SMALL, weights.__getitem__, storage=storage, data=data, location="w.data"
        )
    path = tmp_path / "m.onnx"
    path.write_bytes(beside.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    assert kinds(beside) == kinds(inline)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in beside.graph.initializer
        if tensor.external_data
    ]
    assert len(places) >= 10
    assert all(int(place["offset"]) % 4096 == 0 for place in places)
    assert {place["location"] for place in places} == {"w.data"}
    found = run(str(path), tiles)
    np.testing.assert_array_equal(found, run(inline.SerializeToString(), tiles))


def test_no_two_constants_share_a_name():
    graph = Graph()
    graph.ints("a", [1, 2])
    graph.ints("a", [1, 2])
    with pytest.raises(ValueError, match="two constants are called a"):
        graph.ints("a", [3])


def test_the_checkpoint_is_read_for_every_key_and_no_other():
    for shape in SHAPES.values():
        weights, read = weights_of(shape), set()

        def get(key, weights=weights, read=read):
            read.add(key)
            return weights[key]

        exported.build(shape, get)
        assert read == set(parameter_shapes(shape))
