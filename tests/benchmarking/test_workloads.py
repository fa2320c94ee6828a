# SPDX-License-Identifier: Apache-2.0
"""The inputs of the benchmarks: shapes, seeds, and what they are said to look like."""

from __future__ import annotations

import numpy as np
import pytest
from support.bits import assert_equal_bits

from ssdops.anchors import ssd300_voc, ssd512_voc
from ssdops.benchmarking import arithmetic
from ssdops.benchmarking import workloads as w


def test_suite_has_every_group_and_task() -> None:
    suite = w.suite()
    groups = {workload.group for workload in suite.values()}
    assert groups == {"W1", "W2", "W3", "W4", "W5", "W6", "loss", "iou", "empty"}
    assert {workload.task for workload in suite.values()} == set(w.TASKS)
    assert all(name == workload.name for name, workload in suite.items())
    assert set(w.HEADLINE) <= set(suite)
    assert len(set(w.HEADLINE)) == len(w.HEADLINE)


def test_anchors_are_the_published_grids() -> None:
    np.testing.assert_allclose(w.anchors("ssd300"), ssd300_voc().boxes(), atol=2e-7)
    assert_equal_bits(w.anchors("ssd512"), ssd512_voc("none").boxes())


@pytest.mark.parametrize("given", ["boxes", "offsets", "logits"])
def test_detection(given: str) -> None:
    workload = w.detection("trained", 2, given=given)
    shapes = {
        "boxes": (2, 8732, 4),
        "scores": (2, 8732, 21),
        "logits": (2, 8732, 21),
        "offsets": (2, 8732, 4),
        "anchors": (8732, 4),
    }
    for name, array in workload.arrays.items():
        assert array.shape == shapes[name]
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    inputs = sum(array.nbytes for array in workload.inputs)
    assert workload.bytes_moved == inputs + 2 * (200 * 24 + 4)
    assert workload.operations >= 2 * 8732 * 21


def test_heads_are_what_their_names_say() -> None:
    trained, dense = (w.head(kind, 2) for kind in ("trained", "dense"))
    # Counted once: the workloads of all versions are the same.
    candidates = [int((h["scores"][..., 1:] > 0.01).sum()) for h in (trained, dense)]
    assert candidates == [655, 348596]
    np.testing.assert_allclose(trained["scores"].sum(-1), 1, atol=1e-5)
    # Image 1 is the same alone and in a batch.
    assert_equal_bits(w.head("trained", 1)["logits"], trained["logits"][:1])
    w.head.cache_clear()
    assert_equal_bits(w.head("trained", 2)["offsets"], trained["offsets"])


def test_unknown_kinds_are_errors() -> None:
    with pytest.raises(ValueError, match="kind"):
        w.head("tired", 1)
    with pytest.raises(ValueError, match="overlap"):
        _ = w.single_class("some", 100).arrays


def test_matching() -> None:
    workload = w.matching()
    boxes, labels = workload.arrays["gt_boxes"], workload.arrays["gt_labels"]
    assert boxes.shape == (32, 64, 4)
    real = labels > 0
    counts = real.sum(1)
    assert counts.sum() == 314
    assert counts.min() >= 1
    assert counts.max() <= 20
    assert (real == (np.arange(64) < counts[:, None])).all()
    assert not boxes[~real].any()
    assert (boxes[real][:, :2] < boxes[real][:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert w.matching(32, 100, 100, 100).arrays["gt_labels"].min() >= 1


def test_coding_goes_there_and_back() -> None:
    boxes, anchors = w.encoding(2).inputs
    offsets, same_anchors = w.decoding(2).inputs
    assert boxes.shape == offsets.shape == (2, 8732, 4)
    assert_equal_bits(anchors, same_anchors)
    encoded = arithmetic.encode(boxes, w.centred_anchors())
    np.testing.assert_allclose(encoded, offsets, atol=1e-4)


def test_mining() -> None:
    losses, classes = w.mining().inputs
    assert losses.shape == classes.shape == (32, 8732)
    assert losses.min() > 0
    assert classes.dtype == np.int32
    assert (classes > 0).sum() == 2918


def test_loss() -> None:
    arrays = w.loss(2).arrays
    positive = arrays["target_classes"] > 0
    assert positive.any(1).all()
    assert not arrays["target_offsets"][~positive].any()
    assert arrays["logits"].shape == (2, 8732, 21)


@pytest.mark.parametrize(("overlap", "kept"), [("low", 891), ("high", 50)])
def test_single_class(overlap: str, kept: int) -> None:
    boxes, scores = w.single_class(overlap, 1000).inputs
    assert boxes.shape == (1000, 4)
    assert len(np.unique(scores)) == 1000
    assert len(arithmetic.greedy_nms(boxes, scores, 0.5)) == kept


def test_empty_workloads_have_no_work() -> None:
    for workload in w.suite().values():
        if workload.group == "empty":
            assert workload.operations == 0
            assert workload.bytes_moved == 0
