# SPDX-License-Identifier: Apache-2.0
"""Building blocks that the backbones share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = [
    "CaffePooling",
    "ChannelScale",
    "L2Normalization",
    "conv",
    "conv_bn",
    "depthwise_conv",
]


@keras.saving.register_keras_serializable(package="ssdops")
class L2Normalization(keras.layers.Layer):  # type: ignore[misc]
    """Normalises each position over its channels and scales every channel.

    y = scale_c * x / sqrt(sum_c x^2 + epsilon), with a trained scale per channel. The
    epsilon is inside the root, so that an all-zero position gives zero and a finite
    gradient.

    Args:
        initial_scale: Value of every scale before training.
        epsilon: Added to the sum of squares.
        shared: Whether there is one scale for all channels.
        **kwargs: As for `keras.layers.Layer`.

    References:
        Liu et al., "ParseNet: Looking Wider to See Better", arXiv:1506.04579.
    """

    def __init__(
        self,
        initial_scale: float = 20.0,
        epsilon: float = 1e-10,
        shared: bool = False,
        **kwargs: Any,
    ) -> None:
        """Keeps the arguments; the scales are made when the channels are known."""
        super().__init__(**kwargs)
        self.shared = shared
        self.initial_scale = initial_scale
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes one scale per channel."""
        self.scale = self.add_weight(
            name="scale",
            shape=(1 if self.shared else input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_scale),
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the normalised features, same shape and dtype as `inputs`."""
        # Squares overflow in half precision: the sum is taken in float32.
        squares = tf.reduce_sum(
            tf.square(tf.cast(inputs, tf.float32)), axis=-1, keepdims=True
        )
        factor = tf.cast(tf.math.rsqrt(squares + self.epsilon), inputs.dtype)
        return inputs * factor * tf.cast(self.scale, inputs.dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the output, that of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "initial_scale": self.initial_scale,
            "epsilon": self.epsilon,
            "shared": self.shared,
        }


@keras.saving.register_keras_serializable(package="ssdops")
class ChannelScale(keras.layers.Layer):  # type: ignore[misc]
    """Multiplies every channel by a trained factor, and adds a trained bias.

    Args:
        use_bias: Whether there is a bias.
        **kwargs: As for `keras.layers.Layer`.
    """

    def __init__(self, use_bias: bool = True, **kwargs: Any) -> None:
        """Keeps the arguments; the weights are made when the channels are known."""
        super().__init__(**kwargs)
        self.use_bias = use_bias
        self.beta: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes one factor and bias per channel."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        if self.use_bias:
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the scaled features, same shape and dtype as `inputs`."""
        scaled = inputs * tf.cast(self.gamma, inputs.dtype)
        if self.beta is None:
            return scaled
        return scaled + tf.cast(self.beta, inputs.dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {**super().get_config(), "use_bias": self.use_bias}


@keras.saving.register_keras_serializable(package="ssdops")
class CaffePooling(keras.layers.Layer):  # type: ignore[misc]
    """Maximum or average over windows, with the borders of Caffe.

    Sizes are rounded up, so that the last window may reach over the border, but it has
    to begin inside the image or its padding. Padding never is a maximum; it counts as
    zeros of an average, what is beyond the padding does not count.

    Args:
        kernel: Height and width of a window.
        stride: Distance (y, x) of windows.
        pad: Rows and columns before and after the image.
        average: Whether to take averages.
        **kwargs: As for `keras.layers.Layer`.

    References:
        `src/caffe/layers/pooling_layer.cpp` of the original Caffe implementation.
    """

    def __init__(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int] = (0, 0),
        average: bool = False,
        **kwargs: Any,
    ) -> None:
        """Keeps the arguments."""
        super().__init__(**kwargs)
        self.kernel, self.stride, self.pad = tuple(kernel), tuple(stride), tuple(pad)
        self.average = average

    @staticmethod
    def output_size(side: int, kernel: int, stride: int, pad: int) -> int:
        """Returns the number of windows along one side."""
        count = -(-(side + 2 * pad - kernel) // stride) + 1
        return count - ((count - 1) * stride >= side + pad)

    def _sides(self, image_size: Sequence[Any]) -> list[tuple[int, ...]]:
        """Returns size, windows, kernel, stride and padding of both directions."""
        sides = zip(image_size, self.kernel, self.stride, self.pad, strict=True)
        return [
            (side, self.output_size(side, kernel, stride, pad), kernel, stride, pad)
            for side, kernel, stride, pad in sides
        ]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the pooled features [B, fh, fw, c], dtype as `inputs`."""
        sides = self._sides(inputs.shape[1:3])
        # Rows after the image up to the end of the last window.
        after = [
            max(0, (count - 1) * stride + kernel - side - pad)
            for side, count, kernel, stride, pad in sides
        ]
        paddings = [[0, 0], *([p, a] for p, a in zip(self.pad, after, strict=True))]
        padded = tf.pad(
            inputs,
            [*paddings, [0, 0]],
            constant_values=0 if self.average else inputs.dtype.min,
        )
        pool = tf.nn.avg_pool2d if self.average else tf.nn.max_pool2d
        pooled = pool(padded, self.kernel, self.stride, "VALID")
        if not self.average:
            return pooled
        rows, columns = (
            [
                kernel / (min(i * stride + kernel, side + 2 * pad) - i * stride)
                for i in range(count)
            ]
            for side, count, kernel, stride, pad in sides
        )
        share = tf.constant(rows)[:, None, None] * tf.constant(columns)[:, None]
        return pooled * tf.cast(share, inputs.dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns [B, fh, fw, c]."""
        rows, columns = (count for _, count, *_ in self._sides(input_shape[1:3]))
        return input_shape[0], rows, columns, input_shape[3]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "pad": list(self.pad),
            "average": self.average,
        }


def conv(
    features: Any,
    filters: int,
    kernel: int,
    name: str,
    *,
    strides: int = 1,
    padding: int | str = "same",
    dilation: int = 1,
    activation: str | None = "relu",
    use_bias: bool = True,
) -> Any:
    """Returns a convolution with the initial weights of SSD's new layers.

    Weights are uniform in +-sqrt(3 / fan_in), biases zero.

    Args:
        features: Symbolic tensor [B, h, w, c].
        filters: Number of output channels.
        kernel: Side of the square kernel.
        name: Name of the layer.
        strides: Stride in both directions.
        padding: A number of zeros on each of the four sides, as Caffe pads, or "same"
            or "valid" in TensorFlow's sense. With stride 2 the two differ: "same" pads
            an even map at the bottom and right only.
        dilation: Distance between kernel taps.
        activation: Name of a Keras activation, or None for a linear output.
        use_bias: Whether there is a bias.
    """
    features, padding = _padded(features, name, padding)
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        activation=activation,
        use_bias=use_bias,
        kernel_initializer="lecun_uniform",
        bias_initializer="zeros",
        name=name,
    )(features)


