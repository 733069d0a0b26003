"""The aggregator against the reference's golden logits and against the plain semantics."""

from __future__ import annotations

import importlib.util
import json
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from unicas_edge.aggregate import Aggregator, AggregatorConfig
from unicas_edge.bundle import Bundle
from unicas_edge.errors import AggregatorError
from unicas_edge.maths import depthwise, erf, gelu, top_m
from unicas_edge.weights import parameter_shapes

# ---- golden cases -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def golden(golden_dir):
    cases = json.loads((golden_dir / "multitask_aggregator.json").read_text())
    with np.load(golden_dir / "multitask_aggregator.npz") as arrays:
        return cases, dict(arrays)


@pytest.fixture(scope="session")
def full_size(golden, golden_dir):
    """The published configuration, 344 M parameters, every weight drawn from its key."""
    spec = importlib.util.spec_from_file_location("fill", golden_dir / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    config = AggregatorConfig.model_validate_json(json.dumps(golden[0]["config"]))
    shapes = {key: tuple(shape) for key, shape in golden[0]["shapes"].items()}
    assert parameter_shapes(config) == shapes
    return Aggregator(fill.fill(shapes), config)


@pytest.fixture(scope="session")
def bags(data_dir):
    return {
        path.parent.parent.name: read_bag(path)
        for path in (data_dir / "unicas_features").glob("**/images.pt")
    }


def read_bag(path):
    """A torch zip of one float32 tensor [800, 1024], read without torch."""
    with zipfile.ZipFile(path) as file:
        (name,) = (n for n in file.namelist() if n.endswith("/data/0"))
        return np.frombuffer(file.read(name), dtype="<f4").reshape(800, 1024)


@pytest.mark.parametrize("n", [700, 257, 100, 1])
def test_golden_logits_of_real_bags(full_size, golden, bags, n):
    assert len(bags) == 4
    for name, bag in bags.items():
        wanted = golden[1][f"{name}/{n}/logits"]
        np.testing.assert_allclose(full_size.logits(bag[:n]), wanted, rtol=0, atol=2e-5)


def test_golden_task_tokens_after_every_block_and_logits_of_800_tiles(full_size, golden, bags):
    for name, bag in bags.items():
        seen = []
        found = full_size.explain(bag, observe=lambda _, tokens, seen=seen: seen.append(tokens))
        wanted = golden[1][f"{name}/800/logits"]
        np.testing.assert_allclose(found.logits, wanted, rtol=0, atol=2e-5)
        wanted = golden[1][f"{name}/800/task_tokens"]
        np.testing.assert_allclose(np.stack(seen), wanted, rtol=0, atol=1e-4)


def test_golden_logits_of_3200_tiles(full_size, golden, bags):
    cases, arrays = golden
    bag = np.concatenate([bags[name] for name in cases["concat_order"]])
    wanted = arrays["all_dev_bags_concatenated_in_csv_order/3200/logits"]
    explanation = full_size.explain(bag)
    np.testing.assert_allclose(explanation.logits, wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(explanation.attention.sum(axis=1), 1, atol=1e-5)


# ---- the plain semantics, dense and in float64 --------------------------------------------------


def config_of(**changes):
    base = {
        "embed_dim_in": 6, "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0,
        "num_tasks": 2, "classes": (2, 3), "num_experts": 3, "slots_per_expert": 2, "top_m": 5,
    }  # fmt: skip
    return AggregatorConfig(**(base | changes))


def weights_of(config, seed=0):
    rng = np.random.default_rng(seed)
    return {
        key: (rng.standard_normal(shape) / np.sqrt(max(1, math.prod(shape[1:])))).astype("f4")
        for key, shape in parameter_shapes(config).items()
    }


class Dense:
    """aggregator.md step by step: K, V, the dense projection and every row of the mixture."""

    def __init__(self, weights, config):
        self.w = {key: value.astype(np.float64) for key, value in weights.items()}
        self.c = config
        self.margin = np.inf  # smallest gap between the last score kept and the first one left

    def linear(self, x, key):
        return x @ self.w[key + ".weight"].T + self.w.get(key + ".bias", 0)

    def norm(self, x, key, eps):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)
        return x * self.w[key + ".weight"] + self.w[key + ".bias"]

    @staticmethod
    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    @staticmethod
    def softmax(x, axis):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def run(self, tokens):
        c, t, n = self.c, self.c.num_tasks, len(tokens)
        x = self.linear(tokens.astype(np.float64), "model.layer1.0")
        x = self.gelu(self.norm(x, "model.layer1.1", c.layer1_norm_eps))
        side = math.ceil(math.sqrt(n))
        source = np.arange(side * side) % n
        x = np.concatenate([self.w["model.task_tokens"][0], self.ppeg(x[source], side)])
        attention = np.zeros((t, n))
        for block in range(c.depth):
            key = f"model.blocks.{block}"
            x = x + self.attention(self.norm(x, key + ".norm1", c.norm_eps), key, source, attention)
            x = x + self.moe(self.norm(x, key + ".norm2", c.norm_eps), key + ".mlp")
        final = self.norm(x[:t], "model.norm", c.norm_eps)
        logits = [self.linear(final[i], f"model.heads.{i}") for i in range(t)]
        return logits, attention / (c.depth * c.num_heads)

    def ppeg(self, x, side):
        grid = x.reshape(side, side, -1)
        out = grid.copy()
        for name, size in (("proj", 7), ("proj1", 5), ("proj2", 3)):
            kernel = self.w[f"model.pos_layer.{name}.weight"][:, 0]
            r = size // 2
            for row, col, dy, dx in np.ndindex(side, side, size, size):
                if 0 <= row + dy - r < side and 0 <= col + dx - r < side:
                    out[row, col] += grid[row + dy - r, col + dx - r] * kernel[:, dy, dx]
            out += self.w[f"model.pos_layer.{name}.bias"]
        return out.reshape(x.shape)

    def attention(self, h, key, source, mass):
        c, t = self.c, self.c.num_tasks
        f, d = h[t:], c.head_dim
        k, v = np.split(self.linear(f, key + ".attn.kv"), 2, axis=1)
        out = np.zeros_like(h)
        for i in range(t):
            q = self.linear(h[i], f"{key}.attn.qs.{i}")
            task, patches = np.zeros(c.embed_dim), np.zeros_like(f)
            for head in range(c.num_heads):
                cut = slice(head * d, (head + 1) * d)
                score = k[:, cut] @ q[cut] / math.sqrt(d)
                order = np.lexsort((np.arange(len(f)), -score))
                kept = order[: c.top_m]
                if len(f) > c.top_m:
                    gap = score[order[c.top_m - 1]] - score[order[c.top_m]]
                    self.margin = min(self.margin, gap)
                p = np.zeros(len(f))
                p[kept] = self.softmax(score[kept], 0)
                task[cut] = p @ v[:, cut]
                patches[:, cut] = p[:, None] * f[:, cut]
                np.add.at(mass[i], source, p)
            out[i] = self.linear(task, f"{key}.attn.experts.{i}")
            out[t:] += self.linear(patches, f"{key}.attn.experts.{i}")
        return out

    def moe(self, h, key):
        c = self.c
        y = h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
        phi = self.w[key + ".phi"]
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0, keepdims=True), 1e-12)
        logits = np.einsum("nc,ces->nes", y, phi * self.w[key + ".scale"])
        combine = self.softmax(logits.reshape(len(y), -1), 1).reshape(logits.shape)
        slots = np.einsum("nes,nc->esc", self.softmax(logits, 0), y)
        out = [
            self.linear(self.gelu(self.linear(slots[e], f"{key}.experts.{e}.fc1")),
                        f"{key}.experts.{e}.fc2")
            for e in range(c.num_experts)
        ]  # fmt: skip
        return np.einsum("nes,esc->nc", combine, np.stack(out))


