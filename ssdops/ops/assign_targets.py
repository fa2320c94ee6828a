# SPDX-License-Identifier: Apache-2.0
"""What every anchor shall predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.constants import PADDING_LABEL, VARIANCES
from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import assign_targets as reference

tf.no_gradient("Ssdops>AssignTargets")


class Targets(NamedTuple):
    """What `assign_targets` returns.

    Attributes:
        classes: int32 `[B, A]`; label of the matched ground truth (at least 1) of a
            positive anchor, 0 for one that may be mined as background, -1 for one
            that is ignored.
        offsets: `[B, A, 4]`, dtype of the anchors; matched ground truth of a positive
            anchor as `encode_boxes` gives it, else 0.
        matched_gt: int32 `[B, A]`; row of the matched ground truth, or -1 for a
            negative anchor, or -2 for one that is ignored.
        matched_iou: `[B, A]`, dtype of the anchors, in [0, 1]; as of `match_anchors`.
    """

    classes: tf.Tensor
    offsets: tf.Tensor
    matched_gt: tf.Tensor
    matched_iou: tf.Tensor


def _targets(outputs: Any) -> Targets:
    return Targets(*outputs)


@remembers_eager_calls
def assign_targets(
    anchors: Any,
    gt_boxes: Any,
    gt_labels: Any,
    *,
    gt_difficult: Any = None,
    use_difficult: bool = True,
    iou_threshold: float = 0.5,
    negative_threshold: float | None = None,
    ignore_threshold: float = 0.5,
    bipartite_only: bool = False,
    ignore_cross_boundary: bool = False,
    variances: Sequence[float] = VARIANCES,
    implementation: str | None = None,
    name: str | None = None,
) -> Targets:
    """Class and offsets that every anchor shall predict, from padded ground truth.

    `match_anchors` and, for the positive anchors, `encode_boxes` in one pass. The
    matrix of overlaps is never stored, and padding costs next to nothing.

    Args:
        anchors: floating tensor of shape `[A, 4]`, corners
            `(ymin, xmin, ymax, xmax)` relative to the image.
        gt_boxes: same dtype, shape `[B, G, 4]`, same layout.
        gt_labels: int32 tensor of shape `[B, G]`: class ids from 1; 0 is a padding
            row, -1 (and any negative number) marks an ignore region, such as a crowd.
        gt_difficult: None, or bool tensor of shape `[B, G]`: rows that are hard to
            recognise.
        use_difficult: whether difficult rows count like any other. If not, they are
            treated as padding whatever their label; other rows keep their numbers.
        iou_threshold: see `match_anchors`.
        negative_threshold: see `match_anchors`.
        ignore_threshold: see `match_anchors`.
        bipartite_only: see `match_anchors`.
        ignore_cross_boundary: see `match_anchors`.
        variances: 4 positive numbers for `(ty, tx, th, tw)`.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `Targets(classes, offsets, matched_gt, matched_iou)`, all finite. A positive
        anchor whose match has no encoding (see `encode_boxes`) has offsets 0.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Deterministic; the result of an image depends neither on the
    rest of the batch nor on the amount of padding. Everything but the logarithm in
    the offsets is equal in every bit on every implementation.

    References:
        `FindMatches` and `EncodeLocPrediction` of the official Caffe code, whose
        `use_difficult_gt` is `use_difficult`.
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
    values = _validate.variances(variances)
    if gt_difficult is not None:
        gt_difficult = _validate.bool_tensor("gt_difficult", gt_difficult)
        _validate.shape("gt_difficult", gt_difficult, "[B, G]")
        _validate.same_size("gt_boxes", gt_boxes, 0, "gt_difficult", gt_difficult, 0)
        _validate.same_size("gt_boxes", gt_boxes, 1, "gt_difficult", gt_difficult, 1)

        if not use_difficult:
            gt_labels, gt_difficult = _validate.runtime_shapes(
                ("gt_labels", gt_labels, "[B, G]"),
                ("gt_difficult", gt_difficult, "[B, G]"),
            )
            gt_labels = tf.where(gt_difficult, PADDING_LABEL, gt_labels)

    native = native_module("assign_targets", anchors.dtype, implementation)
    if native is not None:
        return native_call(
            native.ssdops_assign_targets,
            (anchors, gt_boxes, gt_labels),
            _targets,
            iou_threshold=_validate.constant(positive),
            negative_threshold=_validate.constant(negative),
            ignore_threshold=_validate.constant(ignore),
            variances=_validate.constant(values),
            bipartite_only=bipartite_only,
            ignore_cross_boundary=ignore_cross_boundary,
            name=name,
        )
    with tf.name_scope(name or "assign_targets"):
        anchors, gt_boxes, gt_labels = _validate.runtime_shapes(
            ("anchors", anchors, "[A, 4]"),
            ("gt_boxes", gt_boxes, "[B, G, 4]"),
            ("gt_labels", gt_labels, "[B, G]"),
        )
        targets = reference(
            anchors,
            gt_boxes,
            gt_labels,
            iou_threshold=positive,
            negative_threshold=negative,
            ignore_threshold=ignore,
            bipartite_only=bipartite_only,
            ignore_cross_boundary=ignore_cross_boundary,
            variances=values,
        )
        return Targets(*map(tf.stop_gradient, targets))
