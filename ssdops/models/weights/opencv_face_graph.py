# SPDX-License-Identifier: Apache-2.0
"""Weights of OpenCV's face detector as a TensorFlow graph, by the names of Caffe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array

__all__ = ["is_face_graph", "with_caffe_blobs"]

_FIRST: Final = "data_bn/mean"
# Part of a layer in the graph -> number of the blob in Caffe.
_BLOBS: Final = {"weights": 0, "bias": 1, "mean": 0, "std": 1, "mul": 0, "add": 1}
# A convolution with this has the normalisation after it folded in.
_FOLDED: Final = "Conv2D_bn_offset"
_EPSILON: Final = 1e-5


def is_face_graph(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are the constants of that graph."""
    return _FIRST in arrays


def with_caffe_blobs(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The constants as `<layer>|<blob>` in the layouts of Caffe; others are left out.

    Where a normalisation was folded into the convolution before it, it becomes one that
    only adds what the convolution does not.

    Raises:
        ValueError: If a normalisation has factors of its own, or the scale after a
            folded one is not there.
    """
    blobs: dict[str, Array] = {}
    for name, array in arrays.items():
        layer, _, part = name.rpartition("/")
        if part in ("gamma", "beta") and not np.all(array == (part == "gamma")):
            raise ValueError(f"{name} must change nothing, as in the released graph")
        if part == _FOLDED:
            norm = _normalization(layer, arrays)
            blobs[f"{norm}|0"] = -array
            blobs[f"{norm}|1"] = np.full_like(array, 1.0 - _EPSILON)
            blobs[f"{norm}|2"] = np.ones(1, np.float32)
        elif part in _BLOBS and layer:
            blobs[f"{layer}|{_BLOBS[part]}"] = (
                array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            )
            if part == "mean":
                blobs[f"{layer}|2"] = np.ones(1, np.float32)
    return blobs


def _normalization(layer: str, arrays: Mapping[str, Array]) -> str:
    """Returns the normalisation after the first convolution of a block."""
    block = re.sub(r"_conv1(_h)?$", "", layer)
    for suffix in ("_h", ""):
        if f"{block}_scale2{suffix}/mul" in arrays:
            return f"{block}_bn2{suffix}"
    raise ValueError(f"{layer} has no scale after it")
