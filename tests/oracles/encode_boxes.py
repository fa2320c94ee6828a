# SPDX-License-Identifier: Apache-2.0
"""Centre-size box encoding, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def encode_boxes(
    boxes: Array, anchors: Array, *, variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2)
) -> Array:
    """Offsets of boxes from anchors.

    Args:
        boxes: `[..., A, 4]`, float32 or float64.
        anchors: `[A, 4]`, same dtype.
        variances: 4 positive numbers.

    Returns:
        `[..., A, 4]`; four zeros where there is no encoding. The logarithm is taken
        in float64 and rounded once.
    """
    result = np.zeros_like(boxes)
    scale = np.asarray(variances, boxes.dtype)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*boxes.shape[:-1]):
            row = _encode(boxes[index], anchors[index[-1]], scale)
            if row is not None:
                result[index] = row
    return result


def encode_boxes_grad(
    grad_offsets: Array,
    boxes: Array,
    anchors: Array,
    *,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
) -> tuple[Array, Array]:
    """Gradient with respect to the boxes.

    Args:
        grad_offsets: `[..., A, 4]`.
        boxes: `[..., A, 4]`; its dtype decides which rows have an encoding.
        anchors: `[A, 4]`.
        variances: 4 positive numbers.

    Returns:
        float64 gradient `[..., A, 4]`, and the sum of the magnitudes of its terms,
        to which a rounding error is relative.
    """
    scale = np.asarray(variances, boxes.dtype)
    grad = np.zeros(boxes.shape, np.float64)
    magnitude = np.zeros(boxes.shape, np.float64)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*boxes.shape[:-1]):
            box, anchor = boxes[index], anchors[index[-1]]
            if _encode(box, anchor, scale) is None:
                continue
            g = grad_offsets[index].astype(np.float64)
            v = scale.astype(np.float64)
            for low, high in ((0, 2), (1, 3)):
                size = np.float64(box[high]) - np.float64(box[low])
                anchor_size = np.float64(anchor[high]) - np.float64(anchor[low])
                shift = 0.5 * g[low] / anchor_size / v[low]
                stretch = g[high] / size / v[high]
                grad[index][low] = shift - stretch
                grad[index][high] = shift + stretch
                magnitude[index][[low, high]] = abs(shift) + abs(stretch)
    return grad, magnitude


def _encode(box: Array, anchor: Array, scale: Array) -> Array | None:
    dtype = box.dtype
    largest = np.finfo(dtype).max
    half = dtype.type(0.5)
    row = np.zeros(4, dtype)
    for low, high in ((0, 2), (1, 3)):
        size = box[high] - box[low]
        anchor_size = anchor[high] - anchor[low]
        if not (0 < size <= largest and 0 < anchor_size <= largest):
            return None
        ratio = size / anchor_size
        if not 0 < ratio <= largest:
            return None
        centre = (box[low] + box[high]) * half
        anchor_centre = (anchor[low] + anchor[high]) * half
        row[low] = (centre - anchor_centre) / anchor_size / scale[low]
        row[high] = dtype.type(np.log(np.float64(ratio))) / scale[high]
    return row if np.isfinite(row).all() else None
