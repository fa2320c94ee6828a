# SPDX-License-Identifier: Apache-2.0
"""The batched_nms kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import oracles.batched_nms as oracle
import pytest
from hypothesis import given
from oracles.box_iou import iou
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    beside,
    quantised_boxes,
    random_boxes,
    special_boxes,
    ssd300_anchors,
    tied_scores,
)

DTYPES = (np.float32, np.float64)
NAMES = ("boxes", "scores", "classes", "num_detections", "anchor_indices")


def check(native: ModuleType, boxes: Any, scores: Any, **options: Any) -> Any:
    result = run_kernel(native.batched_nms, boxes, scores, **options)
    expected = oracle.batched_nms(boxes, scores, **options)
    assert_all_equal_bits(result, expected, NAMES)
    return result


def one_class(rows: Any, scores: Any, dtype: Any = np.float32) -> tuple[Any, Any]:
    """Boxes of one image and their scores in class 1 of 2."""
    boxes = np.array(rows, dtype).reshape(1, -1, 4)
    column = np.array(scores, dtype)
    return boxes, np.stack([np.zeros_like(column), column], -1)[None]


def random_options(rng: np.random.Generator, num_anchors: int) -> dict[str, Any]:
    return {
        "score_threshold": float(rng.choice([-np.inf, -1, 0, 0.25, 0.5, np.inf])),
        "iou_threshold": float(rng.integers(0, 9) / 8),
        "pre_nms_top_k": int(rng.choice([-1, 1, 3, 10, num_anchors + 1])),
        "max_detections": int(rng.choice([1, 2, 10, 100])),
        "background_class": int(rng.integers(-1, 5)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes(native: ModuleType, num_anchors: int, dtype: type) -> None:
    rng = np.random.default_rng(num_anchors)
    for batch, classes in ((1, 2), (3, 4), (2, 0), (2, 1), (0, 3), (1, 17)):
        boxes = quantised_boxes(rng, batch, num_anchors, dtype=dtype)
        scores = tied_scores(rng, batch, num_anchors, classes, dtype=dtype)
        check(native, boxes, scores)
        for top_k in (15, 16, 17):
            check(native, boxes, scores, pre_nms_top_k=top_k, max_detections=16)


@pytest.mark.parametrize("seed", range(150))
def test_ties_and_options(native: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 2]
    anchors, classes = int(rng.integers(0, 50)), int(rng.integers(1, 6))
    boxes = quantised_boxes(rng, 2, anchors, dtype=dtype, steps=int(rng.integers(2, 9)))
    scores = tied_scores(
        rng, 2, anchors, classes, dtype=dtype, steps=int(rng.integers(1, 9))
    )
    check(native, boxes, scores, **random_options(rng, anchors))


@given(case=strategies.suppression())
def test_grid(case: Any, native: ModuleType) -> None:
    boxes, scores, options = case
    check(native, boxes, scores, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes_and_scores(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)[None]
    tiny = float(np.finfo(dtype).smallest_subnormal)
    values = [
        -np.inf,
        -1,
        -tiny,
        -0.0,
        0.0,
        tiny,
        0.25,
        0.5,
        1,
        np.inf,
        np.nan,
        -np.nan,
    ]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.choice(values, (1, boxes.shape[1], 3)).astype(dtype)
        check(native, boxes, scores, **random_options(rng, boxes.shape[1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_anchors(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(1)
    anchors = ssd300_anchors(dtype)[None]
    scores = (rng.uniform(0, 1, (1, anchors.shape[1], 4)) ** 8).astype(dtype)
    check(native, anchors, scores)


def test_many_equal_scores_at_the_top_k_boundary(native: ModuleType) -> None:
    # Nearly all candidates have the score that decides who is among the best 400.
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 1, 3000, dtype=np.float32)
    scores = np.full((1, 3000, 2), 0.5, np.float32)
    scores[0, rng.integers(0, 3000, 300), 1] = 0.75
    scores[0, rng.integers(0, 3000, 300), 1] = 0.25
    check(native, boxes, scores)


def test_distinct_scores_of_neighbouring_bits(native: ModuleType) -> None:
    rng = np.random.default_rng(3)
    steps = rng.permutation(np.arange(900, dtype=np.uint32))
    column = (np.float32(0.5).view(np.uint32) + steps).view(np.float32)
    boxes, scores = one_class(random_boxes(rng, 900, dtype=np.float32), column)
    check(native, boxes, scores, pre_nms_top_k=333)


@pytest.mark.parametrize("dtype", DTYPES)
def test_iou_threshold_and_its_neighbours(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        first = random_boxes(rng, dtype=dtype)
        second = first + rng.normal(0, 0.02, 4).astype(dtype)
        overlap = iou(first, second)
        if not 0 < overlap < 1:
            continue
        boxes, scores = one_class([first, second], [0.9, 0.8], dtype)
        for limit, count in zip(beside(overlap), (1, 2, 2), strict=True):
            result = check(native, boxes, scores, iou_threshold=limit)
            assert result[3].tolist() == [count]


@pytest.mark.parametrize("dtype", DTYPES)
def test_score_threshold_and_its_neighbours(native: ModuleType, dtype: type) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [0.01], dtype)
    limits = (*beside(scores[0, 0, 1]), 0.01)
    for limit, count in zip(limits, (1, 0, 0, 0), strict=True):
        result = check(native, boxes, scores, score_threshold=limit)
        assert result[3].tolist() == [count]


def test_batches_and_threads_do_not_matter(native: ModuleType) -> None:
    rng = np.random.default_rng(5)
    boxes = quantised_boxes(rng, 6, 61, dtype=np.float32)
    scores = tied_scores(rng, 6, 61, 5, dtype=np.float32)
    whole = native.batched_nms(boxes, scores, num_threads=1)
    for threads in (2, 3, 8):
        again = native.batched_nms(boxes, scores, num_threads=threads)
        assert_all_equal_bits(again, whole, NAMES)
    for i in range(6):
        one = slice(i, i + 1)
        alone = native.batched_nms(boxes[one], scores[one], num_threads=2)
        assert_all_equal_bits(alone, [part[one] for part in whole], NAMES)


def test_more_rows_only_add_rows(native: ModuleType) -> None:
    rng = np.random.default_rng(6)
    boxes = quantised_boxes(rng, 2, 61, dtype=np.float32)
    scores = tied_scores(rng, 2, 61, 5, dtype=np.float32, steps=20)
    many = native.batched_nms(boxes, scores, max_detections=500)
    few = native.batched_nms(boxes, scores, max_detections=7)
    for position in (0, 1, 2, 4):
        assert (few[position] == many[position][:, :7]).all()


def test_shape_errors(native: ModuleType) -> None:
    boxes = np.zeros((2, 7, 4), np.float32)
    scores = np.zeros((2, 7, 3), np.float32)
    nms = native.batched_nms
    expect_error(
        nms, boxes[0], scores, message="boxes must have shape [B, A, 4], got [7, 4]"
    )
    expect_error(
        nms,
        np.zeros((2, 7, 5), np.float32),
        scores,
        message="boxes must have shape [B, A, 4], got [2, 7, 5]",
    )
    for wrong in (scores[0], scores[:1], scores[:, :6], scores[..., None]):
        text = ", ".join(map(str, wrong.shape))
        pattern = (
            re.escape("scores must have shape [B, A, C]")
            + ".*"
            + re.escape(f"got [{text}]")
        )
        with pytest.raises(ValueError, match=pattern):
            nms(boxes, wrong)


def test_dtype_errors(native: ModuleType) -> None:
    boxes = np.zeros((2, 7, 4), np.float32)
    scores = np.zeros((2, 7, 3), np.float32)
    expect_error(
        native.batched_nms,
        boxes.astype(np.int32),
        scores,
        message="boxes must have dtype float16, bfloat16, float32 or float64",
    )
    expect_error(
        native.batched_nms,
        boxes,
        scores.astype(np.float64),
        message="scores must have dtype float32, got float64",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold must be"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"iou_threshold": 1.25}, "iou_threshold must be in [0, 1], got 1.25"),
        ({"iou_threshold": -0.25}, "iou_threshold must be in [0, 1], got -0.25"),
        ({"pre_nms_top_k": 0}, "pre_nms_top_k must be -1 or at least 1, got 0"),
        ({"pre_nms_top_k": -2}, "pre_nms_top_k must be -1 or at least 1, got -2"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"max_detections": -5}, "max_detections must be at least 1, got -5"),
        ({"background_class": -2}, "background_class must be at least -1, got -2"),
    ],
)
def test_option_errors(
    native: ModuleType, options: dict[str, Any], message: str
) -> None:
    boxes = np.zeros((2, 7, 4), np.float32)
    scores = np.zeros((2, 7, 3), np.float32)
    expect_error(native.batched_nms, boxes, scores, **options, message=message)


def test_output_and_thread_errors(native: ModuleType) -> None:
    boxes = np.zeros((2, 7, 4), np.float32)
    scores = np.zeros((2, 7, 3), np.float32)
    expect_out_errors(native.batched_nms, boxes, scores)
    expect_thread_count_error(native.batched_nms, boxes, scores)
