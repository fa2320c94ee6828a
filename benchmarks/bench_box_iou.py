# SPDX-License-Identifier: Apache-2.0
"""Times of the public `box_iou`."""

from __future__ import annotations

from typing import Any

import pytest
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op

from ssdops import box_iou
from ssdops.benchmarking.workloads import Workload, overlaps

WORKLOADS = [overlaps(1), overlaps(64)]


@pytest.mark.benchmark(group="box_iou")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_box_iou(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Anchors against ground truth."""
    time_op(
        benchmark,
        box_iou,
        workload,
        implementation,
        check=lambda: assert_same_on_both(box_iou, workload.inputs),
    )
