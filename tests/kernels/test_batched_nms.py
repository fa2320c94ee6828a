# SPDX-License-Identifier: Apache-2.0
"""The batched_nms kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.batched_nms as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.box_iou import iou
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits, assert_equal_bits
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
ALL_DTYPES = (np.float16, ml_dtypes.bfloat16, *DTYPES)
RESCORING = ("soft_linear", "soft_gaussian", "matrix_linear", "matrix_gaussian")
METHODS = ("greedy", "weighted", *RESCORING)
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
        "criterion": str(rng.choice(["iou", "diou"])),
        "class_agnostic": bool(rng.integers(0, 2)),
        "sigma": float(rng.choice([1e-6, 0.1, 0.5, 2, 1e6])),
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


@given(
    case=strategies.suppression(),
    method=st.sampled_from(METHODS),
    criterion=st.sampled_from(("iou", "diou")),
    class_agnostic=st.booleans(),
)
def test_grid(
    case: Any, method: str, criterion: str, class_agnostic: bool, native: ModuleType
) -> None:
    boxes, scores, options = case
    options.update(method=method, criterion=criterion, class_agnostic=class_agnostic)
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(24))
def test_ties_and_options_of_every_method(
    native: ModuleType, seed: int, method: str
) -> None:
    rng = np.random.default_rng([seed, METHODS.index(method)])
    dtype = ALL_DTYPES[seed % 4]
    anchors, classes = int(rng.integers(0, 50)), int(rng.integers(1, 6))
    if seed % 3:
        steps = int(rng.integers(2, 9))
        boxes = quantised_boxes(rng, 2, anchors, dtype=dtype, steps=steps)
        steps = int(rng.integers(1, 9))
        scores = tied_scores(rng, 2, anchors, classes, dtype=dtype, steps=steps)
    else:
        boxes = random_boxes(rng, 2, anchors, dtype=np.float32).astype(dtype)
        scores = rng.uniform(0, 1, (2, anchors, classes)).astype(dtype)
    for _ in range(3):
        check(native, boxes, scores, method=method, **random_options(rng, anchors))


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes_of_every_method(
    native: ModuleType, num_anchors: int, method: str
) -> None:
    rng = np.random.default_rng(num_anchors)
    boxes = random_boxes(rng, 2, num_anchors, dtype=np.float32)
    scores = tied_scores(rng, 2, num_anchors, 2, dtype=np.float32, steps=40)
    for options in (
        {"pre_nms_top_k": -1},
        {"pre_nms_top_k": 16, "max_detections": 15},
        {"pre_nms_top_k": 17, "class_agnostic": True, "background_class": -1},
    ):
        check(native, boxes, scores, method=method, **options)
    for shape in ((2, 0), (0, 3)):
        empty = scores[: shape[0], :, :1].repeat(shape[1], -1)
        check(native, boxes[: shape[0]], empty, method=method)
        check(native, boxes[: shape[0]], empty, method=method, class_agnostic=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes_and_scores_of_every_method(
    native: ModuleType, dtype: type, method: str
) -> None:
    boxes = special_boxes(dtype)[None]
    big = float(np.finfo(dtype).max)
    values = [-np.inf, -big, -1, -0.0, 0.0, 0.25, 0.5, 1, big, np.inf, np.nan]
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scores = rng.choice(values, (1, boxes.shape[1], 3)).astype(dtype)
        options = random_options(rng, boxes.shape[1])
        check(native, boxes, scores, method=method, **options)
        options.update(score_threshold=-np.inf, background_class=-1)
        check(native, boxes, scores, method=method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_many_candidates_of_every_method(native: ModuleType, method: str) -> None:
    # Nearly all candidates have the score that decides who takes part.
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 1, 1500, dtype=np.float32)
    scores = np.full((1, 1500, 3), 0.5, np.float32)
    scores[0, rng.integers(0, 1500, 60), 1:] = 0.75
    scores[0, rng.integers(0, 1500, 60), 1:] = 0.25
    check(native, boxes, scores, method=method, pre_nms_top_k=150)
    check(native, boxes, scores, method=method, pre_nms_top_k=150, class_agnostic=True)


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_more_than_a_block_holds(
    native: ModuleType, method: str, class_agnostic: bool
) -> None:
    # A GPU visits 512 candidates at a time.
    rng = np.random.default_rng(9)
    corner = rng.integers(0, 160, (2, 700, 2)) / 4
    boxes = np.concatenate([corner, corner + 1.5], -1).astype(np.float32)
    scores = tied_scores(rng, 2, 700, 2, dtype=np.float32, steps=50)
    # Soft-NMS takes one after the other.
    most = 90 if method.startswith("soft") else 1300
    for top_k, max_detections in ((-1, most), (600, 90)):
        check(
            native,
            boxes,
            scores,
            method=method,
            class_agnostic=class_agnostic,
            iou_threshold=0.25,
            score_threshold=0.01,
            pre_nms_top_k=top_k,
            max_detections=max_detections,
            background_class=-1,
        )


@pytest.mark.parametrize("method", METHODS)
def test_more_classes_than_fit_a_piece(native: ModuleType, method: str) -> None:
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 2, 3, dtype=np.float32)
    scores = (rng.uniform(0, 1, (2, 3, 5000)) ** 200).astype(np.float32)
    for agnostic in (False, True):
        check(native, boxes, scores, method=method, class_agnostic=agnostic)


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_threads_do_not_matter_to_any_method(
    native: ModuleType, method: str
) -> None:
    rng = np.random.default_rng(5)
    boxes = quantised_boxes(rng, 6, 61, dtype=np.float32)
    scores = tied_scores(rng, 6, 61, 5, dtype=np.float32)
    whole = native.batched_nms(boxes, scores, method=method, num_threads=3)
    for i in range(6):
        one = slice(i, i + 1)
        alone = native.batched_nms(boxes[one], scores[one], method=method)
        assert_all_equal_bits(alone, [part[one] for part in whole], NAMES)


@pytest.mark.parametrize("threshold", [0.01, 0.0, -1.0])
@pytest.mark.parametrize("method", METHODS)
def test_more_rows_only_add_rows_by_any_method(
    native: ModuleType, method: str, threshold: float
) -> None:
    rng = np.random.default_rng(6)
    boxes = quantised_boxes(rng, 2, 61, dtype=np.float32)
    scores = tied_scores(rng, 2, 61, 5, dtype=np.float32, steps=20) + threshold
    options = {"method": method, "score_threshold": threshold}
    many = native.batched_nms(boxes, scores, **options, max_detections=500)
    for rows in (1, 2, 7, 60):
        few = native.batched_nms(boxes, scores, **options, max_detections=rows)
        for position in (0, 1, 2, 4):
            assert (few[position] == many[position][:, :rows]).all()


@pytest.mark.parametrize("method", ["greedy", *RESCORING])
def test_all_classes_together_are_one_class_of_more_anchors(
    native: ModuleType, method: str
) -> None:
    rng = np.random.default_rng(7)
    boxes = quantised_boxes(rng, 2, 41, dtype=np.float32)
    scores = tied_scores(rng, 2, 41, 4, dtype=np.float32, steps=20)
    options = {"method": method, "background_class": -1, "pre_nms_top_k": 50}
    found = native.batched_nms(boxes, scores, class_agnostic=True, **options)
    repeated = np.tile(boxes, (1, 4, 1))
    column = scores.transpose(0, 2, 1).reshape(2, -1, 1)
    expected = native.batched_nms(repeated, column, **options)
    assert_all_equal_bits(found[:2], expected[:2], NAMES[:2])
    slots = np.where(found[4] < 0, -1, found[2] * 41 + found[4])
    assert (slots == expected[4]).all()


def test_classes_compete_only_together(native: ModuleType) -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9]]], np.float32)
    scores = np.array([[[0, 0.5, 0.5], [0, 0.75, 0.5]]], np.float32)
    found = check(native, boxes, scores)
    assert found[3].tolist() == [2]
    found = check(native, boxes, scores, class_agnostic=True)
    assert found[3].tolist() == [1]
    assert (found[2][0, 0], found[4][0, 0]) == (1, 1)
    # Of equal scores the lower class, then the lower anchor: also at the limit.
    scores[...] = 0.5
    for limit in (1, 2, 3, -1):
        found = check(native, boxes, scores, class_agnostic=True, pre_nms_top_k=limit)
        assert (found[3][0], found[2][0, 0], found[4][0, 0]) == (1, 1, 0)


# Three boxes in a row: the first two and the last two have an IoU of 1/3, and centres
# half a box apart: 0.25 over a squared diagonal of 1 + 2.25.
ROW = [[0, 0, 1, 1], [0, 0.5, 1, 1.5], [0, 1, 1, 2]]
ROW_SCORES = [0.9, 0.6, 0.5]


@pytest.mark.parametrize(
    ("options", "anchors", "scores"),
    [
        ({"iou_threshold": 0.3}, [0, 2], [0.9, 0.5]),
        ({"method": "weighted", "iou_threshold": 0.3}, [0, 2], [0.9, 0.5]),
        # The last one is next (0.5 > 0.4), and decays the second once more.
        (
            {"method": "soft_linear", "iou_threshold": 0.3},
            [0, 2, 1],
            [0.9, 0.5, 0.6 * 4 / 9],
        ),
        ({"method": "soft_linear"}, [0, 1, 2], [0.9, 0.6, 0.5]),
        (
            {"method": "soft_gaussian", "sigma": 1.0},
            [0, 1, 2],
            [0.9, 0.6 * np.exp(-1 / 9), 0.5 * np.exp(-1 / 9)],
        ),
        # The last one overlaps the second, which the first has decayed itself.
        ({"method": "matrix_linear"}, [0, 2, 1], [0.9, 0.5, 0.4]),
        (
            {"method": "matrix_gaussian", "sigma": 0.5},
            [0, 2, 1],
            [0.9, 0.5, 0.6 * np.exp(-2 / 9)],
        ),
        ({"iou_threshold": 0.25, "criterion": "diou"}, [0, 2], [0.9, 0.5]),
        ({"iou_threshold": 0.26, "criterion": "diou"}, [0, 1, 2], ROW_SCORES),
        (
            {"method": "matrix_linear", "criterion": "diou"},
            [0, 2, 1],
            [0.9, 0.5, 0.6 * (1 - (1 / 3 - 0.25 / 3.25))],
        ),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_hand(
    native: ModuleType, dtype: type, options: Any, anchors: Any, scores: Any
) -> None:
    found = check(native, *one_class(ROW, ROW_SCORES, dtype), **options)
    count = len(anchors)
    assert found[3].tolist() == [count]
    assert found[4][0, :count].tolist() == anchors
    np.testing.assert_allclose(found[1][0, :count], scores, rtol=1e-6)


def test_the_score_when_taken_is_compared_with_the_threshold(
    native: ModuleType,
) -> None:
    boxes, scores = one_class(ROW, ROW_SCORES)
    options = {"method": "soft_linear", "iou_threshold": 0.3}
    final = check(native, boxes, scores, **options)[1][0, 2]
    for limit, count in zip(beside(final), (3, 2, 2), strict=True):
        found = check(native, boxes, scores, **options, score_threshold=limit)
        assert found[3].tolist() == [count]


@pytest.mark.parametrize("method", ["soft_linear", "matrix_linear"])
def test_equal_boxes_leave_nothing_of_each_other(
    native: ModuleType, method: str
) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]] * 5, [0.5, 0.9, 0.5, 0.9, 0.7])
    found = check(native, boxes, scores, method=method)
    assert (found[3].tolist(), found[4][0, 0]) == ([1], 1)
    # All others have a score of 0, in matrix NMS by the first alone.
    found = check(native, boxes, scores, method=method, score_threshold=-0.5)
    assert found[4][0, :6].tolist() == [1, 0, 2, 3, 4, -1]
    assert (found[1][0, 1:5] == 0).all()


def test_an_infinite_score_may_decay_to_none(native: ModuleType) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]], [np.inf] * 3)
    for method in ("soft_linear", "matrix_linear"):
        found = check(native, boxes, scores, method=method)
        assert found[4][0, :3].tolist() == [0, 2, -1]


def test_decayed_ties_are_taken_by_anchor(native: ModuleType) -> None:
    # The last two are decayed to the score of the first two, by another box each.
    rows = [[0, 4, 1, 5], [0, 6, 1, 7], [0, 0, 1, 1], [0, 8, 1, 9]]
    rows += [[0, 0, 1, 0.5], [0, 8, 1, 8.5]]
    boxes, scores = one_class(rows, [0.25, 0.25, 0.75, 0.75, 0.5, 0.5])
    for order in ([0, 1, 2, 3, 4, 5], [4, 1, 5, 0, 3, 2]):
        found = check(
            native,
            boxes[:, order],
            scores[:, order],
            method="soft_linear",
            iou_threshold=0.25,
        )
        tied = [i for i, k in enumerate(order) if k not in (2, 3)]
        assert found[4][0, 2:6].tolist() == tied
        assert (found[1][0, 2:6] == 0.25).all()


@pytest.mark.parametrize("gaussian", [False, True])
def test_matrix_as_in_the_paper(native: ModuleType, gaussian: bool) -> None:
    rng = np.random.default_rng(8)
    count = 50
    boxes = random_boxes(rng, count, dtype=np.float64)
    column = np.sort(rng.uniform(0.1, 1, count))[::-1]
    ious = np.array([[iou(a, b) for b in boxes] for a in boxes])
    ious = np.triu(ious, 1)
    largest = ious.max(0)[:, None]
    if gaussian:
        decay = np.exp(-(ious**2 - largest**2) / 0.5)
    else:
        decay = (1 - ious) / (1 - largest)
    expected = column * decay.min(0)
    method = "matrix_gaussian" if gaussian else "matrix_linear"
    found = check(
        native,
        *one_class(boxes, column, np.float64),
        method=method,
        score_threshold=0.0,
    )
    assert found[3].tolist() == [count]
    np.testing.assert_allclose(found[1][0, :count], expected[found[4][0, :count]])


def test_votes_by_hand(native: ModuleType) -> None:
    rows = [[0, 0, 1, 1], [0, 0.25, 1, 1.25], [0, 0.5, 1, 1.5], [4, 4, 5, 5]]
    boxes, scores = one_class(rows, [0.5, 0.25, 0.25, 0.125])
    found = check(native, boxes, scores, method="weighted", iou_threshold=0.25)
    assert found[3].tolist() == [2]
    assert found[0][0, 0].tolist() == [0, 0.1875, 1, 1.1875]
    assert found[0][0, 1].tolist() == rows[3]
    assert found[1][0, :2].tolist() == [0.5, 0.125]


def test_only_boxes_of_the_class_vote(native: ModuleType) -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0.25, 1, 1.25]]], np.float32)
    scores = np.array([[[0, 0.75, 0.25], [0, 0.25, 0.5]]], np.float32)
    found = check(native, boxes, scores, method="weighted", class_agnostic=True)
    assert found[3].tolist() == [1]
    assert found[0][0, 0].tolist() == [0, 0.0625, 1, 1.0625]


def test_a_box_votes_once_for_the_best(native: ModuleType) -> None:
    rows = [[0, 0, 1, 1], [0, 1, 1, 2], [0, 0.5, 1, 1.5]]
    boxes, scores = one_class(rows, [0.5, 0.5, 0.5])
    found = check(native, boxes, scores, method="weighted", iou_threshold=0.25)
    assert found[0][0, :2].tolist() == [[0, 0.25, 1, 1.25], rows[1]]


@pytest.mark.parametrize("column", [[np.inf, 0.5], [-0.5, -0.5], [0.5, 0.0]])
def test_boxes_stay_without_a_finite_positive_vote(
    native: ModuleType, column: Any
) -> None:
    rows = [[-0.0, 0, 1, 1], [0, 0.25, 1, 1.25]]
    boxes, scores = one_class(rows, column)
    found = check(native, boxes, scores, method="weighted", score_threshold=-1.0)
    assert found[3].tolist() == [1]
    assert_equal_bits(found[0][0, 0], boxes[0, 0])


def test_a_mean_of_equal_boxes_is_that_box(native: ModuleType) -> None:
    rng = np.random.default_rng(9)
    box = random_boxes(rng, dtype=np.float32)
    boxes, scores = one_class([box] * 7, rng.uniform(0.1, 1, 7))
    found = check(native, boxes, scores, method="weighted")
    assert_equal_bits(found[0][0, 0], box)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [20, 30, 700])
def test_scores_alike_in_their_highest_bits(
    native: ModuleType, count: int, dtype: Any
) -> None:
    rng = np.random.default_rng(count)
    word = np.dtype(f"u{np.dtype(dtype).itemsize}")
    scores = np.array(0.5, dtype).view(word) + rng.integers(0, count, count)
    scores = scores.astype(word).view(dtype)
    scores[count // 2] = 1e30  # widens the range of bits in which they differ
    places = np.arange(count)[:, None] * 10.0 + [0, 0, 5, 5]
    boxes, both = one_class(places, scores, dtype)
    found = check(native, boxes, both, pre_nms_top_k=-1, max_detections=count)
    assert found[3].tolist() == [count]


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
        (
            {"method": "soft"},
            "method must be one of greedy, soft_linear, soft_gaussian, matrix_linear,"
            " matrix_gaussian, weighted, got soft",
        ),
        ({"criterion": ""}, "criterion must be one of iou, diou, got "),
        ({"sigma": 0.0}, "sigma must be in [1e-6, 1e6], got 0.0"),
        ({"sigma": 2e6}, "sigma must be in [1e-6, 1e6], got 2000000.0"),
        ({"sigma": float("nan")}, "sigma must be in [1e-6, 1e6], got nan"),
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
