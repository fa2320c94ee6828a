# SPDX-License-Identifier: Apache-2.0
"""The suppression functions of `tf.image`, with native kernels behind them.

Signatures and results are those of TensorFlow 2.21, index by index: replace
`tf.image` by `ssdops.image` and nothing changes but the time. Where there is no
native kernel, or under `ssdops.implementation("reference")`, the function of
`tf.image` itself is called; and so it is in a function that XLA compiles if the size of
the result is not known there.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ssdops.ops._dispatch import compiled_by_xla, native_module

__all__ = [
    "combined_non_max_suppression",
    "non_max_suppression",
    "non_max_suppression_padded",
    "non_max_suppression_with_scores",
]

tf.no_gradient("Ssdops>ImageNms")
tf.no_gradient("Ssdops>ImageNmsWithScores")
tf.no_gradient("Ssdops>CombinedNms")


def non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"),
    name: str | None = None,
) -> tf.Tensor:
    """Greedily select boxes in descending order of score.

    The same as `tf.image.non_max_suppression`; the time is that of `ssdops.nms`.

    Args:
        boxes: float16 or float32 `[N, 4]`, `(y1, x1, y2, x2)` of any two opposite
            corners.
        scores: same dtype, `[N]`.
        max_output_size: int32 scalar, boxes to select at most.
        iou_threshold: float16 or float32 scalar in [0, 1]; a box is not selected if
            its IoU with a selected one is above.
        score_threshold: scalar of the same dtype; scores must be above.
        name: optional name for the op.

    Returns:
        int32 `[M]`, indices of the selected boxes; of equal scores, the lower index
        first.

    Raises:
        ValueError: in a graph, if a static shape or a dtype does not fit.
        tf.errors.InvalidArgumentError: otherwise, or if a threshold is not in
            range.
    """
    native = None if compiled_by_xla() else _native_for(boxes, scores)
    if native is None:
        return tf.image.non_max_suppression(
            boxes, scores, max_output_size, iou_threshold, score_threshold, name
        )
    with tf.name_scope(name or "non_max_suppression"):
        return native.ssdops_image_nms(
            boxes,
            scores,
            max_output_size,
            tf.convert_to_tensor(iou_threshold, name="iou_threshold"),
            tf.convert_to_tensor(score_threshold, name="score_threshold"),
        )


def non_max_suppression_with_scores(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"),
    soft_nms_sigma: Any = 0.0,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greedily select boxes, or lower the scores of those that overlap.

    The same as `tf.image.non_max_suppression_with_scores`.

    Args:
        boxes: float16 or float32 `[N, 4]`, as in `non_max_suppression`.
        scores: same dtype, `[N]`.
        max_output_size: int32 scalar, boxes to select at most.
        iou_threshold: scalar of that dtype in [0, 1]; without effect if
            `soft_nms_sigma` is above 0.
        score_threshold: scalar of that dtype; scores, as far as they are lowered,
            must be above.
        soft_nms_sigma: scalar of that dtype; above 0, a selected box multiplies the
            scores of the others by `exp(-iou^2 / (2 * sigma))`.
        name: optional name for the op.

    Returns:
        `(selected_indices int32 [M], selected_scores [M])`.

    Raises:
        ValueError: in a graph, if a static shape or a dtype does not fit.
        tf.errors.InvalidArgumentError: otherwise, or if a number is not in range.

    References:
        Bodla et al., Soft-NMS, 2017 (https://arxiv.org/abs/1704.04503).
    """
    native = None if compiled_by_xla() else _native_for(boxes, scores)
    if native is None:
        return tuple(
            tf.image.non_max_suppression_with_scores(
                boxes,
                scores,
                max_output_size,
                iou_threshold,
                score_threshold,
                soft_nms_sigma,
                name,
            )
        )
    with tf.name_scope(name or "non_max_suppression_with_scores"):
        selected = native.ssdops_image_nms_with_scores(
            boxes,
            scores,
            max_output_size,
            tf.convert_to_tensor(iou_threshold, name="iou_threshold"),
            tf.convert_to_tensor(score_threshold, name="score_threshold"),
            tf.convert_to_tensor(soft_nms_sigma, name="soft_nms_sigma"),
        )
        return selected.selected_indices, selected.selected_scores


