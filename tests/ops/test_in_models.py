# SPDX-License-Identifier: Apache-2.0
"""The ops where they are used: saved models, input pipelines, training steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles.match_anchors
import pytest
import tensorflow as tf
from support.bits import assert_all_equal_bits, assert_equal_bits
from support.cases import quantised_boxes, random_boxes, random_labels
from support.detection import Detector
from support.modes import IMPLEMENTATIONS
from support.requirements import require_native_op

from ssdops import batched_nms, decode_boxes, encode_boxes, match_anchors


def head_outputs(batch: int, anchors: int, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(1)
    offsets = rng.normal(0, 1, (batch, anchors, 4)).astype(np.float32)
    logits = rng.normal(0, 2, (batch, anchors, classes)).astype(np.float32)
    return tf.constant(offsets), tf.constant(logits)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_saved_model(tmp_path: Path, implementation: str) -> None:
    if implementation == "native":
        require_native_op("batched_nms", "float32")
    anchors = random_boxes(np.random.default_rng(2), 50, dtype=np.float32)
    detector = Detector(anchors, 4, implementation)
    inputs = head_outputs(3, 50, 4)
    expected = detector.detect(*inputs)
    tf.saved_model.save(detector, str(tmp_path))
    restored = tf.saved_model.load(str(tmp_path)).detect(*inputs)
    assert restored.keys() == expected.keys()
    for name in expected:
        assert_equal_bits(restored[name].numpy(), expected[name].numpy(), name)
    assert int(tf.reduce_sum(expected["num_detections"])) > 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_saved_model_has_static_detection_shapes(implementation: str) -> None:
    if implementation == "native":
        require_native_op("batched_nms", "float32")
    anchors = random_boxes(np.random.default_rng(3), 5, dtype=np.float32)
    shapes = Detector(anchors, 3, implementation).detect.get_concrete_function()
    actual = {k: v.as_list() for k, v in shapes.output_shapes.items()}
    assert actual["boxes"] == [None, 20, 4]
    assert actual["scores"] == actual["classes"] == [None, 20]
    assert actual["num_detections"] == [None]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_input_pipeline(implementation: str) -> None:
    if implementation == "native":
        require_native_op("match_anchors", "float32")
    rng = np.random.default_rng(4)
    anchors = quantised_boxes(rng, 30, dtype=np.float32)
    boxes = quantised_boxes(rng, 8, 5, dtype=np.float32)
    labels = random_labels(rng, 8, 5)

    def targets(gt_boxes: tf.Tensor, gt_labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        matches = match_anchors(
            anchors, gt_boxes, gt_labels, implementation=implementation
        )
        rows = tf.maximum(matches.matched_gt, 0)
        matched = tf.gather(gt_boxes, rows, batch_dims=1)
        offsets = encode_boxes(matched, anchors, implementation=implementation)
        return *matches, offsets

    dataset = tf.data.Dataset.from_tensor_slices((boxes, labels)).batch(2)
    dataset = dataset.map(targets, num_parallel_calls=2, deterministic=True)
    assert dataset.element_spec[2].shape.as_list() == [None, 30, 4]
    parts = [[t.numpy() for t in element] for element in dataset]
    actual = [np.concatenate(field) for field in zip(*parts, strict=True)]
    expected = oracles.match_anchors.match_anchors(anchors, boxes, labels)
    assert_all_equal_bits(actual[:2], expected, ("matched_gt", "matched_iou"))
    assert np.isfinite(actual[2]).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_through_a_training_step(implementation: str) -> None:
    if implementation == "native":
        require_native_op("decode_boxes", "float32")
    rng = np.random.default_rng(5)
    anchors = random_boxes(rng, 20, dtype=np.float32)
    target = random_boxes(rng, 2, 20, dtype=np.float32)
    offsets = tf.Variable(np.zeros((2, 20, 4), np.float32))

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            boxes = decode_boxes(offsets, anchors, implementation=implementation)
            loss = tf.reduce_mean(tf.abs(boxes - target))
        offsets.assign_sub(2.0 * tape.gradient(loss, offsets))
        return loss

    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_under_a_tape_do_not_break_the_gradient(implementation: str) -> None:
    if implementation == "native":
        require_native_op("batched_nms", "float32")
    boxes = tf.constant(random_boxes(np.random.default_rng(6), 1, 9, dtype=np.float32))
    scores = tf.Variable(tf.fill([1, 9, 3], 0.5))
    with tf.GradientTape() as tape:
        found = batched_nms(boxes, scores, implementation=implementation)
        loss = tf.reduce_sum(scores) + tf.reduce_sum(found.scores)
    assert (tape.gradient(loss, scores).numpy() == 1).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_keras_functional_model(implementation: str) -> None:
    if implementation == "native":
        require_native_op("decode_boxes", "float32")
    anchors = random_boxes(np.random.default_rng(7), 6, dtype=np.float32)
    inputs = tf.keras.Input([6, 4])
    outputs = tf.keras.layers.Lambda(
        lambda t: decode_boxes(t, anchors, implementation=implementation),
        output_shape=(6, 4),
    )(inputs)
    model = tf.keras.Model(inputs, outputs)
    offsets = np.random.default_rng(8).normal(0, 1, (2, 6, 4)).astype(np.float32)
    expected = decode_boxes(offsets, anchors, implementation=implementation)
    np.testing.assert_allclose(model(offsets), expected, rtol=1e-6, atol=1e-6)
