# SPDX-License-Identifier: Apache-2.0
"""Public `mine_hard_negatives`: every implementation and way to run it."""

from __future__ import annotations

import re

import numpy as np
import oracles.mine_hard_negatives as oracle
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.contracts import (
    expect_runtime_error,
    expect_static_error,
    static_shapes,
)
from support.modes import (
    EAGER_MODES,
    FULL_DTYPES,
    HALF_DTYPES,
    IMPLEMENTATIONS,
    MODES,
    Mode,
)

from ssdops import mine_hard_negatives

DTYPES = (tf.float32, tf.int32)


def make_case(seed, batch=3, anchors=60, dtype=np.float32):
    rng = np.random.default_rng(seed)
    losses = rng.integers(-2, 5, (batch, anchors)).astype(dtype)
    losses[0, :8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan, np.inf, -0.0]
    classes = rng.choice([-1, 0, 2], (batch, anchors), p=[0.1, 0.8, 0.1])
    return losses, classes.astype(np.int32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [*HALF_DTYPES, *FULL_DTYPES])
def test_against_sorting(mode: Mode, dtype: type) -> None:
    losses, classes = make_case(1, dtype=dtype)
    for ratio in (0.0, 0.5, 3.0, 1e300):
        mined = mode.run(mine_hard_negatives, losses, classes, negative_ratio=ratio)
        expected = oracle.mine_hard_negatives(losses, classes, negative_ratio=ratio)
        assert_equal_bits(mined, expected)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_many_anchors(mode: Mode) -> None:
    rng = np.random.default_rng(2)
    losses = np.exp(rng.normal(-3, 1.5, (4, 8732))).astype(np.float32)
    classes = rng.choice([-1, 0, 9], losses.shape, p=[0.1, 0.89, 0.01])
    classes = classes.astype(np.int32)
    mined = mode.run(mine_hard_negatives, losses, classes)
    assert_equal_bits(mined, oracle.mine_hard_negatives(losses, classes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (1, 1)])
def test_empty(mode: Mode, shape: tuple[int, int]) -> None:
    losses = np.ones(shape, np.float32)
    mined = mode.run(mine_hard_negatives, losses, np.zeros(shape, np.int32))
    assert_equal_bits(mined, np.zeros(shape, bool))


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_split_batches_give_the_same(mode: Mode) -> None:
    losses, classes = make_case(3)
    whole = mode.run(mine_hard_negatives, losses, classes)
    parts = [
        mode.run(mine_hard_negatives, losses[i : i + 1], classes[i : i + 1])
        for i in range(len(losses))
    ]
    assert_equal_bits(np.concatenate(parts), whole)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("losses", "classes", "expected"),
    [
        ((2, 5), (2, 5), [2, 5]),
        ((None, 5), (2, None), [2, 5]),
        ((None, None), (None, None), [None, None]),
        (None, (2, 5), [2, 5]),
    ],
)
def test_shape_inference(implementation, losses, classes, expected) -> None:
    shapes = static_shapes(
        mine_hard_negatives, implementation, [losses, classes], DTYPES
    )
    assert shapes == expected


SHAPE_ERRORS = [
    ((5,), (5,), "losses must have shape [B, A], got [5]"),
    ((2, 5), (2, 5, 1), "target_classes must have shape [B, A], got [2, 5, 1]"),
    ((2, 5), (3, 5), "target_classes must have 2 elements along axis 0 as losses"),
    ((2, 5), (2, 1), "target_classes must have 5 elements along axis 1 as losses"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("losses", "classes", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, losses, classes, message) -> None:
    expect_static_error(
        mine_hard_negatives, implementation, [losses, classes], DTYPES, message
    )
    arrays = [np.zeros(losses, np.float32), np.zeros(classes, np.int32)]
    expect_runtime_error(mine_hard_negatives, implementation, arrays)


def test_argument_errors() -> None:
    losses, classes = make_case(4)
    for ratio in (-0.5, float("nan"), float("inf"), "many"):
        with pytest.raises(ValueError, match="negative_ratio"):
            mine_hard_negatives(losses, classes, negative_ratio=ratio)
    message = "target_classes must have an integer dtype, got float32"
    with pytest.raises(ValueError, match=re.escape(message)):
        mine_hard_negatives(losses, losses)
    with pytest.raises(ValueError, match="losses must have dtype float16"):
        mine_hard_negatives(classes, classes)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_not_differentiable(implementation: str) -> None:
    losses, classes = make_case(5)
    tensor = tf.constant(losses)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        mined = mine_hard_negatives(tensor, classes, implementation=implementation)
        total = tf.reduce_sum(tf.cast(mined, tf.float32))
    assert tape.gradient(total, tensor) is None
