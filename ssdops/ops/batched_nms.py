# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of a batch."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, overload

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import batched_nms as reference

tf.no_gradient("Ssdops>BatchedNms")

METHODS: Final = (
    "greedy",
    "weighted",
    "soft_linear",
    "soft_gaussian",
    "matrix_linear",
    "matrix_gaussian",
)
CRITERIA: Final = ("iou", "diou")
SIGMA_RANGE: Final = (1e-6, 1e6)


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
    method: str = ...,
    criterion: str = ...,
    sigma: float = ...,
    class_agnostic: bool = ...,
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
    method: str = ...,
    criterion: str = ...,
    sigma: float = ...,
    class_agnostic: bool = ...,
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
    method: str = "greedy",
    criterion: str = "iou",
    sigma: float = 0.5,
    class_agnostic: bool = False,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    pre_nms_top_k: int | None = 400,
    max_detections: int = 200,
    background_class: int | None = BACKGROUND_CLASS,
    return_anchor_indices: bool = False,
    implementation: str | None = None,
    name: str | None = None,
) -> Detections | DetectionsWithAnchors:
    """Detections left after non-maximum suppression in each image.

    Candidates are the anchors with a score of a class strictly above
    `score_threshold`. Those of a class compete with each other, or with
    `class_agnostic` those of all classes; the `pre_nms_top_k` best take part. The
    `max_detections` best of what is kept over all classes are returned.

    The overlap `u` of two boxes is their IoU (see `box_iou`), or with the criterion
    `"diou"` their IoU less `d^2 / c^2`, with `d` the distance of the centres and `c`
    the diagonal of the smallest box around both. The methods:

    * `"greedy"`: a candidate is kept if its `u` with every better one kept is at most
      `iou_threshold`.
    * `"weighted"`: the same candidates are kept. Every other one with a positive
      score votes for the best kept one with a larger `u`, if it is of its class; the
      box of a kept one is the mean of its own and those that vote for it, weighted
      by score. The scores stay.
    * `"soft_linear"`, `"soft_gaussian"`: again and again the best candidate is taken,
      with the score that it has then, and the scores of the others are multiplied by
      `1 - u` where `u > iou_threshold`, or by `exp(-u^2 / sigma)`; those no longer
      above `score_threshold` are dropped.
    * `"matrix_linear"`, `"matrix_gaussian"`: the score of every candidate is
      multiplied by the smallest of `(1 - u) / (1 - m)`, or of
      `exp((m^2 - u^2) / sigma)`, and 1, over all better candidates, with `m` the
      largest overlap of that one with those better still; what is then above
      `score_threshold` is kept. A candidate with `m` of 1 decays no other linearly.

    With the last four, `u` below 0 counts as 0, detections have the new scores, and
    `iou_threshold` has a meaning for `"soft_linear"` alone.

    Args:
        boxes: floating tensor of shape `[B, A, 4]`, decoded corners
            `(ymin, xmin, ymax, xmax)`, shared by all classes.
        scores: same dtype, shape `[B, A, C]`, class scores (higher is better).
        method: `"greedy"`, `"weighted"`, `"soft_linear"`, `"soft_gaussian"`,
            `"matrix_linear"` or `"matrix_gaussian"`.
        criterion: `"iou"` or `"diou"`.
        sigma: width of the Gaussian methods, in [1e-6, 1e6]; the smaller, the more
            an overlap costs. Code that multiplies by a sigma (SOLOv2's 2.0) has the
            reciprocal.
        class_agnostic: one suppression for all classes together. An anchor can
            then have candidates of several classes, which suppress each other.
        score_threshold: any number but NaN, exclusive; for new scores too.
        iou_threshold: number in [0, 1]; a pair with exactly this overlap is kept.
        pre_nms_top_k: candidates per class before suppression, or of all classes
            together with `class_agnostic`, at least 1; None means all.
        max_detections: rows `D` of the output, at least 1.
        background_class: class that is never detected; None if every class counts.
        return_anchor_indices: also return where each detection comes from.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `Detections(boxes, scores, classes, num_detections)`, or
        `DetectionsWithAnchors` with `anchor_indices` as well, ordered by score, then
        lower class, then lower anchor; all other ties are broken the same way. One
        anchor can be detected in several classes. A NaN score is no candidate; empty
        boxes (see `box_iou`) overlap nothing. Half types are computed in float32 and
        rounded at the end: their order is that before.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. The result of an image does not depend on the rest of the
    batch or the number of threads. Equal in every bit on every implementation, but
    for the Gaussian methods, whose exponentials may differ in the last places, and
    for compilers that fuse or reorder arithmetic in the reference (XLA).

    References:
        greedy: `DetectionOutput` of the official Caffe code with eta 1; its unstable
        sorts are replaced by the order above. soft: Bodla et al., Soft-NMS, ICCV
        2017. matrix: Wang et al., SOLOv2, NeurIPS 2020, and `matrix_nms` of
        PaddleDetection. weighted: the box voting of Gidaris and Komodakis, Object
        detection via a multi-region and semantic segmentation-aware CNN model, ICCV
        2015. diou: Zheng et al., Distance-IoU Loss, AAAI 2020.
    """
    boxes, scores = _validate.float_tensors(boxes=boxes, scores=scores)
    _validate.shape("boxes", boxes, "[B, A, 4]")
    _validate.shape("scores", scores, "[B, A, C]")
    _validate.same_size("boxes", boxes, 0, "scores", scores, 0)
    _validate.same_size("boxes", boxes, 1, "scores", scores, 1)
    method = _validate.one_of("method", method, METHODS)
    criterion = _validate.one_of("criterion", criterion, CRITERIA)
    sigma = _validate.within("sigma", sigma, *SIGMA_RANGE)
    class_agnostic = _validate.flag("class_agnostic", class_agnostic)
    score_limit = _validate.not_nan("score_threshold", score_threshold)
    iou_limit = _validate.fraction("iou_threshold", iou_threshold)
    if pre_nms_top_k is not None:
        pre_nms_top_k = _validate.positive_int("pre_nms_top_k", pre_nms_top_k)
    max_detections = _validate.positive_int("max_detections", max_detections)
    background_class = _validate.class_id("background_class", background_class)

    result = _with_anchors if return_anchor_indices else _without_anchors
    native = native_module("batched_nms", boxes.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_batched_nms,
            (boxes, scores),
            result,
            score_threshold=_validate.constant(score_limit),
            iou_threshold=_validate.constant(iou_limit),
            sigma=_validate.constant(sigma),
            method=method,
            criterion=criterion,
            class_agnostic=class_agnostic,
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
            method=method,
            criterion=criterion,
            sigma=sigma,
            class_agnostic=class_agnostic,
            score_threshold=score_limit,
            iou_threshold=iou_limit,
            pre_nms_top_k=pre_nms_top_k,
            max_detections=max_detections,
            background_class=background_class,
        )
    return result(outputs)


def _with_anchors(outputs: Any) -> Detections | DetectionsWithAnchors:
    return DetectionsWithAnchors(*outputs)


def _without_anchors(outputs: Any) -> Detections | DetectionsWithAnchors:
    return Detections(*outputs[:4])
