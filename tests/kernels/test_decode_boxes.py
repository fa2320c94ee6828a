# SPDX-License-Identifier: Apache-2.0
"""The decode_boxes kernels through their NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.decode_boxes as oracle
import pytest
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_equal_bits, assert_within
from support.buffers import run_kernel
from support.cases import SIZES, ssd300_anchors
from support.coding import ordinary, overflowing
from support.tolerances import decode_tolerance, gradient_tolerance

DTYPES = (np.float32, np.float64)
HALF_DTYPES = (np.float16, ml_dtypes.bfloat16)
VARIANCES = (0.5, 0.25, 0.75, 0.125)


def check(native: ModuleType, offsets: Any, anchors: Any, **options: Any) -> Any:
    result = run_kernel(native.decode_boxes, offsets, anchors, **options)
    expected = oracle.decode_boxes(offsets, anchors, **options)
    tolerance = decode_tolerance(expected, offsets, anchors, **options)
    assert_within(result, expected, tolerance)
    return result


def check_grad(
    native: ModuleType, upstream: Any, offsets: Any, anchors: Any, **options: Any
) -> Any:
    result = run_kernel(native.decode_boxes_grad, upstream, offsets, anchors, **options)
    assert result.dtype == offsets.dtype
    expected, magnitude = oracle.decode_boxes_grad(
        upstream, offsets, anchors, **options
    )
    tolerance = gradient_tolerance(magnitude, offsets.dtype)
    assert_within(result.astype(np.float64), expected, tolerance)
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes(native: ModuleType, num_anchors: int, dtype: type) -> None:
    rng = np.random.default_rng(num_anchors)
    for lead in ((), (1,), (3,), (2, 3), (0,)):
        upstream, offsets, anchors = ordinary(rng, *lead, num_anchors, dtype=dtype)
        check(native, offsets, anchors)
        check(native, offsets, anchors, variances=VARIANCES)
        check_grad(native, upstream, offsets, anchors)
        check_grad(native, upstream, offsets, anchors, variances=VARIANCES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_overflows_is_limited(native: ModuleType, dtype: type) -> None:
    offsets, anchors = overflowing(dtype)
    assert np.isfinite(check(native, offsets, anchors)).all()
    upstream = np.tile(np.array([1, 2, 3, 4], dtype), (len(offsets), 1))
    assert np.isfinite(check_grad(native, upstream, offsets, anchors)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_goes_through(native: ModuleType, dtype: type) -> None:
    offsets = np.where(np.eye(4), np.nan, 0).astype(dtype)
    anchors = np.tile(np.array([0, 0, 1, 1], dtype), (4, 1))
    boxes = run_kernel(native.decode_boxes, offsets, anchors)
    expected = np.array([[1, 0, 1, 0], [0, 1, 0, 1]] * 2, bool)
    assert np.isnan(boxes).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_offsets_give_the_anchor(native: ModuleType, dtype: type) -> None:
    anchors = np.array([[0.25, 0, 0.75, 1], [-1, -0.5, 2, 0.5]], dtype)
    assert_equal_bits(native.decode_boxes(np.zeros_like(anchors), anchors), anchors)


def test_all_anchors(native: ModuleType) -> None:
    anchors = ssd300_anchors()
    rng = np.random.default_rng(1)
    check(native, rng.normal(0, 1, anchors.shape).astype(np.float32), anchors)


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_half_types_are_computed_in_float32(
    native: ModuleType, num_anchors: int, dtype: type
) -> None:
    rng = np.random.default_rng(num_anchors)
    halves = [a.astype(dtype) for a in ordinary(rng, 3, num_anchors, dtype=np.float32)]
    upstream, offsets, anchors = halves
    for function, inputs in (
        (native.decode_boxes, (offsets, anchors)),
        (native.decode_boxes_grad, (upstream, offsets, anchors)),
    ):
        wide = function(*(array.astype(np.float32) for array in inputs))
        assert_equal_bits(run_kernel(function, *inputs), wide.astype(dtype))


@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_limited_to_their_own_range(
    native: ModuleType, dtype: type
) -> None:
    largest = ml_dtypes.finfo(dtype).max
    offsets = np.array([[0, 0, 400, 0], [5, -5, 0, 0], [1, -1, 1, 1]], dtype)
    anchors = np.array([[0, 0, 1, 1], [0, 0, largest, largest]], dtype)[[0, 1, 1]]
    variances = (1.0, 1.0, 1.0, 1.0)
    boxes = run_kernel(native.decode_boxes, offsets, anchors, variances=variances)
    wide = native.decode_boxes(
        offsets.astype(np.float32), anchors.astype(np.float32), variances=variances
    )
    limit = np.float32(largest)
    assert (np.abs(wide) > limit).any()
    assert_equal_bits(boxes, np.clip(wide, -limit, limit).astype(dtype))
    upstream = np.ones_like(offsets)
    grad = run_kernel(native.decode_boxes_grad, upstream, offsets, anchors)
    assert grad[0].tolist()[2] == 0


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_results_may_replace_their_input(native: ModuleType, dtype: type) -> None:
    arrays = ordinary(np.random.default_rng(4), 3, 61, dtype=np.float32)
    first, second, anchors = (array.astype(dtype) for array in arrays)
    for function, inputs in (
        (native.decode_boxes, (first, anchors)),
        (native.decode_boxes_grad, (first, second, anchors)),
    ):
        expected = function(*inputs)
        replaced = inputs[0].copy()
        function(replaced, *inputs[1:], out=replaced)
        assert_equal_bits(replaced, expected)


def test_batches_do_not_matter(native: ModuleType) -> None:
    _, offsets, anchors = ordinary(np.random.default_rng(2), 5, 61, dtype=np.float32)
    whole = native.decode_boxes(offsets, anchors, num_threads=3)
    for image, expected in zip(offsets, whole, strict=True):
        assert_equal_bits(native.decode_boxes(image, anchors), expected)


def test_decoding_is_the_inverse_of_encoding(native: ModuleType) -> None:
    boxes, _, anchors = ordinary(np.random.default_rng(3), 3, 61, dtype=np.float64)
    again = native.decode_boxes(native.encode_boxes(boxes, anchors), anchors)
    np.testing.assert_allclose(again, boxes, rtol=0, atol=1e-14)


def test_shape_errors(native: ModuleType) -> None:
    offsets = np.zeros((2, 7, 4), np.float32)
    anchors = np.zeros((7, 4), np.float32)
    text = "offsets must have shape [..., "
    for wrong in (offsets[0, 0], offsets[:, :6], offsets[:, :1], offsets[..., :3]):
        expect_error(native.decode_boxes, wrong, anchors, message=text)
    for wrong in (anchors[0], anchors[None], anchors[:, :3]):
        expect_error(
            native.decode_boxes,
            offsets,
            wrong,
            message="anchors must have shape [A, 4]",
        )
    expect_error(
        native.decode_boxes_grad,
        offsets[:1],
        offsets,
        anchors,
        message="grad_boxes must have shape [2, 7, 4], got [1, 7, 4]",
    )


def test_dtype_errors(native: ModuleType) -> None:
    offsets = np.zeros((7, 4), np.float32)
    double = offsets.astype(np.float64)
    expect_error(
        native.decode_boxes,
        offsets,
        double,
        message="anchors must have dtype float32, got float64",
    )
    expect_error(
        native.decode_boxes_grad,
        offsets,
        double,
        offsets,
        message="offsets must have dtype float32, got float64",
    )


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), float("inf")])
def test_variance_errors(native: ModuleType, bad: float) -> None:
    offsets = np.zeros((7, 4), np.float32)
    values = (bad, 0.1, 0.2, 0.2)
    expect_error(
        native.decode_boxes,
        offsets,
        offsets,
        variances=values,
        message="variances must be 4 positive finite numbers, got",
    )


def test_output_and_thread_errors(native: ModuleType) -> None:
    offsets = np.zeros((7, 4), np.float32)
    for function, inputs in (
        (native.decode_boxes, (offsets, offsets)),
        (native.decode_boxes_grad, (offsets, offsets, offsets)),
    ):
        expect_out_errors(function, *inputs)
        expect_thread_count_error(function, *inputs)
