# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of one set of boxes."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.ops import _validate
from ssdops.ops._dispatch import native_module
from ssdops.ops._eager import native_call, remembers_eager_calls
from ssdops.reference import nms as reference

tf.no_gradient("Ssdops>Nms")


class NmsResult(NamedTuple):
    """Boxes that are left, best first.

    Attributes:
        indices: int32 `[D]`, rows of the boxes given; -1 in padding.
        num_valid: int32 scalar; elements of `indices` before this one are boxes.
    """

    indices: tf.Tensor
    num_valid: tf.Tensor


def _result(outputs: Any) -> NmsResult:
    return NmsResult(*outputs)


@remembers_eager_calls
def nms(
    boxes: Any,
    scores: Any,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = -float("inf"),
    max_output_size: int | None = None,
    implementation: str | None = None,
    name: str | None = None,
) -> NmsResult:
    """Boxes left after greedy suppression, for one class and any number of boxes.

    Candidates are the boxes with a score strictly above `score_threshold`; they are
    visited from the best on, and one is kept if its IoU with every kept one is at
    most `iou_threshold`. The first `max_output_size` kept ones are returned.

    Shapes are static: slice with `indices[:num_valid]` where a ragged result is
    wanted.

    Args:
        boxes: floating tensor of shape `[N, 4]`, corners `(ymin, xmin, ymax, xmax)`
            in any unit.
        scores: same dtype, shape `[N]` (higher is better).
        iou_threshold: number in [0, 1]; a pair with exactly this IoU is kept.
        score_threshold: any number but NaN, exclusive.
        max_output_size: rows `D` of the output, at least 1; None means `N`.
        implementation: `"auto"`, `"native"` or `"reference"`.
        name: optional name for the op.

    Returns:
        `NmsResult(indices, num_valid)`, ordered by score, then lower index; ties
        are broken the same way before suppression. A NaN score is no candidate;
        empty boxes (see `box_iou`) neither suppress nor are suppressed.

    Raises:
        ValueError: if a static shape, a dtype or an option does not fit.
        tf.errors.InvalidArgumentError: if a shape known only at run time does not.
        ssdops.NativeUnavailableError: if `"native"` is asked for and not there.

    Not differentiable. Equal in every bit on every implementation. The native
    kernel takes time of order N log N where the boxes are spread out; the reference
    compares every pair and is meant for small N.

    Example:
        >>> boxes = [[0., 0., 2., 2.], [0., 0., 2., 1.9], [3., 3., 4., 4.]]
        >>> ssdops.nms(boxes, [0.8, 0.9, 0.7]).indices.numpy()
        array([ 1,  2, -1], dtype=int32)

    References:
        Rosenfeld and Thurston, Edge and curve detection for visual scene analysis,
        1971.
    """
    boxes, scores = _validate.float_tensors(boxes=boxes, scores=scores)
    _validate.shape("boxes", boxes, "[N, 4]")
    _validate.shape("scores", scores, "[N]")
    _validate.same_size("boxes", boxes, 0, "scores", scores, 0)
    iou_limit = _validate.fraction("iou_threshold", iou_threshold)
    score_limit = _validate.not_nan("score_threshold", score_threshold)
    if max_output_size is not None:
        max_output_size = _validate.positive_int("max_output_size", max_output_size)

    native = native_module("nms", boxes.dtype, implementation)
    if native is not None:
        rows = -1 if max_output_size is None else max_output_size
        return native_call(
            native.ssdops_nms,
            (boxes, scores),
            _result,
            max_output_size=_validate.constant(rows, tf.int32),
            iou_threshold=_validate.constant(iou_limit),
            score_threshold=_validate.constant(score_limit),
            name=name,
        )
    with tf.name_scope(name or "nms"):
        boxes, scores = _validate.runtime_shapes(
            ("boxes", boxes, "[N, 4]"), ("scores", scores, "[N]")
        )
        return NmsResult(
            *reference(
                tf.stop_gradient(boxes),
                tf.stop_gradient(scores),
                iou_threshold=iou_limit,
                score_threshold=score_limit,
                max_output_size=max_output_size,
            )
        )
