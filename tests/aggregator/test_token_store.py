"""Tokens embedded as they arrive: evictions, more tokens than places, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dense_aggregator import config_of, weights_of
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.aggregator.token_store import TOGETHER, TokenStore
from unicas_edge.errors import AggregatorError


@pytest.fixture(scope="module")
def aggregator():
    config = config_of()
    return Aggregator(weights_of(config), config, threads=1)


def tokens_of(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6), dtype="f4")


def assert_finishes_like_the_bag(store, aggregator, cells, tokens):
    assert np.array_equal(store.finish(cells), tokens)
    explanation = store.explain(cells)
    wanted = aggregator.explain(tokens)
    assert np.array_equal(explanation.logits, wanted.logits)
    assert np.array_equal(explanation.attention, wanted.attention)


@given(st.data())
def test_any_arrivals_and_evictions_give_what_the_kept_bag_gives(aggregator, data):
    capacity = data.draw(st.integers(1, 60))
    count = data.draw(st.integers(1, 150))
    tokens = tokens_of(count, seed=count)
    store = TokenStore(aggregator, capacity)
    held = []
    for number in data.draw(st.permutations(range(count))):
        store.put((number, 0), tokens[number])
        held.append(number)
        if data.draw(st.booleans()):
            out = held.pop(data.draw(st.integers(0, len(held) - 1)))
            store.drop([(out, 0)])
            assert (out, 0) not in store
    kept = held[:capacity]
    if kept:
        cells = [(number, 0) for number in kept]
        assert_finishes_like_the_bag(store, aggregator, cells, tokens[kept])


def test_more_tokens_than_places_wait_until_finish_says_which_count(aggregator):
    tokens = tokens_of(3 * TOGETHER)
    store = TokenStore(aggregator, TOGETHER)
    for number, token in enumerate(tokens):
        store.put((0, number), token)
    cells = [(0, number) for number in range(2 * TOGETHER, 3 * TOGETHER)]
    assert_finishes_like_the_bag(store, aggregator, cells, tokens[2 * TOGETHER :])


def test_no_cells_come_to_nothing(aggregator):
    store = TokenStore(aggregator, 4)
    store.put((0, 0), tokens_of(1)[0])
    assert store.finish([]).shape == (0, 6)
    assert store.explain([]) is None


def test_tiles_left_out_change_nothing_of_the_others(aggregator):
    tokens = tokens_of(90)
    store = TokenStore(aggregator, 90)
    for number in np.random.default_rng(1).permutation(90):
        store.put((0, int(number)), tokens[number])
    store.finish([(0, number) for number in range(90)])
    kept = [number for number in range(90) if number % 3]
    explanation = store.explain([(0, number) for number in kept])
    wanted = aggregator.explain(tokens[kept])
    assert np.array_equal(explanation.logits, wanted.logits)
    assert np.array_equal(explanation.attention, wanted.attention)


def test_threads_may_put_and_drop_at_once(aggregator):
    tokens = tokens_of(400)
    store = TokenStore(aggregator, 200)

    def work(part):
        for number in range(part, 400, 4):
            store.put((number, 1), tokens[number])
            if number >= 200:
                store.drop([(number, 1)])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cells = [(number, 1) for number in range(200)]
    assert_finishes_like_the_bag(store, aggregator, cells, tokens[:200])


def test_a_cell_put_twice_takes_one_place(aggregator):
    store = TokenStore(aggregator, TOGETHER)
    tokens = tokens_of(TOGETHER)
    for number in [*range(TOGETHER - 1), *range(TOGETHER)]:
        store.put((0, number), tokens[number])
    cells = [(0, number) for number in range(TOGETHER)]
    assert_finishes_like_the_bag(store, aggregator, cells, tokens)


def test_more_cells_than_a_bag_holds_are_refused(aggregator):
    store = TokenStore(aggregator, 2)
    tokens = tokens_of(3)
    for number, token in enumerate(tokens):
        store.put((0, number), token)
    with pytest.raises(AggregatorError, match="3 tiles, and a bag holds 2"):
        store.finish([(0, 0), (0, 1), (0, 2)])
