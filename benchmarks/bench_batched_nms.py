# SPDX-License-Identifier: Apache-2.0
"""Times of the public `batched_nms`, and of TensorFlow's own suppressions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import IMPLEMENTATIONS, assert_same_on_both, record, time_op
from oracles.batched_nms import batched_nms as oracle
from support.bits import assert_equal_bits

from ssdops import batched_nms
from ssdops.benchmarking.workloads import Workload, detection

WORKLOADS = [
    detection("trained", 1),
    detection("trained", 8),
    detection("trained", 8, 81, "ssd512"),
    detection("dense", 1),
    detection("dense", 8),
]
METHODS = (
    "weighted",
    "soft_linear",
    "soft_gaussian",
    "matrix_linear",
    "matrix_gaussian",
)
METHOD_WORKLOADS = [detection("trained", 1, 21), detection("dense", 1, 21)]
CASES = [
    pytest.param(workload, implementation, id=f"{workload.name}-{implementation}")
    for workload in WORKLOADS
    for implementation in IMPLEMENTATIONS
    if implementation == "native" or workload.reference
]


@pytest.mark.benchmark(group="batched_nms")
@pytest.mark.parametrize(("workload", "implementation"), CASES)
def test_batched_nms(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Detections of a batch."""
    time_op(
        benchmark,
        batched_nms,
        workload,
        implementation,
        check=lambda: check(workload, implementation),
    )


@pytest.mark.benchmark(group="batched_nms")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_combined_non_max_suppression(benchmark: Any, workload: Workload) -> None:
    """What a TensorFlow user has without ssdops.

    It limits the outputs of a class to 400, not its candidates, so its detections
    are others where more than 400 candidates compete; the work is comparable.
    """
    boxes, scores = (tf.constant(array) for array in workload.inputs)
    boxes, scores = boxes[:, :, None], scores[..., 1:]
    record(benchmark, workload, "tf.image.combined_non_max_suppression")
    found = benchmark(
        lambda: tf.image.combined_non_max_suppression(
            boxes,
            scores,
            max_output_size_per_class=400,
            max_total_size=200,
            iou_threshold=0.45,
            score_threshold=0.01,
            clip_boxes=False,
        )
    )
    ours = batched_nms(*workload.inputs)
    assert_equal_bits(found.nmsed_scores.numpy()[:, 0], ours.scores.numpy()[:, 0])


@pytest.mark.benchmark(group="batched_nms")
@pytest.mark.parametrize("workload", METHOD_WORKLOADS, ids=lambda w: w.name)
@pytest.mark.parametrize("method", METHODS)
def test_methods(benchmark: Any, workload: Workload, method: str) -> None:
    """The methods that change scores or boxes, natively."""
    op = functools.partial(batched_nms, method=method)
    functools.update_wrapper(op, batched_nms)
    benchmark.group = f"batched_nms {method}"
    time_op(
        benchmark,
        op,
        workload,
        "native",
        check=lambda: check_method(workload, method),
    )


@pytest.mark.benchmark(group="batched_nms soft_gaussian")
@pytest.mark.parametrize("workload", METHOD_WORKLOADS, ids=lambda w: w.name)
def test_soft_nms_of_tensorflow(benchmark: Any, workload: Workload) -> None:
    """Class by class, as TensorFlow offers it, without merging the classes."""
    boxes, scores = (tf.constant(array) for array in workload.inputs)
    columns = tf.unstack(tf.transpose(scores[0])[1:])
    record(benchmark, workload, "tf.image.non_max_suppression_with_scores")

    @tf.function
    def all_classes() -> list[Any]:
        return [
            tf.image.non_max_suppression_with_scores(
                boxes[0], column, 200, 1.0, 0.01, soft_nms_sigma=0.25
            )
            for column in columns
        ]

    benchmark(all_classes)


def check_method(workload: Workload, method: str) -> None:
    """The image without most of its anchors against the oracle."""
    boxes, scores = (array[:1, ::8] for array in workload.inputs)
    found = batched_nms(boxes, scores, method=method, implementation="native")
    for field, expected in zip(
        found, oracle(boxes, scores, method=method), strict=False
    ):
        assert_equal_bits(field.numpy(), expected)


def check(workload: Workload, implementation: str) -> None:
    """First image against the oracle, every image against itself alone."""
    boxes, scores = workload.inputs
    first = (boxes[:1], scores[:1])
    assert_same_on_both(batched_nms, first)
    whole = batched_nms(boxes, scores, implementation=implementation)
    if "trained" in workload.name:
        for field, expected in zip(whole, oracle(*first), strict=False):
            assert_equal_bits(field.numpy()[:1], expected)
    alone = [
        batched_nms(
            boxes[i : i + 1], scores[i : i + 1], implementation=implementation
        ).scores.numpy()
        for i in range(len(boxes))
    ]
    assert_equal_bits(whole.scores.numpy(), np.concatenate(alone))
