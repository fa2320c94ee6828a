# SPDX-License-Identifier: Apache-2.0
"""What every benchmark records beside its times, and the floors of this machine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from support.bits import assert_equal_bits, assert_within
from support.requirements import require_native_op

from ssdops._build_facts import build_facts
from ssdops._loader import NativeUnavailableWarning, not_supported_reasons
from ssdops.benchmarking.floors import copy_seconds, multiply_add_rate
from ssdops.benchmarking.workloads import Workload

IMPLEMENTATIONS = ("native", "reference")


def time_op(
    benchmark: Any,
    op: Callable[..., Any],
    workload: Workload,
    implementation: str,
    check: Callable[[], None],
) -> None:
    """Check the result of a public op, then time it eagerly and record the facts.

    Args:
        benchmark: fixture of pytest-benchmark.
        op: public op.
        workload: its inputs.
        implementation: `"native"` or `"reference"`.
        check: raises if the result is wrong; run first, not timed.
    """
    if implementation == "native":
        require_native_op(op.__name__, workload.inputs[0].dtype.name)
    check()
    tensors = [tf.constant(array) for array in workload.inputs]
    record(benchmark, workload, implementation)
    benchmark(lambda: op(*tensors, implementation=implementation))


def record(benchmark: Any, workload: Workload, implementation: str) -> None:
    """Write workload, floors, threads and build facts into the report.

    Args:
        benchmark: fixture of pytest-benchmark.
        workload: what is timed.
        implementation: by what.
    """
    facts = build_facts()
    benchmark.group = f"{benchmark.group or ''} {workload.name}".strip()
    benchmark.extra_info.update(
        workload=workload.name,
        description=workload.description,
        implementation=implementation,
        bytes_moved=workload.bytes_moved,
        operations=workload.operations,
        threads=thread_count(),
        tensorflow=tf.version.VERSION,
        build={
            "components": {k: v.status for k, v in facts.components.items()},
            **facts.details,
        },
    )
    if not benchmark.disabled:
        copy = copy_seconds(workload.bytes_moved) / thread_count()
        arithmetic = workload.operations / multiply_add_rate() / thread_count()
        benchmark.extra_info.update(
            floor_ms_bytes=1e3 * copy,
            floor_ms_operations=1e3 * arithmetic,
            floor_ms=1e3 * max(copy, arithmetic),
        )


def thread_count() -> int:
    """Threads that TensorFlow computes one op with."""
    return tf.config.threading.get_intra_op_parallelism_threads() or _cores()


def assert_same_on_both(
    op: Callable[..., Any],
    inputs: tuple[Any, ...],
    tolerance: Callable[[Any], Any] | None = None,
) -> None:
    """Assert that both implementations give the same result, if both are there.

    Args:
        op: public op.
        inputs: arrays.
        tolerance: of a result, if it need not be equal in every bit.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        if not_supported_reasons(op.__name__, inputs[0].dtype.name):
            return
    results = [
        tf.nest.flatten(op(*inputs, implementation=name)) for name in IMPLEMENTATIONS
    ]
    for native, reference in zip(*results, strict=True):
        if tolerance is None:
            assert_equal_bits(native.numpy(), reference.numpy())
        else:
            expected = reference.numpy()
            assert_within(native.numpy(), expected, tolerance(expected))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
