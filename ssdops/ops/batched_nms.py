# SPDX-License-Identifier: Apache-2.0
"""Per-class non-maximum suppression of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import batched_nms as reference

tf.no_gradient("Ssdops>BatchedNms")


class Detections(NamedTuple):
    """Padded detections of a batch, best first.

    Attributes:
        boxes: `[B, D, 4]`, dtype and unit of the boxes given; 0 in padding rows.
        scores: `[B, D]`; 0 in padding rows.
        classes: int32 `[B, D]`, ids as in the scores' last axis; 0 in padding rows.
        num_detections: int32 `[B]`; rows before this one are detections.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    num_detections: tf.Tensor


class DetectionsWithAnchors(NamedTuple):
    """`Detections` with the anchor that each one comes from.

    Attributes:
        boxes: as in `Detections`.
        scores: as in `Detections`.
        classes: as in `Detections`.
        num_detections: as in `Detections`.
        anchor_indices: int32 `[B, D]`; -1 in padding rows.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    num_detections: tf.Tensor
    anchor_indices: tf.Tensor


@overload
def batched_nms(
    boxes: Any,
    scores: Any,
    *,
    score_threshold: float = ...,
    iou_threshold: float = ...,
    pre_nms_top_k: int | None = ...,
    max_detections: int = ...,
    background_class: int | None = ...,
    return_anchor_indices: Literal[False] = ...,
    implementation: str | None = ...,
    name: str | None = ...,
) -> Detections: ...


@overload
def batched_nms(
    boxes: Any,
    scores: Any,
    *,
    score_threshold: float = ...,
    iou_threshold: float = ...,
    pre_nms_top_k: int | None = ...,
    max_detections: int = ...,
    background_class: int | None = ...,
    return_anchor_indices: Literal[True],
    implementation: str | None = ...,
    name: str | None = ...,
) -> DetectionsWithAnchors: ...


@remembers_eager_calls
def batched_nms(
    boxes: Any,
    scores: Any,
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    pre_nms_top_k: int | None = 400,
    max_detections: int = 200,
    background_class: int | None = BACKGROUND_CLASS,
    return_anchor_indices: bool = False,
    implementation: str | None = None,
    name: str | None = None,
) -> Detections | DetectionsWithAnchors:
    """Detections left after greedy suppression within each class of each image.

    Candidates of a class are the anchors with a score strictly above
    `score_threshold`; the `pre_nms_top_k` best of them are visited from the best
    on, and one is kept if its IoU with every kept one is at most `iou_threshold`.
    The `max_detections` best kept ones over all classes are returned.

    Args:
        boxes: floating tensor of shape `[B, A, 4]`, decoded corners
            `(ymin, xmin, ymax, xmax)`, shared by all classes.
        scores: same dtype, shape `[B, A, C]`, class scores (higher is better).
        score_threshold: any number but NaN, exclusive.
        iou_threshold: number in [0, 1]; a pair with exactly this IoU is kept.
        pre_nms_top_k: candidates per class before suppression, at least 1; None
            means all.
        max_detections: rows `D` of the output, at least 1.
        background_class: class that is never detected; None if every class counts.
        return_anchor_indices: also return where each detection comes from.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `Detections(boxes, scores, classes, num_detections)`, or
        `DetectionsWithAnchors` with `anchor_indices` as well, ordered by score, then
        lower class, then lower anchor; ties before suppression are broken the same
        way. One anchor can be detected in several classes. A NaN score is no
        candidate; empty boxes (see `box_iou`) neither suppress nor are suppressed.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Equal in every bit on every implementation; the result of an
    image does not depend on the rest of the batch.

    References:
        `DetectionOutput` of the official Caffe code with eta 1; its unstable sorts
        are replaced by the order above.
    """
    boxes, scores = _validate.float_tensors(boxes=boxes, scores=scores)
    _validate.shape("boxes", boxes, "[B, A, 4]")
    _validate.shape("scores", scores, "[B, A, C]")
    _validate.same_size("boxes", boxes, 0, "scores", scores, 0)
    _validate.same_size("boxes", boxes, 1, "scores", scores, 1)
    score_limit = _validate.not_nan("score_threshold", score_threshold)
    iou_limit = _validate.fraction("iou_threshold", iou_threshold)
    if pre_nms_top_k is not None:
        pre_nms_top_k = _validate.positive_int("pre_nms_top_k", pre_nms_top_k)
    max_detections = _validate.positive_int("max_detections", max_detections)
    background_class = _validate.class_id("background_class", background_class)

    result: Callable[[Any], Detections | DetectionsWithAnchors]
    result = _with_anchors if return_anchor_indices else _without_anchors
    outputs: Any
    native = native_module("batched_nms", boxes.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_batched_nms,
            {"boxes": boxes, "scores": scores},
            result,
            score_threshold=_validate.constant(score_limit),
            iou_threshold=_validate.constant(iou_limit),
            pre_nms_top_k=-1 if pre_nms_top_k is None else pre_nms_top_k,
            max_detections=max_detections,
            background_class=-1 if background_class is None else background_class,
            name=name,
        )
    with tf.name_scope(name or "batched_nms"):
        boxes, scores = _validate.runtime_shapes(
            ("boxes", boxes, "[B, A, 4]"), ("scores", scores, "[B, A, C]")
        )
        outputs = reference(
            tf.stop_gradient(boxes),
            tf.stop_gradient(scores),
            score_threshold=score_limit,
            iou_threshold=iou_limit,
            pre_nms_top_k=pre_nms_top_k,
            max_detections=max_detections,
            background_class=background_class,
        )
    return result(outputs)


def _with_anchors(outputs: Any) -> DetectionsWithAnchors:
    return DetectionsWithAnchors(*outputs)


def _without_anchors(outputs: Any) -> Detections:
    return Detections(*outputs[:4])
