# SPDX-License-Identifier: Apache-2.0
"""Times of the public `assign_targets`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from measuring import IMPLEMENTATIONS, time_op
from oracles.assign_targets import assign_targets as oracle
from support.bits import assert_all_equal_bits, assert_equal_bits, assert_within
from support.tolerances import encode_tolerance

from ssdops import assign_targets
from ssdops.benchmarking.workloads import Workload, matching

WORKLOADS = [
    matching(1),
    matching(32),
    matching(32, 100, 100, 100),
]
CASES = [
    pytest.param(workload, implementation, id=f"{workload.name}-{implementation}")
    for workload in WORKLOADS
    for implementation in IMPLEMENTATIONS
    if implementation == "native" or workload.reference
]


@pytest.mark.benchmark(group="assign_targets")
@pytest.mark.parametrize(("workload", "implementation"), CASES)
def test_assign_targets(
    benchmark: Any, workload: Workload, implementation: str
) -> None:
    """Targets of a training batch, scarce and crowded ground truth."""
    time_op(
        benchmark,
        assign_targets,
        workload,
        implementation,
        check=lambda: check(workload, implementation),
    )


def check(workload: Workload, implementation: str) -> None:
    """First image against the oracle, every image against itself alone."""
    anchors, boxes, labels = workload.inputs
    whole = assign_targets(*workload.inputs, implementation=implementation)
    classes, offsets, *matches = [value.numpy() for value in whole]
    # A few objects and every tenth anchor: the oracle is slow.
    few = (anchors[::10], boxes[:1, :5], labels[:1, :5])
    found = assign_targets(*few, implementation=implementation)
    expected = oracle(*few)
    assert_equal_bits(found.classes.numpy(), expected[0])
    tolerance = encode_tolerance(expected[1])
    assert_within(found.offsets.numpy(), expected[1], tolerance)
    for i in range(len(boxes)):
        one = slice(i, i + 1)
        alone = assign_targets(
            anchors, boxes[one], labels[one], implementation=implementation
        )
        assert_all_equal_bits(
            [value.numpy() for value in alone],
            [classes[one], offsets[one], *(value[one] for value in matches)],
            alone._fields,
        )
    assert np.isfinite(offsets).all()
