# SPDX-License-Identifier: Apache-2.0
"""Import of NVIDIA's SSD300 on a ResNet, and of torchvision's ResNets as backbones.

References:
    https://github.com/NVIDIA/DeepLearningExamples, `PyTorch/Detection/SSD`.
"""

from __future__ import annotations

import re
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

__all__ = ["inferred_options", "load_nvidia_arrays"]

_PREFIX: Final = "feature_extractor.feature_extractor."
# Number of blocks of the third stage, and whether they are bottlenecks.
_DEPTHS: Final = {(2, False): 18, (6, False): 34, (6, True): 50}
_SOURCES: Final = ("layer3", "extra1", "extra2", "extra3", "extra4", "extra5")


def _is_backbone(arrays: Mapping[str, Array]) -> bool:
    """Whether names are those of torchvision's ResNet."""
    return "conv1.weight" in arrays and "layer1.0.conv1.weight" in arrays


def _module(layer: str, backbone: bool) -> str:
    """Returns what PyTorch calls a layer.

    Args:
        layer: Its name here.
        backbone: Whether the trunk is called as in torchvision.
    """
    if match := re.fullmatch(r"(\w+)_mbox_(loc|conf)", layer):
        return f"{match[2]}.{_SOURCES.index(match[1])}"
    name = layer.removesuffix("_bn")
    norm = name != layer
    if match := re.fullmatch(r"extra(\d)_(\d)", name):
        index = 3 * (int(match[2]) - 1) + norm
        return f"additional_blocks.{int(match[1]) - 1}.{index}"
    if name == "conv1":
        return ("bn1" if norm else "conv1") if backbone else f"{_PREFIX}{int(norm)}"
    match = re.fullmatch(r"layer(\d)_(\d+)_(conv|downsample)(\d?)", name)
    assert match is not None
    stage = f"layer{match[1]}" if backbone else f"{_PREFIX}{int(match[1]) + 3}"
    part = f"downsample.{int(norm)}"
    if match[3] == "conv":
        part = f"{'bn' if norm else 'conv'}{match[4]}"
    return f"{stage}.{match[2]}.{part}"


def _head_order(layer: str, channels: int, num_classes: int) -> list[int] | None:
    """Returns NVIDIA's channel for each of ours; None for what is no head.

    Theirs are coordinate * K + box, coordinates (x, y, w, h), and class * K + box for
    K boxes per cell. Only the rows of the output differ besides: theirs are box, y, x.
    """
    if layer.endswith("_mbox_loc"):
        values = [1, 0, 3, 2]
    elif layer.endswith("_mbox_conf"):
        values = list(range(num_classes))
    else:
        return None
    boxes = channels // len(values)
    return [value * boxes + box for box in range(boxes) for value in values]


def load_nvidia_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts tensors of NVIDIA's SSD300 or of torchvision's ResNet into a model.

    Nothing is changed unless everything fits.

    Args:
        model: A model "ssd300_resnet18", "ssd300_resnet34" or "ssd300_resnet50".
        arrays: Tensors by their names in PyTorch. Of parallel training, `module.`
            before the names is ignored.
        strict: Whether tensors on one side only and other shapes are an error.
            Otherwise the model keeps its values there, and the report tells.

    Returns:
        Tensors by their names in PyTorch without `module.`; counters of training steps
        are left out.

    Raises:
        ValueError: For values that are not finite, and with `strict` for shapes that
            differ and missing or unknown tensors; the message names the tensor and
            both shapes.
    """
    arrays = unwrapped(arrays)
    backbone = _is_backbone(arrays)
    tensors: dict[str, TorchTensor] = {}
    for layer in model.network.layers:
        if not layer.weights:
            continue
        module = _module(layer.name, backbone)
        channels = layer.weights[0].shape[-1]
        order = _head_order(layer.name, channels, model.spec.num_classes)
        for name, place in module_tensors(layer, order).items():
            tensors[f"{module}.{name}"] = place
    loader = WeightLoader(strict)
    take_modules(loader, arrays, tensors)
    return loader.finish(model.spec.name)


def inferred_options(depth: int, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns the number of classes that stored weights predict.

    Those of a backbone imply nothing.

    Args:
        depth: 18, 34 or 50.
        arrays: Tensors by their names in PyTorch.

    Raises:
        ValueError: If the tensors are not those of a ResNet of this depth.
    """
    arrays = unwrapped(arrays)
    backbone = _is_backbone(arrays)
    stage = _module("layer3_0_conv1", backbone).removesuffix("0.conv1")
    blocks = sum(f"{stage}{index}.conv1.weight" in arrays for index in range(99))
    bottleneck = f"{stage}0.conv3.weight" in arrays
    found = _DEPTHS.get((blocks, bottleneck))
    if found != depth:
        other = f", but of depth {found}" if found else ""
        raise ValueError(
            f"the weights are not those of a ResNet of depth {depth} by the names of "
            f"torchvision or of NVIDIA's SSD300{other}"
        )
    if backbone:
        return {}
    boxes, classes = (
        np.shape(arrays.get(f"{head}.0.bias", ())) for head in ("loc", "conf")
    )
    if not boxes or not classes or not boxes[0] or 4 * classes[0] % boxes[0]:
        raise ValueError(
            f"the weights have no fitting pair of tensors loc.0.bias and conf.0.bias, "
            f"got the shapes {list(boxes)} and {list(classes)}"
        )
    return {"num_classes": 4 * classes[0] // boxes[0]}