def depthwise_conv(
    features: Any,
    name: str,
    *,
    kernel: int = 3,
    strides: int = 1,
    padding: int | str = "same",
    dilation: int = 1,
    activation: str | None = "relu",
    use_bias: bool = True,
) -> Any:
    """Returns a convolution of each channel by itself; arguments as for `conv`.

    Weights are uniform in +-sqrt(3 / kernel^2): a filter sees the cells of one channel,
    where Keras would count all channels.
    """
    limit = math.sqrt(3 / kernel**2)
    features, padding = _padded(features, name, padding)
    return keras.layers.DepthwiseConv2D(
        kernel,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        activation=activation,
        use_bias=use_bias,
        depthwise_initializer=keras.initializers.RandomUniform(-limit, limit),
        name=name,
    )(features)


def conv_bn(
    features: Any,
    filters: int | None,
    name: str,
    *,
    kernel: int = 3,
    strides: int = 1,
    padding: int | str = "same",
    dilation: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-3,
    momentum: float = 0.95,
) -> Any:
    """Returns convolution without bias, batch normalisation and activation.

    The moving averages follow the batches quickly (momentum 0.95): a detector trained
    for a few hundred steps only must already be usable for inference.

    Args:
        features: Symbolic tensor [B, h, w, c].
        filters: Number of output channels; None for a depthwise convolution.
        name: Name of the convolution; the others append `_bn` and the activation.
        kernel: Side of the square kernel.
        strides: Stride in both directions.
        padding: As for `conv`.
        dilation: Distance between kernel taps.
        activation: Name of a Keras activation, or None.
        epsilon: Added to the variance.
        momentum: Of the moving averages.
    """
    common: dict[str, Any] = {
        "strides": strides,
        "padding": padding,
        "dilation": dilation,
        "activation": None,
        "use_bias": False,
    }
    if filters is None:
        features = depthwise_conv(features, name, kernel=kernel, **common)
    else:
        features = conv(features, filters, kernel, name, **common)
    features = keras.layers.BatchNormalization(
        momentum=momentum, epsilon=epsilon, name=f"{name}_bn"
    )(features)
    if activation is None:
        return features
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(features)


def _padded(features: Any, name: str, padding: int | str) -> tuple[Any, str]:
    """Returns features with the zeros that a number asks for, and what Keras pads."""
    if isinstance(padding, str):
        return features, padding
    if padding:
        features = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(features)
    return features, "valid"
