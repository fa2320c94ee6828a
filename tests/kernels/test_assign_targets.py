# SPDX-License-Identifier: Apache-2.0
"""The assign_targets kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.assign_targets as oracle
import pytest
from hypothesis import given
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits, assert_equal_bits, assert_within
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    quantised_boxes,
    random_boxes,
    random_labels,
    special_boxes,
    ssd300_anchors,
)
from support.tolerances import encode_tolerance

DTYPES = (np.float32, np.float64)
HALF_DTYPES = (np.float16, ml_dtypes.bfloat16)
NAMES = ("classes", "offsets", "matched_gt", "matched_iou")
VARIANCES = (0.5, 0.25, 0.75, 1.5)


def check(native: ModuleType, *inputs: Any, **options: Any) -> Any:
    result = run_kernel(native.assign_targets, *inputs, **options)
    expected = oracle.assign_targets(*inputs, **options)
    assert_all_equal_bits(
        (result[0], *result[2:]), (expected[0], *expected[2:]), NAMES[:1] + NAMES[2:]
    )
    assert_within(result[1], expected[1], encode_tolerance(expected[1]))
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
        anchors = random_boxes(rng, num_anchors, dtype=dtype)
        boxes = random_boxes(rng, batch, num_gt, dtype=dtype)
        labels = random_labels(rng, batch, num_gt)
        check(
            native, anchors, boxes, labels, iou_threshold=0.25, negative_threshold=0.25
        )


@pytest.mark.parametrize("seed", range(60))
def test_ties_and_options(native: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 2]
    num_gt = int(rng.integers(0, 13))
    anchors = quantised_boxes(rng, int(rng.integers(0, 40)), dtype=dtype)
    boxes = quantised_boxes(rng, 2, num_gt, dtype=dtype)
    labels = random_labels(rng, 2, num_gt)
    options = random_options(rng)
    check(native, anchors, boxes, labels, **options, variances=VARIANCES)


@given(case=strategies.matching())
def test_grid(case: Any, native: ModuleType) -> None:
    *inputs, options = case
    check(native, *inputs, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)
    for shift in range(5):
        labels = np.resize(np.roll([1, 0, -1, 2, 3], shift), (1, len(boxes)))
        result = check(native, boxes, boxes[None], labels.astype(np.int32))
        assert np.isfinite(result[1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_anchors(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(1)
    boxes = random_boxes(rng, 2, 12, dtype=dtype)
    labels = random_labels(rng, 2, 12)
    options = {"negative_threshold": 0.4, "ignore_cross_boundary": True}
    result = check(native, ssd300_anchors(dtype), boxes, labels, **options)
    assert set(np.unique(result[0])) >= {-1, 0, 1, 2, 3}


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_it_is_matching_and_encoding_in_one(native: ModuleType, dtype: type) -> None:
    # In every bit, and with more positives than any vector has lanes.
    rng = np.random.default_rng(2)
    for num_anchors in (1, 15, 40, 333):
        anchors = random_boxes(rng, num_anchors, dtype=np.float64).astype(dtype)
        boxes = random_boxes(rng, 3, 20, dtype=np.float64).astype(dtype)
        labels = random_labels(rng, 3, 20)
        options = {"iou_threshold": 0.2, "negative_threshold": 0.1}
        classes, offsets, *matches = run_kernel(
            native.assign_targets, anchors, boxes, labels, **options
        )
        expected = native.match_anchors(anchors, boxes, labels, **options)
        assert_all_equal_bits(matches, expected, NAMES[2:])
        row = np.maximum(matches[0], 0)
        encoded = native.encode_boxes(
            np.take_along_axis(boxes, row[..., None], 1), anchors
        )
        positive = matches[0] >= 0
        zero = dtype(0)
        assert_equal_bits(offsets, np.where(positive[..., None], encoded, zero))
        assert_equal_bits(
            classes,
            np.where(positive, np.take_along_axis(labels, row, 1), matches[0] + 1),
        )


def test_an_unencodable_match_has_offsets_of_zero(native: ModuleType) -> None:
    # An offset of 65520 rounds to infinity in float16.
    anchors = np.array([[0, 0, 1, 1]], np.float16)
    boxes = np.array([[[0, 0, 1, 0.5]]], np.float16)
    labels = np.full((1, 1), 7, np.int32)
    classes, offsets, *_ = run_kernel(
        native.assign_targets, anchors, boxes, labels, variances=(1, 2.0**-20, 1, 1)
    )
    assert classes.tolist() == [[7]]
    assert offsets.tolist() == [[[0, 0, 0, 0]]]


def test_padding_and_the_rest_of_the_batch_do_not_matter(native: ModuleType) -> None:
    rng = np.random.default_rng(3)
    anchors = random_boxes(rng, 61, dtype=np.float32)
    boxes = random_boxes(rng, 5, 9, dtype=np.float32)
    labels = random_labels(rng, 5, 9)
    whole = native.assign_targets(anchors, boxes, labels, num_threads=4)
    for padding in (1, 7, 32):
        more = np.full((5, padding, 4), np.nan, np.float32)
        wide = np.concatenate([boxes, more], 1)
        padded = np.concatenate([labels, np.zeros((5, padding), np.int32)], 1)
        result = native.assign_targets(anchors, wide, padded)
        assert_all_equal_bits(result, whole, NAMES)
    for i in range(5):
        one = slice(i, i + 1)
        alone = native.assign_targets(anchors, boxes[one], labels[one])
        assert_all_equal_bits(alone, [part[one] for part in whole], NAMES)


def test_errors(native: ModuleType) -> None:
    anchors = np.zeros((7, 4), np.float32)
    boxes = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 3), np.int32)
    assign = native.assign_targets
    for inputs, message in (
        ((anchors[0], boxes, labels), "anchors must have shape [A, 4], got [4]"),
        ((anchors, anchors, labels), "gt_boxes must have shape [B, G, 4], got [7, 4]"),
        ((anchors, boxes, labels[:1]), "gt_labels must have shape [B, G] of gt_boxes"),
        (
            (anchors.astype(np.int32), boxes, labels),
            "anchors must have dtype float16, bfloat16, float32 or float64, got int32",
        ),
        (
            (anchors, boxes.astype(np.float16), labels),
            "gt_boxes must have dtype float32, got float16",
        ),
        (
            (anchors, boxes, labels.astype(np.int64)),
            "gt_labels must have dtype int32, got int64",
        ),
    ):
        expect_error(assign, *inputs, message=message)
    for options, message in (
        ({"iou_threshold": 1.5}, "iou_threshold must be in [0, 1], got 1.5"),
        ({"negative_threshold": 0.75}, "negative_threshold must be in [0, iou_thr"),
        ({"ignore_threshold": -0.5}, "ignore_threshold must be in [0, 1], got -0.5"),
        ({"variances": (1, 1, 0, 1)}, "variances must be 4 positive finite numbers"),
    ):
        expect_error(assign, anchors, boxes, labels, **options, message=message)
    expect_out_errors(assign, anchors, boxes, labels)
    expect_thread_count_error(assign, anchors, boxes, labels)
