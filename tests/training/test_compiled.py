# SPDX-License-Identifier: Apache-2.0
"""A whole training step and a whole detection function, compiled by XLA."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.cases import random_boxes

import ssdops
from ssdops.models import build_model
from ssdops.training.config import TrainingConfig
from ssdops.training.step import make_train_step


@pytest.fixture(params=["auto", "reference"])
def implementation(request: pytest.FixtureRequest) -> Any:
    with ssdops.implementation(request.param):
        yield request.param


def small_model() -> Any:
    keras.utils.set_random_seed(3)
    return build_model("ssd_small", num_classes=4, image_size=(64, 64), width=0.25)


def test_training_step(implementation: str) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    boxes = random_boxes(rng, 3, 2, dtype=np.float32)
    labels = rng.integers(1, 4, (3, 2)).astype(np.int32)
    results = []
    for jit_compile in (False, True):
        model = small_model()
        optimizer = keras.optimizers.SGD(0.01)
        optimizer.build(model.network.trainable_variables)
        step = make_train_step(model, optimizer, TrainingConfig(steps=200))
        function = tf.function(step.python_function, jit_compile=jit_compile)
        losses = [part.numpy() for part in function(images, boxes, labels)]
        weights = [w.numpy() for w in model.network.trainable_variables]
        results.append((losses, weights))
    (graph_losses, graph_weights), (xla_losses, xla_weights) = results
    # The convolutions are others; what they differ by is what the losses do.
    np.testing.assert_allclose(xla_losses, graph_losses, rtol=1e-3)
    for a, e in zip(xla_weights, graph_weights, strict=True):
        np.testing.assert_allclose(a, e, atol=2e-4)


def test_detection(implementation: str) -> None:
    model = small_model()
    images = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)

    @tf.function(jit_compile=True, autograph=False)
    def found(images: tf.Tensor) -> Any:
        outputs = model.network(model.spec.preprocessing(images), training=False)
        logits, offsets = outputs["logits"], outputs["offsets"]
        return logits, offsets, ssdops.detect(logits, offsets, model.anchors)

    logits, offsets, actual = found(images)
    expected = ssdops.detect(logits, offsets, model.anchors)
    assert int(tf.reduce_sum(expected.num_detections)) > 0
    for name in ("classes", "num_detections", "anchor_indices"):
        assert_equal_bits(
            getattr(actual, name).numpy(), getattr(expected, name).numpy(), name
        )
    np.testing.assert_allclose(actual.boxes, expected.boxes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-5)


def test_detection_of_ssd300() -> None:
    """The larger model, natively, in the results of graph mode."""
    keras.utils.set_random_seed(4)
    model = build_model("ssd300_mobilenet_v1", num_classes=3)
    images = (
        np.random.default_rng(3).integers(0, 256, (1, 300, 300, 3)).astype(np.uint8)
    )
    graph = model._detection_graph(tf.uint8, score_threshold=0.2)
    compiled = tf.function(graph.python_function, jit_compile=True, autograph=False)
    actual, expected = compiled(images), graph(images)
    assert actual.num_detections.numpy().tolist() == (
        expected.num_detections.numpy().tolist()
    )
    np.testing.assert_allclose(
        np.sort(actual.scores), np.sort(expected.scores), atol=1e-4
    )