def assert_like_dense(config, tokens, seed=0):
    weights = weights_of(config, seed)
    found = Aggregator(weights, config).explain(tokens)
    logits, attention = Dense(weights, config).run(tokens)
    for row, wanted in zip(found.logits, logits, strict=True):
        np.testing.assert_allclose(row[: len(wanted)], wanted, atol=2e-4)
        assert np.isneginf(row[len(wanted) :]).all()
    np.testing.assert_allclose(found.attention, attention, atol=2e-4)
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-5)


@st.composite
def cases(draw):
    heads = draw(st.integers(1, 3))
    tasks = draw(st.integers(1, 3))
    small = st.integers(1, 3)
    config = config_of(
        embed_dim_in=draw(st.integers(1, 9)),
        num_heads=heads,
        embed_dim=heads * draw(st.integers(2, 5)),
        depth=draw(small),
        mlp_ratio=draw(st.sampled_from([0.5, 1.0, 2.5])),
        num_tasks=tasks,
        classes=tuple(draw(st.lists(st.integers(1, 4), min_size=tasks, max_size=tasks))),
        num_experts=draw(small),
        slots_per_expert=draw(small),
        top_m=draw(st.sampled_from([1, 3, 8, 256])),
        qkv_bias=draw(st.booleans()),
    )
    return config, draw(st.integers(1, 30)), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_any_configuration_computes_the_plain_semantics(case):
    config, n, seed = case
    tokens = np.random.default_rng(seed).standard_normal((n, config.embed_dim_in), dtype="f4")
    dense = Dense(weights_of(config, seed), config)
    dense.run(tokens)
    if dense.margin < 1e-3:  # a near-tie may fall either way in another precision: keep them all
        config = config.model_copy(update={"top_m": 1000})
    assert_like_dense(config, tokens, seed)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 10])
