# SPDX-License-Identifier: Apache-2.0
"""Public `batched_nms`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import oracles.batched_nms as oracle
import pytest
import tensorflow as tf
from hypothesis import given
from oracles.box_iou import iou
from support import strategies
from support.bits import assert_all_equal_bits, assert_equal_bits, assert_within
from support.cases import (
    beside,
    quantised_boxes,
    random_boxes,
    special_boxes,
    ssd300_anchors,
    tied_scores,
)
from support.contracts import (
    expect_no_gradient,
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
from support.tolerances import decay_tolerance

from ssdops import Detections, batched_nms
from ssdops.ops import DetectionsWithAnchors

F32 = tf.float32
NAMES = DetectionsWithAnchors._fields
EXACT_METHODS = ("greedy", "weighted", "soft_linear", "matrix_linear")
GAUSSIAN_METHODS = ("soft_gaussian", "matrix_gaussian")
METHODS = (*EXACT_METHODS, *GAUSSIAN_METHODS)


def expected(boxes: Any, scores: Any, **options: Any) -> tuple[Any, ...]:
    options = dict(options)
    for name in ("pre_nms_top_k", "background_class"):
        if name in options and options[name] is None:
            options[name] = -1
    return oracle.batched_nms(boxes, scores, **options)


def check(mode: Mode, boxes: Any, scores: Any, **options: Any) -> DetectionsWithAnchors:
    actual = mode.run(batched_nms, boxes, scores, return_anchor_indices=True, **options)
    assert_all_equal_bits(actual, expected(boxes, scores, **options), NAMES)
    return actual


def one_class(rows: Any, scores: Any, dtype: Any = np.float32) -> tuple[Any, Any]:
    """Boxes of one image and their scores in class 1 of 2."""
    boxes = np.array(rows, dtype).reshape(1, -1, 4)
    column = np.array(scores, dtype)
    return boxes, np.stack([np.zeros_like(column), column], -1)[None]


OPTIONS = [
    {},
    {"max_detections": 3},
    {"pre_nms_top_k": 5, "iou_threshold": 0.25},
    {"pre_nms_top_k": None, "background_class": None, "max_detections": 100},
    {"score_threshold": 0.5, "background_class": 2},
    {"score_threshold": -1.0, "iou_threshold": 1.0, "pre_nms_top_k": 7},
    {"iou_threshold": 0.0, "background_class": 9},
    {"score_threshold": float("-inf"), "max_detections": 300},
    {"score_threshold": float("inf")},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_quantised_boxes_and_scores(mode: Mode, options: dict[str, Any]) -> None:
    function = mode.function(
        batched_nms, "float32", return_anchor_indices=True, **options
    )
    for seed in range(4):
        rng = np.random.default_rng(seed)
        boxes = quantised_boxes(rng, 2, 31, dtype=np.float32)
        scores = tied_scores(rng, 2, 31, 4, dtype=np.float32)
        actual = [t.numpy() for t in function(tf.constant(boxes), tf.constant(scores))]
        assert_all_equal_bits(actual, expected(boxes, scores, **options), NAMES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_random_boxes(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(10)
    boxes = random_boxes(rng, 3, 61, dtype=dtype)
    scores = rng.uniform(0, 1, (3, 61, 5)).astype(dtype)
    check(mode, boxes, scores, max_detections=50)


@pytest.mark.parametrize("mode", EAGER_MODES)
@given(case=strategies.suppression())
def test_ties(mode: Mode, case: Any) -> None:
    boxes, scores, options = case
    for name in ("pre_nms_top_k", "background_class"):
        options[name] = None if options[name] == -1 else options[name]
    check(mode, boxes, scores, **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    rng = np.random.default_rng(11)
    anchors = ssd300_anchors()[None]
    scores = rng.uniform(0, 1, (1, anchors.shape[1], 4)).astype(np.float32) ** 8
    check(mode, anchors, scores)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("batch", "anchors", "classes"),
    [(0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0), (1, 3, 1), (1, 1, 2), (1, 2, 65)],
)
def test_sizes(mode: Mode, batch: int, anchors: int, classes: int) -> None:
    rng = np.random.default_rng(12)
    boxes = random_boxes(rng, batch, anchors, dtype=np.float32)
    scores = rng.uniform(0, 1, (batch, anchors, classes)).astype(np.float32)
    check(mode, boxes, scores, max_detections=6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_special_boxes_and_scores(mode: Mode, dtype: type) -> None:
    boxes = special_boxes(dtype)[None]
    rng = np.random.default_rng(13)
    scores = rng.choice(
        [-np.inf, -1, -0.0, 0.0, 0.25, 0.5, 1, np.inf, np.nan], (1, boxes.shape[1], 3)
    ).astype(dtype)
    check(mode, boxes, scores, background_class=None)
    check(mode, boxes, scores, background_class=None, score_threshold=-2.0)


@pytest.mark.parametrize("mode", MODES)
def test_positive_and_negative_zero_scores_are_equal(mode: Mode) -> None:
    boxes, scores = one_class(
        [[0, k, 1, k + 1] for k in range(4)], [-0.0, 0.0, -0.0, 0.0]
    )
    found = check(mode, boxes, scores, score_threshold=-1.0, max_detections=4)
    assert found.anchor_indices.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_iou_threshold_and_its_neighbours(mode: Mode, dtype: type) -> None:
    boxes, scores = one_class([[0, 0, 1, 1], [0.1, 0, 1, 0.9]], [0.9, 0.8], dtype)
    below, exact, above = beside(iou(boxes[0, 0], boxes[0, 1]))
    for limit, count in ((below, 1), (exact, 2), (above, 2)):
        found = check(mode, boxes, scores, iou_threshold=limit)
        assert found.num_detections.tolist() == [count]


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_score_threshold_and_its_neighbours(mode: Mode, dtype: type) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [0.01], dtype)
    below, exact, above = beside(scores[0, 0, 1])
    for limit, count in ((below, 1), (exact, 0), (above, 0), (0.01, 0)):
        found = check(mode, boxes, scores, score_threshold=limit)
        assert found.num_detections.tolist() == [count]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_score_threshold_beyond_the_dtype(mode: Mode) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [np.inf])
    # Rounded to float32 this is infinity, and no score is above that.
    assert check(mode, boxes, scores, score_threshold=1e300).num_detections == [0]
    assert check(mode, boxes, scores, score_threshold=-1e300).num_detections == [1]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_top_k_comes_before_suppression(mode: Mode) -> None:
    same = [0, 0, 1, 1]
    boxes, scores = one_class([same, same, same, [2, 2, 3, 3]], [0.9, 0.8, 0.7, 0.6])
    for limit, anchors in ((2, [0]), (3, [0]), (4, [0, 3]), (None, [0, 3])):
        found = check(mode, boxes, scores, pre_nms_top_k=limit, max_detections=2)
        assert found.anchor_indices[0, : len(anchors)].tolist() == anchors
        assert found.num_detections.tolist() == [len(anchors)]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_order_of_equal_scores_is_class_then_anchor(mode: Mode) -> None:
    boxes = np.array([[[0, 2 * k, 1, 2 * k + 1] for k in range(3)]], np.float32)
    scores = np.full((1, 3, 3), 0.5, np.float32)
    found = check(mode, boxes, scores, max_detections=5)
    assert found.classes.tolist() == [[1, 1, 1, 2, 2]]
    assert found.anchor_indices.tolist() == [[0, 1, 2, 0, 1]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_a_suppressed_box_suppresses_nothing(mode: Mode) -> None:
    rows = [[0, 0, 1, 1], [0, 0.4, 1, 1.4], [0, 0.8, 1, 1.8]]
    boxes, scores = one_class(rows, [0.9, 0.8, 0.7])
    found = check(mode, boxes, scores, iou_threshold=0.4)
    assert found.anchor_indices[0, :2].tolist() == [0, 2]
    assert found.num_detections.tolist() == [2]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_empty_boxes_are_kept_and_padding_is_zero(mode: Mode) -> None:
    rows = [[0.5, 0.5, 0.5, 0.5]] * 2 + [[1, 1, 0, 0]]
    boxes, scores = one_class(rows, [0.9, 0.8, 0.7])
    found = check(mode, boxes, scores, max_detections=5)
    assert found.num_detections.tolist() == [3]
    assert_equal_bits(found.boxes[0, 3:], np.zeros((2, 4), np.float32))
    assert_equal_bits(found.scores[0, 3:], np.zeros(2, np.float32))
    assert found.anchor_indices.tolist() == [[0, 1, 2, -1, -1]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_the_rest_of_the_batch_does_not_matter(mode: Mode) -> None:
    rng = np.random.default_rng(14)
    boxes = quantised_boxes(rng, 4, 40, dtype=np.float32)
    scores = tied_scores(rng, 4, 40, 3, dtype=np.float32)
    whole = mode.run(batched_nms, boxes, scores)
    for i in range(4):
        alone = mode.run(batched_nms, boxes[i : i + 1], scores[i : i + 1])
        part = [field[i : i + 1] for field in whole]
        assert_all_equal_bits(alone, part, Detections._fields)


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(15)
    boxes = random_boxes(rng, 2, 29, dtype=np.float32).astype(dtype)
    scores = rng.uniform(0, 1, (2, 29, 3)).astype(dtype)
    wide = expected(boxes.astype(np.float32), scores.astype(np.float32))
    actual = check(mode, boxes, scores)
    for name, a, e in zip(NAMES, actual, wide, strict=True):
        assert_equal_bits(a, e.astype(a.dtype), name)
    assert actual.boxes.dtype == actual.scores.dtype == boxes.dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_exact_methods(mode: Mode, method: str) -> None:
    options = {"method": method, "criterion": "diou", "class_agnostic": True}
    options.update(score_threshold=-1.0, iou_threshold=0.25, background_class=None)
    function = mode.function(
        batched_nms, "float32", return_anchor_indices=True, **options
    )
    for seed in range(4):
        rng = np.random.default_rng(seed)
        boxes = quantised_boxes(rng, 2, 17, dtype=np.float32)
        scores = tied_scores(rng, 2, 17, 3, dtype=np.float32)
        if seed == 3:
            boxes = random_boxes(rng, 2, 17, dtype=np.float32)
        actual = function(tf.constant(boxes), tf.constant(scores))
        wanted = expected(boxes, scores, **options)
        assert_all_equal_bits([t.numpy() for t in actual], wanted, NAMES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", GAUSSIAN_METHODS)
def test_gaussian_methods(mode: Mode, method: str) -> None:
    for dtype in FULL_DTYPES[: 1 if mode.how == "xla" else 2]:
        rng = np.random.default_rng(20)
        boxes = random_boxes(rng, 2, 25, dtype=dtype)
        scores = rng.uniform(0, 1, (2, 25, 3)).astype(dtype)
        check_gaussian(mode, boxes, scores, method=method, sigma=0.3)


def check_gaussian(mode: Mode, boxes: Any, scores: Any, **options: Any) -> None:
    """The scores may differ in the last places, and nothing else."""
    actual = mode.run(batched_nms, boxes, scores, return_anchor_indices=True, **options)
    wanted = expected(boxes, scores, **options)
    tolerance = decay_tolerance(wanted[1], boxes.shape[1], 1 / options["sigma"])
    assert_within(actual.scores, wanted[1], tolerance, "scores")
    for name, a, e in zip(NAMES, actual, wanted, strict=True):
        if name != "scores":
            assert_equal_bits(a, e, name)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("method", EXACT_METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_options_of_every_exact_method(mode: Mode, method: str, seed: int) -> None:
    rng = np.random.default_rng([seed, METHODS.index(method)])
    dtype = (*FULL_DTYPES, *HALF_DTYPES)[seed]
    boxes = quantised_boxes(rng, 2, 23, dtype=dtype)
    for steps in (3, 30):
        check(
            mode,
            boxes,
            tied_scores(rng, 2, 23, 4, dtype=dtype, steps=steps),
            method=method,
            criterion=str(rng.choice(["iou", "diou"])),
            class_agnostic=bool(rng.integers(0, 2)),
            score_threshold=float(rng.choice([-np.inf, -1, 0, 0.25])),
            iou_threshold=float(rng.integers(0, 9) / 8),
            pre_nms_top_k=rng.choice([None, 1, 3, 10, 40]),
            max_detections=int(rng.choice([1, 5, 100])),
            background_class=rng.choice([None, 0, 2]),
        )


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("method", METHODS)
def test_special_boxes_and_scores_of_every_method(mode: Mode, method: str) -> None:
    boxes = special_boxes(np.float32)[None]
    rng = np.random.default_rng(21)
    scores = rng.choice(
        [-np.inf, -1, -0.0, 0.0, 0.25, 0.5, 1, np.inf, np.nan], (1, boxes.shape[1], 3)
    ).astype(np.float32)
    gaussian = method in GAUSSIAN_METHODS
    for options in (
        {"criterion": "diou", "score_threshold": -2.0, "background_class": None},
        {"class_agnostic": True},
    ):
        options.update(method=method, sigma=0.5)
        (check_gaussian if gaussian else check)(mode, boxes, scores, **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("agnostic", [False, True])
def test_sizes_of_every_method(mode: Mode, method: str, agnostic: bool) -> None:
    check_sizes(mode, method=method, class_agnostic=agnostic)


@pytest.mark.parametrize("method", ["weighted", "soft_linear", "matrix_linear"])
def test_sizes_of_compiled_methods(method: str) -> None:
    check_sizes(Mode("reference", "xla"), method=method)


def check_sizes(mode: Mode, **options: Any) -> None:
    rng = np.random.default_rng(22)
    for batch, anchors, classes in ((0, 3, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1)):
        boxes = random_boxes(rng, batch, anchors, dtype=np.float32)
        scores = rng.uniform(0, 1, (batch, anchors, classes)).astype(np.float32)
        check(mode, boxes, scores, max_detections=4, background_class=None, **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_soft_nms_of_tensorflow(mode: Mode) -> None:
    """TensorFlow's weight is `exp(-u^2 / (2 sigma))`."""
    rng = np.random.default_rng(23)
    boxes = random_boxes(rng, 1, 60, dtype=np.float32)
    scores = rng.uniform(0, 1, (1, 60, 2)).astype(np.float32)
    indices, values = tf.image.non_max_suppression_with_scores(
        boxes[0], scores[0, :, 1], 60, 1.0, 0.1, soft_nms_sigma=0.25
    )
    found = mode.run(
        batched_nms,
        boxes,
        scores,
        method="soft_gaussian",
        sigma=0.5,
        score_threshold=0.1,
        max_detections=len(indices) + 1,
        return_anchor_indices=True,
    )
    assert found.num_detections.tolist() == [len(indices)]
    assert found.anchor_indices[0, :-1].tolist() == indices.numpy().tolist()
    np.testing.assert_allclose(found.scores[0, :-1], values, rtol=1e-5)


