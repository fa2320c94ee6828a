# SPDX-License-Identifier: Apache-2.0
"""Intersection over union and its kinds, pair by pair."""

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


def ioa(a: Array, b: Array) -> Any:
    """Intersection over the area of the first box `[4]`."""
    common = intersection(a, b)
    return common / area(a) if common > 0 else a.dtype.type(0)


def giou(a: Array, b: Array) -> Any:
    """Generalized IoU of two boxes `[4]`."""
    height, width = enclosing(a, b)
    whole, union = height * width, (area(a) + area(b)) - intersection(a, b)
    if not (is_placed(a) and is_placed(b) and whole > 0 and np.isfinite(whole)):
        return iou(a, b)
    return iou(a, b) - (whole - union) / whole if np.isfinite(union) else iou(a, b)


def diou(a: Array, b: Array) -> Any:
    """Distance IoU of two boxes `[4]`."""
    half = a.dtype.type(0.5)
    height, width = enclosing(a, b)
    dy = ((b[0] - a[0]) + (b[2] - a[2])) * half
    dx = ((b[1] - a[1]) + (b[3] - a[3])) * half
    diagonal, distance = height * height + width * width, dy * dy + dx * dx
    if not (is_placed(a) and is_placed(b) and diagonal > 0):
        return iou(a, b)
    if not (np.isfinite(diagonal) and np.isfinite(distance)):
        return iou(a, b)
    return iou(a, b) - distance / diagonal


def ciou(a: Array, b: Array) -> Any:
    """Complete IoU of two boxes `[4]`; the arctangents are rounded once."""
    for box in (a, b):
        if not (is_placed(box) and is_valid(box)):
            return diou(a, b)
    one, scale = a.dtype.type(1), a.dtype.type(4 / np.pi**2)
    difference = angle(a) - angle(b)
    v = difference * difference * scale
    divisor = one - iou(a, b) + v
    return diou(a, b) - v / divisor * v if divisor > 0 else diou(a, b)


def is_placed(box: Array) -> bool:
    """Whether a box `[4]` is finite and not inverted."""
    sizes = box[2:] - box[:2]
    return bool((sizes >= 0).all() and np.isfinite(sizes).all())


def enclosing(a: Array, b: Array) -> tuple[Any, Any]:
    """Height and width of the smallest box around both."""
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def angle(box: Array) -> Any:
    """`atan(width / height)` of a box `[4]` that is not empty."""
    aspect = (box[3] - box[1]) / (box[2] - box[0])
    return box.dtype.type(np.arctan(np.float64(aspect)))


KINDS = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou, "ioa": ioa}


def box_iou(boxes_a: Array, boxes_b: Array, *, kind: str = "iou") -> Array:
    """IoU, or another kind of it, of every pair.

    Args:
        boxes_a: `[N, 4]` or `[B, N, 4]`, float32 or float64.
        boxes_b: `[M, 4]` or `[B, M, 4]`, same dtype.
        kind: key of `KINDS`.

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
            result[i] = box_iou(a, b, kind=kind)
        return result
    result = np.zeros((len(boxes_a), len(boxes_b)), boxes_a.dtype)
    with np.errstate(all="ignore"):
        for i, a in enumerate(boxes_a):
            for j, b in enumerate(boxes_b):
                result[i, j] = KINDS[kind](a, b)
    return result


def box_iou_aligned(boxes_a: Array, boxes_b: Array, *, kind: str = "iou") -> Array:
    """The same of pairs: two arrays `[..., N, 4]` give `[..., N]`."""
    result = np.zeros(boxes_a.shape[:-1], boxes_a.dtype)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*result.shape):
            result[index] = KINDS[kind](boxes_a[index], boxes_b[index])
    return result


def derivative(
    a: Array, b: Array, *, kind: str, step: float = 1e-6
) -> tuple[Array, Array]:
    """Derivatives `[4]` of one value by central differences, alpha held fixed.

    Args:
        a: box `[4]`, float64.
        b: box `[4]`, float64, no coordinate within `step` of that of `a`.
        kind: key of `KINDS`.
        step: of the difference.
    """
    alpha = 0.0
    if kind == "ciou":
        v = (angle(a) - angle(b)) ** 2 * (4 / np.pi**2)
        alpha = v / (1 - iou(a, b) + v)

    def value(corners: Array) -> Any:
        p, q = corners[:4], corners[4:]
        if kind != "ciou":
            return KINDS[kind](p, q)
        v = (angle(p) - angle(q)) ** 2 * (4 / np.pi**2)
        return diou(p, q) - alpha * v

    both = np.concatenate([a, b])
    slopes = np.zeros(8)
    for k in range(8):
        move = np.zeros(8)
        move[k] = step
        slopes[k] = (value(both + move) - value(both - move)) / (2 * step)
    return slopes[:4], slopes[4:]
