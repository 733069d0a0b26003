"""What the native aggregator promises beyond the right numbers: variants, threads, memory."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dense_aggregator import config_of, published_widths, weights_of
from tests.support.numpy_aggregator import Aggregator as Oracle
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import PASSES, Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.errors import AggregatorError

VARIANTS = _native.aggregator_variants()


def probabilities(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_the_best_variant_is_used_and_portable_is_always_there():
    assert VARIANTS[-1] == "portable"
    assert Aggregator.load(Bundle.load()).variant == VARIANTS[0]


def test_an_unknown_variant_is_refused(medium):
    with pytest.raises(AggregatorError, match="no variant called abacus"):
        Aggregator(*medium, variant="abacus")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_agrees_with_the_oracle(medium, rng, variant):
    tokens = rng.standard_normal((777, 40), dtype="f4")
    wanted = Oracle(*medium).explain(tokens)
    found = Aggregator(*medium, variant=variant).explain(tokens)
    difference = probabilities(found.logits) - probabilities(wanted.logits)
    assert np.abs(difference).max() < 1e-5
    np.testing.assert_allclose(found.attention, wanted.attention, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_threads_and_runs_change_no_bit(medium, rng, variant):
    tokens = rng.standard_normal((500, 40), dtype="f4")
    first = Aggregator(*medium, threads=1, variant=variant).explain(tokens)
    for threads in (1, 2, 3, 7):
        aggregator = Aggregator(*medium, threads=threads, variant=variant)
        assert aggregator.threads == threads
        for _ in range(5):
            again = aggregator.explain(tokens)
            assert np.array_equal(again.logits, first.logits)
            assert np.array_equal(again.attention, first.attention)


@given(st.data())
def test_tokens_pushed_in_any_pieces_and_order_give_the_same_bits(data):
    config = config_of(top_m=9)
    aggregator = Aggregator(weights_of(config), config)
    n = data.draw(st.integers(1, 40))
    tokens = np.random.default_rng(n).standard_normal((n, 6), dtype="f4")
    places = data.draw(st.permutations(range(n)))
    bag = aggregator.bag(n + 3)
    for token, place in enumerate(places):
        bag.push(place, tokens[token : token + 1])
    bag.arrange(places)
    assert np.array_equal(bag.finish(), aggregator.logits(tokens))


def test_a_token_pushed_over_another_replaces_it_and_a_bag_can_be_used_again(medium, rng):
    aggregator = Aggregator(*medium)
    tokens = rng.standard_normal((90, 40), dtype="f4")
    bag = aggregator.bag(100)
    bag.push(0, rng.standard_normal((100, 40), dtype="f4"))
    bag.arrange(range(100))
    bag.finish()
    bag.push(5, tokens)
    bag.arrange(range(5, 95))
    assert np.array_equal(bag.finish(), aggregator.logits(tokens))
    assert (bag.seconds > 0).all()
    assert len(bag.seconds) == len(PASSES)


def test_several_slides_at_once_give_the_bits_of_one_by_one(medium, rng):
    aggregator = Aggregator(*medium)
    bags = [rng.standard_normal((n, 40), dtype="f4") for n in [1, 300, 7, 64, 2] * 4]
    together = aggregator.logits_many(bags)
    assert len(together) == 20
    for tokens, found in zip(bags, together, strict=True):
        assert np.array_equal(found, aggregator.logits(tokens))
    assert aggregator.logits_many([]) == []


def test_many_threads_may_share_an_aggregator(medium, rng):
    aggregator = Aggregator(*medium, threads=2)
    tokens = rng.standard_normal((200, 40), dtype="f4")
    wanted, found = aggregator.logits(tokens), []

    def work():
        found.extend(aggregator.logits(tokens) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(np.array_equal(logits, wanted) for logits in found)


def _in_child(aggregator, tokens, pipe):
    pipe.send(aggregator.logits(tokens))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_pool_and_works_alone(medium, rng):
    context = multiprocessing.get_context("fork")
    aggregator = Aggregator(*medium, threads=2)
    tokens = rng.standard_normal((200, 40), dtype="f4")
    wanted = aggregator.logits(tokens)
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(aggregator, tokens, theirs))
    child.start()
    assert ours.poll(60)
    assert np.array_equal(ours.recv(), wanted)
    child.join(60)
    assert child.exitcode == 0


# ---- ties ---------------------------------------------------------------------------------------


def equal_patches(count):
    """A configuration whose PPEG passes patches through, so that equal tiles score equally."""
    config = config_of(depth=1, top_m=count)
    weights = weights_of(config)
    for key in weights:
        if key.startswith("model.pos_layer"):
            weights[key] = np.zeros_like(weights[key])
    return Aggregator(weights, config)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_of_equal_scores_the_lowest_index_is_kept(rng, count):
    tokens = np.repeat(rng.standard_normal((1, 6), dtype="f4"), 16, axis=0)
    attention = equal_patches(count).explain(tokens).attention
    wanted = np.r_[np.full(count, 1 / count), np.zeros(16 - count)]
    np.testing.assert_allclose(attention, np.stack([wanted, wanted]), atol=1e-6)


def test_permuting_tiles_of_equal_score_changes_no_probability(rng):
    different = rng.standard_normal((3, 6), dtype="f4")
    aggregator = equal_patches(5)
    wanted = aggregator.logits(np.repeat(different, [6, 5, 5], axis=0))
    for _ in range(10):
        shuffled = rng.permutation(np.repeat(different, [6, 5, 5], axis=0))
        np.testing.assert_allclose(aggregator.logits(shuffled), wanted, atol=1e-5)


# ---- memory -------------------------------------------------------------------------------------


def test_the_arena_is_sized_up_front_and_within_its_bound():
    weights, config = published_widths()
    aggregator = Aggregator(weights, config, threads=2)
    constant = aggregator.bag(1).nbytes
    for n in (800, 4_800, 20_000, 200_000):
        bag = aggregator.bag(n)
        assert bag.nbytes <= 2.5 * n * 768 * 4 + constant + (6 << 20)


def test_two_hundred_thousand_tiles(rng):
    config = config_of(embed_dim_in=4, embed_dim=8, depth=2, top_m=256)
    aggregator = Aggregator(weights_of(config), config)
    tokens = rng.standard_normal((200_000, 4), dtype="f4")
    found = aggregator.explain(tokens)
    assert np.isfinite(found.logits[:, :2]).all()
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-4)