def test_anchor_indices_are_returned_on_request() -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [0.5])
    assert type(batched_nms(boxes, scores)) is Detections
    found = batched_nms(boxes, scores, return_anchor_indices=True)
    assert type(found) is DetectionsWithAnchors


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("boxes", "scores", "batch"),
    [
        ((2, 7, 4), (2, 7, 3), 2),
        ((None, 7, 4), (None, 7, 3), None),
        ((2, None, 4), (None, 7, None), 2),
        ((None, None, None), (2, None, None), 2),
        (None, (2, 7, 3), 2),
        (None, None, None),
    ],
)
def test_shape_inference(implementation, boxes, scores, batch) -> None:
    actual = static_shapes(
        batched_nms,
        implementation,
        [boxes, scores],
        [F32, F32],
        max_detections=9,
        return_anchor_indices=True,
    )
    row = [batch, 9]
    assert list(actual) == [[batch, 9, 4], row, row, [batch], row]


SHAPE_ERRORS = [
    ((7, 4), (2, 7, 3), "boxes must have shape [B, A, 4], got [7, 4]"),
    ((2, 7, 5), (2, 7, 3), "boxes must have shape [B, A, 4], got [2, 7, 5]"),
    ((2, 7, 1, 4), (2, 7, 3), "boxes must have shape [B, A, 4], got [2, 7, 1, 4]"),
    ((2, 7, 4), (7, 3), "scores must have shape [B, A, C], got [7, 3]"),
    ((2, 7, 4), (1, 7, 3), "scores must have 2 elements along axis 0 as boxes"),
    ((1, 7, 4), (2, 7, 3), "scores must have 1 elements along axis 0 as boxes"),
    ((2, 7, 4), (2, 8, 3), "scores must have 7 elements along axis 1 as boxes"),
    ((2, 7, 4), (2, 6, 3), "scores must have 7 elements along axis 1 as boxes"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "scores", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, boxes, scores, message) -> None:
    shapes = [boxes, scores]
    expect_static_error(batched_nms, implementation, shapes, [F32, F32], message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "scores"), [case[:2] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, boxes, scores) -> None:
    arrays = [np.zeros(boxes, np.float32), np.ones(scores, np.float32)]
    expect_runtime_error(batched_nms, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("boxes", "scores"),
    [((1, 7), (2, 7)), ((2, 7), (1, 7)), ((2, 7), (2, 1)), ((2, 7), (2, 9))],
)
def test_sizes_known_at_run_time(implementation, boxes, scores) -> None:
    arrays = [np.zeros((*boxes, 4), np.float32), np.ones((*scores, 3), np.float32)]
    signature = [[None, None, 4], [None, None, None]]
    expect_runtime_error(batched_nms, implementation, arrays, signature)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold must be a number, got"),
        ({"score_threshold": None}, "score_threshold must be a number, got None"),
        ({"iou_threshold": -0.5}, "iou_threshold must be in [0, 1], got -0.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"pre_nms_top_k": 0}, "pre_nms_top_k must be in [1, 2147483647], got 0"),
        ({"pre_nms_top_k": -1}, "pre_nms_top_k must be in [1, 2147483647], got -1"),
        ({"pre_nms_top_k": 2.5}, "pre_nms_top_k must be an integer, got 2.5"),
        ({"max_detections": 0}, "max_detections must be in [1, 2147483647], got 0"),
        ({"max_detections": 2**31}, "max_detections must be in [1, 2147483647]"),
        ({"max_detections": True}, "max_detections must be an integer, got True"),
        ({"background_class": -1}, "background_class must be None or at least 0"),
        ({"background_class": 0.5}, "background_class must be"),
        ({"implementation": 3}, "implementation must be one of"),
        ({"method": "soft"}, "method must be one of 'greedy', 'weighted', 'soft_li"),
        ({"method": None}, "method must be one of"),
        ({"criterion": "giou"}, "criterion must be one of 'iou', 'diou', got 'giou'"),
        ({"sigma": 0}, "sigma must be in [1e-06, 1e+06], got 0"),
        ({"sigma": float("nan")}, "sigma must be in [1e-06, 1e+06], got nan"),
        ({"sigma": float("inf")}, "sigma must be in [1e-06, 1e+06], got inf"),
        ({"sigma": "wide"}, "sigma must be a number, got 'wide'"),
        ({"class_agnostic": 2}, "class_agnostic must be True or False, got 2"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [0.5])
    with pytest.raises(ValueError, match=re.escape(message)):
        batched_nms(boxes, scores, **options)


def test_dtype_errors() -> None:
    boxes, scores = one_class([[0, 0, 1, 1]], [0.5])
    with pytest.raises(ValueError, match="scores must have dtype float32 as boxes"):
        batched_nms(boxes, scores.astype(np.float16))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_not_differentiable(implementation: str, method: str) -> None:
    boxes, scores = one_class([[0, 0, 1, 1], [2, 2, 3, 3]], [0.5, 0.75])
    call = functools.partial(batched_nms, method=method)
    functools.update_wrapper(call, batched_nms)
    expect_no_gradient(call, implementation, boxes, scores)
