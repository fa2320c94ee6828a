# SPDX-License-Identifier: Apache-2.0
"""The loss of SSD: localization and confidence, with hard negative mining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import tensorflow as tf

from ssdops.constants import VARIANCES
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import multibox_loss as reference

CONFIDENCE_LOSSES: Final = ("softmax", "sigmoid", "sigmoid_focal")
LOCALIZATION_LOSSES: Final = ("smooth_l1", "l2", "giou", "diou", "ciou")


class MultiboxLoss(NamedTuple):
    """Scalars, float32 (float64 for float64 input).

    Attributes:
        total: localization times its weight plus confidence.
        localization: over the positives, divided by the normalizer.
        confidence: over positives and mined negatives, divided by the same.
        num_positives: number of positives in the batch; not differentiable.
    """

    total: tf.Tensor
    localization: tf.Tensor
    confidence: tf.Tensor
    num_positives: tf.Tensor


def _losses(outputs: Any) -> MultiboxLoss:
    return MultiboxLoss(*outputs[:4])


@remembers_eager_calls
def multibox_loss(
    logits: Any,
    offsets: Any,
    target_classes: Any,
    target_offsets: Any,
    *,
    anchors: Any = None,
    variances: Sequence[float] = VARIANCES,
    negative_ratio: float = 3.0,
    localization_weight: float = 1.0,
    confidence_loss: str = "softmax",
    localization_loss: str = "smooth_l1",
    normalizer: Any = None,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    implementation: str | None = None,
    name: str | None = None,
) -> MultiboxLoss:
    """Localization and confidence loss of a batch.

    In each image the hardest negatives, `negative_ratio` times as many as positives,
    join the positives in the confidence loss (see `mine_hard_negatives`); an image
    without positives contributes nothing.

    Args:
        logits: floating tensor of shape `[B, A, C]`, predicted; class 0 is the
            background.
        offsets: same dtype, shape `[B, A, 4]`, predicted `(ty, tx, th, tw)`.
        target_classes: int32 tensor of shape `[B, A]`, as from `assign_targets`: above
            0 the class of a positive, below `C`; 0 a candidate negative; below 0
            ignored.
        target_offsets: dtype and shape of `offsets`; only rows of positives matter.
        anchors: same dtype, shape `[A, 4]`, corners; for the losses on boxes.
        variances: 4 positive numbers for `(ty, tx, th, tw)`; for the losses on boxes.
        negative_ratio: mined negatives per positive, finite and at least 0; the
            product is rounded down.
        localization_weight: finite factor of the localization part in the total.
        confidence_loss: `"softmax"`; `"sigmoid"`, one cross-entropy per class, that of
            the background included; or `"sigmoid_focal"`, over the classes from 1 of
            all anchors that are not ignored, without mining.
        localization_loss: `"smooth_l1"` (quadratic below 1) or `"l2"` of the offsets,
            or 1 less the `"giou"`, `"diou"` or `"ciou"` (see `box_iou`) of the boxes
            that they decode to.
        normalizer: None for the number of positives in this batch, or a scalar, such
            as that number over all replicas; at least 1 is used.
        focal_alpha: weight of the target class in the focal loss, in [0, 1]; other
            classes have 1 less it.
        focal_gamma: exponent of the focal loss, finite and at least 0.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `MultiboxLoss(total, localization, confidence, num_positives)`; half types are
        computed in float32. Finite for finite input, however large the logits. Without
        a positive and without a `normalizer` the losses and their gradients are 0.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not, or
            a target class is no class.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Differentiable in `logits` and `offsets`; the choice of the negatives and the
    normalizer are not part of the gradient. The native gradients are analytic. They do
    not depend on the number of threads; implementations differ by rounding.

    Example:
        >>> targets = ssdops.assign_targets(anchors, gt_boxes, gt_labels)
        >>> with tf.GradientTape() as tape:
        ...     outputs = network(images)
        ...     loss = ssdops.multibox_loss(
        ...         outputs["logits"],
        ...         outputs["offsets"],
        ...         targets.classes,
        ...         targets.offsets,
        ...     )
        >>> gradients = tape.gradient(loss.total, network.trainable_variables)

    References:
        `multibox_loss_layer.cpp` of the official Caffe code (VALID normalization,
        MAX_NEGATIVE mining); Lin et al., Focal Loss, ICCV 2017.
    """
    given = {} if anchors is None else {"anchors": anchors}
    logits, offsets, target_offsets, *rest = _validate.float_tensors(
        logits=logits, offsets=offsets, target_offsets=target_offsets, **given
    )
    target_classes = _validate.int32_tensor("target_classes", target_classes)
    _validate.shape("logits", logits, "[B, A, C]")
    _validate.shape("offsets", offsets, "[B, A, 4]")
    _validate.shape("target_classes", target_classes, "[B, A]")
    _validate.shape("target_offsets", target_offsets, "[B, A, 4]")
    for axis in (0, 1):
        for label, tensor in (
            ("offsets", offsets),
            ("target_classes", target_classes),
            ("target_offsets", target_offsets),
        ):
            _validate.same_size("logits", logits, axis, label, tensor, axis)
    _validate.one_of("confidence_loss", confidence_loss, CONFIDENCE_LOSSES)
    _validate.one_of("localization_loss", localization_loss, LOCALIZATION_LOSSES)
    if rest:
        _validate.shape("anchors", rest[0], "[A, 4]")
        _validate.same_size("logits", logits, 1, "anchors", rest[0], 0)
    elif localization_loss not in ("smooth_l1", "l2"):
        raise ValueError(
            f"anchors must be given for localization_loss {localization_loss!r}"
        )
    ratio = _validate.finite_not_negative("negative_ratio", negative_ratio)
    weight = _validate.finite("localization_weight", localization_weight)
    alpha = _validate.fraction("focal_alpha", focal_alpha)
    gamma = _validate.finite_not_negative("focal_gamma", focal_gamma)
    values = _validate.variances(variances)
    if normalizer is not None:
        normalizer = tf.cast(normalizer, tf.float64)
        _validate.shape("normalizer", normalizer, "[]")

    native = native_module("multibox_loss", logits.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_multibox_loss,
            (logits, offsets, target_classes, target_offsets),
            _losses,
            anchors=rest[0] if rest else _validate.no_boxes(logits.dtype),
            variances=_validate.constant(values),
            negative_ratio=_validate.constant(ratio),
            localization_weight=_validate.constant(weight),
            normalizer=_validate.constant(0.0) if normalizer is None else normalizer,
            focal_alpha=_validate.constant(alpha),
            focal_gamma=_validate.constant(gamma),
            confidence_loss=confidence_loss,
            localization_loss=localization_loss,
            has_normalizer=normalizer is not None,
            Tcompute=tf.float64 if logits.dtype == tf.float64 else tf.float32,
            name=name,
        )
    with tf.name_scope(name or "multibox_loss"):
        logits, offsets, target_classes, target_offsets = _validate.runtime_shapes(
            ("logits", logits, "[B, A, C]"),
            ("offsets", offsets, "[B, A, 4]"),
            ("target_classes", target_classes, "[B, A]"),
            ("target_offsets", target_offsets, "[B, A, 4]"),
        )
        return _losses(
            reference(
                logits,
                offsets,
                target_classes,
                target_offsets,
                anchors=rest[0] if rest else None,
                variances=values,
                negative_ratio=ratio,
                localization_weight=weight,
                confidence_loss=confidence_loss,
                localization_loss=localization_loss,
                normalizer=normalizer,
                focal_alpha=alpha,
                focal_gamma=gamma,
            )
        )


@tf.RegisterGradient("Ssdops>MultiboxLoss")  # type: ignore[untyped-decorator]
def _multibox_loss_grad(op: Any, *grads: Any) -> list[tf.Tensor | None]:
    """Gradients of the inputs, given those of total, localization, confidence."""
    native = native_module("multibox_loss", op.inputs[0].dtype, "native")
    assert native is not None
    _, _, _, num_positives, mined = op.outputs
    grad_logits, grad_offsets = native.ssdops_multibox_loss_grad(
        *op.inputs,
        grad_losses=tf.stack(grads[:3]),
        num_positives=num_positives,
        mined=mined,
        confidence_loss=op.get_attr("confidence_loss"),
        localization_loss=op.get_attr("localization_loss"),
        has_normalizer=op.get_attr("has_normalizer"),
    )
    return [grad_logits, grad_offsets, *[None] * (len(op.inputs) - 2)]


tf.no_gradient("Ssdops>MultiboxLossGrad")
