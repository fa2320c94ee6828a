# SPDX-License-Identifier: Apache-2.0
"""Tensors of PyTorch's modules in the layers of Keras that do the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import keras
import numpy as np

from ssdops.models.weights.arrays import Array, Shape, WeightLoader

__all__ = ["TorchTensor", "module_tensors", "take_modules", "unwrapped"]

# What parallel training puts before every name.
_WRAPPER: Final = re.compile(r"^(module\.)(1\.)?")
# The number of training steps so far; no part of what the network computes.
_COUNTER: Final = ".num_batches_tracked"


class TorchTensor(NamedTuple):
    """Where a tensor of a module goes.

    Attributes:
        variable: Of Keras.
        shape: In PyTorch's layout.
        layout: What its dimensions mean.
        convert: Makes the layout of the variable of PyTorch's.
    """

    variable: Any
    shape: Shape
    layout: str
    convert: Callable[[Array], Array] = np.asarray


def unwrapped(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns tensors by the names that they have outside of parallel training.

    Counters of training steps are left out.
    """
    return {
        _WRAPPER.sub("", name): array
        for name, array in arrays.items()
        if not name.endswith(_COUNTER)
    }


def module_tensors(
    layer: Any, order: Sequence[int] | None = None
) -> dict[str, TorchTensor]:
    """Returns what a layer takes of `Conv2d` or `BatchNorm2d`, by parameter.

    Args:
        layer: Convolution, depthwise or not, or batch normalisation.
        order: For each output channel of the layer, that of the module; None if they
            are the same.
    """
    if isinstance(layer, keras.layers.BatchNormalization):
        return {
            name: TorchTensor(variable, tuple(variable.shape), "channels")
            for name, variable in (
                ("weight", layer.gamma),
                ("bias", layer.beta),
                ("running_mean", layer.moving_mean),
                ("running_var", layer.moving_variance),
            )
        }
    height, width, inputs, outputs = layer.kernel.shape

    def in_order(value: Array) -> Array:
        return value if order is None else value[list(order)]

    if isinstance(layer, keras.layers.DepthwiseConv2D):
        weight = TorchTensor(
            layer.kernel,
            (inputs, 1, height, width),
            "channels, 1, height, width",
            lambda value: value.transpose(2, 3, 0, 1),
        )
    else:
        weight = TorchTensor(
            layer.kernel,
            (outputs, inputs, height, width),
            "out, in, height, width",
            lambda value: in_order(value).transpose(2, 3, 1, 0),
        )
    tensors = {"weight": weight}
    if layer.bias is not None:
        tensors["bias"] = TorchTensor(layer.bias, (outputs,), "out", in_order)
    return tensors


def take_modules(
    loader: WeightLoader,
    arrays: Mapping[str, Array],
    tensors: Mapping[str, TorchTensor],
) -> None:
    """Notes every tensor of a file, and those of the model that the file lacks.

    Args:
        loader: Takes them.
        arrays: Tensors of the file by name.
        tensors: Where they go, by the same names.

    Raises:
        ValueError: As `WeightLoader.take`.
    """
    for name, place in tensors.items():
        if name in arrays:
            loader.take(name, arrays[name], *place)
        else:
            loader.miss(name, place.shape)
    for name, value in arrays.items():
        if name not in tensors:
            loader.skip(name, np.shape(value))
