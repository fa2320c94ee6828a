# SPDX-License-Identifier: Apache-2.0
"""Raw network outputs to detections in one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS, VARIANCES
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import detect as reference

tf.no_gradient("Ssdops>Detect")

SCORE_ACTIVATIONS = ("softmax", "sigmoid", "none")
CRITERIA = ("iou", "diou")


class DetectResult(NamedTuple):
    """Padded detections of a batch, best first.

    Attributes:
        boxes: `[B, D, 4]`, decoded corners; 0 in padding rows.
        scores: `[B, D]`; 0 in padding rows.
        classes: int32 `[B, D]`, ids as in the last axis of the logits; 0 in padding.
        num_detections: int32 `[B]`; rows before this one are detections.
        anchor_indices: int32 `[B, D]`; -1 in padding rows.
        class_probabilities: `[B, D, C]`, all scores of the detection's anchor, 0 in
            padding rows; `[B, D, 0]` unless asked for.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    num_detections: tf.Tensor
    anchor_indices: tf.Tensor
    class_probabilities: tf.Tensor


def _result(outputs: Any) -> DetectResult:
    return DetectResult(*outputs)


@remembers_eager_calls
def detect(
    logits: Any,
    offsets: Any,
    anchors: Any,
    *,
    score_activation: str = "softmax",
    variances: Sequence[float] = VARIANCES,
    clip: bool = False,
    score_threshold: float | Sequence[float] | tf.Tensor = 0.01,
    iou_threshold: float = 0.45,
    eta: float = 1.0,
    criterion: str = "iou",
    class_agnostic: bool = False,
    pre_nms_top_k: int | None = 400,
    max_detections: int = 200,
    background_class: int | None = BACKGROUND_CLASS,
    class_subset: Sequence[int] | None = None,
    return_class_probabilities: bool = False,
    implementation: str | None = None,
    name: str | None = None,
) -> DetectResult:
    """Detections of a batch from the outputs of the network.

    The same as an activation, `decode_boxes` and `batched_nms` in a row, but nothing
    is computed that cannot matter: most anchors are rejected by comparing logits, and
    only boxes that are looked at are decoded.

    Args:
        logits: floating tensor of shape `[B, A, C]`.
        offsets: same dtype, shape `[B, A, 4]`, `(ty, tx, th, tw)`.
        anchors: same dtype, shape `[A, 4]`, corners `(ymin, xmin, ymax, xmax)`.
        score_activation: `"softmax"` or `"sigmoid"` over the classes of an anchor, or
            `"none"` if the logits are scores already.
        variances: 4 positive numbers for `(ty, tx, th, tw)`.
        clip: limit the boxes to [0, 1] before suppression.
        score_threshold: a number, or one per class, exclusive; no NaN.
        iou_threshold: number in [0, 1]; a pair with exactly this overlap is kept.
        eta: number in (0, 1]; below 1 the threshold of a class is multiplied by it
            after each box kept there, while it is above 0.5.
        criterion: overlap that suppresses, `"iou"` or `"diou"` (IoU minus the squared
            distance of the centres over that of the enclosing corners).
        class_agnostic: suppress over all classes together; `pre_nms_top_k` then
            counts over all classes.
        pre_nms_top_k: candidates per class before suppression, at least 1; None
            means all.
        max_detections: rows `D` of the output, at least 1.
        background_class: class that is never detected; None if every class counts.
        class_subset: classes to detect; None means all.
        return_class_probabilities: also return all scores of each detection.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `DetectResult`, ordered by score, then lower class, then lower anchor. An
        anchor whose softmax is no number (a NaN or an infinite largest logit) has no
        candidates. Half types are computed in float32, and boxes are not rounded
        before suppression.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Deterministic; the result of an image does not depend on the
    rest of the batch or on the number of threads. Scores of the implementations
    differ by the rounding of exp and sum; `"none"` is equal in every bit up to the
    exp of decoding.

    References:
        `DetectionOutput` of the official Caffe code.
    """
    logits, offsets, anchors = _validate.float_tensors(
        logits=logits, offsets=offsets, anchors=anchors
    )
    _validate.shape("logits", logits, "[B, A, C]")
    _validate.shape("offsets", offsets, "[B, A, 4]")
    _validate.shape("anchors", anchors, "[A, 4]")
    _validate.same_size("logits", logits, 0, "offsets", offsets, 0)
    _validate.same_size("logits", logits, 1, "offsets", offsets, 1)
    _validate.same_size("logits", logits, 1, "anchors", anchors, 0)
    _validate.one_of("score_activation", score_activation, SCORE_ACTIVATIONS)
    _validate.one_of("criterion", criterion, CRITERIA)
    thresholds = _validate.score_thresholds(
        "score_threshold", score_threshold, logits.shape[-1]
    )
    iou_limit = _validate.fraction("iou_threshold", iou_threshold)
    if not 0.0 < eta <= 1.0:
        raise ValueError(f"eta must be in (0, 1], got {eta}")
    if pre_nms_top_k is not None:
        pre_nms_top_k = _validate.positive_int("pre_nms_top_k", pre_nms_top_k)
    max_detections = _validate.positive_int("max_detections", max_detections)
    background_class = _validate.class_id("background_class", background_class)
    subset = _validate.class_subset("class_subset", class_subset, logits.shape[-1])
    values = _validate.variances(variances)

    native = native_module("detect", logits.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_detect,
            (logits, offsets, anchors),
            _result,
            variances=_validate.constant(values),
            score_threshold=_validate.constant(thresholds),
            iou_threshold=_validate.constant(iou_limit),
            eta=_validate.constant(eta),
            score_activation=score_activation,
            criterion=criterion,
            clip=clip,
            class_agnostic=class_agnostic,
            pre_nms_top_k=-1 if pre_nms_top_k is None else pre_nms_top_k,
            max_detections=max_detections,
            background_class=-1 if background_class is None else background_class,
            class_subset=subset or (),
            return_class_probabilities=return_class_probabilities,
            name=name,
        )
    with tf.name_scope(name or "detect"):
        logits, offsets, anchors = _validate.runtime_shapes(
            ("logits", logits, "[B, A, C]"),
            ("offsets", offsets, "[B, A, 4]"),
            ("anchors", anchors, "[A, 4]"),
        )
        outputs = reference(
            *(tf.stop_gradient(tensor) for tensor in (logits, offsets, anchors)),
            score_activation=score_activation,
            variances=values,
            clip=clip,
            score_threshold=thresholds,
            iou_threshold=iou_limit,
            eta=eta,
            criterion=criterion,
            class_agnostic=class_agnostic,
            pre_nms_top_k=pre_nms_top_k,
            max_detections=max_detections,
            background_class=background_class,
            class_subset=subset,
            return_class_probabilities=return_class_probabilities,
        )
        return DetectResult(*outputs)
