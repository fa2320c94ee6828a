# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression by every method, one candidate at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oracles.exp_log import exp

Array = npt.NDArray[Any]


class Candidate(NamedTuple):
    """What is left of a candidate: in the order of the contract as a tuple."""

    negative_score: Any
    label: int
    anchor: int
    box: Array


class Measure(NamedTuple):
    """How the overlap of two boxes is measured."""

    criterion: str
    dtype: Any

    def __call__(self, box: Array, others: Array) -> Array:
        """Measures `[N]` of a box `[4]` with boxes `[N, 4]`."""
        result = _ious(box, others)
        if self.criterion == "diou":
            result = result - _distances(box, others)
        return result.astype(self.dtype)

    def clamped(self, box: Array, others: Array) -> Array:
        """The same, at least 0."""
        return np.maximum(self(box, others), 0)


def batched_nms(
    boxes: Array,
    scores: Array,
    *,
    method: str = "greedy",
    criterion: str = "iou",
    sigma: float = 0.5,
    class_agnostic: bool = False,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    pre_nms_top_k: int = 400,
    max_detections: int = 200,
    background_class: int = 0,
) -> tuple[Array, Array, Array, Array, Array]:
    """Detections of every image, best first.

    Args:
        boxes: `[B, A, 4]`; half types are computed in float32 and rounded at the end.
        scores: `[B, A, C]`, same dtype.
        method: `"greedy"`, `"weighted"`, `"soft_linear"`, `"soft_gaussian"`,
            `"matrix_linear"` or `"matrix_gaussian"`.
        criterion: `"iou"` or `"diou"`.
        sigma: of the Gaussian methods.
        class_agnostic: one suppression for all classes.
        score_threshold: exclusive.
        iou_threshold: a pair with this measure is kept.
        pre_nms_top_k: candidates per suppression; -1 means all.
        max_detections: rows of the output.
        background_class: never detected; -1 means that every class counts.

    Returns:
        `(boxes [B, D, 4], scores [B, D], classes int32 [B, D], num_detections int32
        [B], anchor_indices int32 [B, D])`; padding is 0, of the indices -1.
    """
    batch, _, num_classes = scores.shape
    compute = np.float64 if boxes.dtype == np.float64 else np.float32
    out_boxes = np.zeros((batch, max_detections, 4), boxes.dtype)
    out_scores = np.zeros((batch, max_detections), scores.dtype)
    out_classes = np.zeros((batch, max_detections), np.int32)
    out_count = np.zeros(batch, np.int32)
    out_anchors = np.full((batch, max_detections), -1, np.int32)
    with np.errstate(all="ignore"):
        limit = compute(score_threshold)
        overlap_limit = compute(iou_threshold)
        measure = Measure(criterion, compute)
        for image in range(batch):
            wide_boxes = boxes[image].astype(compute)
            wide_scores = scores[image].astype(compute)
            labels = [c for c in range(num_classes) if c != background_class]
            groups = [labels] if class_agnostic else [[c] for c in labels]
            detections = []
            for group in groups:
                candidates = [
                    Candidate(-wide_scores[a, c], c, int(a), wide_boxes[a])
                    for c in group
                    for a in np.flatnonzero(wide_scores[:, c] > limit)
                ]
                candidates.sort(key=_order)
                if pre_nms_top_k >= 0:
                    candidates = candidates[:pre_nms_top_k]
                if method == "greedy":
                    kept = _greedy(candidates, measure, overlap_limit)
                elif method == "weighted":
                    kept = _weighted(candidates, measure, overlap_limit)
                elif method.startswith("soft_"):
                    gaussian = method == "soft_gaussian"
                    kept = _soft(
                        candidates, measure, limit, overlap_limit, sigma, gaussian
                    )
                else:
                    gaussian = method == "matrix_gaussian"
                    kept = _matrix(candidates, measure, limit, sigma, gaussian)
                detections += kept
            detections.sort(key=_order)
            detections = detections[:max_detections]
            out_count[image] = len(detections)
            for row, (negative_score, label, a, box) in enumerate(detections):
                out_boxes[image, row] = box.astype(boxes.dtype)
                out_scores[image, row] = (-negative_score).astype(scores.dtype)
                out_classes[image, row] = label
                out_anchors[image, row] = a
    return out_boxes, out_scores, out_classes, out_count, out_anchors


def _order(candidate: Candidate) -> tuple[Any, int, int]:
    return candidate[:3]


def _boxes(candidates: list[Candidate]) -> Array:
    return np.array([c.box for c in candidates]).reshape(-1, 4)


def _greedy(
    candidates: list[Candidate], measure: Measure, overlap_limit: Any
) -> list[Candidate]:
    kept: list[Candidate] = []
    for candidate in candidates:
        if not (measure(candidate.box, _boxes(kept)) > overlap_limit).any():
            kept.append(candidate)
    return kept


