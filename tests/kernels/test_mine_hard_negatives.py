# SPDX-License-Identifier: Apache-2.0
"""The mine_hard_negatives kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.mine_hard_negatives as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_equal_bits
from support.buffers import run_kernel
from support.cases import SIZES

DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
RATIOS = (0.0, 0.34, 1.0, 3.0, 1e300)


def check(native: ModuleType, losses: Any, classes: Any, ratio: float) -> Any:
    mined = run_kernel(
        native.mine_hard_negatives, losses, classes, negative_ratio=ratio
    )
    expected = oracle.mine_hard_negatives(losses, classes, negative_ratio=ratio)
    assert_equal_bits(mined, expected)
    return mined


def random_classes(rng: np.random.Generator, *shape: int, positives: float) -> Any:
    rest = 1 - positives
    odds = [0.2 * rest, 0.8 * rest, 0.5 * positives, 0.5 * positives]
    return rng.choice([-1, 0, 1, 7], shape, p=odds).astype(np.int32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sizes(native: ModuleType, size: int, dtype: Any) -> None:
    rng = np.random.default_rng(size)
    losses = rng.exponential(1, (3, size)).astype(dtype)
    classes = random_classes(rng, 3, size, positives=0.2)
    for ratio in RATIOS:
        check(native, losses, classes, ratio)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("positives", [0.001, 0.01, 0.2, 0.6])
def test_many_anchors(native: ModuleType, positives: float, dtype: Any) -> None:
    """Large enough for the sample that suggests a cut."""
    rng = np.random.default_rng(1)
    losses = np.exp(rng.normal(-3, 1.5, (2, 5003))).astype(dtype)
    classes = random_classes(rng, 2, 5003, positives=positives)
    for ratio in (0.5, 3.0):
        check(native, losses, classes, ratio)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_equal_losses_are_mined_in_the_order_of_anchors(
    native: ModuleType, steps: int, dtype: Any
) -> None:
    rng = np.random.default_rng(2)
    for size in (70, 3000):
        losses = rng.integers(0, steps + 1, (2, size)).astype(dtype)
        classes = random_classes(rng, 2, size, positives=0.1)
        for ratio in (0.3, 1.5, 3.0, 8.0):
            check(native, losses, classes, ratio)


@pytest.mark.parametrize("order", ["rising", "falling", "periodic", "one peak"])
def test_orders_that_mislead_a_sample(native: ModuleType, order: str) -> None:
    size = 4096
    losses = np.arange(size, dtype=np.float32)[None]
    if order == "falling":
        losses = losses[:, ::-1].copy()
    elif order == "periodic":  # every sampled loss is the largest
        losses = np.where(losses % 16 == 0, 1e6 - losses, losses)
    elif order == "one peak":
        losses = np.where(losses % 16 == 1, 1e6 + losses, 0.0)
    classes = np.zeros((1, size), np.int32)
    classes[0, 5:45] = 1
    for ratio in (1.0, 3.0, 20.0, 99.0):
        check(native, losses.astype(np.float32), classes, ratio)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_losses(native: ModuleType, dtype: Any) -> None:
    """Negative, infinite and NaN losses, both zeros, and an ignored NaN."""
    nan, inf = np.nan, np.inf
    row = [1, -1, 0, -0.0, inf, -inf, nan, -nan, 2, -2, 0.0, inf, -inf, nan]
    losses = np.array([row], dtype)
    for offset in range(4):
        classes = np.zeros((1, len(row)), np.int32)
        classes[0, offset::5] = 1
        classes[0, offset + 1 :: 6] = -1
        for ratio in np.arange(0, 6, 0.25):
            check(native, losses, classes, float(ratio))


def test_a_nan_is_not_hidden(native: ModuleType) -> None:
    losses = np.full((1, 2000), np.inf, np.float32)
    losses[0, 1234] = np.nan
    classes = np.zeros((1, 2000), np.int32)
    classes[0, 0] = 1
    mined = check(native, losses, classes, 1.0)
    assert np.flatnonzero(mined).tolist() == [1234]


def test_no_candidates_and_no_positives(native: ModuleType) -> None:
    losses = np.ones((3, 40), np.float32)
    classes = np.zeros((3, 40), np.int32)
    classes[1], classes[2] = 1, -1
    assert not check(native, losses, classes, 3.0).any()


@given(data=st.data())
def test_small_cases(data: st.DataObject, native: ModuleType) -> None:
    size = data.draw(st.integers(0, 40))
    values = st.sampled_from([0.0, 0.25, 1.0, 1.5, float("inf"), float("nan")])
    losses = data.draw(st.lists(values, min_size=size, max_size=size))
    classes = data.draw(
        st.lists(st.sampled_from([-1, 0, 0, 0, 4]), min_size=size, max_size=size)
    )
    check(
        native,
        np.array([losses], np.float32),
        np.array([classes], np.int32),
        data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0])),
    )


def test_the_ratio_is_rounded_down_in_double(native: ModuleType) -> None:
    losses = np.arange(60, dtype=np.float32)[None]
    classes = np.zeros((1, 60), np.int32)
    classes[0, :10] = 1
    for ratio, count in ((0.7, 7), (0.29, 2), (np.nextafter(0.3, 0), 2), (0.3, 3)):
        assert check(native, losses, classes, float(ratio)).sum() == count


def test_errors(native: ModuleType) -> None:
    losses = np.ones((2, 40), np.float32)
    classes = np.zeros((2, 40), np.int32)
    classes[:, 0] = 1
    run = native.mine_hard_negatives
    expect_error(run, losses[0], classes, message="losses must have shape [B, A]")
    expect_error(
        run, losses, classes[:, :3], message="target_classes must have shape [B, A]"
    )
    expect_error(
        run, losses, losses, message="target_classes must have dtype int32, got float32"
    )
    expect_error(run, classes, classes, message="losses must have dtype float16")
    for ratio in (-1.0, float("nan"), float("inf")):
        expect_error(
            run,
            losses,
            classes,
            negative_ratio=ratio,
            message="negative_ratio must be in",
        )
    expect_out_errors(run, losses, classes)
    expect_thread_count_error(run, losses, classes)
