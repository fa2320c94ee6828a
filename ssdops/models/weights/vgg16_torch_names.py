# SPDX-License-Identifier: Apache-2.0
"""Weights of SSD on VGG-16 from programs of PyTorch by the names and order of Caffe.

All of them have the layers of Caffe and take RGB; the detectors subtract from it what
Caffe does, up to 0.001 grey levels.

References:
    `torchvision/models/detection/ssd.py` and `torchvision/models/vgg.py`; `ssd.py` and
    `data/config.py` of `amdegroot/ssd.pytorch`; `ssd/modeling` and `configs` of
    `lufficc/SSD`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from ssdops.anchors import (
    AnchorGrid,
    ssd300_coco,
    ssd300_torchvision,
    ssd300_voc,
    ssd512_coco,
    ssd512_voc,
    within_image,
)
from ssdops.models.preprocessing import IMAGENET_MEAN, IMAGENET_SCALE
from ssdops.models.weights.arrays import Array
from ssdops.models.weights.torch_layers import unwrapped

__all__ = ["implied_options", "is_torch", "with_caffe_names"]

_FIRST_LAYER: Final = "conv1_1"
_NORM: Final = "conv4_3_norm"
_TRUNK: Final = (
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"),
)
_POSITIONS: Final = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
_SOURCES: Final = (
    *(_NORM, "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2"),
)
# The first layer that only SSD512 has.
_ONLY_512: Final = "conv10_1|0"
_VOC_CLASSES: Final = 21
_COCO_CLASSES: Final = 81

# What each program calls the scales of the normalisation, by which it is known.
_TORCHVISION: Final = "backbone.scale_weight"
_AMDEGROOT: Final = "L2Norm.weight"
_LUFFICC: Final = "backbone.l2_norm.weight"
# The last convolution of torchvision's classifier, which has no such thing.
_CLASSIFIER: Final = "features.28.weight"
# Part of that file, but with NaN in it where only the convolutions were trained.
_CONNECTED: Final = ("classifier.0", "classifier.3")


def _blobs(modules: Mapping[str, str]) -> dict[str, str]:
    """Returns blobs of Caffe by the names of tensors.

    Args:
        modules: Layers of Caffe by the names of modules with weight and bias.
    """
    return {
        f"{module}.{parameter}": f"{layer}|{blob}"
        for module, layer in modules.items()
        for blob, parameter in enumerate(("weight", "bias"))
    }


def _features(prefix: str, count: int) -> dict[str, str]:
    """Returns the first convolutions of a list that has activations and poolings."""
    return {
        f"{prefix}.{position}": layer
        for position, layer in zip(_POSITIONS[:count], _TRUNK, strict=False)
    }


def _heads(offsets: str, logits: str) -> dict[str, str]:
    return {
        f"{module}.{level}": f"{source}_{head}"
        for module, head in ((offsets, "mbox_loc"), (logits, "mbox_conf"))
        for level, source in enumerate(_SOURCES)
    }


def _numbered(trunk: str, extras: str, offsets: str, logits: str) -> dict[str, str]:
    """Returns the modules of a program that keeps its layers in four lists."""
    return {
        **_features(trunk, len(_TRUNK)),
        **{f"{extras}.{i}": f"conv{6 + i // 2}_{1 + i % 2}" for i in range(10)},
        **_heads(offsets, logits),
    }


_MODULES: Final = {
    _TORCHVISION: {
        **_features("backbone.features", 10),
        **{f"backbone.extra.0.{2 * i - 1}": f"conv5_{i}" for i in (1, 2, 3)},
        "backbone.extra.0.7.1": "fc6",
        "backbone.extra.0.7.3": "fc7",
        **{
            f"backbone.extra.{group}.{index}": f"conv{group + 5}_{index // 2 + 1}"
            for group in (1, 2, 3, 4)
            for index in (0, 2)
        },
        **_heads(
            "head.regression_head.module_list", "head.classification_head.module_list"
        ),
    },
    _AMDEGROOT: _numbered("vgg", "extras", "loc", "conf"),
    _LUFFICC: _numbered(
        "backbone.vgg",
        "backbone.extras",
        "box_head.predictor.reg_headers",
        "box_head.predictor.cls_headers",
    ),
    _CLASSIFIER: {
        **_features("features", 13),
        **dict(zip(_CONNECTED, ("fc6", "fc7"), strict=True)),
    },
}


def _program(arrays: Mapping[str, Array]) -> str | None:
    """Returns the program whose weights arrays are, None if it is none of them."""
    for known, modules in _MODULES.items():
        # With batch normalisation the second layer has weights, too.
        first = next(iter(modules))
        if known in arrays and f"{first}.weight" in arrays:
            return None if "features.1.weight" in arrays else known
    return None


def _is_trained_on_imagenet(arrays: Mapping[str, Array]) -> bool:
    """Whether the fully connected layers of a classifier are there, with numbers."""
    values = [arrays.get(f"{module}.weight") for module in _CONNECTED]
    return all(
        value is not None and value.dtype.kind == "f" and np.isfinite(value).all()
        for value in values
    )


def is_torch(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are those of one of the programs."""
    return _program(unwrapped(arrays)) is not None


def with_caffe_names(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of one of the programs as `<layer>|<blob>`; others get `|0`.

    The first layer takes BGR instead of RGB, as that of Caffe does.
    """
    arrays = unwrapped(arrays)
    program = _program(arrays)
    blobs = {} if program is None else _blobs(_MODULES[program])
    if program is not None and program != _CLASSIFIER:
        blobs[program] = f"{_NORM}|0"
    elif not _is_trained_on_imagenet(arrays):
        blobs = {n: blob for n, blob in blobs.items() if not n.startswith(_CONNECTED)}
    renamed = {blobs.get(name, f"{name}|0"): array for name, array in arrays.items()}
    kernel = np.asarray(renamed.get(f"{_FIRST_LAYER}|0", 0))
    if kernel.ndim == 4:  # else the loader says what is wrong with it
        renamed[f"{_FIRST_LAYER}|0"] = kernel[:, ::-1]
    return renamed


def implied_options(
    arrays: Mapping[str, Array], num_classes: int | None
) -> dict[str, Any]:
    """Returns anchors, pre- and post-processing that go with the weights of a program.

    Args:
        arrays: Weights of one of the programs.
        num_classes: Classes that they predict, with the background; None for none.
    """
    arrays = unwrapped(arrays)
    program = _program(arrays)
    if program == _CLASSIFIER:
        if not _is_trained_on_imagenet(arrays):
            return {}
        pixels = {"mean": IMAGENET_MEAN[::-1], "scale": IMAGENET_SCALE[::-1]}
        return {"spec": {"preprocessing": pixels}}
    if program == _TORCHVISION:
        return {
            "anchors": ssd300_torchvision(),
            "spec": {"post_processing": {"clip": True}},
        }
    # The first chooses between two configurations so; those of the second are files.
    coco = (
        num_classes != _VOC_CLASSES
        if program == _AMDEGROOT
        else num_classes == _COCO_CLASSES
    )
    grid: AnchorGrid
    if _ONLY_512 in with_caffe_names(arrays):
        grid = ssd512_coco("none") if coco else ssd512_voc("none")
    else:
        grid = ssd300_coco() if coco else ssd300_voc()
    return {"anchors": replace(within_image(grid), clip_centers=True)}
