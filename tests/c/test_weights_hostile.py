"""The reading of weights in C against what nobody would write: cut, mutated and lying files."""

from __future__ import annotations

import json
import re
import sys

import pytest
import safetensors
from safetensors import SafetensorError

from tests.support.weights_file import (
    SANITIZERS,
    SMALL,
    answers,
    data_of,
    file_of,
    good_file,
    header_of,
    run,
    tensors_of,
)
from unicas_edge.bundle.manifest import AggregatorConfig

pytest_plugins = ["tests.support.weights_program"]

#: What is refused here and not by the reference implementation.
STRICTER = (
    "does not start with {",
    "given twice",
    "unknown field",
    "more than 8 dimensions",
    "in __metadata__: an object belongs here",
    "its shape is too large",
)


def tiny_file():
    """Three tensors and some metadata: what header mutations start from."""
    tensors = {
        "a": ("F32", (2, 3), bytes(24)),
        "b.\u00e9": ("BF16", (4,), bytes(8)),
        "none": ("I8", (0, 7), b""),
        "scalar": ("F16", (), bytes(2)),
    }
    return file_of(header_of(tensors, {"embed_dim": 4}), data_of(tensors))


WORDS = (
    b"0",
    b"1",
    b"-",
    b"4",
    b"24",
    b"32",
    b"e1",
    b".0",
    b" ",
    b"\\",
    b'"',
    b",",
    b"[",
    b"]",
    b"{",
    b"}",
    b"null",
    b"true",
    b"I8",
    b"F16",
    b"dtype",
    b"\\u0041",
    b"\\ud800",
    b"\xff",
    b"\xc3\xa9",
    b"18446744073709551616",
    b"\t",
    b"\n",
    b"\0",
)


# ---- cut and mutated files ----------------------------------------------------------------------


@pytest.mark.parametrize("experts", ["F32", "I8"])
def test_a_file_cut_at_any_byte_is_refused(program, experts):
    content, _ = good_file(experts=experts)
    found = answers(program, [("w", content[:length]) for length in range(len(content))])
    assert len(found) == len(content)
    assert all(line.startswith("BAD_FILE memory: ") for line in found)
    assert answers(program, [("w", content)])[0].startswith("ok ")
    assert "belong to no tensor" in answers(program, [("w", content + b"\0")])[0]


def mutated(rng, content):
    """One to three changes within the header, whose stated length then mostly follows."""
    length = int.from_bytes(content[:8], "little")
    header, data = bytearray(content[8 : 8 + length]), content[8 + length :]
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(header) + 1))
        kind = rng.integers(0, 5)
        word = WORDS[rng.integers(0, len(WORDS))]
        if kind == 0:
            header[at:at] = word
        elif kind == 1:
            header[at : at + len(word)] = word
        elif kind == 2:
            del header[at : at + int(rng.integers(1, 12))]
        elif kind == 3:
            header[at : at + 1] = bytes([rng.integers(0, 256)])
        else:  # a number of a shape or of offsets
            numbers = [m.span() for m in re.finditer(rb"\d+", header)] or [(0, 0)]
            begin, end = numbers[rng.integers(0, len(numbers))]
            header[begin:end] = str(rng.choice([0, 1, 2, 3, 4, 8, 24, 32, 33, 34, 2**40])).encode()
    stated = len(header) if rng.integers(0, 20) else int(rng.integers(0, 2 * length))
    return stated.to_bytes(8, "little") + bytes(header) + data


def reference_accepts(content):
    try:
        safetensors.deserialize(content)
    except SafetensorError:
        return False
    return True


def test_nothing_is_accepted_that_the_reference_refuses(program, rng):
    """And what is refused beyond it is refused for a reason on the list."""
    contents = [mutated(rng, tiny_file()) for _ in range(20_000)]
    accepted = 0
    found = answers(program, [("h", content) for content in contents])
    for content, answer in zip(contents, found, strict=True):
        if answer.startswith("ok "):
            accepted += 1
            assert reference_accepts(content), content
        elif reference_accepts(content):
            assert any(reason in answer for reason in STRICTER), (answer, content)
    assert 200 < accepted < 10_000


def test_mutated_aggregators_are_refused_or_read_whole(program, rng):
    content, _ = good_file(floats="F16", experts="I8")
    found = answers(program, [("w", mutated(rng, content)) for _ in range(2_000)])
    kinds = {line.split()[0] for line in found}
    assert (
        {"BAD_FILE", "BAD_WEIGHTS", "BAD_CONFIG"}
        <= kinds
        <= {
            "BAD_FILE",
            "BAD_WEIGHTS",
            "BAD_CONFIG",
            "ok",
        }
    )


def test_data_offsets_swapped_moved_and_stretched(program, rng):
    tensors = tensors_of(AggregatorConfig.model_validate_json(json.dumps(SMALL)))
    good = header_of(tensors, SMALL)
    names, data = list(tensors), data_of(tensors)
    contents = []
    for _ in range(2_000):
        header = json.loads(json.dumps(good))
        for name in rng.choice(names, rng.integers(1, 3)):
            offsets = header[name]["data_offsets"]
            offsets[rng.integers(0, 2)] += int(rng.choice([-8, -4, -1, 1, 4, 8, len(data), 2**63]))
        contents.append(file_of(header, data))
    found = answers(program, [("w", content) for content in contents])
    for content, answer in zip(contents, found, strict=True):
        assert reference_accepts(content) == (not answer.startswith("BAD_FILE"))


def test_no_memory_at_any_allocation(build, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("the linker must be able to wrap malloc")
    wrap = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]
    program = build("test_weights_memory.c", *SANITIZERS, *wrap)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(good_file(floats="F16", experts="I8")[0])
    # owner, file, header, tensors, heads, blocks, queries, task_experts, experts, copies
    assert run(program, path) == "10 allocations\n"


def test_too_many_tensors(ask):
    entry = '":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}'
    header = "{" + ",".join(f'"{i}{entry}' for i in range(1_000_001)) + "}"
    answer = ask("h", file_of(header.encode(), b""))
    assert answer.startswith("BAD_FILE memory: more than 1000000 tensors; pass ")


def test_fuzzer(build, tmp_path):
    fuzzer = build("fuzz_weights.c", *SANITIZERS)
    seeds = []
    for floats, experts in [("F32", "F32"), ("F16", "BF16"), ("BF16", "I8")]:
        seeds.append(tmp_path / f"{floats}-{experts}")
        seeds[-1].write_bytes(good_file(floats=floats, experts=experts)[0])
    seeds.append(tmp_path / "tiny")
    seeds[-1].write_bytes(tiny_file())
    assert run(fuzzer, 4_000, *seeds) == "16000 inputs\n"
