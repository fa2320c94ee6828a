# SPDX-License-Identifier: Apache-2.0
"""Times of the public `nms`, and of TensorFlow's own suppression of one class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import IMPLEMENTATIONS, record, time_op
from oracles.nms import nms_of_many as oracle

from ssdops import nms
from ssdops.benchmarking.workloads import Workload, single_class

COUNTS = (1000, 5000, 20000, 100_000)
WORKLOADS = [single_class(kind, n) for kind in ("low", "high") for n in COUNTS]
CASES = [
    pytest.param(workload, implementation, id=f"{workload.name}-{implementation}")
    for workload in WORKLOADS
    for implementation in IMPLEMENTATIONS
    if implementation == "native" or workload.reference
]


@pytest.mark.benchmark(group="nms")
@pytest.mark.parametrize(("workload", "implementation"), CASES)
def test_nms(benchmark: Any, workload: Workload, implementation: str) -> None:
    """One class, no limit to the output."""
    time_op(
        benchmark,
        nms,
        workload,
        implementation,
        check=lambda: check(workload, implementation),
    )


@pytest.mark.benchmark(group="nms")
@pytest.mark.parametrize(
    "workload",
    [workload for workload in WORKLOADS if workload.reference],
    ids=lambda workload: workload.name,
)
def test_non_max_suppression(benchmark: Any, workload: Workload) -> None:
    """What a TensorFlow user has without ssdops."""
    boxes, scores = (tf.constant(array) for array in workload.inputs)
    rows = len(workload.inputs[1])
    record(benchmark, workload, "tf.image.non_max_suppression")
    found = benchmark(lambda: tf.image.non_max_suppression(boxes, scores, rows))
    ours = nms(boxes, scores)
    np.testing.assert_array_equal(found, ours.indices[: ours.num_valid])


def check(workload: Workload, implementation: str) -> None:
    """Against the oracle, where that does not take minutes."""
    boxes, scores = workload.inputs
    if len(scores) <= 5000:
        found = nms(boxes, scores, implementation=implementation)
        indices, num_valid = oracle(boxes, scores)
        np.testing.assert_array_equal(found.indices, indices)
        assert found.num_valid == num_valid
