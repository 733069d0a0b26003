"""The reading of weights in C: files of every storage, lies one by one, truncation, mutations."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from tests.support.weights_file import (
    SIZES,
    SMALL,
    answers,
    config_line,
    config_of,
    copies_of,
    data_of,
    dump_of,
    file_of,
    good_file,
    header_of,
    run,
    tensors_of,
)

pytest_plugins = ["tests.support.weights_program"]

STORAGES = [("F32", "F32"), ("F16", "F16"), ("BF16", "BF16"), ("F32", "I8"), ("F16", "I8")]
EXPERT = "model.blocks.0.mlp.experts.0.fc1.weight"


# ---- good files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("floats", "experts"), STORAGES)
@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "depth": 3, "num_experts": 2}])
def test_every_tensor_is_where_and_what_it_should_be(program, tmp_path, floats, experts, changes):
    config = SMALL | changes
    content, tensors = good_file(config, floats=floats, experts=experts)
    assert len(safetensors.deserialize(content)) == len(tensors)
    path = tmp_path / "größe.safetensors"
    path.write_bytes(content)
    first, second, *rest = run(program, path).splitlines()
    assert first == config_line(config_of(**config))
    assert second == f"bytes {len(data_of(tensors))} {copies_of(tensors)}"
    assert set(rest) == dump_of(tensors)
    assert len(rest) == len(set(rest))


def test_a_file_written_by_the_reference_implementation(program, tmp_path):
    tensors = tensors_of(config_of(), floats="F16", experts="I8")
    numpy = {"F32": "<f4", "F16": "<f2", "I8": "i1"}
    arrays = {key: np.frombuffer(raw, numpy[d]).reshape(s) for key, (d, s, raw) in tensors.items()}
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(arrays, path, {"config": json.dumps(SMALL)})
    assert set(run(program, path).splitlines()[2:]) == dump_of(tensors)


@pytest.mark.parametrize(("floats", "experts"), STORAGES)
def test_wherever_tensors_lie_they_read_the_same(program, floats, experts):
    cases, wanted = [], set()
    for pad in range(8):
        content, tensors = good_file(pad=pad, floats=floats, experts=experts)
        cases += [("w", content), ("u", content)]
    found = [line.split() for line in answers(program, cases)]
    assert {status for status, *_ in found} == {"ok"}
    assert len({crc for _, crc, _ in found}) == 1
    wanted = {copies_of(tensors), copies_of(tensors, aligned=False)}
    assert wanted <= {int(copied) for *_, copied in found}


def test_every_half_is_widened_exactly(program, tmp_path):
    config = SMALL | {"embed_dim_in": 16384}
    tensors = tensors_of(config_of(**config))
    halves = np.arange(65536, dtype="<u2")
    halves[np.isnan(halves.view("<f2"))] = 0  # hardware may quieten what is no number
    shape = tensors["model.layer1.0.weight"][1]
    tensors["model.layer1.0.weight"] = ("F16", shape, halves.tobytes())
    path = tmp_path / "halves.safetensors"
    path.write_bytes(file_of(header_of(tensors, config), data_of(tensors)))
    assert set(run(program, path).splitlines()[2:]) == dump_of(tensors)


# ---- paths --------------------------------------------------------------------------------------


def test_paths_that_are_no_file_to_map(program, tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"\0" * 7)
    long = tmp_path / ("ü" * 100)
    for path, cause in [
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "empty", "it is empty"),
        (tmp_path / "missing", "No such file"),
        (tmp_path / "short", "has 7 bytes"),
        (long, "No such file"),
    ]:
        output = run(program, path)
        assert output.startswith(("BAD_FILE /", "BAD_FILE ..."))
        assert cause in output
        assert "pass a .safetensors file" in output
        assert str(path)[-40:] in output


# ---- lies ---------------------------------------------------------------------------------------

LIES = {
    "unknown dtype": lambda h: h[EXPERT].update(dtype="Q4"),
    "unknown field": lambda h: h[EXPERT].update(strides=[1]),
    "dtype, shape or data_offsets is missing": lambda h: h[EXPERT].pop("shape"),
    "a string belongs here": lambda h: h[EXPERT].update(dtype=4),
    "a list belongs here": lambda h: h[EXPERT].update(shape=24),
    "an object belongs here": lambda h: h.update({EXPERT: []}),
    "a whole number belongs here": lambda h: h[EXPERT].update(shape=[6, -4]),
    "more than 8 dimensions": lambda h: h[EXPERT].update(shape=[6, 4] + [1] * 7),
    "data_offsets are two numbers": lambda h: h[EXPERT]["data_offsets"].append(0),
    "a number is too large": lambda h: h[EXPERT].update(shape=[6, 2**64]),
    "its shape is too large": lambda h: h[EXPERT].update(shape=[2**33, 2**33]),
    "need another size": lambda h: h[EXPERT].update(shape=[6, 5]),
    "it ends before it begins": lambda h: h[EXPERT]["data_offsets"].reverse(),
    "it ends after the file": lambda h: h[EXPERT].update(data_offsets=[0, 2**63]),
    "it overlaps another tensor": lambda h: h[EXPERT].update(data_offsets=[0, 96]),
    "bytes before it belong to no tensor": lambda h: h.pop(EXPERT),
    "belong to no tensor": lambda h: h.pop(list(h)[-1]),
    "in __metadata__: a string belongs here": lambda h: h["__metadata__"].update(n=1),
}


@pytest.mark.parametrize("message", LIES)
def test_a_lie_in_the_header_is_named_with_its_tensor(ask, message):
    tensors = tensors_of(config_of())
    header = header_of(tensors, SMALL)
    LIES[message](header)
    content = file_of(header, data_of(tensors))
    answer = ask("w", content)
    assert answer.startswith("BAD_FILE memory: ")
    assert message in answer
    assert "again" in answer
    assert EXPERT in answer or "belong" in message or "__metadata__" in message
    if message not in ("unknown field", "more than 8 dimensions"):  # there we are stricter
        with pytest.raises(SafetensorError):
            safetensors.deserialize(content)


GOOD_ENTRY = b'{"dtype":"I8","shape":[1],"data_offsets":[0,1]}'


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "does not start with {"),
        (b' {"a":' + GOOD_ENTRY + b"}", "does not start with {"),
        (b'{"a":' + GOOD_ENTRY + b',"a":' + GOOD_ENTRY + b"}", "it overlaps"),
        (
            b'{"a":' + GOOD_ENTRY + b',"\\u0061":{"dtype":"I8","shape":[0],"data_offsets":[1,1]}}',
            "tensor a is given twice",
        ),
        (b'{"__metadata__":{},"__metadata__":{},"a":' + GOOD_ENTRY + b"}", "given twice"),
        (b'{"__metadata__":{"config":"","config":""},"a":' + GOOD_ENTRY + b"}", "given twice"),
        (b'{"a":' + GOOD_ENTRY[:-1] + b',"dtype":"I8"}}', "a field is given twice"),
        (b'{"a":' + GOOD_ENTRY + b",}", "a string belongs here"),
        (b'{"a":' + GOOD_ENTRY + b"}{}", "nothing may follow"),
        (b'{"a":' + GOOD_ENTRY + b"} \0", "nothing may follow"),
        (b'{"a":' + GOOD_ENTRY, "a comma or a closing bracket"),
        (b'{"a"' + GOOD_ENTRY + b"}", "a colon belongs here"),
        (b'{"a\n":' + GOOD_ENTRY + b"}", "control character"),
        (b'{"a\\q":' + GOOD_ENTRY + b"}", "four hexadecimal digits"),
        (b'{"\\ud800":' + GOOD_ENTRY + b"}", "half a pair of surrogates"),
        (b'{"\\udc00\\ud800":' + GOOD_ENTRY + b"}", "half a pair of surrogates"),
        (b'{"\xc0\xaf":' + GOOD_ENTRY + b"}", "not UTF-8"),
        (b'{"\xed\xa0\x80":' + GOOD_ENTRY + b"}", "not UTF-8"),
        (b'{"a":' + GOOD_ENTRY.replace(b"[1]", b"[01]") + b"}", "whole number"),
        (b'{"a":' + GOOD_ENTRY.replace(b"[1]", b"[1.0]") + b"}", "whole number"),
        (b'{"a":' + b"[" * 100000, "an object belongs here"),
        (
            b'{"\\ud83e\\udda0 \xf0\x9f\xa6\xa0 \\u00e9\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000":'
            + GOOD_ENTRY
            + b"}  \n",
            "ok 1",
        ),
    ],
)
def test_json_is_read_strictly(ask, header, message):
    assert message in ask("h", file_of(header, b"x"))


SCALE = EXPERT + "_scale"


def test_keys_that_are_missing_unexpected_or_of_another_shape_are_named(ask):
    tensors = tensors_of(config_of())
    del tensors["model.norm.bias"]
    tensors["model.extra"] = ("U8", (3,), b"abc")
    tensors["model.norm.weight"] = ("F32", (2, 2), tensors["model.norm.weight"][2])
    content = file_of(header_of(tensors, SMALL), data_of(tensors))
    assert ask("w", content) == (
        "BAD_WEIGHTS memory: the aggregator's weights do not fit its configuration: "
        "missing model.norm.bias [4]; unexpected model.extra; model.norm.weight is F32 [2, 2], "
        "not F32, F16 or BF16 [4]. Export them again with their own configuration"
    )


def test_every_single_key_is_needed_and_known_by_its_shape_and_dtype(program):
    good = tensors_of(config_of(), experts="I8")
    cases, wanted = [], []
    for key, (dtype, shape, raw) in good.items():
        longer, shorter = (*shape, 1), tuple(shape[:-1])
        wide = bytes(8 * len(raw) // SIZES[dtype])
        shown = str(list(shape))
        for change, message in [
            ({key: None}, f"missing {key} {shown}"),
            ({key: None, key + "x": good[key]}, f"unexpected {key}x"),
            ({key: (dtype, longer, raw)}, f"{key} is {dtype} {list(longer)}, not "),
            (
                {key: (dtype, shorter, raw[: len(raw) // shape[-1]])},
                f"{key} is {dtype} {list(shorter)}, not ",
            ),
            ({key: ("F64", shape, wide)}, f"{key} is F64 {shown}, not F32"),
        ]:
            tensors = {k: t for k, t in (good | change).items() if t}
            cases.append(("w", file_of(header_of(tensors, SMALL), data_of(tensors))))
            wanted.append(message)
    found = answers(program, cases)
    assert len(found) == len(wanted) > 100
    for answer, message in zip(found, wanted, strict=True):
        assert answer.startswith("BAD_WEIGHTS memory: ")
        assert message in answer
        assert answer.endswith("Export them again with their own configuration")


def test_many_misfits_are_counted_and_the_advice_is_never_cut(ask):
    tensors = {f"{'very' * 40}.long{i}\u202e\x1b": ("U8", (), b"a") for i in range(9)}
    answer = ask("w", file_of(header_of(tensors, SMALL | {"depth": 256}), data_of(tensors)))
    assert "missing model.task_tokens [1, 2, 4]" in answer
    assert " more; unexpected ..." in answer
    assert "long0??" in answer
    assert re.search(r" and [678] more\. Export them again with their own configuration$", answer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({SCALE: None}, f"missing {SCALE} [6]"),
        ({SCALE: ("F16", (6,), b"a" * 12)}, f"{SCALE} is F16 [6], not F32 [6]"),
        ({SCALE: ("F32", (4,), b"a" * 16)}, f"{SCALE} is F32 [4], not F32 [6]"),
        ({SCALE: ("F32", (6, 1), b"a" * 24)}, f"{SCALE} is F32 [6, 1], not F32 [6]"),
        ({EXPERT: ("F32", (6, 4), b"a" * 96)}, f"unexpected {SCALE}"),
        ({"model.norm.weight": ("I8", (4,), b"abcd")}, "model.norm.weight is I8 [4], not F32,"),
        *(
            (
                {SCALE: ("F32", (6,), np.array([1, 1, 1, 1, 1, bad], "<f4").tobytes())},
                f"{SCALE} holds a scale that is not finite and positive",
            )
            for bad in (np.nan, -np.nan, np.inf, -np.inf, 0, -0.0, -1e-45)
        ),
    ],
)
def test_scales_of_int8_experts(ask, change, message):
    tensors = {k: t for k, t in (tensors_of(config_of(), experts="I8") | change).items() if t}
    answer = ask("w", file_of(header_of(tensors, SMALL), data_of(tensors)))
    assert answer.startswith("BAD_WEIGHTS memory: ")
    assert message in answer


def test_scales_may_be_tiny_and_large(ask):
    tensors = tensors_of(config_of(), experts="I8")
    tensors[SCALE] = ("F32", (6,), np.array([1e-45, 3e38, 1, 1, 1, 1], "<f4").tobytes())
    assert ask("w", file_of(header_of(tensors, SMALL), data_of(tensors))).startswith("ok ")


def test_a_header_that_cannot_be(ask):
    for length in (8, 100_000_001, 2**63, 2**64 - 1):
        answer = ask("h", length.to_bytes(8, "little") + b"{}")
        assert f"states a header of {length}" in answer
    assert "bytes and states" in ask("w", b"")
    assert ask("h", file_of(b"{}", b"")) == "ok 0"
