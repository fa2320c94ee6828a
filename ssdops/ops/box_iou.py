# SPDX-License-Identifier: Apache-2.0
"""Intersection over union and its kinds."""

from __future__ import annotations

from typing import Any, Final

import tensorflow as tf

from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import box_iou as reference

KINDS: Final = ("iou", "giou", "diou", "ciou", "ioa")


@remembers_eager_calls
def box_iou(
    boxes_a: Any,
    boxes_b: Any,
    *,
    kind: str = "iou",
    aligned: bool = False,
    implementation: str | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Intersection over union of every pair of boxes, or of aligned pairs.

    Args:
        boxes_a: floating tensor of shape `[N, 4]` or `[B, N, 4]`, corners
            `(ymin, xmin, ymax, xmax)` in any unit.
        boxes_b: tensor of the same dtype, shape `[M, 4]` or `[B, M, 4]`. If only
            one of the two has a batch dimension, the other is used for every image.
        kind: what to compute, with `E` the smallest box around both:

            * `"iou"`: intersection / union, in [0, 1];
            * `"giou"`: `iou - (area(E) - union) / area(E)`, in [-1, 1];
            * `"diou"`: `iou - |distance of centres|^2 / |diagonal of E|^2`, in
              [-1, 1];
            * `"ciou"`: `diou - alpha * v`, `v = 4 / pi^2 * (atan(w_a / h_a) -
              atan(w_b / h_b))^2`, `alpha = v / (1 - iou + v)`, in [-1.5, 1];
            * `"ioa"`: intersection / area of the box of `boxes_a`, in [0, 1].
        aligned: whether box `i` of `boxes_a` meets box `i` of `boxes_b` only. Both
            then have the same shape `[..., N, 4]`.
        implementation: `"auto"`, `"native"` or `"reference"`; see
            `ssdops.implementation`.
        name: optional name for the op.

    Returns:
        Tensor of the same dtype and shape `[N, M]`, or `[B, N, M]` if an argument
        has a batch dimension; `[..., N]` if `aligned`. Finite for every input:

        * A box whose ymax is not above its ymin, or xmax not above its xmin, is
          empty (so is one with a NaN): its IoU and IoA are 0. So are those of a pair
          whose intersection underflows to no area or overflows to infinity.
        * What the other kinds subtract from the IoU is 0 where it cannot be
          measured: if a box is inverted, has a NaN or an infinity, if `E` has no
          area (no diagonal), or if a term overflows. A box that is a point or a line
          can be measured. `v` is 0 if a box is empty.

        TensorFlow's threads treat subnormal numbers as 0.

    Raises:
        ValueError: if a static shape, a dtype or the kind does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Differentiable once in both arguments, `alpha` taken as a constant. Where a
    coordinate is equal in both boxes, the minimum and the maximum follow `boxes_a`;
    boxes that touch do not meet; what is 0 by the rules above has no gradient, and a
    derivative that overflows is 0. Gradients of half types are summed in float32.

    Equal in every bit on every implementation, batch split and thread count, but for
    the arctangents of `"ciou"`, for sums of products where XLA compiles the reference
    of `"diou"` and `"ciou"`, and, between the implementations, for the gradients.

    References:
        Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; Zheng et
        al., "Distance-IoU Loss", AAAI 2020.

    Example:
        >>> ssdops.box_iou([[0., 0., 1., 1.]], [[0., 0.5, 1., 1.]]).numpy()
        array([[0.5]], dtype=float32)
    """
    boxes_a, boxes_b = _validate.float_tensors(boxes_a=boxes_a, boxes_b=boxes_b)
    _validate.one_of("kind", kind, KINDS)
    if aligned:
        _validate.shape("boxes_a", boxes_a, "[..., N, 4]")
        _validate.shape("boxes_b", boxes_b, "[..., N, 4]")
        if not boxes_a.shape.is_compatible_with(boxes_b.shape):
            raise ValueError(
                f"boxes_b must have the shape of boxes_a, {boxes_a.shape}, got"
                f" {boxes_b.shape}"
            )
    else:
        _validate.shape("boxes_a", boxes_a, "[N, 4]", "[B, N, 4]")
        _validate.shape("boxes_b", boxes_b, "[M, 4]", "[B, M, 4]")
        if boxes_a.shape.rank == 3 and boxes_b.shape.rank == 3:
            _validate.same_size("boxes_a", boxes_a, 0, "boxes_b", boxes_b, 0)
    native = native_module("box_iou", boxes_a.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_box_iou,
            (boxes_a, boxes_b),
            _tensor,
            kind=kind,
            aligned=aligned,
            name=name,
        )
    with tf.name_scope(name or "box_iou"):
        check = _checked_alignment if aligned else _checked_at_run_time
        boxes_a, boxes_b = check(boxes_a, boxes_b)
        return reference(boxes_a, boxes_b, kind=kind, aligned=aligned)


@tf.RegisterGradient("Ssdops>BoxIou")  # type: ignore[untyped-decorator]
def _box_iou_grad(op: Any, grad_iou: tf.Tensor) -> Any:
    boxes_a, boxes_b = op.inputs
    native = native_module("box_iou", boxes_a.dtype, "native")
    assert native is not None
    return native.ssdops_box_iou_grad(
        grad_iou=grad_iou,
        boxes_a=boxes_a,
        boxes_b=boxes_b,
        kind=op.get_attr("kind"),
        aligned=op.get_attr("aligned"),
    )


tf.no_gradient("Ssdops>BoxIouGrad")


def _tensor(iou: tf.Tensor) -> tf.Tensor:
    return iou


def _checked_alignment(
    boxes_a: tf.Tensor, boxes_b: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    if boxes_a.shape.is_fully_defined() and boxes_b.shape.is_fully_defined():
        return boxes_a, boxes_b
    checks = [
        tf.debugging.assert_rank_at_least(boxes_a, 2, message="rank of boxes_a"),
        tf.debugging.assert_equal(tf.shape(boxes_a)[-1], 4, message="size of a box"),
        tf.debugging.assert_equal(
            tf.shape(boxes_a), tf.shape(boxes_b), message="shapes of boxes_a, boxes_b"
        ),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(boxes_a), tf.identity(boxes_b)


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
