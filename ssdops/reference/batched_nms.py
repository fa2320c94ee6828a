# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of a batch in plain TensorFlow.

The methods work on groups of candidates, which compete with each other: `B` images
of `G` groups, one per class or one for all, of `K` candidates.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import iou_broadcast, is_valid


class _Candidates(NamedTuple):
    """Candidates of every group, the best first; the last ones may be none.

    Attributes:
        boxes: `[B, G, K, 4]`, in the compute dtype.
        scores: `[B, G, K]`, likewise.
        classes: int32 `[B, G, K]`.
        slots: int32 `[B, G, K]`; of equal scores the lower one comes first.
        real: bool `[B, G, K]`, whether it is a candidate.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    slots: tf.Tensor
    real: tf.Tensor


class _Result(NamedTuple):
    """What a method makes of them, by candidate.

    Attributes:
        kept: bool `[B, G, K]`.
        scores: `[B, G, K]`.
        boxes: `[B, G, K, 4]`.
    """

    kept: tf.Tensor
    scores: tf.Tensor
    boxes: tf.Tensor


@dataclasses.dataclass(frozen=True)
class _Options:
    """The options that matter to a group; tensors are in the compute dtype."""

    method: str
    criterion: str
    sigma: tf.Tensor
    score_threshold: tf.Tensor
    iou_threshold: tf.Tensor
    eta: float

    def measure(self, boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
        """Overlap of boxes with broadcasting shapes; of a DIoU it may be negative."""
        overlap = iou_broadcast(boxes_a, boxes_b)
        if self.criterion == "diou":
            overlap -= _distance(boxes_a, boxes_b)
        return overlap

    def weight_measure(self, boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
        """The same, at least 0."""
        return tf.maximum(self.measure(boxes_a, boxes_b), 0)


def batched_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    method: str,
    criterion: str,
    sigma: float,
    class_agnostic: bool,
    score_threshold: float,
    iou_threshold: float,
    pre_nms_top_k: int | None,
    max_detections: int,
    background_class: int | None,
    eta: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.batched_nms`; always returns the anchor indices as well.

    `eta` is that of `ssdops.ops.detect`.
    """
    dtype = boxes.dtype
    compute = compute_dtype(dtype)
    options = _Options(
        method=method,
        criterion=criterion,
        sigma=tf.constant(sigma, compute),
        score_threshold=tf.constant(score_threshold, compute),
        iou_threshold=tf.constant(iou_threshold, compute),
        eta=eta,
    )
    batch, num_anchors, num_classes = tf.unstack(tf.shape(scores), num=3)

    # [B, G, N]: in a group of several classes the classes follow each other, so
    # that of equal scores the lower class, then the lower anchor is first.
    grouped = tf.transpose(tf.cast(scores, compute), [0, 2, 1])
    candidate = grouped > options.score_threshold
    if background_class is not None:
        foreground = tf.not_equal(tf.range(num_classes), background_class)
        candidate &= foreground[None, :, None]
    if class_agnostic:
        grouped = tf.reshape(grouped, [batch, 1, num_classes * num_anchors])
        candidate = tf.reshape(candidate, [batch, 1, num_classes * num_anchors])
    groups, size = tf.unstack(tf.shape(grouped)[1:], num=2)
    limit = size if pre_nms_top_k is None else tf.minimum(pre_nms_top_k, size)

    lowest = tf.constant(-float("inf"), compute)
    ranked, slots = tf.math.top_k(_ranked(grouped, candidate), k=limit)
    anchors = slots % tf.maximum(num_anchors, 1)
    if class_agnostic:
        classes = slots // tf.maximum(num_anchors, 1)
    else:
        classes = tf.broadcast_to(tf.range(num_classes)[None, :, None], tf.shape(slots))
    candidates = _Candidates(
        boxes=tf.gather(tf.cast(boxes, compute), anchors, axis=1, batch_dims=1),
        scores=tf.gather(grouped, slots, batch_dims=2),
        classes=classes,
        slots=slots,
        real=ranked > lowest,
    )
    if method == "greedy":
        result = _greedy(candidates, options)
    elif method == "weighted":
        result = _weighted(candidates, options)
    elif method.startswith("soft_"):
        result = _soft(candidates, options)
    else:
        result = _matrix(candidates, options)

    # With the groups by class and their candidates by slot, a stable top_k yields
    # score, then class, then anchor.
    _, order = tf.math.top_k(-slots, k=limit)
    rows = [batch, groups * limit]
    by_slot = [
        tf.reshape(tf.gather(value, order, batch_dims=2), rows)
        for value in (_ranked(result.scores, result.kept), result.scores)
    ]
    flat_anchors, flat_classes = (
        tf.reshape(tf.gather(value, order, batch_dims=2), rows)
        for value in (anchors, classes)
    )
    flat_boxes = tf.reshape(tf.gather(result.boxes, order, batch_dims=2), [*rows, 4])

    # Spare elements, because there may be fewer than max_detections, or none.
    more = [[0, 0], [0, max_detections]]
    best, rows_found = tf.math.top_k(
        tf.pad(by_slot[0], more, constant_values=lowest), k=max_detections
    )
    found = best > lowest

    def chosen(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.pad(values, more), rows_found, batch_dims=1)

    out_boxes = tf.gather(tf.pad(flat_boxes, [*more, [0, 0]]), rows_found, batch_dims=1)
    return (
        tf.where(found[..., None], tf.cast(out_boxes, dtype), tf.zeros([], dtype)),
        tf.where(found, tf.cast(chosen(by_slot[1]), dtype), tf.zeros([], dtype)),
        tf.where(found, chosen(flat_classes), 0),
        tf.reduce_sum(tf.cast(found, tf.int32), axis=-1),
        tf.where(found, chosen(flat_anchors), -1),
    )


