# SPDX-License-Identifier: Apache-2.0
"""Weights of torchvision's `ssd300_vgg16` by the names and order of Caffe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array

__all__ = ["is_torchvision", "with_caffe_names"]

_FIRST_LAYER: Final = "conv1_1"
# Modules of torchvision -> layers of Caffe.
_LAYERS: Final = {
    **{
        f"backbone.features.{index}": layer
        for index, layer in zip(
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21),
            (
                *("conv1_1", "conv1_2", "conv2_1", "conv2_2"),
                *("conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3"),
            ),
            strict=True,
        )
    },
    **{f"backbone.extra.0.{2 * i - 1}": f"conv5_{i}" for i in (1, 2, 3)},
    "backbone.extra.0.7.1": "fc6",
    "backbone.extra.0.7.3": "fc7",
    **{
        f"backbone.extra.{group}.{index}": f"conv{group + 5}_{index // 2 + 1}"
        for group in (1, 2, 3, 4)
        for index in (0, 2)
    },
    **{
        f"head.{head}_head.module_list.{level}": f"{source}_{name}"
        for head, name in (("classification", "mbox_conf"), ("regression", "mbox_loc"))
        for level, source in enumerate(
            ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
        )
    },
}
_BLOBS: Final = {
    "backbone.scale_weight": "conv4_3_norm|0",
    **{
        f"{module}.{parameter}": f"{layer}|{blob}"
        for module, layer in _LAYERS.items()
        for blob, parameter in enumerate(("weight", "bias"))
    },
}


def is_torchvision(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are those of torchvision's SSD on VGG-16."""
    return "backbone.scale_weight" in arrays and "backbone.features.0.weight" in arrays


def with_caffe_names(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of torchvision's names as `<layer>|<blob>`; others keep their names.

    The first layer takes BGR instead of RGB, as that of Caffe does. What is subtracted
    from the pixels is the same up to 0.001 grey levels.

    Source: `torchvision/models/detection/ssd.py`.
    """
    renamed = {_BLOBS.get(name, f"{name}|0"): array for name, array in arrays.items()}
    kernel = np.asarray(renamed[f"{_FIRST_LAYER}|0"])
    if kernel.ndim == 4:  # else the loader says what is wrong with it
        renamed[f"{_FIRST_LAYER}|0"] = kernel[:, ::-1]
    return renamed