def non_max_suppression_padded(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"),
    pad_to_max_output_size: bool = False,
    name: str | None = None,
    sorted_input: bool = False,
    canonicalized_coordinates: bool = False,
    tile_size: int = 512,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greedily select boxes of one image or a batch, with padded results.

    This is `tf.image.non_max_suppression_padded` itself: its rounding, and its rules
    for equal IoUs and boxes outside the image, are those of its tiles. `ssdops.nms`
    gives padded results, and quickly.

    Args:
        boxes: `[..., N, 4]`.
        scores: `[..., N]`.
        max_output_size: int32 scalar, boxes to select at most.
        iou_threshold: number in [0, 1].
        score_threshold: number; scores must be above.
        pad_to_max_output_size: must be True for a batch.
        name: optional name for the op.
        sorted_input: whether the boxes are in descending order of score.
        canonicalized_coordinates: whether they are `(ymin, xmin, ymax, xmax)`.
        tile_size: boxes in a tile.

    Returns:
        `(selected_indices int32 [..., D], num_valid int32 [...])`; padding is 0.

    Raises:
        ValueError: for a batch, if `pad_to_max_output_size` is False.
    """
    return tuple(
        tf.image.non_max_suppression_padded(
            boxes,
            scores,
            max_output_size,
            iou_threshold,
            score_threshold,
            pad_to_max_output_size,
            name,
            sorted_input,
            canonicalized_coordinates,
            tile_size,
        )
    )


def combined_non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size_per_class: Any,
    max_total_size: Any,
    iou_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"),
    pad_per_class: bool = False,
    clip_boxes: bool = True,
    name: str | None = None,
) -> Any:
    """Greedily select boxes within each class of each image.

    The same as `tf.image.combined_non_max_suppression`, also in the order of equal
    scores.

    Args:
        boxes: float32 `[B, N, q, 4]`, `q` is 1 or the number of classes; corners as
            in `non_max_suppression`.
        scores: float32 `[B, N, C]`.
        max_output_size_per_class: int32 scalar, boxes to select of a class.
        max_total_size: int32 scalar, boxes to select of an image.
        iou_threshold: float32 scalar in [0, 1].
        score_threshold: float32 scalar; scores must be above.
        pad_per_class: whether the output has `max_output_size_per_class * C` rows
            if these are fewer than `max_total_size`.
        clip_boxes: whether coordinates are clipped to [0, 1].
        name: optional name for the op.

    Returns:
        Named tuple `(nmsed_boxes [B, D, 4], nmsed_scores [B, D], nmsed_classes [B,
        D], valid_detections int32 [B])`, the first three float32, padded with 0.

    Raises:
        ValueError: in a graph, if a static shape, a size or a dtype does not fit.
        tf.errors.InvalidArgumentError: otherwise, or if a number is not in range.
    """
    native = _native_for(boxes, scores)
    if native is None:
        return tf.image.combined_non_max_suppression(
            boxes,
            scores,
            max_output_size_per_class,
            max_total_size,
            iou_threshold,
            score_threshold,
            pad_per_class,
            clip_boxes,
            name,
        )
    with tf.name_scope(name or "combined_non_max_suppression"):
        return native.ssdops_combined_nms(
            boxes,
            scores,
            max_output_size_per_class,
            # Without a dtype, as TensorFlow does: a number beyond int32 is an error.
            tf.convert_to_tensor(max_total_size),
            tf.convert_to_tensor(iou_threshold, tf.float32, name="iou_threshold"),
            tf.convert_to_tensor(score_threshold, tf.float32, name="score_threshold"),
            pad_per_class,
            clip_boxes,
        )


def _native_for(*arguments: Any) -> Any | None:
    """The native functions, unless an argument has a dtype that `tf.image` refuses."""
    for argument in arguments:
        if hasattr(argument, "dtype") and tf.as_dtype(argument.dtype) not in (
            tf.float16,
            tf.float32,
        ):
            return None
    return native_module("nms", tf.float32, None)
