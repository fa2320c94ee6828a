# SPDX-License-Identifier: Apache-2.0
"""The box_iou kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import oracles.box_iou as oracle
import pytest
from hypothesis import given
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_equal_bits
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    quantised_boxes,
    random_boxes,
    special_boxes,
    ssd300_anchors,
)

DTYPES = (np.float32, np.float64)


def check(native: ModuleType, a: Any, b: Any) -> Any:
    result = run_kernel(native.box_iou, a, b)
    assert_equal_bits(result, oracle.box_iou(a, b))
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_a", SIZES)
def test_sizes(native: ModuleType, num_a: int, dtype: type) -> None:
    rng = np.random.default_rng(num_a)
    for num_b in (0, 1, 7, 16, 33):
        a = quantised_boxes(rng, num_a, dtype=dtype)
        b = random_boxes(rng, num_b, dtype=dtype)
        check(native, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)
    check(native, boxes, boxes)


def test_subnormal_numbers(native: ModuleType) -> None:
    side = np.array([1e-10, 1e-18, 1e-19, 3e-20, 1e-22, 1e-30, 1e-40, 1e-45], "f4")
    boxes = np.stack([np.zeros_like(side)] * 2 + [side] * 2, -1)
    check(native, boxes, boxes)


@given(case=strategies.box_pairs())
def test_grid(case: Any, native: ModuleType) -> None:
    check(native, *case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_anchors(native: ModuleType, dtype: type) -> None:
    gt = random_boxes(np.random.default_rng(1), 7, dtype=dtype)
    anchors = ssd300_anchors(dtype)
    result = check(native, anchors, gt)
    assert_equal_bits(run_kernel(native.box_iou, gt, anchors), result.T.copy())


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((3, 5), (3, 7)),
        ((3, 5), (7,)),
        ((5,), (3, 7)),
        ((1, 5), (1, 7)),
        ((0, 5), (0, 7)),
        ((0, 5), (7,)),
        ((3, 0), (3, 7)),
        ((3, 5), (3, 0)),
    ],
)
def test_batches(native: ModuleType, shape_a: Any, shape_b: Any) -> None:
    rng = np.random.default_rng(2)
    a = random_boxes(rng, *shape_a, dtype=np.float32)
    b = random_boxes(rng, *shape_b, dtype=np.float32)
    check(native, a, b)


def test_properties(native: ModuleType) -> None:
    boxes = random_boxes(np.random.default_rng(3), 500, dtype=np.float32)
    result = run_kernel(native.box_iou, boxes, boxes)
    assert ((result >= 0) & (result <= 1)).all()
    assert (np.diagonal(result) == 1).all()
    assert_equal_bits(result, result.T.copy())


def test_shape_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    wide = np.zeros((8732, 5), np.float32)
    a_text = "boxes_a must have shape [N, 4] or [B, N, 4], got "
    b_text = "boxes_b must have shape [M, 4] or [B, M, 4], got "
    expect_error(native.box_iou, boxes, wide, message=b_text + "[8732, 5]")
    expect_error(native.box_iou, wide, boxes, message=a_text + "[8732, 5]")
    expect_error(native.box_iou, boxes[0], boxes, message=a_text + "[4]")
    expect_error(
        native.box_iou, boxes, boxes[None, None], message=b_text + "[1, 1, 5, 4]"
    )
    expect_error(
        native.box_iou,
        np.zeros((2, 5, 4), np.float32),
        np.zeros((3, 5, 4), np.float32),
        message="boxes_b must have 2 images along axis 0 as boxes_a, got 3",
    )


def test_dtype_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    expect_error(
        native.box_iou,
        boxes,
        boxes.astype(np.float64),
        message="boxes_b must have dtype float32, got float64",
    )
    for dtype in (np.int32, bool, object):
        expect_error(
            native.box_iou,
            boxes.astype(dtype),
            boxes,
            message="boxes_a must have dtype float16, bfloat16, float32 or float64",
        )


def test_byte_order_of_another_machine_is_refused(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), ">f4")
    expect_error(native.box_iou, boxes, boxes, message="boxes_a must have dtype")


def test_output_and_thread_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    expect_out_errors(native.box_iou, boxes, boxes)
    expect_thread_count_error(native.box_iou, boxes, boxes)
