# SPDX-License-Identifier: Apache-2.0
"""Multiplications of networks against numbers counted by hand, and a published one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from ssdops.models import build_model
from ssdops.models.caffe.layers import DepthwiseTranspose
from ssdops.models.complexity import multiply_adds

LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (LAYERS.Conv2D(5, 3, padding="same"), 8 * 12 * 5 * 9 * 4),
        (LAYERS.Conv2D(5, (3, 1)), 6 * 12 * 5 * 3 * 4),
        (LAYERS.Conv2D(6, 3, strides=2, padding="same"), 4 * 6 * 6 * 9 * 4),
        (LAYERS.Conv2D(6, 1, groups=2), 8 * 12 * 6 * 4 // 2),
        (LAYERS.Conv2D(2, 3, dilation_rate=2), 4 * 8 * 2 * 9 * 4),
        (LAYERS.DepthwiseConv2D(3, depth_multiplier=2), 6 * 10 * 4 * 2 * 9),
        (
            LAYERS.SeparableConv2D(7, 3, padding="same", depth_multiplier=2),
            8 * 12 * (8 * 9 + 8 * 7),
        ),
        # Each of 8 x 12 x 4 values goes into a window of 2 x 2 x 3.
        (LAYERS.Conv2DTranspose(3, 2, strides=2), 8 * 12 * 4 * 4 * 3),
        # The same, channel by channel.
        (DepthwiseTranspose((2, 3), (2, 2)), 8 * 12 * 4 * 2 * 3),
        (LAYERS.Dense(7), 8 * 12 * 4 * 7),
        (LAYERS.BatchNormalization(), 0),
        (LAYERS.MaxPooling2D(2), 0),
        (keras.Sequential([LAYERS.Conv2D(5, 1), LAYERS.Conv2D(2, 1)]), 96 * 30),
    ],
)
def test_layers(layer: Any, expected: int) -> None:
    inputs = keras.Input((8, 12, 4))
    assert multiply_adds(keras.Model(inputs, layer(inputs))) == expected


def test_a_layer_that_is_used_twice() -> None:
    inputs = keras.Input((8, 8, 2))
    conv = LAYERS.Conv2D(2, 3)
    network = keras.Model(inputs, conv(conv(inputs)))
    assert multiply_adds(network) == (36 + 16) * 2 * 9 * 2


def test_sequential() -> None:
    network = keras.Sequential([keras.Input((4, 4, 1)), LAYERS.Conv2D(3, 1)])
    assert multiply_adds(network) == 16 * 3


def open_size() -> keras.Model:
    inputs = keras.Input((None, 4, 1))
    return keras.Model(inputs, LAYERS.Conv2D(3, 1)(inputs))


class Own(keras.Model):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (open_size, r"sizes of layer .* must be fixed, got"),
        (Own, "must be a functional Keras model"),
    ],
)
def test_what_cannot_be_counted(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multiply_adds(make())


def test_published_number() -> None:
    """What torchvision says of its `ssd300_vgg16`: 34.858e9."""
    model = build_model("ssd300_vgg16", num_classes=91)
    assert multiply_adds(model.network) / 1e9 == pytest.approx(34.858, abs=5e-4)


def test_normalisation_costs_nothing() -> None:
    plain, normalised = (
        multiply_adds(build_model(name).network)
        for name in ("ssd300_vgg16", "ssd300_vgg16_bn")
    )
    assert plain == normalised
