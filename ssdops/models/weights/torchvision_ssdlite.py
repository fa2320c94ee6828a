# SPDX-License-Identifier: Apache-2.0
"""Weights of torchvision's `ssdlite320_mobilenet_v3_large`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ssdops.models.backbones.mobilenet_v3 import BLOCKS, EXTRAS
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, WeightLoader
from ssdops.models.weights.torch_layers import (
    TorchTensor,
    module_tensors,
    take_modules,
    unwrapped,
)

__all__ = ["inferred_options", "load_ssdlite_arrays"]

# The block whose parts are on both sides of the first source of the heads.
_SPLIT: Final = 13
_LAST: Final = "backbone.features.1.3"
_LAST_REDUCED: Final = 480
_BOXES_PER_CELL: Final = 6
_HEADS: Final = {"mbox_loc": "regression_head", "mbox_conf": "classification_head"}


def inferred_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns the number of classes and the kind of tail of stored weights.

    Raises:
        ValueError: If the tensors that tell are missing.
    """
    arrays = unwrapped(arrays)
    last = arrays.get(f"{_LAST}.0.weight")
    head = arrays.get("head.classification_head.module_list.0.1.bias")
    if last is None or head is None or not last.ndim or head.ndim != 1:
        raise ValueError(
            f"the weights have no {_LAST}.0.weight and head.classification_head."
            "module_list.0.1.bias, so they are not those of torchvision's SSDLite"
        )
    return {
        "num_classes": head.shape[0] // _BOXES_PER_CELL,
        "reduced_tail": last.shape[0] == _LAST_REDUCED,
    }


def load_ssdlite_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts torchvision's tensors into `ssdlite320_mobilenet_v3_large`.

    Nothing is changed unless everything fits.

    Args:
        model: Model with the kind of tail of the tensors.
        arrays: Tensors by their names in PyTorch.
        strict: Whether tensors on one side only and other shapes are an error.
            Otherwise the model keeps its values there, and the report tells.

    Raises:
        ValueError: For values that are not finite, and with `strict` for shapes that
            differ and missing or unknown tensors.
    """
    modules = _modules([layer.name for layer in model.network.layers])
    tensors: dict[str, TorchTensor] = {}
    for layer in model.network.layers:
        if not layer.weights:
            continue
        order = None
        if layer.name.endswith("_mbox_loc"):
            # Theirs are x first.
            count = layer.bias.shape[0]
            order = [4 * (i // 4) + (1, 0, 3, 2)[i % 4] for i in range(count)]
        for name, place in module_tensors(layer, order).items():
            tensors[f"{modules[layer.name]}.{name}"] = place
    loader = WeightLoader(strict)
    take_modules(loader, unwrapped(arrays), tensors)
    return loader.finish(model.spec.name)


def _modules(layers: list[str]) -> dict[str, str]:
    """Returns the module of every layer with weights."""
    places = {"conv1": "backbone.features.0.0", "conv_last": _LAST}
    for index, block in enumerate(BLOCKS, start=1):
        parts = ["depthwise", *["excitation"] * block.excitation, "project"]
        if f"block{index}_expand" in layers:
            parts.insert(0, "expand")
        for number, part in enumerate(parts):
            if index < _SPLIT:
                module = f"backbone.features.0.{index}.block.{number}"
            elif index > _SPLIT:
                module = f"backbone.features.1.{index - _SPLIT}.block.{number}"
            elif part == "expand":
                module = f"backbone.features.0.{_SPLIT}"
            else:
                module = f"backbone.features.1.0.{number}"
            places[f"block{index}_{part}"] = module
    for group in range(len(EXTRAS)):
        for number in range(3):
            layer = f"extra{group + 1}_{number + 1}"
            places[layer] = f"backbone.extra.{group}.{number}"
    found: dict[str, str] = {}
    for layer, module in places.items():
        if layer.endswith("_excitation"):
            found |= {f"{layer}1": f"{module}.fc1", f"{layer}2": f"{module}.fc2"}
        else:
            # A convolution and its normalisation.
            found |= {layer: f"{module}.0", f"{layer}_bn": f"{module}.1"}
    for suffix, head in _HEADS.items():
        names = [name for name in layers if name.endswith(f"_{suffix}")]
        for level, name in enumerate(names):
            module = f"head.{head}.module_list.{level}"
            found |= {
                name: f"{module}.1",
                f"{name}_dw": f"{module}.0.0",
                f"{name}_dw_bn": f"{module}.0.1",
            }
    return found