def _weighted(
    candidates: list[Candidate], measure: Measure, overlap_limit: Any
) -> list[Candidate]:
    kept: list[Candidate] = []
    voters: list[list[Candidate]] = []
    for candidate in candidates:
        above = np.flatnonzero(
            measure(candidate.box, _boxes(kept)) > overlap_limit
        ).tolist()
        if not above:
            kept.append(candidate)
            voters.append([])
        elif kept[above[0]].label == candidate.label and -candidate.negative_score > 0:
            voters[above[0]].append(candidate)
    return [
        k._replace(box=_mean_box(k, v)) if v else k
        for k, v in zip(kept, voters, strict=True)
    ]


def _mean_box(kept: Candidate, voters: list[Candidate]) -> Array:
    total = -kept.negative_score
    distance = np.zeros_like(kept.box)
    for voter in voters:
        weight = -voter.negative_score
        distance = distance + weight * (voter.box - kept.box)
        total = total + weight
    if not (np.isfinite(distance).all() and np.isfinite(total)):
        return kept.box
    return kept.box + distance / total


def _soft(
    candidates: list[Candidate],
    measure: Measure,
    score_limit: Any,
    overlap_limit: Any,
    sigma: float,
    gaussian: bool,
) -> list[Candidate]:
    taken = []
    left = list(candidates)
    while left:
        left.sort(key=_order)
        best = left.pop(0)
        taken.append(best)
        overlaps = measure.clamped(best.box, _boxes(left))
        if gaussian:
            weights = exp(-((overlaps * overlaps) / measure.dtype(sigma)))
        else:
            weights = np.where(overlaps > overlap_limit, 1 - overlaps, 1)
        decayed = [
            c._replace(negative_score=c.negative_score * w.astype(measure.dtype))
            for c, w in zip(left, weights, strict=True)
        ]
        left = [c for c in decayed if -c.negative_score > score_limit]
    return taken


def _matrix(
    candidates: list[Candidate],
    measure: Measure,
    score_limit: Any,
    sigma: float,
    gaussian: bool,
) -> list[Candidate]:
    one = measure.dtype(1)
    boxes = _boxes(candidates)
    kept = []
    largest: list[Any] = []
    for i, candidate in enumerate(candidates):
        overlaps = measure.clamped(candidate.box, boxes[:i])
        of_earlier = np.array(largest, measure.dtype)
        largest.append(overlaps.max(initial=0))
        if gaussian:
            exponents = of_earlier * of_earlier - overlaps * overlaps
            strongest = np.minimum(exponents.min(initial=0), 0)
            weight = exp(np.array(strongest / measure.dtype(sigma)))
        else:
            counts = of_earlier != 1
            ratios = (one - overlaps[counts]) / (one - of_earlier[counts])
            weight = ratios.min(initial=1)
        score = -candidate.negative_score * measure.dtype(weight)
        if score > score_limit:
            kept.append(candidate._replace(negative_score=-score))
    return kept


def _valid(boxes: Array) -> Array:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _areas(boxes: Array) -> Array:
    ymin, xmin, ymax, xmax = boxes.T
    return np.where(_valid(boxes), (ymax - ymin) * (xmax - xmin), 0)


def _ious(box: Array, others: Array) -> Array:
    """As `oracles.box_iou.iou`, of one box and many."""
    height = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    width = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    common = height * width
    meets = _valid(box) & _valid(others) & (height > 0) & (width > 0)
    meets &= (common > 0) & (common <= np.finfo(box.dtype).max)
    union = (_areas(box) + _areas(others)) - common
    return np.where(meets, common / union, 0)


def _distances(box: Array, others: Array) -> Array:
    """Squared distance of the centres over the squared diagonal around both.

    0 where that is no finite number, or a box is inverted or not finite.
    """
    half = box.dtype.type(0.5)
    enclosing = np.maximum(box[2:], others[:, 2:]) - np.minimum(box[:2], others[:, :2])
    offset = ((others[:, :2] - box[:2]) + (others[:, 2:] - box[2:])) * half
    diagonal = enclosing[:, 0] * enclosing[:, 0] + enclosing[:, 1] * enclosing[:, 1]
    distance = offset[:, 0] * offset[:, 0] + offset[:, 1] * offset[:, 1]
    measured = _placed(box) & _placed(others)
    measured &= (diagonal > 0) & np.isfinite(diagonal) & np.isfinite(distance)
    return np.where(measured, distance / diagonal, 0)


def _placed(boxes: Array) -> Array:
    size = boxes[..., 2:] - boxes[..., :2]
    return ((size >= 0) & np.isfinite(size)).all(-1)
