# SPDX-License-Identifier: Apache-2.0
"""Weights of SSD on VGG-16 from programs of PyTorch by the names and order of Caffe.

All of them take RGB and what Caffe subtracts from it, up to 0.001 grey levels, and have
the layers of Caffe.

References:
    `torchvision/models/detection/ssd.py`; `ssd.py` and `data/config.py` of
    `amdegroot/ssd.pytorch`; `ssd/modeling` and `configs` of `lufficc/SSD`.
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


def _blobs(scale: str, modules: Mapping[str, str]) -> dict[str, str]:
    """Returns blobs of Caffe by the names of tensors.

    Args:
        scale: Name of the scales.
        modules: Layers of Caffe by the names of modules with weight and bias.
    """
    return {
        scale: f"{_NORM}|0",
        **{
            f"{module}.{parameter}": f"{layer}|{blob}"
            for module, layer in modules.items()
            for blob, parameter in enumerate(("weight", "bias"))
        },
    }


def _heads(offsets: str, logits: str) -> dict[str, str]:
    return {
        f"{module}.{level}": f"{source}_{head}"
        for module, head in ((offsets, "mbox_loc"), (logits, "mbox_conf"))
        for level, source in enumerate(_SOURCES)
    }


def _numbered(trunk: str, extras: str, offsets: str, logits: str) -> dict[str, str]:
    """Returns the modules of a program that keeps its layers in four lists."""
    positions = zip(_POSITIONS, _TRUNK, strict=True)
    return {
        **{f"{trunk}.{position}": layer for position, layer in positions},
        **{f"{extras}.{i}": f"conv{6 + i // 2}_{1 + i % 2}" for i in range(10)},
        **_heads(offsets, logits),
    }


_PROGRAMS: Final = {
    _TORCHVISION: _blobs(
        _TORCHVISION,
        {
            **{
                f"backbone.features.{position}": layer
                for position, layer in zip(_POSITIONS[:10], _TRUNK, strict=False)
            },
            **{f"backbone.extra.0.{2 * i - 1}": f"conv5_{i}" for i in (1, 2, 3)},
            "backbone.extra.0.7.1": "fc6",
            "backbone.extra.0.7.3": "fc7",
            **{
                f"backbone.extra.{group}.{index}": f"conv{group + 5}_{index // 2 + 1}"
                for group in (1, 2, 3, 4)
                for index in (0, 2)
            },
            **_heads(
                "head.regression_head.module_list",
                "head.classification_head.module_list",
            ),
        },
    ),
    _AMDEGROOT: _blobs(_AMDEGROOT, _numbered("vgg", "extras", "loc", "conf")),
    _LUFFICC: _blobs(
        _LUFFICC,
        _numbered(
            "backbone.vgg",
            "backbone.extras",
            "box_head.predictor.reg_headers",
            "box_head.predictor.cls_headers",
        ),
    ),
}


def _program(arrays: Mapping[str, Array]) -> str | None:
    """Returns the program whose weights arrays are, None if it is none of them."""
    for scale, blobs in _PROGRAMS.items():
        first = next(name for name, blob in blobs.items() if blob == "conv1_1|0")
        if scale in arrays and first in arrays:
            return scale
    return None


def is_torch(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are those of one of the programs."""
    return _program(unwrapped(arrays)) is not None


def with_caffe_names(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of one of the programs as `<layer>|<blob>`; others get `|0`.

    The first layer takes BGR instead of RGB, as that of Caffe does.
    """
    arrays = unwrapped(arrays)
    blobs = _PROGRAMS.get(_program(arrays) or "", {})
    renamed = {blobs.get(name, f"{name}|0"): array for name, array in arrays.items()}
    kernel = np.asarray(renamed.get(f"{_FIRST_LAYER}|0", 0))
    if kernel.ndim == 4:  # else the loader says what is wrong with it
        renamed[f"{_FIRST_LAYER}|0"] = kernel[:, ::-1]
    return renamed


def implied_options(arrays: Mapping[str, Array], num_classes: int) -> dict[str, Any]:
    """Returns anchors and post-processing that go with the weights of a program.

    Args:
        arrays: Weights of one of the programs.
        num_classes: Classes that they predict, with the background.
    """
    program = _program(unwrapped(arrays))
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