def test_sides_of_the_square_and_fewer_tiles_than_m(rng, n):
    config = config_of(top_m=256)
    assert_like_dense(config, rng.standard_normal((n, 6), dtype="f4"))


def test_duplicate_tiles_share_the_attention_and_nothing_breaks(rng):
    tokens = np.repeat(rng.standard_normal((3, 6), dtype="f4"), 4, axis=0)
    assert_like_dense(config_of(top_m=256), tokens)


@pytest.mark.parametrize("value", [0.0, 1.0, -3e4])
def test_all_equal_tokens_give_finite_logits(value):
    config = config_of()
    found = Aggregator(weights_of(config), config).explain(np.full((37, 6), value, dtype="f4"))
    assert np.isfinite(found.logits[:, :2]).all()
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-5)


def test_the_attention_of_padding_goes_to_the_tile_it_repeats(rng):
    config = config_of(depth=1, top_m=1)
    found = Aggregator(weights_of(config), config).explain(rng.standard_normal((2, 6), dtype="f4"))
    assert found.attention.shape == (2, 2)
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-6)


def test_the_same_tokens_give_the_same_bits_whatever_their_memory(rng):
    aggregator = Aggregator.load(Bundle.load())
    tokens = rng.standard_normal((300, 192), dtype="f4")
    first = aggregator.explain(tokens)
    wide = np.empty((300, 384), dtype="f4")
    wide[:, ::2] = tokens
    for same in (tokens.copy(), np.asfortranarray(tokens), wide[:, ::2]):
        again = aggregator.explain(same)
        assert np.array_equal(again.logits, first.logits)
        assert np.array_equal(again.attention, first.attention)


# ---- errors -------------------------------------------------------------------------------------


@pytest.fixture
def small():
    config = config_of()
    return Aggregator(weights_of(config), config)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_is_named(small, value):
    tokens = np.zeros((9, 6), dtype="f4")
    tokens[[4, 7], 2] = value
    with pytest.raises(AggregatorError, match=r"token 4 is not finite \(2 of 9"):
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
    tokens = rng.standard_normal((5, 192), dtype="f4")
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


# ---- the pieces ---------------------------------------------------------------------------------


def test_erf_is_within_half_a_step_of_the_library():
    x = np.concatenate([np.linspace(-7, 7, 200_001), [0.0, -0.0, 1e-30, 1e30, -1e30]]).astype("f4")
    wanted = np.array([math.erf(value) for value in x.astype(float)])
    assert np.abs(erf(x) - wanted).max() < 5e-8
    assert np.array_equal(erf(x.reshape(2, -1)), erf(x).reshape(2, -1))
    np.testing.assert_allclose(gelu(x[:9]), x[:9] * 0.5 * (1 + erf(x[:9] / np.sqrt(2))), atol=1e-6)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 45))
def test_top_m_takes_the_lowest_index_first_among_equals(scores, m):
    wanted = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:m]
    assert top_m(np.array(scores, dtype="f4"), m).tolist() == sorted(wanted)


def test_depthwise_is_a_zero_padded_cross_correlation(rng):
    grid = rng.standard_normal((4, 5, 3), dtype="f4")
    kernel, bias = rng.standard_normal((3, 3, 3), dtype="f4"), rng.standard_normal(3, dtype="f4")
    padded = np.pad(grid, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    wanted = np.einsum("rckyx,yxk->rck", windows, kernel) + bias
    np.testing.assert_allclose(depthwise(grid, kernel, bias), wanted, atol=1e-5)
