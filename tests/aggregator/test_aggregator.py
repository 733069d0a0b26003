"""The aggregator against the reference's golden logits, its errors, and what it loads."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.dense_aggregator import config_of, weights_of
from tests.support.golden import golden_weights
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.errors import AggregatorError

# ---- golden cases -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def full_size_file(golden, golden_dir):
    """The published configuration, 344 M parameters, every weight drawn from its key."""
    weights, config = golden_weights(golden, golden_dir)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "aggregator.safetensors"
        save_file(weights, path, metadata={"config": config.model_dump_json()})
        yield path


@pytest.fixture(scope="session", params=_native.aggregator_variants())
def full_size(request, full_size_file):
    return Aggregator.load(full_size_file, variant=request.param)


@pytest.mark.parametrize("n", [700, 257, 100, 1])
def test_golden_logits_of_real_bags(full_size, golden, bags, n):
    assert len(bags) == 4
    for name, bag in bags.items():
        wanted = golden[1][f"{name}/{n}/logits"]
        np.testing.assert_allclose(full_size.logits(bag[:n]), wanted, rtol=0, atol=2e-5)


def test_golden_task_tokens_after_every_block_and_logits_of_800_tiles(full_size, golden, bags):
    for name, tokens in bags.items():
        bag = full_size.bag(len(tokens))
        bag.push(0, tokens)
        bag.arrange(range(len(tokens)))
        wanted = golden[1][f"{name}/800/logits"]
        np.testing.assert_allclose(bag.finish(), wanted, rtol=0, atol=2e-5)
        wanted = golden[1][f"{name}/800/task_tokens"]
        np.testing.assert_allclose(bag.task_tokens(), wanted, rtol=0, atol=1e-4)


def test_golden_logits_of_3200_tiles(full_size, golden, bags):
    cases, arrays = golden
    bag = np.concatenate([bags[name] for name in cases["concat_order"]])
    wanted = arrays["all_dev_bags_concatenated_in_csv_order/3200/logits"]
    explanation = full_size.explain(bag)
    np.testing.assert_allclose(explanation.logits, wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(explanation.attention.sum(axis=1), 1, atol=1e-5)


# ---- errors -------------------------------------------------------------------------------------


@pytest.fixture
def small():
    config = config_of()
    return Aggregator(weights_of(config), config)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_is_named(small, value):
    tokens = np.zeros((9, 6), dtype="f4")
    tokens[[4, 7], 2] = value
    with pytest.raises(AggregatorError, match="token 4 is not finite"):
        small.logits(tokens)


@pytest.mark.parametrize(
    "tokens",
    [np.zeros((3, 5), "f4"), np.zeros(6, "f4"), np.zeros((1, 3, 6), "f4"), np.zeros((3, 6), "i4")],
)
def test_tokens_of_another_shape_or_type_are_refused(small, tokens):
    with pytest.raises(AggregatorError, match=r"must be float32 \[n, 6\]"):
        small.logits(tokens)


def test_an_empty_bag_is_refused(small):
    with pytest.raises(AggregatorError, match="no tokens"):
        small.logits(np.zeros((0, 6), "f4"))


def test_tokens_that_overflow_are_an_error_and_not_a_probability(small):
    with pytest.raises(AggregatorError, match="logits of task 0 are not finite"):
        small.logits(np.full((4, 6), 3e38, dtype="f4"))


def test_weights_must_fit_key_for_key():
    config = config_of()
    weights = weights_of(config)
    norm = weights.pop("model.norm.bias")
    weights["model.norm.offset"] = norm
    weights["model.heads.0.bias"] = np.zeros(7, "f4")
    with pytest.raises(AggregatorError) as error:
        Aggregator(weights, config)
    for part in (
        "missing model.norm.bias [8]",
        "unexpected model.norm.offset",
        "model.heads.0.bias is float32 [7], not float [2]",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_loads_a_safetensors_file(tmp_path, rng, dtype):
    config = config_of()
    weights = {key: value.astype(dtype) for key, value in weights_of(config).items()}
    path = tmp_path / "a.safetensors"
    save_file(weights, path, metadata={"config": config.model_dump_json()})
    tokens = rng.standard_normal((12, 6), dtype="f4")
    loaded = Aggregator.load(path)
    assert loaded.config == config
    assert np.array_equal(loaded.logits(tokens), Aggregator(weights, config).logits(tokens))


def test_loads_a_bundle_or_its_folder(rng):
    bundle = Bundle.load()
    tokens = rng.standard_normal((5, bundle.manifest.encoder.width), dtype="f4")
    logits = Aggregator.load(bundle).logits(tokens)
    assert logits.shape == (3, 2)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, Aggregator.load(bundle.root).logits(tokens))


@pytest.mark.parametrize(
    ("metadata", "cause"),
    [
        (None, "no `config`"),
        ({"config": "{"}, "metadata config"),
        ({"config": '{"depth": 2}'}, "embed_dim_in: Field required"),
        ("unknown", "wheels: Extra inputs are not permitted"),
        ("odd", "embed_dim 8 is not num_heads times a whole number"),
    ],
)
def test_a_file_without_a_usable_configuration_is_refused(tmp_path, metadata, cause):
    good = json.loads(config_of().model_dump_json())
    if metadata == "unknown":
        metadata = {"config": json.dumps({**good, "wheels": 4})}
    elif metadata == "odd":
        metadata = {"config": json.dumps({**good, "num_heads": 3})}
    path = tmp_path / "a.safetensors"
    save_file(weights_of(config_of()), path, metadata=metadata)
    with pytest.raises(AggregatorError) as error:
        Aggregator.load(path)
    assert cause in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04]q\x00.", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "model.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AggregatorError, match=r"model\.pth: not a readable safetensors file"):
        Aggregator.load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"__metadata__":', '"__metadata__":{},"__metadata__":'),
        ('"config":', '"config":"{}","config":'),
        ('\\"depth\\":', '\\"depth\\":7,\\"depth\\":'),
        ('"model.norm.bias":', '"model.norm.bias":{},"model.norm.bias":'),
    ],
)
def test_a_header_that_gives_a_key_twice_is_refused(tmp_path, old, new):
    path = tmp_path / "a.safetensors"
    save_file(weights_of(config_of()), path, metadata={"config": config_of().model_dump_json()})
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end].decode().rstrip()
    assert old in header
    header = header.replace(old, new, 1)
    header += " " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + data[end:])
    with pytest.raises(AggregatorError, match=r"a\.safetensors: .*is given twice"):
        Aggregator.load(path)
