# SPDX-License-Identifier: Apache-2.0
"""Times of the public `encode_boxes`."""

from __future__ import annotations

from typing import Any

import pytest
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op
from support.tolerances import encode_tolerance

from ssdops import encode_boxes
from ssdops.benchmarking.workloads import Workload, encoding

WORKLOADS = [encoding(1), encoding(32)]


@pytest.mark.benchmark(group="encode_boxes")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_encode_boxes(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Regression targets of a training batch."""
    time_op(
        benchmark,
        encode_boxes,
        workload,
        implementation,
        check=lambda: check(workload),
    )


def check(workload: Workload) -> None:
    """Both implementations are within twice the distance allowed from the oracle."""
    assert_same_on_both(
        encode_boxes, workload.inputs, lambda offsets: 2 * encode_tolerance(offsets)
    )
