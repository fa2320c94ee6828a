# SPDX-License-Identifier: Apache-2.0
"""The negatives that are worth learning from."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import mine_hard_negatives as reference

tf.no_gradient("Ssdops>MineHardNegatives")


def _mined(output: Any) -> tf.Tensor:
    return output


@remembers_eager_calls
def mine_hard_negatives(
    losses: Any,
    target_classes: Any,
    *,
    negative_ratio: float = 3.0,
    implementation: str | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """The negatives of each image with the largest losses.

    An image with `p` positives and `n` candidates gets
    `min(trunc(p * negative_ratio), n)` of them, so one without positives gets none.

    Args:
        losses: floating tensor of shape `[B, A]`, for example the confidence loss of
            every anchor; that of an anchor that is no candidate has no influence.
        target_classes: int32 tensor of shape `[B, A]`: above 0 positive, 0 candidate
            negative, below 0 ignored.
        negative_ratio: mined negatives per positive, finite and at least 0.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        bool tensor of shape `[B, A]`, True for the mined anchors. Of equal losses the
        lowest anchor is mined first. A NaN is larger than infinity: it is never left
        out while a number is taken.

    Raises:
        ValueError: if a static shape, a dtype or the ratio does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Equal on every implementation, batch split and thread count.
    TensorFlow's threads treat subnormal numbers as 0.

    References:
        `MineHardExamples`, MAX_NEGATIVE, of the official Caffe code.
    """
    (losses,) = _validate.float_tensors(losses=losses)
    target_classes = _validate.int32_tensor("target_classes", target_classes)
    _validate.shape("losses", losses, "[B, A]")
    _validate.shape("target_classes", target_classes, "[B, A]")
    for axis in (0, 1):
        _validate.same_size(
            "losses", losses, axis, "target_classes", target_classes, axis
        )
    ratio = _validate.finite_not_negative("negative_ratio", negative_ratio)
    native = native_module("mine_hard_negatives", losses.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_mine_hard_negatives,
            (losses, target_classes),
            _mined,
            negative_ratio=_validate.constant(ratio),
            name=name,
        )
    with tf.name_scope(name or "mine_hard_negatives"):
        losses, target_classes = _validate.runtime_shapes(
            ("losses", losses, "[B, A]"), ("target_classes", target_classes, "[B, A]")
        )
        return reference(tf.stop_gradient(losses), target_classes, negative_ratio=ratio)
