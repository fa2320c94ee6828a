# SPDX-License-Identifier: Apache-2.0
"""Times of the public `decode_boxes`."""

from __future__ import annotations

from typing import Any

import pytest
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op
from support.tolerances import decode_tolerance

from ssdops import decode_boxes
from ssdops.benchmarking.workloads import Workload, decoding

WORKLOADS = [decoding(1), decoding(32)]


@pytest.mark.benchmark(group="decode_boxes")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_decode_boxes(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Boxes predicted for a batch."""
    time_op(
        benchmark,
        decode_boxes,
        workload,
        implementation,
        check=lambda: check(workload),
    )


def check(workload: Workload) -> None:
    """Both implementations are within twice the distance allowed from the oracle."""
    assert_same_on_both(
        decode_boxes,
        workload.inputs,
        lambda boxes: 2 * decode_tolerance(boxes, *workload.inputs),
    )
