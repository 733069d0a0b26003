"""Expert storage: rounding, the files that hold it, and files that lie about it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.support.dense_aggregator import config_of, weights_of
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle.aggregator_file import load_weights
from unicas_edge.bundle.expert_storage import (
    DTYPES,
    AggregatorTensors,
    dequantise,
    encode,
    is_expert,
    quantise,
)
from unicas_edge.core.safetensors import from_bf16, to_bf16
from unicas_edge.export.experts import write_experts

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-(2.0**127), 2.0**127, width=32),
)


# ---- rounding -----------------------------------------------------------------------------------


@given(matrices)
def test_no_value_is_further_than_half_a_scale_from_its_int8(values):
    q, scale = quantise(values)
    assert q.dtype == np.int8
    assert scale.dtype == np.float32
    assert (np.abs(q.astype(int)) <= 127).all()
    assert (scale >= np.finfo("f4").tiny).all()
    error = np.abs(dequantise(q, scale).astype("f8") - values)
    assert (error <= scale[:, None].astype("f8") * (0.5 + 2e-5)).all()
    mirrored, same = quantise(-values)
    assert np.array_equal(mirrored, -q)
    assert np.array_equal(same, scale)


@given(hnp.arrays(np.int8, (4, 6), elements=st.integers(-127, 127)), st.integers(-100, 100))
def test_what_was_quantised_once_stays_as_it_is(q, power):
    q[:, 0] = 127
    values = dequantise(q, np.full(4, 2.0**power, "f4"))
    again, scale = quantise(values)
    assert np.array_equal(again, q)
    assert np.array_equal(scale, np.full(4, 2.0**power, "f4"))


def test_rows_of_zeros_and_of_almost_nothing_have_scale_1():
    values = np.array([[0, -0.0, 0], [1e-42, -3e-41, 0], [0, 2.54, -1.27]], "f4")
    q, scale = quantise(values)
    assert scale[:2].tolist() == [1, 1]
    assert q.tolist() == [[0, 0, 0], [0, 0, 0], [0, 127, -64]]  # 63.5: to the even one


def test_int8_rounds_half_to_even():
    q, _ = quantise(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], "f4"))
    assert q.tolist() == [[127, 0, 2, 2, 0, -2]]


@given(hnp.arrays(np.uint32, (64,), elements=st.integers(0, 2**32 - 1)))
@settings(max_examples=300)
def test_bfloat16_is_that_of_ml_dtypes(bits):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="comes with onnx >= 1.19")
    values = bits.view(np.float32)
    with np.errstate(invalid="ignore"):
        wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = from_bf16(to_bf16(values))
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(values))


def test_every_bfloat16_is_kept_and_ties_go_to_the_even_one():
    every = np.arange(65_536, dtype=np.uint16)
    values = from_bf16(every)
    number = ~np.isnan(values)
    assert np.array_equal(to_bf16(values)[number], every[number])
    assert np.isnan(from_bf16(to_bf16(values)))[~number].all()
    between = ((every.astype(np.uint32) << 16) | 0x8000).view(np.float32)
    below = every[number & (every & 0x7FFF < 0x7F7F)]
    assert np.array_equal(to_bf16(between)[below], below + (below & 1))


@given(matrices)
def test_bfloat16_is_off_by_a_256th_at_most(values):
    error = np.abs(from_bf16(to_bf16(values)).astype("f8") - values)
    normal = np.abs(values) >= np.finfo("f4").tiny
    assert (error[normal] <= np.abs(values[normal].astype("f8")) / 256).all()


@pytest.mark.parametrize(
    ("value", "experts", "cause"),
    [
        (np.nan, "int8", "not finite"),
        (np.inf, "fp32", "not finite"),
        (7e4, "fp16", "too large for fp16"),
        (3.4e38, "bf16", "too large for bf16"),
        (3.4028235e38, "int8", "too large for int8"),  # 127 scales would overflow
    ],
)
def test_what_a_storage_cannot_hold_is_refused(value, experts, cause):
    with pytest.raises(ValueError, match=cause):
        encode(np.array([[1, value]], "f4"), experts)


# ---- files --------------------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path):
    config = config_of()
    path = tmp_path / "original.safetensors"
    save_file(weights_of(config), path, metadata={"config": config.model_dump_json(), "by": "x"})
    return path


def converted(original, experts):
    path = original.with_name(f"{experts}.safetensors")
    with path.open("wb") as out:
        write_experts(AggregatorTensors(original), out, experts)
    return path


@pytest.mark.parametrize("experts", list(DTYPES))
def test_only_experts_change_and_by_no_more_than_their_storage(original, experts):
    path, before = converted(original, experts), AggregatorTensors(original)
    after = AggregatorTensors(path)
    assert after.experts() == experts
    assert after.metadata == before.metadata
    assert {key for key in after.tensors if not after.is_scale(key)} == set(before.tensors)
    bound = {"fp32": 0, "fp16": 2**-11, "bf16": 2**-8, "int8": 0.5 / 127}[experts]
    for key in before.tensors:
        values = after.values(key)
        wanted = before.stored(key)
        assert values.dtype in ("f4", "f2")
        assert after.tensors[key].dtype == (DTYPES[experts] if is_expert(key) else "F32"), key
        largest = np.abs(wanted).max(axis=-1, keepdims=True)
        off = np.abs(values.astype("f8") - wanted)
        assert (off <= (bound * 1.00001 * largest if is_expert(key) else 0)).all(), key


@pytest.mark.parametrize("experts", list(DTYPES))
def test_safetensors_itself_reads_the_file_and_every_tensor_is_aligned(original, experts):
    path = converted(original, experts)
    file, size = AggregatorTensors(path), {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
    with safe_open(path, framework="numpy") as theirs:
        for key, tensor in file.tensors.items():
            assert tensor.begin % size[tensor.dtype] == 0
            if tensor.dtype != "BF16":
                assert np.array_equal(theirs.get_tensor(key), file.stored(key))
            assert theirs.get_slice(key).get_shape() == list(tensor.shape)


def test_fp32_is_the_same_file_as_before_tensor_for_tensor(original):
    first, second = AggregatorTensors(original), AggregatorTensors(converted(original, "fp32"))
    assert all(np.array_equal(first.stored(key), second.stored(key)) for key in first.tensors)


@pytest.mark.parametrize("experts", ["bf16", "int8"])
def test_the_aggregator_computes_with_what_the_storage_stands_for(original, experts, rng):
    path = converted(original, experts)
    weights, config = load_weights(path)
    source, _ = load_weights(original)
    for key in filter(is_expert, source):
        stored, scale = encode(source[key], experts)
        source[key] = from_bf16(stored) if scale is None else dequantise(stored, scale)
    tokens = rng.standard_normal((12, 6), dtype="f4")
    wanted = Aggregator(source, config).logits(tokens)
    np.testing.assert_allclose(Aggregator.load(path).logits(tokens), wanted, atol=1e-5)
    assert all(np.array_equal(weights[key], source[key]) for key in source)


def test_a_conversion_holds_a_few_tensors_in_memory_whatever_the_file_weighs(tmp_path):
    config = config_of(embed_dim=128, num_experts=16, depth=4, mlp_ratio=4.0)
    path = tmp_path / "a.safetensors"
    save_file(weights_of(config), path, metadata={"config": config.model_dump_json()})
    assert path.stat().st_size > 32_000_000
    tracemalloc.start()
    for experts in ("bf16", "int8"):
        converted(path, experts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 128 * 512 * 4, f"{peak:,} bytes"
