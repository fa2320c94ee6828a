# SPDX-License-Identifier: Apache-2.0
"""Pairwise intersection over union in plain TensorFlow."""

from __future__ import annotations

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


def box_iou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """See `ssdops.ops.box_iou`."""
    dtype = boxes_a.dtype
    boxes_a = tf.cast(boxes_a, compute_dtype(dtype))[..., :, None, :]
    boxes_b = tf.cast(boxes_b, compute_dtype(dtype))[..., None, :, :]
    return tf.cast(iou_broadcast(boxes_a, boxes_b), dtype)
