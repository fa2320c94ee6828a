# SPDX-License-Identifier: Apache-2.0
"""Intersection over union and its kinds in plain TensorFlow."""

from __future__ import annotations

import math
from typing import Any, Final

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype


def is_valid(boxes: tf.Tensor) -> tf.Tensor:
    """Whether a box has a positive height and width (a NaN makes it false).

    Args:
        boxes: floating tensor of shape `[..., 4]`.

    Returns:
        bool tensor of shape `[...]`.
    """
    ymin, xmin, ymax, xmax = tf.unstack(boxes, num=4, axis=-1)
    return (ymax > ymin) & (xmax > xmin)


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Areas `[...]` of boxes `[..., 4]`; 0 for a box that is not valid."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes, num=4, axis=-1)
    return tf.where(is_valid(boxes), (ymax - ymin) * (xmax - xmin), 0)


def intersection(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Areas of the intersections of boxes with broadcasting shapes `[..., 4]`.

    Returns:
        Tensor `[...]`; 0 where the boxes do not meet, where one of them is not
        valid, and where the area is beyond the largest finite number.
    """
    a_ymin, a_xmin, a_ymax, a_xmax = tf.unstack(boxes_a, num=4, axis=-1)
    b_ymin, b_xmin, b_ymax, b_xmax = tf.unstack(boxes_b, num=4, axis=-1)
    height = tf.minimum(a_ymax, b_ymax) - tf.maximum(a_ymin, b_ymin)
    width = tf.minimum(a_xmax, b_xmax) - tf.maximum(a_xmin, b_xmin)
    product = height * width
    meets = is_valid(boxes_a) & is_valid(boxes_b) & (height > 0) & (width > 0)
    return tf.where(meets & (product <= product.dtype.max), product, 0)


def iou_broadcast(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """IoU `[...]` of boxes with broadcasting shapes `[..., 4]`.

    The operations and their order are those of `box_math.h`.
    """
    overlap = intersection(boxes_a, boxes_b)
    positive = overlap > 0
    union = area(boxes_a) + area(boxes_b) - overlap
    return tf.where(positive, overlap / tf.where(positive, union, 1), 0)


def box_iou(
    boxes_a: tf.Tensor,
    boxes_b: tf.Tensor,
    *,
    kind: str = "iou",
    aligned: bool = False,
) -> tf.Tensor:
    """See `ssdops.ops.box_iou`."""
    dtype = boxes_a.dtype
    boxes_a = tf.cast(boxes_a, compute_dtype(dtype))
    boxes_b = tf.cast(boxes_b, compute_dtype(dtype))
    if not aligned:
        boxes_a, boxes_b = boxes_a[..., :, None, :], boxes_b[..., None, :, :]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def value(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return _VALUES[kind](a, b), lambda grad: _gradients(kind, a, b, grad)

    return tf.cast(value(boxes_a, boxes_b), dtype)


def _gradients(
    kind: str, boxes_a: tf.Tensor, boxes_b: tf.Tensor, grad: tf.Tensor
) -> list[tf.Tensor]:
    """Gradients of boxes with broadcasting shapes `[..., 4]`.

    Automatic differentiation pair by pair; a derivative that is not finite is 0
    before it is added to those of other pairs.
    """
    with tf.GradientTape() as sums:
        sums.watch([boxes_a, boxes_b])
        shape = tf.broadcast_dynamic_shape(tf.shape(boxes_a), tf.shape(boxes_b))
        pairs = [tf.broadcast_to(boxes, shape) for boxes in (boxes_a, boxes_b)]
    with tf.GradientTape() as tape:
        tape.watch(pairs)
        value = _VALUES[kind](*pairs)
    derivatives = tape.gradient(value, pairs)
    finite = [tf.where(tf.math.is_finite(d), d, 0) for d in derivatives]
    by_pair = [grad[..., None] * d for d in finite]
    return list(sums.gradient(pairs, [boxes_a, boxes_b], output_gradients=by_pair))


def _union(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    return area(boxes_a) + area(boxes_b) - intersection(boxes_a, boxes_b)


def _is_placed(boxes: tf.Tensor) -> tf.Tensor:
    """Whether distances from a box can be measured: it is finite and not inverted."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes, num=4, axis=-1)
    height, width = ymax - ymin, xmax - xmin
    largest = boxes.dtype.max
    return (height >= 0) & (height <= largest) & (width >= 0) & (width <= largest)


def _enclosing(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of the smallest box around both."""
    a_ymin, a_xmin, a_ymax, a_xmax = tf.unstack(boxes_a, num=4, axis=-1)
    b_ymin, b_xmin, b_ymax, b_xmax = tf.unstack(boxes_b, num=4, axis=-1)
    height = tf.maximum(a_ymax, b_ymax) - tf.minimum(a_ymin, b_ymin)
    width = tf.maximum(a_xmax, b_xmax) - tf.minimum(a_xmin, b_xmin)
    return height, width


def giou_broadcast(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Generalized IoU; the operations and their order are those of `iou_kinds.h`."""
    height, width = _enclosing(boxes_a, boxes_b)
    enclosing, union = height * width, _union(boxes_a, boxes_b)
    measured = _is_placed(boxes_a) & _is_placed(boxes_b) & (enclosing > 0)
    measured &= (enclosing <= enclosing.dtype.max) & (union <= union.dtype.max)
    penalty = (enclosing - union) / tf.where(measured, enclosing, 1)
    return iou_broadcast(boxes_a, boxes_b) - tf.where(measured, penalty, 0)


def diou_broadcast(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Distance IoU; the operations and their order are those of `iou_kinds.h`."""
    a_ymin, a_xmin, a_ymax, a_xmax = tf.unstack(boxes_a, num=4, axis=-1)
    b_ymin, b_xmin, b_ymax, b_xmax = tf.unstack(boxes_b, num=4, axis=-1)
    dy = ((b_ymin - a_ymin) + (b_ymax - a_ymax)) * 0.5
    dx = ((b_xmin - a_xmin) + (b_xmax - a_xmax)) * 0.5
    height, width = _enclosing(boxes_a, boxes_b)
    diagonal = height * height + width * width
    distance = dy * dy + dx * dx
    measured = _is_placed(boxes_a) & _is_placed(boxes_b) & (diagonal > 0)
    measured &= (diagonal <= diagonal.dtype.max) & (distance <= distance.dtype.max)
    penalty = distance / tf.where(measured, diagonal, 1)
    return iou_broadcast(boxes_a, boxes_b) - tf.where(measured, penalty, 0)


def ciou_broadcast(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Complete IoU; equal to `iou_kinds.h` as far as the arctangents are."""
    shaped = _is_placed(boxes_a) & is_valid(boxes_a)
    shaped &= _is_placed(boxes_b) & is_valid(boxes_b)
    difference = _angle(boxes_a, shaped) - _angle(boxes_b, shaped)
    v = difference * difference * (4 / math.pi**2)
    divisor = 1 - iou_broadcast(boxes_a, boxes_b) + v
    positive = divisor > 0
    alpha = tf.where(positive, v / tf.where(positive, divisor, 1), 0)
    # The paper's code takes alpha as a constant.
    return diou_broadcast(boxes_a, boxes_b) - tf.stop_gradient(alpha) * v


def _angle(boxes: tf.Tensor, shaped: tf.Tensor) -> tf.Tensor:
    """`atan(width / height)` of the boxes that have a shape, else a constant."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes, num=4, axis=-1)
    return tf.atan(
        tf.where(shaped, (xmax - xmin) / tf.where(shaped, ymax - ymin, 1), 0)
    )


def ioa_broadcast(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Intersection over the area of the first box."""
    overlap = intersection(boxes_a, boxes_b)
    positive = overlap > 0
    return tf.where(positive, overlap / tf.where(positive, area(boxes_a), 1), 0)


_VALUES: Final = {
    "iou": iou_broadcast,
    "giou": giou_broadcast,
    "diou": diou_broadcast,
    "ciou": ciou_broadcast,
    "ioa": ioa_broadcast,
}
