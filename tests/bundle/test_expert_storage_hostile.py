"""Files of weights that lie about their experts."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.support.dense_aggregator import config_of, weights_of
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle.aggregator_file import check_weights, load_weights
from unicas_edge.bundle.expert_storage import AggregatorTensors, quantise
from unicas_edge.errors import AggregatorError
from unicas_edge.export.experts import write_experts

FC1 = "model.blocks.0.mlp.experts.0.fc1.weight"
KV = "model.blocks.0.attn.kv.weight"


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


def tampered(original, change):
    weights = dict(load_weights(original)[0])
    change(weights)
    path = original.with_name("bad.safetensors")
    save_file(weights, path, metadata=AggregatorTensors(original).metadata)
    return path


def as_int8(key, **changes):
    def change(weights):
        q, scale = quantise(weights[key])
        weights[key] = q
        weights[key + "_scale"] = scale
        for name, how in changes.items():
            weights[key + name] = how(weights[key + name])

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda w: w.update({FC1: w[FC1].astype("i1")}), f"{FC1} is int8 without scales"),
        (as_int8(KV), f"{KV} is int8 without scales"),
        (as_int8(FC1, _scale=lambda s: s[:-1]), rf"{FC1}_scale is F32 \[15\], not F32 \[16\]"),
        (as_int8(FC1, _scale=lambda s: s[:, None]), r"is F32 \[16, 1\], not F32 \[16\]"),
        (as_int8(FC1, _scale=lambda s: s.astype("f2")), r"is F16 \[16\], not F32"),
        (as_int8(FC1, _scale=lambda s: s * 0), "not finite and positive"),
        (as_int8(FC1, _scale=np.negative), "not finite and positive"),
        (as_int8(FC1, _scale=lambda s: s * np.nan), "not finite and positive"),
        (lambda w: w.update({FC1 + "_scale": np.ones(16, "f4")}), f"unexpected {FC1}_scale"),
        (lambda w: w.update({FC1: w[FC1].astype("i4")}), f"{FC1} is stored as I32"),
        (lambda w: w.update({FC1: w[FC1].astype("u1")}), f"{FC1} is stored as U8"),
        (as_int8(FC1, **{"": np.ravel}), r"not F32 \[128\], one a row|is F32 \[16\], not"),
    ],
)
def test_tensors_that_do_not_belong_together_are_named(original, change, cause):
    path = tampered(original, change)
    with pytest.raises(AggregatorError, match=cause):
        check_weights(*load_weights(path))
    with pytest.raises(AggregatorError):
        Aggregator.load(path)


def test_a_file_cut_off_anywhere_is_refused(original):
    path = converted(original, "int8")
    whole = path.read_bytes()
    for length in [0, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(AggregatorError, match=r"int8\.safetensors: not a readable"):
            AggregatorTensors(path)


def test_a_file_that_shrinks_after_it_was_opened_is_refused(original):
    file = AggregatorTensors(original)
    last = list(file.tensors)[-1]
    original.write_bytes(original.read_bytes()[:-1])
    with pytest.raises(AggregatorError, match=f"{last} is cut off"):
        file.stored(last)


@pytest.mark.parametrize("offsets", [[0, 3], [4, 8], [-4, 0], [0, 2**62], [4, 0]])
def test_offsets_that_lie_are_refused(tmp_path, offsets):
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(AggregatorError, match="not a readable safetensors file"):
        AggregatorTensors(path)


@given(st.data())
@settings(max_examples=200)
def test_random_damage_is_an_error_of_ours_or_another_number(tmp_path_factory, data):
    config = config_of(depth=1)
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "original.safetensors"
    save_file(weights_of(config), path, metadata={"config": config.model_dump_json()})
    path = converted(path, data.draw(st.sampled_from(["bf16", "int8"])))
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        end = header if data.draw(st.booleans()) else len(content)
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        weights, _ = load_weights(path)
    except AggregatorError:
        return
    assert all(values.dtype.kind == "f" for values in weights.values())


def test_a_file_without_experts_in_a_known_storage_is_refused(tmp_path):
    save_file({"a": np.ones(1, "f4")}, tmp_path / "a.safetensors")
    with pytest.raises(AggregatorError, match="no expert matrix in fp32, fp16, bf16 or int8"):
        AggregatorTensors(tmp_path / "a.safetensors").experts()


def test_an_expert_that_the_storage_cannot_hold_is_named(original):
    path = tampered(original, lambda w: w[FC1].__setitem__((0, 0), 1e5))
    with pytest.raises(AggregatorError, match=f"{FC1} holds 100000, too large for fp16"):
        write_experts(AggregatorTensors(path), io.BytesIO(), "fp16")