def _ranked(scores: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Scores for top_k: -inf where not kept.

    What is kept has a score strictly above a threshold, so it is never -inf itself.
    """
    lowest = tf.constant(-float("inf"), scores.dtype)
    scores = tf.where(kept, scores, lowest)
    # XLA's top_k would put -0.0 below 0.0; as scores they are equal.
    return tf.where(tf.equal(scores, 0), tf.zeros([], scores.dtype), scores)


def _greedy(candidates: _Candidates, options: _Options) -> _Result:
    count = tf.shape(candidates.scores)[2]
    groups = tf.shape(candidates.scores)[:2]

    def visit(
        i: tf.Tensor, kept: tf.Tensor, threshold: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        box = tf.gather(candidates.boxes, i, axis=2)[:, :, None, :]
        over = options.measure(candidates.boxes, box) > threshold[:, :, None]
        keep = tf.gather(candidates.real, i, axis=2)
        keep &= ~tf.reduce_any(kept & over, axis=-1)
        kept |= keep[:, :, None] & tf.equal(tf.range(count), i)
        if options.eta < 1.0:
            shrinks = keep & (threshold > 0.5)
            threshold = tf.where(shrinks, threshold * options.eta, threshold)
        return i + 1, kept, threshold

    _, kept, _ = tf.while_loop(
        lambda i, *_: i < count,
        visit,
        (
            tf.constant(0),
            tf.zeros_like(candidates.real),
            tf.fill(groups, options.iou_threshold),
        ),
        shape_invariants=(tf.TensorShape([]), _shape(3), _shape(2)),
    )
    return _Result(kept, candidates.scores, candidates.boxes)


def _weighted(candidates: _Candidates, options: _Options) -> _Result:
    boxes, scores = candidates.boxes, candidates.scores
    count = tf.shape(scores)[2]

    # One candidate after the other is kept or votes, so that the sums are taken in
    # this order.
    def next_candidate(
        i: tf.Tensor,
        kept: tf.Tensor,
        moved: tf.Tensor,
        total: tf.Tensor,
        distance: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        box = tf.gather(boxes, i, axis=2)[:, :, None, :]
        score, label, real = (
            tf.gather(value, i, axis=2)[:, :, None]
            for value in (scores, candidates.classes, candidates.real)
        )
        above = kept & (options.measure(boxes, box) > options.iou_threshold)
        first = above & tf.equal(tf.cumsum(tf.cast(above, tf.int32), axis=-1), 1)
        keep = real & ~tf.reduce_any(above, axis=-1, keepdims=True)
        votes = real & first & (score > 0) & tf.equal(label, candidates.classes)
        return (
            i + 1,
            kept | (keep & tf.equal(tf.range(count), i)),
            moved | votes,
            tf.where(votes, total + score, total),
            tf.where(
                votes[..., None], distance + score[..., None] * (box - boxes), distance
            ),
        )

    _, kept, moved, total, distance = tf.while_loop(
        lambda i, *_: i < count,
        next_candidate,
        (
            tf.constant(0),
            tf.zeros_like(candidates.real),
            tf.zeros_like(candidates.real),
            scores,
            tf.zeros_like(boxes),
        ),
        shape_invariants=(
            tf.TensorShape([]),
            *[_shape(3)] * 3,
            tf.TensorShape([None, None, None, 4]),
        ),
    )
    moved &= tf.math.is_finite(total)
    moved &= tf.reduce_all(tf.math.is_finite(distance), axis=-1)
    divisor = tf.where(moved, total, tf.ones([], total.dtype))
    means = boxes + distance / divisor[..., None]
    return _Result(kept, scores, tf.where(moved[..., None], means, boxes))


def _soft(candidates: _Candidates, options: _Options) -> _Result:
    count = tf.shape(candidates.scores)[2]
    lowest = tf.constant(-float("inf"), candidates.scores.dtype)

    def take_best(
        i: tf.Tensor, left: tf.Tensor, taken: tf.Tensor, final: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        ranked = _ranked(left, left > lowest)
        best = tf.reduce_max(ranked, axis=-1, keepdims=True)
        # Of equal scores the lowest slot.
        first = tf.where(tf.equal(ranked, best), candidates.slots, tf.int32.max)
        first = tf.equal(first, tf.reduce_min(first, axis=-1, keepdims=True))
        first &= best > lowest
        index = tf.reduce_sum(tf.where(first, tf.range(count), 0), -1, keepdims=True)
        box = tf.gather(candidates.boxes, index, batch_dims=2)
        overlap = options.weight_measure(box, candidates.boxes)
        if options.method == "soft_gaussian":
            weight = tf.exp(-(overlap * overlap / options.sigma))
        else:
            weight = tf.where(overlap > options.iou_threshold, 1 - overlap, 1)
        decayed = left * weight
        remains = ~first & (decayed > options.score_threshold)
        return (
            i + 1,
            tf.where(remains, decayed, lowest),
            taken | first,
            tf.where(first, left, final),
        )

    _, _, taken, final = tf.while_loop(
        lambda i, left, *_: (i < count) & tf.reduce_any(left > lowest),
        take_best,
        (
            tf.constant(0),
            tf.where(candidates.real, candidates.scores, lowest),
            tf.zeros_like(candidates.real),
            candidates.scores,
        ),
        shape_invariants=(tf.TensorShape([]), *[_shape(3)] * 3),
    )
    return _Result(taken, final, candidates.boxes)


def _matrix(candidates: _Candidates, options: _Options) -> _Result:
    count = tf.shape(candidates.scores)[2]
    gaussian = options.method == "matrix_gaussian"

    def next_candidate(
        i: tf.Tensor, largest: tf.Tensor, decay: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        box = tf.gather(candidates.boxes, i, axis=2)[:, :, None, :]
        overlap = options.weight_measure(box, candidates.boxes)
        earlier = tf.range(count) < i
        here = tf.equal(tf.range(count), i)
        own = tf.reduce_max(tf.where(earlier, overlap, 0), -1, keepdims=True)
        if gaussian:
            exponents = largest * largest - overlap * overlap
            decays = tf.where(earlier, exponents, 0)
        else:
            counts = earlier & (largest < 1)
            divisor = tf.where(counts, 1 - largest, 1)
            decays = tf.where(counts, (1 - overlap) / divisor, 1)
        strongest = tf.reduce_min(decays, -1, keepdims=True)
        strongest = tf.minimum(strongest, 0 if gaussian else 1)
        return i + 1, tf.where(here, own, largest), tf.where(here, strongest, decay)

    zeros = tf.zeros_like(candidates.scores)
    _, _, decay = tf.while_loop(
        lambda i, *_: i < count,
        next_candidate,
        (tf.constant(0), zeros, zeros),
        shape_invariants=(tf.TensorShape([]), _shape(3), _shape(3)),
    )
    weight = tf.exp(decay / options.sigma) if gaussian else decay
    scores = candidates.scores * weight
    kept = candidates.real & (scores > options.score_threshold)
    return _Result(kept, scores, candidates.boxes)


def _distance(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Squared distance of the centres over the squared diagonal around both.

    Boxes have broadcasting shapes `[..., 4]`; the result `[...]` is 0 where it is no
    finite number, or a box is inverted or not finite.
    """
    low_a, high_a = boxes_a[..., :2], boxes_a[..., 2:]
    low_b, high_b = boxes_b[..., :2], boxes_b[..., 2:]
    enclosing = tf.maximum(high_a, high_b) - tf.minimum(low_a, low_b)
    offset = ((low_b - low_a) + (high_b - high_a)) * 0.5
    diagonal = enclosing[..., 0] * enclosing[..., 0]
    diagonal += enclosing[..., 1] * enclosing[..., 1]
    distance = offset[..., 0] * offset[..., 0] + offset[..., 1] * offset[..., 1]
    # Only boxes that overlap matter here: those are not inverted.
    measured = is_valid(boxes_a) & is_valid(boxes_b)
    measured &= (diagonal > 0) & tf.math.is_finite(diagonal)
    measured &= tf.math.is_finite(distance)
    return tf.where(measured, distance / tf.where(measured, diagonal, 1), 0)


def _shape(rank: int) -> tf.TensorShape:
    return tf.TensorShape([None] * rank)
