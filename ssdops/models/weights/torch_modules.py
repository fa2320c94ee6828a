# SPDX-License-Identifier: Apache-2.0
"""Import of weights that are stored by module of PyTorch and in its layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

import keras

from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, WeightLoader

__all__ = ["load_torch_modules"]

# How many batches an average is of; nothing here needs it.
_COUNTER: Final = ".num_batches_tracked"


def load_torch_modules(
    model: SSD,
    arrays: Mapping[str, Array],
    modules: Mapping[str, str],
    strict: bool = True,
    x_first: Collection[str] = (),
) -> LoadReport:
    """Puts a state dictionary of PyTorch into a model.

    Nothing is changed unless everything fits.

    Args:
        model: Detector.
        arrays: Tensors by `<module>.<parameter>`.
        modules: Name of the module for every layer with weights.
        strict: Whether tensors on one side only and other shapes are an error.
            Otherwise the model keeps its values there, and the report tells.
        x_first: Layers whose outputs are boxes (x, y, w, h), box by box; they become
            (y, x, h, w).

    Returns:
        Tensors by their names in the file.

    Raises:
        ValueError: For values that are not finite, and with `strict` for shapes that
            differ and missing or unknown tensors.
    """
    loader = WeightLoader(strict)
    left = {
        name: value for name, value in arrays.items() if not name.endswith(_COUNTER)
    }
    for layer in model.network.layers:
        if not layer.weights:
            continue
        if layer.name not in modules:
            raise ValueError(f"layer {layer.name} has no module")
        for parameter, variable in _parameters(layer).items():
            name = f"{modules[layer.name]}.{parameter}"
            shape, layout = _stored(layer, variable)
            if name not in left:
                loader.miss(name, shape)
                continue
            value = left.pop(name)
            if layer.name in x_first and value.ndim and value.shape[0] % 4 == 0:
                boxes = value.reshape(-1, 4, *value.shape[1:])
                value = boxes[:, [1, 0, 3, 2]].reshape(value.shape)
            order = (2, 3, 0, 1) if _is_depthwise(layer) else (2, 3, 1, 0)
            convert = partial(_ordered, order=order)
            loader.take(name, value, variable, shape, layout, convert)
    for name, value in left.items():
        loader.skip(name, value.shape)
    return loader.finish(model.spec.name)


def _ordered(value: Array, order: tuple[int, ...]) -> Array:
    return value.transpose(order) if value.ndim == len(order) else value


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _parameters(layer: Any) -> dict[str, Any]:
    """Returns the variables of a layer by what PyTorch calls them."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        found = {"weight": layer.kernel}
        if layer.bias is not None:
            found["bias"] = layer.bias
        return found
    raise ValueError(
        f"layer {layer.name} of type {type(layer).__name__} has no module of PyTorch"
    )


def _stored(layer: Any, variable: Any) -> tuple[tuple[int, ...], str]:
    """Returns the shape of a variable in PyTorch, and what its dimensions mean."""
    shape = tuple(variable.shape)
    if len(shape) != 4:
        return shape, "channels"
    height, width, inputs, outputs = shape
    if _is_depthwise(layer):
        return (inputs, 1, height, width), "channels, 1, height, width"
    return (outputs, inputs, height, width), "out, in, height, width"
