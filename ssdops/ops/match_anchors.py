# SPDX-License-Identifier: Apache-2.0
"""Matching of anchors to ground truth."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import match_anchors as reference

tf.no_gradient("Ssdops>MatchAnchors")


class AnchorMatches(NamedTuple):
    """What `match_anchors` returns.

    Attributes:
        matched_gt: int32 `[B, A]`; the row of the matched ground truth, or -1 for a
            negative anchor, or -2 for one that is ignored.
        matched_iou: `[B, A]`, dtype of the anchors, in [0, 1]; IoU with the matched
            ground truth, for other anchors the best IoU with any real ground truth
            (0 where none is above 1e-6, and for anchors that take no part).
    """

    matched_gt: tf.Tensor
    matched_iou: tf.Tensor


def _matches(outputs: Any) -> AnchorMatches:
    return AnchorMatches(*outputs)


@remembers_eager_calls
def match_anchors(
    anchors: Any,
    gt_boxes: Any,
    gt_labels: Any,
    *,
    iou_threshold: float = 0.5,
    negative_threshold: float | None = None,
    ignore_threshold: float = 0.5,
    bipartite_only: bool = False,
    ignore_cross_boundary: bool = False,
    implementation: str | None = None,
    name: str | None = None,
) -> AnchorMatches:
    """Ground truth of every anchor: global greedy bipartite, then per anchor.

    Bipartite step: over all pairs of a free anchor and a free ground truth with an
    IoU above 1e-6, the pair with the largest IoU is matched, until no such pair is
    left; of equal pairs the lowest anchor, then the lowest ground truth wins.
    Per-anchor step: every anchor still free takes the ground truth of its largest
    IoU (the lowest row of equal ones) if that IoU is at least `iou_threshold`.

    Args:
        anchors: floating tensor of shape `[A, 4]`, corners
            `(ymin, xmin, ymax, xmax)` relative to the image.
        gt_boxes: same dtype, shape `[B, G, 4]`, same layout.
        gt_labels: int32 tensor of shape `[B, G]`: class ids from 1; 0 is a padding
            row, -1 (and any negative number) marks an ignore region.
        iou_threshold: number in [0, 1] for the per-anchor step, inclusive.
        negative_threshold: number in [0, `iou_threshold`); an unmatched anchor whose
            best IoU is above 0 and at least this much is ignored instead of negative.
            None, or `iou_threshold` itself: no anchor is ignored for that reason.
        ignore_threshold: number in [0, 1]; an unmatched anchor is ignored if the
            part of its area inside one ignore region is at least this much
            (intersection over the area of the anchor).
        bipartite_only: leave the per-anchor step out.
        ignore_cross_boundary: anchors with a coordinate outside [0, 1] take no part
            and are ignored.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `AnchorMatches(matched_gt, matched_iou)`. Empty boxes (see `box_iou`) have
        no overlap, so an empty ground truth is matched to nothing.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Equal in every bit on every implementation; the result of an
    image depends neither on the rest of the batch nor on the amount of padding.

    References:
        `MatchBBox` of the official Caffe code. It knows no ignore regions and no
        negative threshold; with neither in use the results are the same.
    """
    anchors, gt_boxes = _validate.float_tensors(anchors=anchors, gt_boxes=gt_boxes)
    gt_labels = _validate.int32_tensor("gt_labels", gt_labels)
    _validate.shape("anchors", anchors, "[A, 4]")
    _validate.shape("gt_boxes", gt_boxes, "[B, G, 4]")
    _validate.shape("gt_labels", gt_labels, "[B, G]")
    _validate.same_size("gt_boxes", gt_boxes, 0, "gt_labels", gt_labels, 0)
    _validate.same_size("gt_boxes", gt_boxes, 1, "gt_labels", gt_labels, 1)
    positive, negative = _validate.matching_thresholds(
        iou_threshold, negative_threshold
    )
    ignore = _validate.fraction("ignore_threshold", ignore_threshold)

    native = native_module("match_anchors", anchors.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_match_anchors,
            (anchors, gt_boxes, gt_labels),
            _matches,
            iou_threshold=_validate.constant(positive),
            negative_threshold=_validate.constant(negative),
            ignore_threshold=_validate.constant(ignore),
            bipartite_only=bipartite_only,
            ignore_cross_boundary=ignore_cross_boundary,
            name=name,
        )
    with tf.name_scope(name or "match_anchors"):
        anchors, gt_boxes, gt_labels = _validate.runtime_shapes(
            ("anchors", anchors, "[A, 4]"),
            ("gt_boxes", gt_boxes, "[B, G, 4]"),
            ("gt_labels", gt_labels, "[B, G]"),
        )
        matched_gt, matched_iou = reference(
            anchors,
            gt_boxes,
            gt_labels,
            iou_threshold=positive,
            negative_threshold=negative,
            ignore_threshold=ignore,
            bipartite_only=bipartite_only,
            ignore_cross_boundary=ignore_cross_boundary,
        )
        return AnchorMatches(matched_gt, tf.stop_gradient(matched_iou))
