"""What the native aggregator refuses, and how it says so."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from tests.support.dense_aggregator import config_of, published_widths, weights_of
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import PASSES, Aggregator, finish_many
from unicas_edge.errors import AggregatorError

VARIANTS = _native.aggregator_variants()


@pytest.mark.parametrize("capacity", [0, -1, 1_000_001])
def test_an_impossible_bag_is_refused(medium, capacity):
    with pytest.raises(AggregatorError, match="a bag holds 1 to 1,000,000 tokens"):
        Aggregator(*medium).bag(capacity)


def test_a_bag_that_does_not_fit_in_memory_is_an_error():
    resource = pytest.importorskip("resource")
    weights, config = published_widths()
    aggregator = Aggregator(weights, config, threads=1)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, before[1]))
    try:
        with pytest.raises(AggregatorError, match="not enough memory"):
            aggregator.bag(1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_what_was_never_pushed_or_arranged_is_named(medium, rng):
    bag = Aggregator(*medium).bag(10)
    with pytest.raises(AggregatorError, match="no tokens were arranged"):
        bag.finish()
    bag.push(0, rng.standard_normal((4, 40), dtype="f4"))
    with pytest.raises(AggregatorError, match="token 4 was never pushed"):
        bag.arrange(range(5))
    with pytest.raises(AggregatorError, match="token 11 was never pushed"):
        bag.arrange([11])
    with pytest.raises(AggregatorError, match="0 tokens"):
        bag.arrange([])
    with pytest.raises(AggregatorError, match="do not fit a bag of 10"):
        bag.push(8, rng.standard_normal((4, 40), dtype="f4"))
    bag.arrange(range(4))
    with pytest.raises(AggregatorError, match="not finished"):
        bag.attention()


def test_a_bad_token_leaves_the_bag_as_it_was(medium, rng):
    aggregator = Aggregator(*medium)
    tokens = rng.standard_normal((4, 40), dtype="f4")
    bag = aggregator.bag(10)
    bag.push(0, tokens)
    with pytest.raises(AggregatorError, match="token 1 is not finite"):
        bag.push(0, np.full((2, 40), [[0.0], [np.nan]], dtype="f4"))
    bag.arrange(range(4))
    assert np.array_equal(bag.finish(), aggregator.logits(tokens))


def test_bags_of_two_aggregators_do_not_mix(medium, rng):
    bags = [Aggregator(*medium).bag(2) for _ in range(2)]
    for bag in bags:
        bag.push(0, rng.standard_normal((2, 40), dtype="f4"))
        bag.arrange(range(2))
    with pytest.raises(AggregatorError, match="several aggregators"):
        finish_many(bags)
    with pytest.raises(AggregatorError, match="listed twice"):
        finish_many([bags[0], bags[0]])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("n", "bad"), [(1024, 32), (25, 1), (36, 1), (4, 1)])
def test_tokens_that_overflow_anywhere_are_an_error_and_never_vanish(variant, n, bad):
    """A group of rows that are all NaN, or rows that no head keeps, must not be left out."""
    config = config_of(top_m=4)
    aggregator = Aggregator(weights_of(config), config, variant=variant)
    tokens = np.random.default_rng(n).standard_normal((n, 6), dtype="f4")
    for first in {0, n // 2, n - bad}:
        huge = tokens.copy()
        huge[first : first + bad] = 3e38
        with pytest.raises(AggregatorError, match="not finite"):
            aggregator.logits(huge)


def test_the_slide_that_fails_among_several_is_named(medium, rng):
    bags = [rng.standard_normal((9, 40), dtype="f4") for _ in range(3)]
    bags[1][:] = 3e38
    with pytest.raises(AggregatorError, match="slide 1 of 3: the logits of task 0"):
        Aggregator(*medium).logits_many(bags)


@pytest.mark.parametrize("order", [[-1], [0.5], [[0]], [2**70]])
def test_an_order_is_of_whole_numbers(medium, order, rng):
    bag = Aggregator(*medium).bag(2)
    bag.push(0, rng.standard_normal((2, 40), dtype="f4"))
    with pytest.raises(AggregatorError):
        bag.arrange(order)


def test_odd_numbers_are_errors_of_our_tree(medium, rng):
    with pytest.raises(AggregatorError):
        Aggregator(*medium, threads=-1)
    with pytest.raises(AggregatorError):
        Aggregator(*medium).bag(2).push(-1, rng.standard_normal((1, 40), dtype="f4"))
    assert finish_many([]) == []


def test_native_objects_check_what_they_write_to(medium, rng):
    aggregator = Aggregator(*medium)
    bag = aggregator._filled(rng.standard_normal((3, 40), dtype="f4"))
    with pytest.raises(ValueError, match="should be"):
        _native.finish_bags([bag._native], np.zeros((1, 1, 1), "f4"), np.zeros(len(PASSES)))
    bag.finish()
    with pytest.raises(ValueError, match="should be"):
        bag._native.explain(np.zeros((3, 2), "f4"))
    with pytest.raises(ValueError, match="should be"):
        bag._native.task_tokens(np.zeros((1, 1, 1), "f4"))
    with pytest.raises(TypeError):
        _native.Bag(None, 1)


def test_garbage_collection_in_any_order_frees_a_bag_before_its_aggregator(medium):
    aggregator = Aggregator(*medium, threads=2)._native
    for _ in range(20):
        cycle = [_native.Bag(aggregator, 10)]
        cycle.append(cycle)
    del aggregator, cycle
    gc.collect()
