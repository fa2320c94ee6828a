# SPDX-License-Identifier: Apache-2.0
"""What SSD means: the edge cases of the official code, and TensorFlow's own NMS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.cases import random_boxes, ssd300_anchors
from support.modes import IMPLEMENTATIONS
from support.requirements import require_native_op

from ssdops import batched_nms, box_iou, decode_boxes, encode_boxes, match_anchors

NEGATIVE, IGNORED = -1, -2


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        require_native_op("batched_nms", "float32")
    return str(request.param)


def match(implementation: str, anchors: Any, rows: Any, **options: Any) -> list[int]:
    """`matched_gt` of one image whose ground truth all has label 1."""
    boxes = np.array(rows, np.float32).reshape(1, -1, 4)
    matches = match_anchors(
        np.array(anchors, np.float32),
        boxes,
        np.ones(boxes.shape[:2], np.int32),
        implementation=implementation,
        **options,
    )
    return matches.matched_gt.numpy()[0].tolist()


class TestMatching:
    """Edge cases of `MatchBBox`."""

    def test_no_ground_truth(self, implementation: str) -> None:
        assert match(implementation, [[0, 0, 1, 1]] * 3, []) == [NEGATIVE] * 3

    def test_ground_truth_that_overlaps_no_anchor(self, implementation: str) -> None:
        found = match(implementation, [[0, 0, 1, 1]], [[1, 0, 2, 1], [3, 3, 4, 4]])
        assert found == [NEGATIVE]

    def test_ground_truth_equal_to_an_anchor_is_a_positive_of_zero_offsets(
        self, implementation: str
    ) -> None:
        anchors = ssd300_anchors()
        found = match(implementation, anchors, anchors[[4000]])
        assert found[4000] == 0
        offsets = encode_boxes(
            anchors[[4000]], anchors[[4000]], implementation=implementation
        )
        assert offsets.numpy().tolist() == [[0, 0, 0, 0]]

    def test_every_ground_truth_gets_an_anchor_whatever_its_iou(
        self, implementation: str
    ) -> None:
        # A box of 1 % of the image overlaps every anchor of SSD300 only a little.
        boxes = [[0.001, 0.001, 0.011, 0.011], [0.5, 0.1, 0.505, 0.9]]
        found = match(implementation, ssd300_anchors(), boxes)
        assert {0, 1} <= set(found)
        assert found.count(0) == found.count(1) == 1

    def test_shared_best_anchor_is_settled_globally(self, implementation: str) -> None:
        # Both prefer anchor 0; the second has the larger IoU and keeps it, although
        # it comes later.
        anchors = [[0, 0, 1, 1], [0, 0, 1, 0.5]]
        rows = [[0, 0, 1, 0.8], [0, 0, 1, 0.9]]
        assert match(implementation, anchors, rows) == [1, 0]

    def test_ties_go_to_the_lowest_anchor_then_the_lowest_row(
        self, implementation: str
    ) -> None:
        anchors = [[0, 0, 1, 1]] * 3
        found = match(implementation, anchors, [[0, 0, 1, 0.75]] * 2, iou_threshold=0.9)
        assert found == [0, 1, NEGATIVE]

    def test_an_iou_of_exactly_the_threshold_is_positive(
        self, implementation: str
    ) -> None:
        anchors = [[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.4375]]
        found = match(implementation, anchors, [[0, 0, 1, 1]])
        assert found == [0, 0, NEGATIVE]

    def test_between_the_thresholds_is_neither(self, implementation: str) -> None:
        anchors = [[0, 0, 1, w] for w in (1, 0.5, 0.4375, 0.375, 0.3125)]
        found = match(implementation, anchors, [[0, 0, 1, 1]], negative_threshold=0.375)
        assert found == [0, 0, IGNORED, IGNORED, NEGATIVE]

    def test_degenerate_ground_truth_is_matched_to_nothing(
        self, implementation: str
    ) -> None:
        rows = [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, np.nan, 1]]
        assert match(implementation, [[0, 0, 1, 1]] * 5, rows) == [NEGATIVE] * 5

    def test_more_ground_truth_than_anchors(self, implementation: str) -> None:
        rows = [[0, 0, 1, w] for w in (0.6, 1, 0.8)]
        assert match(implementation, [[0, 0, 1, 1]], rows) == [1]

    def test_anchors_across_the_border_take_part_unless_told(
        self, implementation: str
    ) -> None:
        anchors = [[-0.125, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1.125]]
        rows = [[0, 0, 1, 1]]
        assert match(implementation, anchors, rows) == [0, 0, 0]
        found = match(implementation, anchors, rows, ignore_cross_boundary=True)
        assert found == [IGNORED, 0, IGNORED]

    def test_bipartite_only(self, implementation: str) -> None:
        anchors = [[0, 0, 1, 0.75], [0, 0, 1, 1]]
        found = match(implementation, anchors, [[0, 0, 1, 1]], bipartite_only=True)
        assert found == [NEGATIVE, 0]

    def test_padding_between_rows_keeps_their_numbers(
        self, implementation: str
    ) -> None:
        boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 1]]], np.float32)
        labels = np.array([[0, 7]], np.int32)
        found = match_anchors(boxes[0], boxes, labels, implementation=implementation)
        assert found.matched_gt.numpy().tolist() == [[1, 1]]


class TestCoding:
    """Edge cases of `EncodeBBox` and `DecodeBBox`."""

    def test_formula_in_y_x_order(self, implementation: str) -> None:
        anchor = np.array([[0.0, 0.0, 0.5, 0.25]], np.float64)
        box = np.array([[0.25, 0.0, 0.5, 0.5]], np.float64)
        offsets = encode_boxes(box, anchor, implementation=implementation)
        expected = [
            (0.375 - 0.25) / 0.5 / 0.1,
            (0.25 - 0.125) / 0.25 / 0.1,
            np.log(0.25 / 0.5) / 0.2,
            np.log(0.5 / 0.25) / 0.2,
        ]
        np.testing.assert_allclose(offsets.numpy(), [expected], rtol=1e-14)

    def test_large_offsets_stay_finite(self, implementation: str) -> None:
        offsets = np.array([[0, 0, 1e4, -1e4]], np.float32)
        anchor = np.array([[0, 0, 1, 1]], np.float32)
        boxes = decode_boxes(offsets, anchor, implementation=implementation).numpy()
        assert np.isfinite(boxes).all()
        assert boxes[0, 1] == boxes[0, 3] == 0.5

    def test_nothing_is_clipped(self, implementation: str) -> None:
        offsets = np.array([[-30, 30, 0, 0]], np.float32)
        anchor = np.array([[0, 0, 1, 1]], np.float32)
        boxes = decode_boxes(offsets, anchor, implementation=implementation)
        np.testing.assert_allclose(boxes.numpy(), [[-3, 3, -2, 4]], rtol=1e-6)


class TestOverlap:
    """The Jaccard overlap of normalised boxes."""

    @pytest.mark.parametrize(
        ("other", "expected"),
        [
            ([0, 0, 1, 1], 1),
            ([0, 1, 1, 2], 0),
            ([1, 1, 2, 2], 0),
            ([0.25, 0.25, 0.75, 0.75], 0.25),
            ([0, 0, 1, 0], 0),
            ([1, 1, 0, 0], 0),
            ([-1, -1, 2, 2], 1 / 9),
        ],
    )
    def test_known_values(
        self, implementation: str, other: list[float], expected: float
    ) -> None:
        unit = np.array([[0, 0, 1, 1]], np.float32)
        iou = box_iou(
            unit, np.array([other], np.float32), implementation=implementation
        )
        assert iou.numpy().item() == np.float32(expected)

    def test_zero_area_twins_have_no_overlap(self, implementation: str) -> None:
        point = np.full((1, 4), 0.5, np.float32)
        iou = box_iou(point, point, implementation=implementation)
        assert iou.numpy().tolist() == [[0]]


def nms(
    implementation: str, rows: Any, scores: Any, **options: Any
) -> tuple[list[int], list[int]]:
    """Anchors and classes detected in one image."""
    boxes = np.array(rows, np.float32)[None]
    found = batched_nms(
        boxes,
        np.array(scores, np.float32)[None],
        return_anchor_indices=True,
        implementation=implementation,
        **options,
    )
    count = int(found.num_detections[0])
    return (
        found.anchor_indices.numpy()[0, :count].tolist(),
        found.classes.numpy()[0, :count].tolist(),
    )


UNIT, HALF, FAR = [0, 0, 1, 1], [0, 0, 1, 0.5], [2, 2, 3, 3]


class TestSuppression:
    """Edge cases of `DetectionOutput`."""

    def test_equal_scores_keep_the_lowest_anchor(self, implementation: str) -> None:
        found = nms(implementation, [UNIT] * 3, [[0, 0.5]] * 3)
        assert found == ([0], [1])

    def test_an_iou_of_exactly_the_threshold_is_kept(self, implementation: str) -> None:
        scores = [[0, 0.9], [0, 0.8]]
        kept, _ = nms(implementation, [UNIT, HALF], scores, iou_threshold=0.5)
        assert kept == [0, 1]
        kept, _ = nms(implementation, [UNIT, HALF], scores, iou_threshold=0.499)
        assert kept == [0]

    def test_a_score_of_exactly_the_threshold_is_dropped(
        self, implementation: str
    ) -> None:
        scores = [[0, 0.5], [0, 0.25]]
        kept, _ = nms(implementation, [UNIT, FAR], scores, score_threshold=0.25)
        assert kept == [0]

    def test_top_k_counts_candidates_not_detections(self, implementation: str) -> None:
        rows = [UNIT, UNIT, UNIT, FAR]
        scores = [[0, 0.9], [0, 0.8], [0, 0.7], [0, 0.6]]
        kept, _ = nms(implementation, rows, scores, pre_nms_top_k=2)
        assert kept == [0]

    def test_top_k_is_of_each_class(self, implementation: str) -> None:
        rows = [UNIT, FAR]
        scores = [[0, 0.9, 0.1], [0, 0.8, 0.2]]
        kept = nms(implementation, rows, scores, pre_nms_top_k=1)
        assert kept == ([0, 1], [1, 2])

    def test_the_best_over_all_classes_are_returned(self, implementation: str) -> None:
        rows = [UNIT, FAR]
        scores = [[0, 0.5, 0.9], [0, 0.7, 0.8]]
        found = nms(implementation, rows, scores, max_detections=3)
        assert found == ([0, 1, 1], [2, 2, 1])

    def test_one_anchor_may_be_detected_in_several_classes(
        self, implementation: str
    ) -> None:
        assert nms(implementation, [UNIT], [[0, 0.5, 0.5]]) == ([0, 0], [1, 2])

    def test_classes_do_not_suppress_each_other(self, implementation: str) -> None:
        found = nms(implementation, [UNIT, UNIT], [[0, 0.9, 0], [0, 0, 0.8]])
        assert found == ([0, 1], [1, 2])

    def test_zero_area_twins_are_both_kept(self, implementation: str) -> None:
        point = [0.5, 0.5, 0.5, 0.5]
        kept, _ = nms(implementation, [point, point], [[0, 0.9], [0, 0.8]])
        assert kept == [0, 1]

    def test_inverted_boxes_are_empty(self, implementation: str) -> None:
        kept, _ = nms(implementation, [[1, 1, 0, 0], UNIT], [[0, 0.9], [0, 0.8]])
        assert kept == [0, 1]

    def test_nan_scores_are_dropped_and_nan_boxes_suppress_nothing(
        self, implementation: str
    ) -> None:
        rows = [UNIT, [0, 0, np.nan, 1], UNIT]
        scores = [[0, np.nan], [0, 0.9], [0, 0.8]]
        kept, _ = nms(implementation, rows, scores)
        assert kept == [1, 2]

    def test_no_background_class(self, implementation: str) -> None:
        found = nms(implementation, [UNIT], [[0.9, 0.5]], background_class=None)
        assert found == ([0, 0], [0, 1])
        found = nms(implementation, [UNIT], [[0.9, 0.5]], background_class=1)
        assert found == ([0], [0])

    def test_nothing_found(self, implementation: str) -> None:
        found = batched_nms(
            np.zeros((2, 3, 4), np.float32),
            np.zeros((2, 3, 2), np.float32),
            max_detections=4,
            return_anchor_indices=True,
            implementation=implementation,
        )
        assert found.num_detections.numpy().tolist() == [0, 0]
        assert_equal_bits(found.boxes.numpy(), np.zeros((2, 4, 4), np.float32))
        assert_equal_bits(found.scores.numpy(), np.zeros((2, 4), np.float32))
        assert_equal_bits(found.classes.numpy(), np.zeros((2, 4), np.int32))
        assert_equal_bits(found.anchor_indices.numpy(), np.full((2, 4), -1, np.int32))

    def test_boxes_are_not_clipped(self, implementation: str) -> None:
        box = np.array([[[-1, -2, 3, 4]]], np.float32)
        found = batched_nms(
            box,
            np.array([[[0, 1]]], np.float32),
            max_detections=1,
            implementation=implementation,
        )
        assert_equal_bits(found.boxes.numpy(), box)


class TestParityWithTensorFlow:
    """TensorFlow's NMS where it means the same: limits that do not bind."""

    @pytest.mark.parametrize("seed", range(5))
    def test_one_class(self, implementation: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        boxes = random_boxes(rng, 200, dtype=np.float32)
        scores = rng.permutation(200).astype(np.float32) / 200
        expected = tf.image.non_max_suppression(
            boxes, scores, 200, iou_threshold=0.45, score_threshold=0.3
        )
        kept, _ = nms(
            implementation,
            boxes,
            np.stack([scores, scores], -1),
            iou_threshold=0.45,
            score_threshold=0.3,
            pre_nms_top_k=None,
        )
        assert kept == expected.numpy().tolist()

    @pytest.mark.parametrize("seed", range(5))
    def test_all_classes(self, implementation: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        boxes = random_boxes(rng, 3, 100, dtype=np.float32)
        count = 3 * 100 * 5
        scores = (rng.permutation(count).astype(np.float32) / count).reshape(3, 100, 5)
        expected = tf.image.combined_non_max_suppression(
            boxes[:, :, None],
            scores[..., 1:],
            max_output_size_per_class=100,
            max_total_size=50,
            iou_threshold=0.45,
            score_threshold=0.2,
            clip_boxes=False,
        )
        found = batched_nms(
            boxes,
            scores,
            iou_threshold=0.45,
            score_threshold=0.2,
            pre_nms_top_k=None,
            max_detections=50,
            implementation=implementation,
        )
        assert_equal_bits(found.boxes.numpy(), expected.nmsed_boxes.numpy())
        assert_equal_bits(found.scores.numpy(), expected.nmsed_scores.numpy())
        valid = expected.valid_detections.numpy()
        assert_equal_bits(found.num_detections.numpy(), valid)
        for i, rows in enumerate(valid):
            theirs = expected.nmsed_classes.numpy()[i, :rows] + 1
            assert found.classes.numpy()[i, :rows].tolist() == theirs.tolist()

    def test_zero_area_boxes_and_threshold(self, implementation: str) -> None:
        rows = np.array([UNIT, HALF, [0.5] * 4, [0.5] * 4], np.float32)
        scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
        expected = tf.image.non_max_suppression(rows, scores, 4, iou_threshold=0.5)
        kept, _ = nms(
            implementation, rows, np.stack([scores, scores], -1), iou_threshold=0.5
        )
        assert kept == expected.numpy().tolist() == [0, 1, 2, 3]

    def test_where_they_differ(self, implementation: str) -> None:
        # TensorFlow straightens an inverted box; here, as in Caffe, it is empty.
        rows = np.array([UNIT, [1, 1, 0, 0]], np.float32)
        scores = np.array([0.9, 0.8], np.float32)
        theirs = tf.image.non_max_suppression(rows, scores, 2, iou_threshold=0.5)
        kept, _ = nms(implementation, rows, np.stack([scores, scores], -1))
        assert theirs.numpy().tolist() == [0]
        assert kept == [0, 1]
