"""The configuration in a file's metadata: C reads what pydantic reads."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.weights_file import (
    SMALL,
    config_line,
    data_of,
    file_of,
    good_file,
    header_of,
    run,
    tensors_of,
)
from unicas_edge.bundle.manifest import AggregatorConfig

pytest_plugins = ["tests.support.weights_program"]

NUMBERS = """
0 1 2 -1 -0 4 8 16 64 65 256 257 1024 1025 65536 65537 1000000 1000001 9223372036854775808
18446744073709551616 100000000000000000000000000000000000000000000000000 1.0 4.0 1.5 0.1 1e0 1E-6
1e-5 0.24999999999999999 64.000000000000001 64.00000000000001 1e-400 1e400 5e-324 1e-46
0.30000000000000004 2.2250738585072011e-308 01 1. .5 +1 0x1 1e 1e+ NaN Infinity -Infinity
"""
OTHERS = 'true false null "4" [] {} [4] [[2],3] [true] ""'
NUMBER = st.sampled_from(NUMBERS.split())
VALUES = st.one_of(
    NUMBER,
    st.floats(0, 64).map(repr),
    st.integers(-2, 70_000).map(str),
    st.sampled_from(OTHERS.split()),
    st.lists(NUMBER, max_size=4).map(lambda items: f"[{','.join(items)}]"),
    st.sampled_from([63, 64, 65]).map(lambda n: f"[{','.join(['2'] * n)}]"),
)
KEYS = [*AggregatorConfig.model_fields]
CHANGES = st.dictionaries(
    st.sampled_from([*KEYS, *KEYS, "dropout", "", "Depth"]), VALUES | st.none(), max_size=3
)
ESCAPED = st.sampled_from(["", "\\u0065", "\\u0000", "\\ud800", "\u00e9", "\\n"])


def accepted_by_pydantic(text):
    try:
        return AggregatorConfig.model_validate_json(text)
    except ValidationError:
        return None


def has_duplicates(text):
    found = []
    try:
        json.loads(text, object_pairs_hook=found.append)
    except (ValueError, RecursionError):
        return False
    return any(len({key for key, _ in pairs}) < len(pairs) for pairs in found)


def agrees(ask, text):
    config, answer = accepted_by_pydantic(text), ask("c", text)
    if config is None:
        assert answer.startswith("BAD_CONFIG memory: metadata config: "), (answer, text)
        assert answer.endswith("; export the aggregator again")
    else:
        assert answer == config_line(config)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_takes_the_numbers_that_pydantic_takes(ask, key):
    for number in [*NUMBERS.split(), *OTHERS.split()]:
        members = {name: json.dumps(value) for name, value in SMALL.items()} | {key: number}
        agrees(ask, ("{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}").encode())


@settings(max_examples=600)
@given(changes=CHANGES, space=st.sampled_from(["", " ", "\n\t\r", "\f", "\u00a0"]))
@example(changes={"embed_dim": "65536", "num_heads": "256", "mlp_ratio": "63.99999"}, space="")
@example(changes={"num_tasks": "64", "classes": f"[{'1024,' * 63}1]"}, space="")
@example(changes={"mlp_ratio": "0.25"}, space="")
@example(changes={"mlp_ratio": "0.2499999999999999"}, space="")
@example(changes={"mlp_ratio": "4", "norm_eps": "1", "layer1_norm_eps": "1e-45"}, space="")
@example(changes={"qkv_bias": "1"}, space="")
@example(changes={"depth": "true"}, space="")
def test_configurations_are_those_of_pydantic(ask, changes, space):
    members = {key: json.dumps(value) for key, value in SMALL.items()} | changes
    pairs = [f'{space}"{key}"{space}:{space}{v}' for key, v in members.items() if v is not None]
    agrees(ask, ("{" + ",".join(pairs) + space + "}" + space).encode())


@settings(max_examples=600)
@given(data=st.data())
def test_texts_of_configurations_are_those_of_pydantic(ask, data):
    text = bytearray(json.dumps(SMALL | {"norm_eps": 1e-6, "qkv_bias": True}).encode())
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=2),
                ESCAPED.map(str.encode),
                st.sampled_from([b"1", b"e", b".", b",", b"-", b'"', b"}"]),
            )
        )
        text[at : at + cut] = piece
    assume(not has_duplicates(bytes(text)))
    agrees(ask, bytes(text))


def test_escaped_keys_are_known_and_a_key_given_twice_is_an_error(ask):
    text = json.dumps(SMALL).replace('"depth"', '"\\u0064ep\\u0074h"')
    assert ask("c", text.encode()) == config_line(accepted_by_pydantic(text))
    twice = json.dumps(SMALL)[:-1] + ', "depth": 1}'
    assert "depth: byte" in ask("c", twice.encode())
    assert "given twice" in ask("c", twice.encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 0}, "dropout: byte 11: unknown key"),
        ({"top_m": 0}, "top_m: byte 11: the number is out of range"),
        ({"num_heads": 3}, "embed_dim 4 is not num_heads 3 times a whole number"),
        ({"num_tasks": 3}, "classes lists 2 tasks, num_tasks 3"),
        ({"mlp_ratio": 0.2}, "mlp_ratio 0.2 leaves the experts no hidden unit"),
        ({"depth": None}, "depth is missing"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(ask, changes, message):
    config = {k: v for k, v in (changes | SMALL | changes).items() if v is not None}
    tensors = tensors_of(AggregatorConfig.model_validate_json(json.dumps(SMALL)))
    answer = ask("w", file_of(header_of(tensors, config), data_of(tensors)))
    assert answer.startswith("BAD_CONFIG memory: metadata config: ")
    assert message in answer
    assert answer.endswith("; export the aggregator again")


def test_without_a_configuration(ask):
    assert "metadata has no `config`" in ask("w", file_of(b"{}", b""))


def test_numbers_do_not_depend_on_the_locale(program, tmp_path):
    """The program takes its locale from the environment, as hosts do."""
    localedef = shutil.which("localedef")
    made = localedef and subprocess.run(
        [localedef, "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"],
        capture_output=True,
        check=False,
    )
    if not (tmp_path / "de_DE.UTF-8").is_dir():
        pytest.skip(f"localedef cannot make a locale with decimal commas: {made and made.stderr}")
    text = json.dumps(SMALL | {"mlp_ratio": 1.75, "norm_eps": 1e-3})
    path = tmp_path / "weights.safetensors"
    path.write_bytes(good_file(json.loads(text))[0])
    environment = {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8"}
    assert "1,75" in run(program, path, env=environment)  # how that locale prints it
    found = run(program, path, env=environment).splitlines()[0].replace(",", ".")
    assert found == config_line(accepted_by_pydantic(text))
