# SPDX-License-Identifier: Apache-2.0
"""Times of the public `detect`, and of TensorFlow's softmax, decoding and NMS."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from measuring import record, time_op
from support.bits import assert_equal_bits

from ssdops import batched_nms, decode_boxes, detect
from ssdops.benchmarking.workloads import Workload, detection

WORKLOADS = [
    detection("trained", 1, given="logits"),
    detection("trained", 8, given="logits"),
    detection("trained", 8, 81, "ssd512", given="logits"),
    detection("dense", 1, given="logits"),
    detection("dense", 8, given="logits"),
]


@pytest.mark.benchmark(group="detect")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_detect(benchmark: Any, workload: Workload) -> None:
    """Detections of a batch from the outputs of the network."""
    time_op(benchmark, detect, workload, "native", check=lambda: check(workload))


@pytest.mark.benchmark(group="detect")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_tensorflow(benchmark: Any, workload: Workload) -> None:
    """TensorFlow's softmax and combined NMS; only the decoding is that of ssdops."""
    logits, offsets, anchors = (tf.constant(array) for array in workload.inputs)
    record(benchmark, workload, "tf.nn.softmax, tf.image.combined_non_max_suppression")

    def run() -> Any:
        return tf.image.combined_non_max_suppression(
            decode_boxes(offsets, anchors)[:, :, None],
            tf.nn.softmax(logits)[..., 1:],
            max_output_size_per_class=400,
            max_total_size=200,
            iou_threshold=0.45,
            score_threshold=0.01,
            clip_boxes=False,
        )

    benchmark(run)


def check(workload: Workload) -> None:
    """The same anchors as with every step by itself."""
    logits, offsets, anchors = workload.inputs
    found = detect(logits, offsets, anchors)
    scores = detect(
        logits,
        offsets,
        anchors,
        max_detections=1,
        return_class_probabilities=True,
    )
    assert float(tf.reduce_max(scores.class_probabilities)) <= 1.0
    chain = batched_nms(
        decode_boxes(offsets, anchors),
        tf.nn.softmax(logits),
        return_anchor_indices=True,
    )
    assert_equal_bits(found.num_detections.numpy(), chain.num_detections.numpy())
    same = found.anchor_indices.numpy() == chain.anchor_indices.numpy()
    # Probabilities that differ by a rounding may change places.
    assert same.mean() > 0.99
