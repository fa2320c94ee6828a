# SPDX-License-Identifier: Apache-2.0
"""Layers that only networks of Caffe have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = ["DepthwiseTranspose", "LocalResponseNormalization"]


@keras.saving.register_keras_serializable(package="ssdops")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Divides every number by what is near it.

    y = x / (bias + alpha * m)^beta, where m is the mean of the squares in a window:
    of channels, or of cells of the same channel, beyond which there are zeros.

    Args:
        size: Channels, or rows and columns, of a window; odd.
        alpha: Factor of the mean.
        beta: Exponent.
        bias: Added to it. It is 1 within a channel, whatever is given, as in Caffe.
        within_channels: Whether windows are of cells.
        **kwargs: As for `keras.layers.Layer`.

    References:
        `src/caffe/layers/lrn_layer.cpp` of the original Caffe implementation.
    """

    def __init__(
        self,
        size: int,
        alpha: float,
        beta: float,
        bias: float = 1.0,
        within_channels: bool = False,
        **kwargs: Any,
    ) -> None:
        """Keeps the arguments."""
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias
        self.within_channels = within_channels

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the normalised features, same shape and dtype as `inputs`."""
        # Squares overflow in half precision.
        features = tf.cast(inputs, tf.float32)
        half = self.size // 2
        if not self.within_channels:
            found = tf.nn.local_response_normalization(
                features, half, self.bias, self.alpha / self.size, self.beta
            )
            return tf.cast(found, inputs.dtype)
        around = [[0, 0], [half, half], [half, half], [0, 0]]
        squares = tf.pad(tf.square(features), around)
        mean = tf.nn.avg_pool2d(squares, self.size, 1, "VALID")
        found = features * tf.pow(1.0 + self.alpha * mean, -self.beta)
        return tf.cast(found, inputs.dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "bias": self.bias,
            "within_channels": self.within_channels,
        }


@keras.saving.register_keras_serializable(package="ssdops")
class DepthwiseTranspose(keras.layers.Layer):  # type: ignore[misc]
    """The transpose of a depthwise convolution: every cell becomes a window.

    Windows overlap where the stride is smaller than the kernel; bilinear enlargement is
    such a layer.

    Args:
        kernel_size: Height and width of a window.
        strides: Distance (y, x) of windows, the same in both directions.
        use_bias: Whether there is a bias per channel.
        **kwargs: As for `keras.layers.Layer`.
    """

    def __init__(
        self,
        kernel_size: Sequence[int],
        strides: Sequence[int],
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        """Keeps the arguments; the weights are made when the channels are known."""
        super().__init__(**kwargs)
        self.kernel_size, self.strides = tuple(kernel_size), tuple(strides)
        self.use_bias = use_bias
        self.bias: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes a kernel and a bias per channel."""
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, 1),
            initializer="lecun_uniform",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(channels,), initializer="zeros"
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the enlarged features, dtype as `inputs`."""
        sizes = [tf.shape(inputs)[0], *self.compute_output_shape(inputs.shape)[1:]]
        spread = tf.nn.depthwise_conv2d_backprop_input(
            tf.stack(sizes),
            tf.cast(self.kernel, inputs.dtype),
            inputs,
            [1, *self.strides, 1],
            "VALID",
        )
        if self.bias is None:
            return spread
        return spread + tf.cast(self.bias, inputs.dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the output: stride * (side - 1) + kernel."""
        batch, *sides, channels = input_shape
        found = [
            None if side is None else stride * (side - 1) + kernel
            for side, kernel, stride in zip(
                sides, self.kernel_size, self.strides, strict=True
            )
        ]
        return (batch, *found, channels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "use_bias": self.use_bias,
        }
