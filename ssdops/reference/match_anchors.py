# SPDX-License-Identifier: Apache-2.0
"""Anchor matching in plain TensorFlow: dense matrices, one loop over ground truth."""

from __future__ import annotations

import tensorflow as tf

from ssdops.constants import (
    IGNORED,
    MIN_MATCH_IOU,
    NEGATIVE,
    PADDING_LABEL,
)
from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import area, intersection, iou_broadcast


def match_anchors(
    anchors: tf.Tensor,
    gt_boxes: tf.Tensor,
    gt_labels: tf.Tensor,
    *,
    iou_threshold: float,
    negative_threshold: float,
    ignore_threshold: float,
    bipartite_only: bool,
    ignore_cross_boundary: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.match_anchors`; here `negative_threshold` is a number."""
    dtype = anchors.dtype
    compute = compute_dtype(dtype)
    anchors = tf.cast(anchors, compute)
    gt_boxes = tf.cast(gt_boxes, compute)
    static_batch, static_anchors = gt_labels.shape[0], anchors.shape[0]
    batch = tf.shape(gt_boxes)[0]
    num_anchors = tf.shape(anchors)[0]
    num_gt = tf.shape(gt_boxes)[1]

    usable = tf.ones([num_anchors], tf.bool)
    if ignore_cross_boundary:
        usable = tf.reduce_all((anchors >= 0) & (anchors <= 1), axis=-1)

    # iou[b, a, g]: 0 for padding, ignore regions, unusable anchors and pairs
    # that do not overlap, so that "positive" below means "a real overlap".
    iou = iou_broadcast(anchors[None, :, None, :], gt_boxes[:, None, :, :])
    real = (gt_labels > PADDING_LABEL)[:, None, :] & usable[None, :, None]
    floor = tf.constant(MIN_MATCH_IOU, compute)
    zero = tf.zeros([], compute)
    iou = tf.where(real & (iou > floor), iou, 0)
    # A column of zeros keeps the reductions defined without ground truth.
    iou = tf.pad(iou, [[0, 0], [0, 0], [0, 1]])
    best_iou = tf.reduce_max(iou, axis=-1)
    best_gt = _first_where(tf.equal(iou, best_iou[..., None]))

    matched = tf.fill([batch, num_anchors], NEGATIVE)
    matched_iou = best_iou

    def take_best_pair(
        step: tf.Tensor, free: tf.Tensor, matched: tf.Tensor, matched_iou: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        # `free` is iou without the rows and columns already taken. The first
        # maximum in anchor-major order is the lowest anchor, then the lowest gt.
        flat = tf.reshape(free, [batch, num_anchors * (num_gt + 1)])
        best = tf.reduce_max(flat, axis=-1)
        index = _first_where(tf.equal(flat, best[:, None]))
        anchor, gt = index // (num_gt + 1), index % (num_gt + 1)
        is_row = tf.equal(tf.range(num_anchors)[None, :], anchor[:, None])
        is_row &= (best > 0)[:, None]
        is_column = tf.equal(tf.range(num_gt + 1)[None, :], gt[:, None])
        is_column &= (best > 0)[:, None]
        matched = tf.where(is_row, gt[:, None], matched)
        matched_iou = tf.where(is_row, best[:, None], matched_iou)
        free = tf.where(is_row[:, :, None] | is_column[:, None, :], zero, free)
        return step + 1, free, matched, matched_iou

    rounds = tf.where(num_anchors > 0, tf.minimum(num_gt, num_anchors), 0)
    _, _, matched, matched_iou = tf.while_loop(
        lambda step, *_: step < rounds,
        take_best_pair,
        (tf.constant(0), iou, matched, matched_iou),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, None, None]),
            tf.TensorShape([None, None]),
            tf.TensorShape([None, None]),
        ),
    )

    unmatched = tf.equal(matched, NEGATIVE)
    if not bipartite_only:
        over = best_iou >= tf.constant(iou_threshold, compute)
        take = unmatched & over & (best_iou > 0)
        matched = tf.where(take, best_gt, matched)
        unmatched = tf.equal(matched, NEGATIVE)
    if negative_threshold < iou_threshold:
        in_band = best_iou >= tf.constant(negative_threshold, compute)
        matched = tf.where(unmatched & in_band & (best_iou > 0), IGNORED, matched)

    region = (gt_labels < PADDING_LABEL)[:, None, :]
    covered = intersection(anchors[None, :, None, :], gt_boxes[:, None, :, :])
    # Compared as a quotient, the way it is documented: a product would round
    # differently from intersection over area.
    share = tf.where(
        covered > 0, covered / tf.where(covered > 0, area(anchors)[None, :, None], 1), 0
    )
    in_region = tf.reduce_any(
        region & (covered > 0) & (share >= tf.constant(ignore_threshold, compute)), -1
    )
    matched = tf.where(tf.equal(matched, NEGATIVE) & in_region, IGNORED, matched)
    matched = tf.where(usable[None, :], matched, IGNORED)
    # The loop above has forgotten the sizes.
    static_shape = [static_batch, static_anchors]
    matched.set_shape(static_shape)
    matched_iou.set_shape(static_shape)
    return matched, tf.cast(matched_iou, dtype)


def _first_where(mask: tf.Tensor) -> tf.Tensor:
    """Index of the first true element along the last axis.

    `tf.argmax` promises nothing about ties; a minimum over indices does.
    """
    size = tf.shape(mask)[-1]
    return tf.reduce_min(tf.where(mask, tf.range(size), size), axis=-1)
