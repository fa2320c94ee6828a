# SPDX-License-Identifier: Apache-2.0
"""Boxes to offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ssdops.constants import VARIANCES
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import encode_boxes as reference


@remembers_eager_calls
def encode_boxes(
    boxes: Any,
    anchors: Any,
    *,
    variances: Sequence[float] = VARIANCES,
    implementation: str | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Offsets of boxes from anchors, the targets of the localization loss.

    With centres `c` and sizes `s` along y and x:
    `t = [(c - c_anchor) / s_anchor / v[:2], ln(s / s_anchor) / v[2:]]`.

    Args:
        boxes: floating tensor of shape `[..., A, 4]`, corners
            `(ymin, xmin, ymax, xmax)`.
        anchors: same dtype, shape `[A, 4]`, same layout and unit.
        variances: 4 positive numbers for `(ty, tx, th, tw)`.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        Tensor of the shape and dtype of `boxes`: `(ty, tx, th, tw)`, always finite.
        A pair that has no encoding gives four zeros: where the box or the anchor
        has a height or width that is not positive and finite (a NaN included), or
        where an offset would overflow the dtype.

    Raises:
        ValueError: if a static shape, a dtype or the variances do not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Differentiable in `boxes` (0 for pairs without an encoding), not in `anchors`.
    Deterministic.

    References:
        `EncodeBBox`, CENTER_SIZE, of the official Caffe code, which aborts where
        this gives zeros.
    """
    boxes, anchors = _validate.float_tensors(boxes=boxes, anchors=anchors)
    _validate.shape("boxes", boxes, "[..., A, 4]")
    _validate.shape("anchors", anchors, "[A, 4]")
    _validate.same_size("anchors", anchors, 0, "boxes", boxes, -2)
    values = _validate.variances(variances)
    native = native_module("encode_boxes", boxes.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_encode_boxes,
            (boxes, anchors),
            _tensor,
            variances=_validate.constant(values),
            name=name,
        )
    with tf.name_scope(name or "encode_boxes"):
        boxes, anchors = _validate.runtime_shapes(
            ("boxes", boxes, "[..., A, 4]"), ("anchors", anchors, "[A, 4]")
        )
        return reference(boxes, anchors, variances=values)


def _tensor(output: tf.Tensor) -> tf.Tensor:
    return output


@tf.RegisterGradient("Ssdops>EncodeBoxes")  # type: ignore[untyped-decorator]
def _encode_boxes_grad(
    op: Any, grad_offsets: tf.Tensor
) -> tuple[tf.Tensor | None, None, None]:
    boxes, anchors, variances = op.inputs
    native = native_module("encode_boxes", boxes.dtype, "native")
    assert native is not None
    grad = native.ssdops_encode_boxes_grad(
        grad_offsets=grad_offsets, boxes=boxes, anchors=anchors, variances=variances
    )
    return grad, None, None


tf.no_gradient("Ssdops>EncodeBoxesGrad")
