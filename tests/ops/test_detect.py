# SPDX-License-Identifier: Apache-2.0
"""Public `detect`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracles.detect as oracle
import pytest
import tensorflow as tf
from oracles.decode_boxes import decode_boxes as oracle_decode
from support.bits import assert_equal_bits, assert_within
from support.cases import random_boxes
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
from support.tolerances import decode_tolerance

import ssdops
from ssdops import DetectResult, detect

F32 = tf.float32


def case(
    seed: int, batch: int, anchors: int, classes: int, dtype: Any = np.float32
) -> tuple[Any, Any, Any]:
    """Logits that are far enough apart for any rounding of the probabilities."""
    rng = np.random.default_rng(seed)
    steps = rng.permutation(batch * anchors * classes).reshape(batch, anchors, classes)
    logits = (steps / steps.size * 6 - 3).astype(dtype)
    offsets = rng.normal(0, 0.5, (batch, anchors, 4)).astype(dtype)
    return logits, offsets, random_boxes(rng, anchors, dtype=dtype)


def check(mode: Mode, inputs: Any, limits: Any = None, **options: Any) -> DetectResult:
    """Compare with the oracle; `limits` are the score limits that `options` mean."""
    logits, offsets, anchors = inputs
    actual = mode.run(detect, *inputs, return_class_probabilities=True, **options)
    classes = logits.shape[-1]
    if limits is None:
        threshold = options.get("score_threshold", 0.01)
        limits = ([np.inf] + [threshold] * classes)[:classes]
    names = (
        "score_activation",
        "clip",
        "criterion",
        "iou_threshold",
        "eta",
        "class_agnostic",
        "pre_nms_top_k",
        "max_detections",
    )
    known = {name: options[name] for name in names if name in options}
    if known.get("pre_nms_top_k", 1) is None:
        known["pre_nms_top_k"] = -1
    boxes = oracle_decode(offsets, anchors)
    wanted = oracle.detect(logits, boxes, score_limits=limits, **known)
    for name in ("classes", "num_detections", "anchor_indices"):
        position = DetectResult._fields.index(name)
        assert_equal_bits(actual[position], wanted[position], name)
    eps = np.finfo(logits.dtype).eps
    # exp, sum and quotient: each implementation has its own.
    assert_within(actual.scores, wanted[1], wanted[1] * (classes + 12) * eps, "scores")
    assert_within(
        actual.class_probabilities,
        wanted[5],
        np.abs(wanted[5]) * (classes + 12) * eps,
        "class_probabilities",
    )
    for image in range(len(logits)):
        found = wanted[4][image] >= 0
        rows = wanted[4][image][found]
        assert_within(
            actual.boxes[image, found],
            wanted[0][image, found],
            decode_tolerance(boxes[image, rows], offsets[image, rows], anchors[rows]),
            "boxes",
        )
        assert (actual.boxes[image, ~found] == 0).all()
    return actual


OPTIONS: list[dict[str, Any]] = [
    {},
    {"score_activation": "sigmoid", "score_threshold": 0.5},
    {"score_activation": "none", "score_threshold": 0.0, "max_detections": 7},
    {"clip": True, "iou_threshold": 0.2},
    {"class_agnostic": True, "iou_threshold": 0.3},
    {"class_agnostic": True, "pre_nms_top_k": 9},
    {"criterion": "diou", "iou_threshold": 0.3},
    {"eta": 0.8, "iou_threshold": 0.7, "pre_nms_top_k": None},
    {"max_detections": 1, "pre_nms_top_k": 3},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_options(mode: Mode, options: dict[str, Any]) -> None:
    check(mode, case(0, 2, 31, 5), **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_dtypes(mode: Mode, dtype: type) -> None:
    check(mode, case(1, 2, 61, 21, dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "shape", [(0, 3, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1), (1, 1, 2), (1, 2, 65)]
)
def test_sizes(mode: Mode, shape: tuple[int, int, int]) -> None:
    check(mode, case(2, *shape), max_detections=6)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_thresholds_of_classes_and_subsets(mode: Mode) -> None:
    inf = np.inf
    inputs = case(3, 2, 31, 4)
    for threshold in ((0.5, 0.3, 0.2, 0.4), np.array([0.5, 0.3, 0.2, 0.4])):
        check(mode, inputs, [inf, 0.3, 0.2, 0.4], score_threshold=threshold)
    check(mode, inputs, [0.1] * 4, score_threshold=0.1, background_class=None)
    check(mode, inputs, [0.1, inf, 0.1, 0.1], score_threshold=0.1, background_class=1)
    check(mode, inputs, [inf, inf, 0.01, 0.01], class_subset=[2, 3])
    check(mode, inputs, [inf, inf, 0.01, inf], class_subset=[0, 2])
    check(
        mode,
        inputs,
        [inf, inf, 0.2, 0.4],
        class_subset=(3, 2),
        score_threshold=[0.5, 0.3, 0.2, 0.4],
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_thresholds_may_be_a_tensor(implementation: str) -> None:
    inputs = case(4, 1, 31, 4)

    @tf.function(autograph=False)
    def run(threshold: tf.Tensor) -> Any:
        return detect(*inputs, score_threshold=threshold, implementation=implementation)

    one = run(tf.constant([0.0, 0.3, 0.3, 0.3]))
    other = run(tf.constant(0.3))
    assert int(one.num_detections[0]) > 0
    for a, b in zip(one, other, strict=True):
        assert_equal_bits(a.numpy(), b.numpy())


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_is_the_chain_of_the_single_ops(mode: Mode) -> None:
    logits, offsets, anchors = case(5, 2, 61, 6)
    with ssdops.implementation(mode.implementation):
        boxes = ssdops.decode_boxes(offsets, anchors)
        scores = tf.nn.softmax(logits)
        chain = ssdops.batched_nms(boxes, scores, return_anchor_indices=True)
        fused = detect(scores, offsets, anchors, score_activation="none")
    for name in chain._fields:
        assert_equal_bits(
            getattr(fused, name).numpy(), getattr(chain, name).numpy(), name
        )


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("mode", EAGER_MODES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(6)
    logits = rng.permutation(2 * 29 * 4).reshape(2, 29, 4).astype(dtype) / dtype(16)
    offsets = rng.normal(0, 0.5, (2, 29, 4)).astype(dtype)
    anchors = random_boxes(rng, 29, dtype=np.float32).astype(dtype)
    half = mode.run(detect, logits, offsets, anchors)
    wide = mode.run(detect, *(x.astype(np.float32) for x in (logits, offsets, anchors)))
    for name, a, e in zip(DetectResult._fields, half, wide, strict=True):
        assert_equal_bits(a, e.astype(a.dtype), name)
    assert half.boxes.dtype == half.scores.dtype == dtype


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_static_shapes(implementation: str) -> None:
    def shapes(*inputs: Any, **options: Any) -> list[Any]:
        return list(
            static_shapes(detect, implementation, inputs, (F32, F32, F32), **options)
        )

    known = shapes([2, 7, 3], [2, 7, 4], [7, 4])
    assert known == [[2, 200, 4], [2, 200], [2, 200], [2], [2, 200], [2, 200, 0]]
    options = {"max_detections": 5, "return_class_probabilities": True}
    assert shapes([None, None, 3], [2, 7, 4], [7, 4], **options)[5] == [2, 5, 3]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_shape_errors(implementation: str) -> None:
    def static(message: str, *shapes: Any) -> None:
        expect_static_error(detect, implementation, shapes, (F32, F32, F32), message)

    static("logits must have shape [B, A, C], got [7, 3]", [7, 3], [2, 7, 4], [7, 4])
    static("offsets must have shape [B, A, 4]", [2, 7, 3], [2, 7, 3], [7, 4])
    static("anchors must have shape [A, 4]", [2, 7, 3], [2, 7, 4], [2, 7, 4])
    static("offsets must have 7 elements", [2, 7, 3], [2, 6, 4], [7, 4])
    static("anchors must have 7 elements", [2, 7, 3], [2, 7, 4], [6, 4])
    zeros = np.zeros
    for arrays in (
        (zeros((2, 7, 3), "f"), zeros((2, 6, 4), "f"), zeros((7, 4), "f")),
        (zeros((2, 7, 3), "f"), zeros((2, 7, 4), "f"), zeros((6, 4), "f")),
        (zeros((2, 7, 3), "f"), zeros((1, 7, 4), "f"), zeros((7, 4), "f")),
        (zeros((2, 7, 3), "f"), zeros((2, 7, 5), "f"), zeros((7, 4), "f")),
    ):
        expect_runtime_error(detect, implementation, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_activation": "relu"}, "score_activation must be one of 'softmax'"),
        ({"criterion": "giou"}, "criterion must be one of 'iou', 'diou', got 'giou'"),
        ({"score_threshold": float("nan")}, "score_threshold must be a number"),
        ({"score_threshold": [0.1, 0.2]}, "score_threshold must have 3 numbers, got 2"),
        ({"score_threshold": "x"}, "score_threshold must be a number"),
        ({"iou_threshold": 1.5}, "iou_threshold must be in [0, 1], got 1.5"),
        ({"eta": 0.0}, "eta must be in (0, 1], got 0.0"),
        ({"pre_nms_top_k": 0}, "pre_nms_top_k must be in [1, 2147483647], got 0"),
        ({"max_detections": 2.5}, "max_detections must be an integer, got 2.5"),
        ({"background_class": -1}, "background_class must be None or at least 0"),
        ({"class_subset": []}, "class_subset must have at least one class"),
        ({"class_subset": [3]}, "class_subset must have classes below 3, got 3"),
        ({"class_subset": [-1]}, "class_subset must be None or at least 0, got -1"),
        ({"variances": (0.1, 0.2)}, "variances must be 4 positive finite numbers"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        detect(*case(7, 1, 7, 3), **options)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_gradient(implementation: str) -> None:
    expect_no_gradient(detect, implementation, *case(8, 1, 7, 3))
