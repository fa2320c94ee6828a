# SPDX-License-Identifier: Apache-2.0
"""The match_anchors kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.match_anchors as oracle
import pytest
from hypothesis import given
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits, assert_equal_bits
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    beside,
    quantised_boxes,
    random_boxes,
    random_labels,
    special_boxes,
    ssd300_anchors,
)

DTYPES = (np.float32, np.float64)
HALF_DTYPES = (np.float16, ml_dtypes.bfloat16)
NAMES = ("matched_gt", "matched_iou")


def check(native: ModuleType, *inputs: Any, **options: Any) -> Any:
    result = run_kernel(native.match_anchors, *inputs, **options)
    assert_all_equal_bits(result, oracle.match_anchors(*inputs, **options), NAMES)
    return result


def random_options(rng: np.random.Generator) -> dict[str, Any]:
    low, high = sorted(rng.integers(0, 9, 2) / 8)
    return {
        "iou_threshold": float(high),
        "negative_threshold": float(low),
        "ignore_threshold": float(rng.integers(0, 9) / 8),
        "bipartite_only": bool(rng.integers(2)),
        "ignore_cross_boundary": bool(rng.integers(2)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes(native: ModuleType, num_anchors: int, dtype: type) -> None:
    rng = np.random.default_rng(num_anchors)
    for batch, num_gt in ((1, 0), (3, 1), (2, 7), (0, 5), (1, 33)):
        anchors = quantised_boxes(rng, num_anchors, dtype=dtype)
        boxes = quantised_boxes(rng, batch, num_gt, dtype=dtype)
        check(native, anchors, boxes, random_labels(rng, batch, num_gt))


@pytest.mark.parametrize("seed", range(150))
def test_ties_and_options(native: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 2]
    steps = int(rng.integers(2, 9))
    num_gt = int(rng.integers(0, 13))
    anchors = quantised_boxes(rng, int(rng.integers(0, 40)), dtype=dtype, steps=steps)
    boxes = quantised_boxes(rng, 2, num_gt, dtype=dtype, steps=steps)
    labels = random_labels(rng, 2, num_gt)
    check(native, anchors, boxes, labels, **random_options(rng))


@given(case=strategies.matching())
def test_grid(case: Any, native: ModuleType) -> None:
    *inputs, options = case
    check(native, *inputs, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)
    for shift in range(5):
        labels = np.resize(np.roll([1, 0, -1, 2, 3], shift), (1, len(boxes)))
        for seed in range(5):
            options = random_options(np.random.default_rng(seed))
            check(native, boxes, boxes[None], labels.astype(np.int32), **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_anchors(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(1)
    boxes = random_boxes(rng, 2, 12, dtype=dtype)
    labels = random_labels(rng, 2, 12)
    options = {"negative_threshold": 0.4, "ignore_cross_boundary": True}
    check(native, ssd300_anchors(dtype), boxes, labels, **options)


@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_computed_in_float32(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(8)
    for num_anchors, num_gt in ((0, 3), (7, 2), (61, 12), (300, 40)):
        anchors = random_boxes(rng, num_anchors, dtype=np.float32).astype(dtype)
        boxes = random_boxes(rng, 2, num_gt, dtype=np.float32).astype(dtype)
        labels = random_labels(rng, 2, num_gt)
        options = random_options(rng)
        wide = (anchors.astype(np.float32), boxes.astype(np.float32), labels)
        expected = oracle.match_anchors(*wide, **options)
        found = run_kernel(native.match_anchors, anchors, boxes, labels, **options)
        assert_equal_bits(found[0], expected[0])
        assert_equal_bits(found[1], expected[1].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_of_any_scale(native: ModuleType, dtype: type) -> None:
    # Areas that underflow, overflow, or differ so much that no bound holds.
    rng = np.random.default_rng(9)
    exponents = {np.float32: (-70, 64), np.float64: (-530, 511)}[dtype]
    for _ in range(20):
        scale = 2.0 ** rng.integers(*exponents, (90, 1))
        boxes = (random_boxes(rng, 90, dtype=np.float64) * scale).astype(dtype)
        anchors, boxes = boxes[:50], np.concatenate([boxes[50:], boxes[:20]])[None]
        check(native, anchors, boxes, np.ones((1, 60), np.int32))


def test_many_ground_truths_want_the_same_anchors(native: ModuleType) -> None:
    # All prefer the same few anchors, so nearly every round sends some back.
    rng = np.random.default_rng(2)
    base = np.array([0.2, 0.2, 0.7, 0.7])
    anchors = (base + rng.normal(0, 0.05, (40, 4))).astype(np.float32)
    boxes = (base + rng.normal(0, 0.01, (1, 30, 4))).astype(np.float32)
    result = check(native, anchors, boxes, np.ones((1, 30), np.int32))
    assert set(range(30)) <= set(result[0][0].tolist())


def test_crowds_compete_for_the_large_anchors(native: ModuleType) -> None:
    # Many more boxes than anchors of their size, so that free anchors are looked for
    # again and again, in all tiles.
    rng = np.random.default_rng(10)
    anchors = quantised_boxes(rng, 500, dtype=np.float32, steps=40)
    boxes = random_boxes(rng, 2, 120, dtype=np.float32)
    boxes[1, 60:] = boxes[1, :60]
    check(native, anchors, boxes, np.ones((2, 120), np.int32))


def test_more_ground_truth_than_anchors(native: ModuleType) -> None:
    rng = np.random.default_rng(3)
    anchors = random_boxes(rng, 3, dtype=np.float32)
    boxes = np.tile(anchors, (1, 5, 1))
    result = check(native, anchors, boxes, np.ones((1, 15), np.int32))
    assert result[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_thresholds_and_their_neighbours(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        gt = random_boxes(rng, 1, dtype=dtype)
        other = gt + rng.normal(0, 0.02, gt.shape).astype(dtype)
        overlap = oracle.iou(other[0], gt[0])
        if not 0 < overlap < 1:
            continue
        inputs = (np.concatenate([gt, other]), gt[None], np.ones((1, 1), np.int32))
        for limit, found in zip(beside(overlap), (0, 0, -1), strict=True):
            result = check(
                native, *inputs, iou_threshold=limit, negative_threshold=limit
            )
            assert result[0].tolist() == [[0, found]]
        for limit, found in zip(beside(overlap), (-2, -2, -1), strict=True):
            result = check(native, *inputs, iou_threshold=1.0, negative_threshold=limit)
            assert result[0].tolist() == [[0, found]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_ignore_threshold_and_its_neighbours(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        anchor, region = random_boxes(rng, 2, dtype=dtype)
        common = oracle.intersection(anchor, region)
        if not common > 0:
            continue
        share = common / oracle.area(anchor)
        inputs = (anchor[None], region[None, None], np.full((1, 1), -1, np.int32))
        for limit, found in zip(beside(share), (-2, -2, -1), strict=True):
            if not 0 <= limit <= 1:
                continue
            result = check(native, *inputs, ignore_threshold=limit)
            assert result[0].tolist() == [[found]]


def test_labels_of_any_sign(native: ModuleType) -> None:
    anchors = np.array([[0, 0, 1, 1]], np.float32)
    limits = np.iinfo(np.int32)
    for label, found in (
        (limits.min, -2),
        (-2, -2),
        (-1, -2),
        (0, -1),
        (1, 0),
        (limits.max, 0),
    ):
        labels = np.array([[label]], np.int32)
        assert check(native, anchors, anchors[None], labels)[0].tolist() == [[found]]


def test_padding_and_the_rest_of_the_batch_do_not_matter(native: ModuleType) -> None:
    rng = np.random.default_rng(6)
    anchors = quantised_boxes(rng, 61, dtype=np.float32)
    boxes = quantised_boxes(rng, 5, 9, dtype=np.float32)
    labels = random_labels(rng, 5, 9)
    whole = native.match_anchors(anchors, boxes, labels, num_threads=4)
    for padding in (1, 7, 32):
        more = quantised_boxes(rng, 5, padding, dtype=np.float32)
        more[:, ::2] = np.nan
        wide = np.concatenate([boxes, more], 1)
        padded = np.concatenate([labels, np.zeros((5, padding), np.int32)], 1)
        assert_all_equal_bits(native.match_anchors(anchors, wide, padded), whole, NAMES)
    for i in range(5):
        one = slice(i, i + 1)
        alone = native.match_anchors(anchors, boxes[one], labels[one])
        assert_all_equal_bits(alone, [part[one] for part in whole], NAMES)


def test_shape_errors(native: ModuleType) -> None:
    anchors = np.zeros((7, 4), np.float32)
    boxes = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 3), np.int32)
    match = native.match_anchors
    expect_error(
        match,
        np.zeros((7, 5), np.float32),
        boxes,
        labels,
        message="anchors must have shape [A, 4], got [7, 5]",
    )
    expect_error(
        match, boxes, boxes, labels, message="anchors must have shape [A, 4], got"
    )
    expect_error(
        match,
        anchors,
        boxes[0],
        labels,
        message="gt_boxes must have shape [B, G, 4], got [3, 4]",
    )
    for wrong in (labels[0], labels[:1], labels[:, :1], labels[..., None]):
        text = ", ".join(map(str, wrong.shape))
        pattern = (
            re.escape("gt_labels must have shape [B, G]")
            + ".*"
            + re.escape(f"got [{text}]")
        )
        with pytest.raises(ValueError, match=pattern):
            match(anchors, boxes, wrong)


def test_dtype_errors(native: ModuleType) -> None:
    anchors = np.zeros((7, 4), np.float32)
    boxes = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 3), np.int32)
    match = native.match_anchors
    expect_error(
        match,
        anchors.astype(np.float16),
        boxes,
        labels,
        message="gt_boxes must have dtype float16, got float32",
    )
    expect_error(
        match,
        anchors,
        boxes.astype(np.float64),
        labels,
        message="gt_boxes must have dtype float32, got float64",
    )
    for dtype in (np.int64, np.float32, np.uint32):
        expect_error(
            match,
            anchors,
            boxes,
            labels.astype(dtype),
            message="gt_labels must have dtype int32, got",
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": 1.5}, "iou_threshold must be in [0, 1], got 1.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"negative_threshold": 0.75}, "negative_threshold must be in [0, "),
        ({"negative_threshold": -1}, "negative_threshold must be in [0, "),
        ({"negative_threshold": float("nan")}, "negative_threshold must be in [0, "),
        ({"ignore_threshold": -0.5}, "ignore_threshold must be in [0, 1], got -0.5"),
    ],
)
def test_option_errors(
    native: ModuleType, options: dict[str, Any], message: str
) -> None:
    anchors = np.zeros((7, 4), np.float32)
    boxes = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 3), np.int32)
    expect_error(
        native.match_anchors, anchors, boxes, labels, **options, message=message
    )


def test_output_and_thread_errors(native: ModuleType) -> None:
    anchors = np.zeros((7, 4), np.float32)
    boxes = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 3), np.int32)
    expect_out_errors(native.match_anchors, anchors, boxes, labels)
    expect_thread_count_error(native.match_anchors, anchors, boxes, labels)
