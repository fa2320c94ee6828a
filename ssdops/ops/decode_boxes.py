# SPDX-License-Identifier: Apache-2.0
"""Offsets to boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ssdops.constants import VARIANCES
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import decode_boxes as reference


@remembers_eager_calls
def decode_boxes(
    offsets: Any,
    anchors: Any,
    *,
    variances: Sequence[float] = VARIANCES,
    implementation: str | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Boxes that the offsets predicted at the anchors stand for.

    With centres `c` and sizes `s` along y and x:
    `c = t[:2] * v[:2] * s_anchor + c_anchor`, `s = exp(t[2:] * v[2:]) * s_anchor`,
    corners `c - s / 2` and `c + s / 2`. Nothing is clipped to the image.

    Args:
        offsets: floating tensor of shape `[..., A, 4]`: `(ty, tx, th, tw)`.
        anchors: same dtype, shape `[A, 4]`, corners `(ymin, xmin, ymax, xmax)` whose
            sums and differences are finite.
        variances: 4 positive numbers for `(ty, tx, th, tw)`.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        Tensor of the shape and dtype of `offsets`: corners in the unit of the
        anchors. What overflows is limited to the largest finite number of the
        dtype, so finite offsets give finite boxes, also for empty and inverted
        anchors; a NaN goes through.

    Raises:
        ValueError: if a static shape, a dtype or the variances do not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Differentiable in `offsets` (0 where a value was limited), not in `anchors`.
    Deterministic.

    References:
        `DecodeBBox`, CENTER_SIZE, of the official Caffe code, which gives infinities
        where this limits.
    """
    offsets, anchors = _validate.float_tensors(offsets=offsets, anchors=anchors)
    _validate.shape("offsets", offsets, "[..., A, 4]")
    _validate.shape("anchors", anchors, "[A, 4]")
    _validate.same_size("anchors", anchors, 0, "offsets", offsets, -2)
    values = _validate.variances(variances)
    native = native_module("decode_boxes", offsets.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_decode_boxes,
            (offsets, anchors),
            _tensor,
            variances=_validate.constant(values),
            name=name,
        )
    with tf.name_scope(name or "decode_boxes"):
        offsets, anchors = _validate.runtime_shapes(
            ("offsets", offsets, "[..., A, 4]"), ("anchors", anchors, "[A, 4]")
        )
        return reference(offsets, anchors, variances=values)


def _tensor(output: tf.Tensor) -> tf.Tensor:
    return output


@tf.RegisterGradient("Ssdops>DecodeBoxes")  # type: ignore[untyped-decorator]
def _decode_boxes_grad(
    op: Any, grad_boxes: tf.Tensor
) -> tuple[tf.Tensor | None, None, None]:
    offsets, anchors, variances = op.inputs
    native = native_module("decode_boxes", offsets.dtype, "native")
    assert native is not None
    grad = native.ssdops_decode_boxes_grad(
        grad_boxes=grad_boxes, offsets=offsets, anchors=anchors, variances=variances
    )
    return grad, None, None


tf.no_gradient("Ssdops>DecodeBoxesGrad")
