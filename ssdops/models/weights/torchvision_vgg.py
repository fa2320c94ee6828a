# SPDX-License-Identifier: Apache-2.0
"""Import of torchvision's `vgg16_bn` as the trunk of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, WeightLoader
from ssdops.models.weights.torch_layers import (
    TorchTensor,
    module_tensors,
    take_modules,
    unwrapped,
)

__all__ = ["inferred_options", "load_vgg16_bn_arrays"]

# Convolutions -> their number in `features`; the next is their normalisation.
_MODULES: Final = dict(
    zip(
        (
            *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2"),
            *("conv3_3", "conv4_1", "conv4_2", "conv4_3"),
            *("conv5_1", "conv5_2", "conv5_3"),
        ),
        (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
        strict=True,
    )
)


def load_vgg16_bn_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts the convolutions of torchvision's `vgg16_bn` into a detector.

    Biases of its convolutions, which are normalised away here, go into the means of the
    normalisations. Nothing is changed unless everything fits.

    Args:
        model: Model "ssd300_vgg16_bn" or "ssd512_vgg16_bn".
        arrays: Tensors by their names in PyTorch.
        strict: Whether tensors on one side only and other shapes are an error, which
            they are for every classifier. Otherwise the model keeps its values there,
            and the report tells.

    Returns:
        Tensors by their names in PyTorch, those that only a detector has by their names
        here.

    Raises:
        ValueError: For values that are not finite, and with `strict` for shapes that
            differ and missing or unknown tensors; the message names the tensor and
            both shapes.
    """
    arrays = unwrapped(arrays)
    tensors: dict[str, TorchTensor] = {}
    loader = WeightLoader(strict)
    for layer in model.network.layers:
        number = _MODULES.get(layer.name.removesuffix("_bn"))
        if number is None:
            for weight in layer.weights:
                loader.miss(weight.path, tuple(weight.shape))
        elif layer.name in _MODULES:
            tensors[f"features.{number}.weight"] = module_tensors(layer)["weight"]
        elif layer.weights:
            bias = f"features.{number}.bias"
            shape = tuple(layer.beta.shape)
            tensors[bias] = TorchTensor(None, shape, "out")
            norm = module_tensors(layer)
            if bias in arrays and np.shape(arrays[bias]) == shape:
                less = _less(arrays[bias])
                norm["running_mean"] = norm["running_mean"]._replace(convert=less)
            for name, place in norm.items():
                tensors[f"features.{number + 1}.{name}"] = place
    take_modules(loader, arrays, tensors)
    return loader.finish(model.spec.name)


def _less(bias: Array) -> Any:
    """Returns the mean of a normalisation without the bias before it."""
    return lambda mean: mean - np.asarray(bias, np.float32)


def inferred_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns no options: a trunk implies none.

    Raises:
        ValueError: If the tensors are not those of torchvision's `vgg16_bn`.
    """
    names = unwrapped(arrays).keys()
    wanted = {"features.0.weight", "features.1.running_mean", "features.40.weight"}
    if not wanted <= names:
        raise ValueError(
            f"the weights are not those of torchvision's vgg16_bn: there is no "
            f"{min(wanted - names)}"
        )
    return {}
