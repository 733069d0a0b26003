"""The one softmax: probabilities, whatever the logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unicas_edge.core.arrays import softmax

LOGITS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(-(2.0**20), 2.0**20, width=32),
)


@given(LOGITS, st.data())
def test_probabilities_sum_to_one_along_the_axis(logits, data):
    axis = data.draw(st.integers(-logits.ndim, logits.ndim - 1))
    found = softmax(logits, axis)
    assert (found.dtype, found.shape) == (np.float64, logits.shape)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=axis), 1, rtol=1e-12)


@given(LOGITS, st.integers(-(2**20), 2**20))
def test_what_all_logits_share_says_nothing(logits, shift):
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(softmax(exact + shift), softmax(exact), rtol=1e-8, atol=1e-300)


@given(LOGITS)
def test_the_order_of_classes_is_that_of_logits(logits):
    found = softmax(logits)
    top = np.take_along_axis(found, logits.argmax(axis=-1)[..., None], axis=-1)
    assert (found <= top).all()


@pytest.mark.parametrize("largest", [1e308, 1e4, 0.0, -1e4, -1e308])
def test_extreme_logits_neither_overflow_nor_vanish(largest):
    assert softmax(np.array([largest, largest])).tolist() == [0.5, 0.5]
    assert softmax(np.array([largest, -math.inf])).tolist() == [1.0, 0.0]
    assert softmax(np.array([0.0, -1e4])).tolist() == [1.0, 0.0]


def test_it_is_the_quotient_of_exponentials():
    found = softmax(np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]], np.float32))
    wanted = [[math.exp(x) for x in row] for row in ([1, 2, 4], [0, 0, 3])]
    np.testing.assert_allclose(found, [[x / sum(row) for x in row] for row in wanted], rtol=1e-15)


def test_float32_logits_lose_nothing_on_the_way():
    logits = np.array([[0.1, 0.7], [-3.3, 12.9]], np.float32)
    assert np.array_equal(softmax(logits), softmax(logits.astype(np.float64)))
