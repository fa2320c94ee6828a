# SPDX-License-Identifier: Apache-2.0
"""Times of the public `multibox_loss` with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import record

from ssdops import multibox_loss
from ssdops.benchmarking.workloads import Workload, loss

WORKLOADS = [loss(1), loss(32)]


def gradients(*tensors: tf.Tensor, **options: Any) -> Any:
    """Total loss, and its gradients by logits and offsets."""
    with tf.GradientTape() as tape:
        tape.watch(tensors[:2])
        total = multibox_loss(*tensors, **options).total
    return total, *tape.gradient(total, tensors[:2])


@pytest.mark.benchmark(group="multibox_loss")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_native(benchmark: Any, workload: Workload) -> None:
    """Forward and backward, eagerly."""
    tensors = [tf.constant(array) for array in workload.inputs]
    for native, reference in zip(
        gradients(*tensors, implementation="native"),
        gradients(*tensors, implementation="reference"),
        strict=True,
    ):
        np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-6)
    record(benchmark, workload, "native")
    benchmark(lambda: gradients(*tensors, implementation="native"))


@pytest.mark.benchmark(group="multibox_loss")
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_reference_under_xla(benchmark: Any, workload: Workload) -> None:
    """Forward and backward of the reference, compiled."""
    tensors = [tf.constant(array) for array in workload.inputs]
    run = tf.function(
        lambda *inputs: gradients(*inputs, implementation="reference"),
        jit_compile=True,
        autograph=False,
    )
    record(benchmark, workload, "reference, XLA")
    benchmark(lambda: run(*tensors))
