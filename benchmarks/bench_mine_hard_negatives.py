# SPDX-License-Identifier: Apache-2.0
"""Times of the public `mine_hard_negatives`."""

from __future__ import annotations

from typing import Any

import pytest
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op

from ssdops import mine_hard_negatives
from ssdops.benchmarking.workloads import Workload, mining

WORKLOADS = [mining(32), mining(32, "ssd512")]


@pytest.mark.benchmark(group="mine_hard_negatives")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_mine_hard_negatives(
    benchmark: Any, workload: Workload, implementation: str
) -> None:
    """The hardest negatives of a batch."""
    time_op(
        benchmark,
        mine_hard_negatives,
        workload,
        implementation,
        check=lambda: assert_same_on_both(mine_hard_negatives, workload.inputs),
    )
