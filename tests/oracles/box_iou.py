# SPDX-License-Identifier: Apache-2.0
"""Intersection over union, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def is_valid(box: Array) -> bool:
    """Whether a box `[4]` has a positive height and width (False with a NaN)."""
    ymin, xmin, ymax, xmax = box
    return bool(ymax > ymin and xmax > xmin)


def area(box: Array) -> Any:
    """Area of a box `[4]`; 0 if it is not valid."""
    if not is_valid(box):
        return box.dtype.type(0)
    ymin, xmin, ymax, xmax = box
    return (ymax - ymin) * (xmax - xmin)


def intersection(a: Array, b: Array) -> Any:
    """Area common to two boxes `[4]`; 0 where it is not positive and finite."""
    zero = a.dtype.type(0)
    if not is_valid(a) or not is_valid(b):
        return zero
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if not (height > 0 and width > 0):
        return zero
    common = height * width
    return common if common <= np.finfo(a.dtype).max else zero


def iou(a: Array, b: Array) -> Any:
    """Intersection over union of two boxes `[4]`."""
    common = intersection(a, b)
    if not common > 0:
        return a.dtype.type(0)
    return common / ((area(a) + area(b)) - common)


def box_iou(boxes_a: Array, boxes_b: Array) -> Array:
    """IoU of every pair.

    Args:
        boxes_a: `[N, 4]` or `[B, N, 4]`, float32 or float64.
        boxes_b: `[M, 4]` or `[B, M, 4]`, same dtype.

    Returns:
        `[N, M]`, or `[B, N, M]` if an argument has a batch dimension.
    """
    if boxes_a.ndim == 3 or boxes_b.ndim == 3:
        batch = len(boxes_a) if boxes_a.ndim == 3 else len(boxes_b)
        shape = (batch, boxes_a.shape[-2], boxes_b.shape[-2])
        result = np.zeros(shape, boxes_a.dtype)
        for i in range(batch):
            a = boxes_a[i] if boxes_a.ndim == 3 else boxes_a
            b = boxes_b[i] if boxes_b.ndim == 3 else boxes_b
            result[i] = box_iou(a, b)
        return result
    result = np.zeros((len(boxes_a), len(boxes_b)), boxes_a.dtype)
    with np.errstate(all="ignore"):
        for i, a in enumerate(boxes_a):
            for j, b in enumerate(boxes_b):
                result[i, j] = iou(a, b)
    return result
