# SPDX-License-Identifier: Apache-2.0
"""What a network costs, counted from the shapes of its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import keras

from ssdops.models.caffe.layers import DepthwiseTranspose

__all__ = ["multiply_adds"]

_TENSOR: Final = "__keras_tensor__"


def multiply_adds(network: keras.Model) -> int:
    """Returns the multiplications, each with an addition, that one image takes.

    Those of convolutions and dense layers are counted, as is usual: padding counts like
    the image; biases, normalisations, activations and pooling do not count. A layer
    that is used more than once counts as often.

    Args:
        network: Functional or sequential model with an input of a fixed size, such as
            `ssdops.models.SSD.network`.

    Raises:
        ValueError: If it is neither, or a size is not fixed.
    """
    if isinstance(network, keras.Sequential) and network.built:
        network = keras.Model(network.inputs, network.outputs)
    config = network.get_config()
    if not isinstance(config, Mapping) or "input_layers" not in config:
        raise ValueError(f"network {network.name} must be a functional Keras model")
    total = 0
    for entry in config["layers"]:
        layer = network.get_layer(entry["name"])
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer) * len(entry["inbound_nodes"])
        elif isinstance(layer, _COUNTED):
            total += sum(
                _of_layer(layer, next(_input_shapes(node)))
                for node in entry["inbound_nodes"]
            )
    return total


# Those of a depthwise and of a separable convolution are no `Conv2D`.
_COUNTED: Final = (
    *(keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.Dense),
    *(keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, DepthwiseTranspose),
)


def _of_layer(layer: Any, shape: tuple[Any, ...]) -> int:
    """Returns the multiplications of one use of a layer."""
    given, found = shape[1:], layer.compute_output_shape(shape)[1:]
    if None in (*given, *found):
        raise ValueError(
            f"sizes of layer {layer.name} must be fixed, got the input {list(given)}"
        )
    kernel = math.prod(getattr(layer, "kernel_size", (1,)))
    inputs, outputs, cells = given[-1], found[-1], math.prod(found[:-1])
    if isinstance(layer, keras.layers.SeparableConv2D):
        middle = inputs * layer.depth_multiplier
        return int(cells * middle * (kernel + outputs))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return int(cells * outputs * kernel)
    if isinstance(layer, DepthwiseTranspose):
        return int(math.prod(given) * kernel)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        # Every value of the input is multiplied by all of the kernel.
        cells = math.prod(given[:-1])
    groups = getattr(layer, "groups", 1)
    return int(cells * outputs * kernel * inputs // groups)


def _input_shapes(node: Any) -> Iterator[tuple[int | None, ...]]:
    """Yields the shapes of the tensors that a layer is called with."""
    if isinstance(node, Mapping):
        if node.get("class_name") == _TENSOR:
            yield tuple(node["config"]["shape"])
            return
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from _input_shapes(item)
