# SPDX-License-Identifier: Apache-2.0
"""Times of the public `match_anchors`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op
from oracles.match_anchors import match_anchors as oracle
from support.bits import assert_equal_bits

from ssdops import match_anchors
from ssdops.benchmarking.workloads import Workload, matching

WORKLOADS = [matching(1, 20, 64), matching(32, 20, 64)]
CASES = [
    pytest.param(workload, implementation, id=f"{workload.name}-{implementation}")
    for workload in WORKLOADS
    for implementation in IMPLEMENTATIONS
    if implementation == "native" or workload.reference
]


@pytest.mark.benchmark(group="match_anchors")
@pytest.mark.parametrize(("workload", "implementation"), CASES)
def test_match_anchors(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Targets of a training batch."""
    time_op(
        benchmark,
        match_anchors,
        workload,
        implementation,
        check=lambda: check(workload, implementation),
    )


def check(workload: Workload, implementation: str) -> None:
    """First image against the oracle, every image against itself alone."""
    anchors, boxes, labels = workload.inputs
    first = (anchors, boxes[:1], labels[:1])
    assert_same_on_both(match_anchors, first)
    whole = match_anchors(*workload.inputs, implementation=implementation)
    expected = oracle(*first)
    assert_equal_bits(whole.matched_gt.numpy()[:1], expected[0])
    assert_equal_bits(whole.matched_iou.numpy()[:1], expected[1])
    alone = [
        match_anchors(
            anchors, boxes[i : i + 1], labels[i : i + 1], implementation=implementation
        ).matched_gt.numpy()
        for i in range(len(boxes))
    ]
    assert_equal_bits(whole.matched_gt.numpy(), np.concatenate(alone))
