# SPDX-License-Identifier: Apache-2.0
"""Pairwise intersection over union."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.reference import box_iou as reference

tf.no_gradient("Ssdops>BoxIou")


def box_iou(
    boxes_a: Any,
    boxes_b: Any,
    *,
    implementation: str | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Intersection over union of every pair of boxes.

    Args:
        boxes_a: floating tensor of shape `[N, 4]` or `[B, N, 4]`, corners
            `(ymin, xmin, ymax, xmax)` in any unit.
        boxes_b: tensor of the same dtype, shape `[M, 4]` or `[B, M, 4]`. If only
            one of the two has a batch dimension, the other is used for every image.
        implementation: `"auto"`, `"native"` or `"reference"`; see
            `ssdops.implementation`.
        name: optional name for the op.

    Returns:
        Tensor of the same dtype and shape `[N, M]`, or `[B, N, M]` if an argument
        has a batch dimension, with values in [0, 1]. A box whose ymax is not above
        its ymin, or xmax not above its xmin, is empty (so is one with a NaN): its
        IoU is 0. So is the IoU of a pair whose intersection underflows to no area
        or overflows to infinity. TensorFlow's threads treat subnormal numbers as 0.

    Raises:
        ValueError: if a static shape or a dtype does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable: SSD matching is a discrete decision. Equal in every bit on
    every implementation, batch split and thread count.

    Example:
        >>> ssdops.box_iou([[0., 0., 1., 1.]], [[0., 0.5, 1., 1.]]).numpy()
        array([[0.5]], dtype=float32)
    """
    boxes_a, boxes_b = _validate.float_tensors(boxes_a=boxes_a, boxes_b=boxes_b)
    _validate.shape("boxes_a", boxes_a, "[N, 4]", "[B, N, 4]")
    _validate.shape("boxes_b", boxes_b, "[M, 4]", "[B, M, 4]")
    if boxes_a.shape.rank == 3 and boxes_b.shape.rank == 3:
        _validate.same_size("boxes_a", boxes_a, 0, "boxes_b", boxes_b, 0)
    native = native_module("box_iou", boxes_a.dtype, implementation)
    if native is not None:
        return native.ssdops_box_iou(boxes_a=boxes_a, boxes_b=boxes_b, name=name)
    with tf.name_scope(name or "box_iou"):
        boxes_a, boxes_b = _checked_at_run_time(boxes_a, boxes_b)
        return tf.stop_gradient(reference(boxes_a, boxes_b))


def _checked_at_run_time(
    boxes_a: tf.Tensor, boxes_b: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    boxes_a, boxes_b = _validate.runtime_shapes(
        ("boxes_a", boxes_a, "[..., N, 4]"), ("boxes_b", boxes_b, "[..., M, 4]")
    )
    if not (boxes_a.shape.is_fully_defined() and boxes_b.shape.is_fully_defined()):
        for name, boxes in (("boxes_a", boxes_a), ("boxes_b", boxes_b)):
            tf.debugging.assert_rank_in(boxes, (2, 3), message=f"rank of {name}")
        # Batch shapes have 0 or 1 elements; nothing compares equal to nothing.
        same = tf.equal(tf.shape(boxes_a)[:-2], tf.shape(boxes_b)[:-2])
        message = "boxes_b must have as many images along axis 0 as boxes_a"
        tf.debugging.Assert(
            tf.reduce_all(same), [message, tf.shape(boxes_a), tf.shape(boxes_b)]
        )
    return boxes_a, boxes_b
