# SPDX-License-Identifier: Apache-2.0
"""The detect kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.detect as oracle
import pytest
from oracles.exp_log import exp
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits, assert_equal_bits
from support.buffers import run_kernel
from support.cases import SIZES, beside, random_boxes, ssd300_anchors

DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
NAMES = (
    "boxes",
    "scores",
    "classes",
    "num_detections",
    "anchor_indices",
    "class_probabilities",
)
ACTIVATIONS = ("softmax", "sigmoid", "none")


def foreground(num_classes: int, limit: float = 0.01) -> list[float]:
    """Limits of all classes but the first."""
    return ([np.inf] + [limit] * num_classes)[:num_classes]


def expected(
    native: ModuleType,
    logits: Any,
    offsets: Any,
    anchors: Any,
    *,
    return_class_probabilities: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """The oracle's result: half types are computed in float32.

    Decoding is that of the tested decode_boxes kernel; float64 probabilities have the
    error of two exponentials.
    """
    dtype = logits.dtype
    wide = np.float64 if dtype == np.float64 else np.float32
    boxes = native.decode_boxes(offsets.astype(wide), anchors.astype(wide))
    result = oracle.detect(logits.astype(wide), boxes, **options)
    result = [r.astype(dtype) if r.dtype == wide else r for r in result]
    if not return_class_probabilities:
        result[5] = result[5][..., :0]
    return tuple(result)


def check(native: ModuleType, *inputs: Any, **options: Any) -> Any:
    result = run_kernel(native.detect, *inputs, **options)
    assert_all_equal_bits(result, expected(native, *inputs, **options), NAMES)
    return result


def case(
    rng: np.random.Generator, batch: int, anchors: int, classes: int, dtype: Any
) -> tuple[Any, Any, Any]:
    """Logits on a coarse grid, so that scores are equal; small offsets."""
    logits = (rng.integers(-8, 9, (batch, anchors, classes)) / 4).astype(dtype)
    offsets = (rng.integers(-8, 9, (batch, anchors, 4)) / 4).astype(dtype)
    return logits, offsets, random_boxes(rng, anchors, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes(
    native: ModuleType, num_anchors: int, activation: str, dtype: type
) -> None:
    rng = np.random.default_rng(num_anchors)
    for batch, classes in ((2, 3), (1, 0), (1, 1), (0, 3), (1, 17)):
        inputs = case(rng, batch, num_anchors, classes, dtype)
        for limits in (foreground(classes), [-1.0] * classes):
            check(
                native,
                *inputs,
                score_limits=limits,
                score_activation=activation,
                return_class_probabilities=True,
            )


@pytest.mark.parametrize("seed", range(60))
def test_options(native: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 3]
    anchors, classes = int(rng.integers(1, 40)), int(rng.integers(1, 25))
    limits = rng.choice([-np.inf, -1, 0, 0.01, 0.2, 0.5, np.inf], classes)
    check(
        native,
        *case(rng, 2, anchors, classes, dtype),
        score_limits=limits.tolist(),
        score_activation=ACTIVATIONS[int(rng.integers(3))],
        clip=bool(rng.integers(2)),
        criterion=("iou", "diou")[int(rng.integers(2))],
        iou_threshold=float(rng.integers(0, 9) / 8),
        eta=float(rng.choice([1, 0.9, 0.5])),
        class_agnostic=bool(rng.integers(2)),
        pre_nms_top_k=int(rng.choice([-1, 1, 3, 10])),
        max_detections=int(rng.choice([1, 2, 10, 100])),
        return_class_probabilities=bool(rng.integers(2)),
    )


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_float64(native: ModuleType, activation: str) -> None:
    rng = np.random.default_rng(1)
    logits, offsets, anchors = case(rng, 2, 61, 5, np.float64)
    logits = np.where(logits > 0, -0.0, logits) if activation == "sigmoid" else logits
    check(
        native,
        logits,
        offsets,
        anchors,
        score_limits=foreground(5, 0.2),
        score_activation=activation,
    )


def test_float64_softmax_within_the_error_of_exp(native: ModuleType) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (2, 61, 21))
    _, offsets, anchors = case(rng, 2, 61, 21, np.float64)
    options = {"score_limits": foreground(21), "return_class_probabilities": True}
    result = run_kernel(native.detect, logits, offsets, anchors, **options)
    wanted = expected(native, logits, offsets, anchors, **options)
    for name, actual, target in zip(NAMES, result, wanted, strict=True):
        np.testing.assert_allclose(actual, target, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["trained", "dense", "equal", "rows"])
def test_all_anchors(native: ModuleType, kind: str, activation: str) -> None:
    rng = np.random.default_rng(3)
    anchors = ssd300_anchors(np.float32)[::2]
    count = len(anchors)
    offsets = rng.normal(0, 0.5, (1, count, 4)).astype(np.float32)
    logits = rng.normal(0, 0.5, (1, count, 4)).astype(np.float32)
    if kind == "trained":
        logits[..., 0] += 7
        logits[0, rng.integers(0, count, 90), rng.integers(1, 4, 90)] += 9
    elif kind == "equal":
        logits[...] = 0.25
    elif kind == "rows":
        # The best ones stand in few rows: a sample of the rows misses them.
        logits[0, 1000:1100] += [[0, 5, 5, 5]]
    options: dict[str, Any] = {
        "score_limits": foreground(4),
        "score_activation": activation,
    }
    check(native, logits, offsets, anchors, **options, max_detections=100)
    options |= {"pre_nms_top_k": -1, "max_detections": 20}
    check(native, logits, offsets, anchors, **options, iou_threshold=0.0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_candidate_is_reached(native: ModuleType, activation: str) -> None:
    # Identical boxes: one detection per class, found among the first; the search
    # must go through all slices, and end.
    rng = np.random.default_rng(4)
    anchors = np.tile(np.array([[0, 0, 1, 1]], np.float32), (9000, 1))
    offsets = np.zeros((1, 9000, 4), np.float32)
    logits = rng.normal(0, 1, (1, 9000, 3)).astype(np.float32)
    logits[0, 8999] = [-9, -9, 9]
    options = {"score_activation": activation, "pre_nms_top_k": -1}
    result = check(
        native, logits, offsets, anchors, score_limits=[-np.inf, 0.01, 0.01], **options
    )
    assert result[3].tolist() == [3]


@pytest.mark.parametrize("classes", [33, 97, 150])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_many_classes(native: ModuleType, classes: int, activation: str) -> None:
    # Half a warp of a GPU has several for each lane.
    rng = np.random.default_rng(classes)
    limits = rng.choice([-1, 0.01, 0.05, np.inf], classes)
    check(
        native,
        *case(rng, 2, 70, classes, np.float32),
        score_limits=limits.tolist(),
        score_activation=activation,
        max_detections=50,
        return_class_probabilities=True,
    )


@pytest.mark.parametrize("eta", [1, 0.9])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_many_kept(native: ModuleType, class_agnostic: bool, eta: float) -> None:
    # More than a GPU visits at a time: candidates, kept boxes, rows.
    rng = np.random.default_rng(7)
    side = np.arange(40, dtype=np.float32)
    corner = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    anchors = np.concatenate([corner, corner + 1.5], -1)
    result = check(
        native,
        rng.uniform(0, 1, (2, len(anchors), 2)).astype(np.float32),
        rng.normal(0, 0.1, (2, len(anchors), 4)).astype(np.float32),
        anchors,
        score_limits=[0.2, 0.0],
        score_activation="none",
        iou_threshold=0.6 if eta < 1 else 0.3,
        eta=eta,
        class_agnostic=class_agnostic,
        pre_nms_top_k=-1,
        max_detections=1100,
        return_class_probabilities=True,
    )
    assert result[3].min() > 600, "many boxes must be kept"


def test_score_limits_and_their_neighbours(native: ModuleType) -> None:
    one = np.zeros((1, 1, 4), np.float32)
    anchors = np.array([[0, 0, 1, 1]], np.float32)
    for activation in ("softmax", "sigmoid"):
        for value in np.linspace(-12, 12, 49):
            logits = np.array([[[0, value]]], np.float32)
            score = oracle.activate(logits, activation)[0, 0, 1]
            for limit, count in zip(beside(score), (1, 0, 0), strict=True):
                result = check(
                    native,
                    logits,
                    one,
                    anchors,
                    score_limits=[np.inf, limit],
                    score_activation=activation,
                )
                assert result[3].tolist() == [count], (activation, value)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_special_logits(native: ModuleType, activation: str) -> None:
    values = [-np.inf, np.inf, np.nan, -1e4, 1e4, -88, 88, -0.0, 0.0, 1, 3e38, -3e38]
    anchors = random_boxes(np.random.default_rng(0), 30, dtype=np.float32)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logits = rng.choice(values, (2, 30, 3)).astype(np.float32)
        offsets = rng.choice([0, 1, -1, 500, -500, np.nan], (2, 30, 4))
        check(
            native,
            logits,
            offsets.astype(np.float32),
            anchors,
            score_limits=[np.inf, -1, 0.3],
            score_activation=activation,
        )


def test_a_row_with_nan_is_not_detected(native: ModuleType) -> None:
    logits = np.array([[[np.nan, 9], [0, 9], [np.inf, 9]]], np.float32)
    anchors = np.array([[0, k, 1, k + 1] for k in range(3)], np.float32)
    offsets = np.zeros((1, 3, 4), np.float32)
    result = check(native, logits, offsets, anchors, score_limits=[np.inf, 0.1])
    assert result[4][0, :2].tolist() == [1, -1]


def test_eta_shrinks_the_threshold(native: ModuleType) -> None:
    anchors = np.array([[0, 0, 1, 1], [0, 2, 1, 3], [0, 0, 1, 0.7]], np.float32)
    offsets = np.zeros((1, 3, 4), np.float32)
    logits = np.array([[[0.9], [0.8], [0.7]]], np.float32)
    options = {"score_limits": [0.0], "score_activation": "none", "iou_threshold": 0.75}
    assert check(native, logits, offsets, anchors, **options)[3] == [3]
    assert check(native, logits, offsets, anchors, **options, eta=0.9)[3] == [2]


def test_batches_and_threads_do_not_matter(native: ModuleType) -> None:
    rng = np.random.default_rng(5)
    logits, offsets, anchors = case(rng, 6, 61, 5, np.float32)
    options = {"score_limits": foreground(5)}
    whole = native.detect(logits, offsets, anchors, **options)
    for threads in (2, 3, 8):
        again = native.detect(logits, offsets, anchors, **options, num_threads=threads)
        assert_all_equal_bits(again, whole, NAMES)
    for i in range(6):
        one = slice(i, i + 1)
        alone = native.detect(logits[one], offsets[one], anchors, **options)
        assert_all_equal_bits(alone, [part[one] for part in whole], NAMES)


def test_the_oracle_has_the_exponential_of_the_kernels(native: ModuleType) -> None:
    x = np.linspace(-110, 88.72, 200_001).astype(np.float32)
    assert_equal_bits(exp(x), native.exp(x))


def test_errors(native: ModuleType) -> None:
    logits = np.zeros((2, 7, 3), np.float32)
    offsets, anchors = np.zeros((2, 7, 4), np.float32), np.zeros((7, 4), np.float32)
    limits = foreground(3)

    def call(*inputs: Any, message: str, **options: Any) -> None:
        options.setdefault("score_limits", limits)
        expect_error(native.detect, *inputs, **options, message=message)

    call(logits[0], offsets, anchors, message="logits must have shape [B, A, C]")
    call(logits, offsets[:, :6], anchors, message="offsets must have shape [B, A, 4]")
    call(logits, offsets, anchors[:6], message="offsets must have shape [..., 6, 4]")
    call(
        logits.astype(np.int32),
        offsets,
        anchors,
        message="logits must have dtype float16, bfloat16, float32 or float64",
    )
    inputs = (logits, offsets, anchors)
    call(*inputs, score_limits=[0.1], message="score_limits must have 3 numbers")
    call(*inputs, score_limits=[np.nan] * 3, message="score_limits must be in")
    call(*inputs, score_activation="relu", message="score_activation must be")
    call(*inputs, criterion="giou", message="criterion must be")
    call(*inputs, eta=1.5, message="eta must be in [0, 1], got 1.5")
    call(*inputs, iou_threshold=-0.5, message="iou_threshold must be in [0, 1]")
    call(*inputs, pre_nms_top_k=0, message="pre_nms_top_k must be -1 or at least 1")
    call(*inputs, max_detections=0, message="max_detections must be at least 1")
    complete = partial(
        native.detect, score_limits=limits, return_class_probabilities=True
    )
    expect_out_errors(complete, *inputs)
    expect_thread_count_error(complete, *inputs)
