"""Any configuration and any bag size against the plain semantics, dense and in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support.dense_aggregator import Dense, cases, config_of, weights_of
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle


def assert_like_dense(config, tokens, seed=0):
    weights = weights_of(config, seed)
    found = Aggregator(weights, config).explain(tokens)
    logits, attention = Dense(weights, config).run(tokens)
    for row, wanted in zip(found.logits, logits, strict=True):
        np.testing.assert_allclose(row[: len(wanted)], wanted, atol=2e-4)
        assert np.isneginf(row[len(wanted) :]).all()
    np.testing.assert_allclose(found.attention, attention, atol=2e-4)
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-5)


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
    width = aggregator.config.embed_dim_in
    tokens = rng.standard_normal((300, width), dtype="f4")
    first = aggregator.explain(tokens)
    wide = np.empty((300, 2 * width), dtype="f4")
    wide[:, ::2] = tokens
    for same in (tokens.copy(), np.asfortranarray(tokens), wide[:, ::2]):
        again = aggregator.explain(same)
        assert np.array_equal(again.logits, first.logits)
        assert np.array_equal(again.attention, first.attention)
