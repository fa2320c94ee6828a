# SPDX-License-Identifier: Apache-2.0
"""One step: what changes the weights, and by how much."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.cases import random_boxes

from ssdops.models import build_model
from ssdops.training import TrainingConfig
from ssdops.training.non_finite import first_non_finite
from ssdops.training.optimizer import (
    averaged_weights,
    build_optimizer,
    final_gradients,
    frozen_layers,
)
from ssdops.training.step import make_train_step

CONFIG = TrainingConfig(
    steps=100,
    optimizer="sgd",
    schedule="constant",
    learning_rate=1e-3,
    warmup_steps=0,
    gradient_clip_norm=0.0,
)


def make_model():
    keras.utils.set_random_seed(3)
    return build_model("ssd_small", num_classes=4, image_size=(64, 64), width=0.25)


def make_batch(count=4, seed=1):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)
    boxes = random_boxes(rng, count, 3, dtype=np.float32)
    labels = rng.integers(1, 4, (count, 3)).astype(np.int32)
    # Very different numbers of matches.
    labels[count // 2 :, 1:] = 0
    return tf.constant(images), tf.constant(boxes), tf.constant(labels)


def trained(config, steps=3, batch=None):
    model = make_model()
    variables = model.network.trainable_variables
    optimizer = build_optimizer(config, variables)
    step = make_train_step(model, optimizer, config)
    results = [step(*(batch or make_batch(seed=k))) for k in range(steps)]
    return model, optimizer, results


def all_weights(model):
    return np.concatenate([np.ravel(value) for value in model.network.get_weights()])


class Variable:
    def __init__(self, name, value):
        self.name, self.value = name, tf.constant(value)


def test_sgd_is_that_of_caffe():
    """v = m v + lr (g + decay w), w -= v; biases twice as fast and without decay."""
    config = replace(
        CONFIG, weight_decay=0.1, bias_learning_rate_factor=2.0, learning_rate=0.5
    )
    variables = [
        keras.Variable([2.0, -1.0], name="kernel"),
        keras.Variable([3.0], name="bias"),
        keras.Variable([4.0], name="gamma"),
        keras.Variable([20.0], name="scale"),
    ]
    optimizer = build_optimizer(config, variables)
    w = [v.numpy().astype(np.float64) for v in variables]
    v = [np.zeros_like(x) for x in w]
    rng = np.random.default_rng(0)
    for _ in range(4):
        g = [rng.normal(size=x.shape) for x in w]
        gradients, norm = final_gradients(
            [tf.constant(x, tf.float32) for x in g], variables, config
        )
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        assert float(norm) == pytest.approx(
            np.sqrt(sum(np.sum(x**2) for x in g)), rel=1e-6
        )
        for i, (decay, factor) in enumerate([(0.1, 1), (0, 2), (0, 1), (0.1, 1)]):
            v[i] = 0.9 * v[i] + 0.5 * factor * (g[i] + decay * w[i])
            w[i] = w[i] - v[i]
    for actual, expected in zip(variables, w, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5)


def test_the_gradient_is_clipped_and_its_norm_told():
    config = replace(CONFIG, weight_decay=0.0, gradient_clip_norm=1.0)
    variables = [Variable("kernel", [0.0, 0.0])]
    gradients, norm = final_gradients([tf.constant([3.0, 4.0])], variables, config)
    assert float(norm) == 5
    np.testing.assert_allclose(gradients[0].numpy(), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_give_what_the_batch_gives(parts):
    """But for batch normalization, whose statistics are those of a part."""
    results = []
    for accumulation_steps in (1, parts):
        model = make_model()
        for layer in model.network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        config = replace(CONFIG, batch_size=4, accumulation_steps=accumulation_steps)
        optimizer = build_optimizer(config, model.network.trainable_variables)
        step = make_train_step(model, optimizer, config)
        results.append((np.array(step(*make_batch())), all_weights(model)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=2e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
    assert np.abs(results[0][1] - all_weights(make_model())).max() > 1e-4


def test_the_average_of_the_weights():
    config = replace(CONFIG, ema_decay=0.2)
    model = make_model()
    variables = model.network.trainable_variables
    optimizer = build_optimizer(config, variables)
    step = make_train_step(model, optimizer, config)
    average = None
    for k in range(3):
        step(*make_batch(seed=k))
        now = [v.numpy() for v in variables]
        # It begins with the weights after the first step, and keeps little of them.
        kept = min(0.2, (1 + k) / (10 + k)) if k else 0.0
        average = [
            kept * a + (1 - kept) * b for a, b in zip(average or now, now, strict=True)
        ]
    last = all_weights(model)
    with averaged_weights(optimizer, variables, config):
        for variable, expected in zip(variables, average, strict=True):
            np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert (all_weights(model) != last).any()
    np.testing.assert_array_equal(all_weights(model), last)


def test_frozen_layers_stay_as_they_are():
    model = make_model()
    before = {v.path: v.numpy() for v in model.network.weights}
    name = next(layer.name for layer in model.network.layers if layer.weights)
    with frozen_layers(model.network, (name[:-1] + "*",)):
        variables = model.network.trainable_variables
        optimizer = build_optimizer(CONFIG, variables)
        make_train_step(model, optimizer, CONFIG)(*make_batch())
    frozen = [v for v in model.network.weights if v.path.startswith(name)]
    assert frozen
    for variable in frozen:
        np.testing.assert_array_equal(variable.numpy(), before[variable.path])
    changed = [
        v.path for v in model.network.weights if (v.numpy() != before[v.path]).any()
    ]
    assert len(changed) > len(before) / 2
    assert len(model.network.trainable_variables) > len(variables)
    with (
        pytest.raises(ValueError, match=r"no layer is named 'nothing'; there are"),
        frozen_layers(model.network, ("nothing",)),
    ):
        pass


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)]
)
def test_lower_precision_trains_and_weights_stay_float32(precision, tolerance):
    reference, _, exact = trained(CONFIG)
    model, _, results = trained(replace(CONFIG, precision=precision))
    for actual, expected in zip(results, exact, strict=True):
        assert float(actual.total) == pytest.approx(
            float(expected.total), rel=tolerance
        )
        assert float(actual.gradient_norm) == pytest.approx(
            float(expected.gradient_norm), rel=4 * tolerance
        )
    assert {v.dtype for v in model.network.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.network.layers} == {"float32"}
    moved = all_weights(model) - all_weights(make_model())
    expected = all_weights(reference) - all_weights(make_model())
    cosine = moved @ expected / np.linalg.norm(moved) / np.linalg.norm(expected)
    assert cosine > 0.98


def test_a_gradient_that_overflows_is_left_out_and_the_scale_halved():
    config = replace(CONFIG, precision="float16")
    model = make_model()
    optimizer = build_optimizer(config, model.network.trainable_variables)
    optimizer.dynamic_scale.assign(2.0**60)
    step = make_train_step(model, optimizer, config)
    before = [v.numpy() for v in model.network.trainable_variables]
    result = step(*make_batch())
    assert np.isfinite(float(result.total))
    assert not np.isfinite(float(result.gradient_norm))
    assert float(optimizer.dynamic_scale) == 2.0**59
    for variable, value in zip(model.network.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("what", ["weight", "layer", "images", "nothing"])
def test_what_is_not_finite_first_is_named(what):
    model = make_model()
    images = make_batch()[0]
    variables = model.network.trainable_variables
    expected = "the loss or its gradient"
    if what == "weight":
        variables[3].assign(variables[3] * np.nan)
        expected = f"the weight {variables[3].path}"
    elif what == "layer":
        layer = [
            layer
            for layer in model.network.layers
            if isinstance(layer, keras.layers.Conv2D)
        ][2]
        layer.kernel.assign(tf.fill(layer.kernel.shape, 3e38))
        expected = f"the output of the layer {layer.name}"
    elif what == "images":
        images = tf.cast(images, tf.float32) * np.nan
        expected = "the images"
    assert first_non_finite(model, images, variables, "float32") == expected
