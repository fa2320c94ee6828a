# SPDX-License-Identifier: Apache-2.0
"""Times of the public `box_iou`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import IMPLEMENTATIONS, assert_same_on_both, time_op
from support.tolerances import ciou_tolerance, iou_gradient_tolerance

from ssdops import box_iou
from ssdops.benchmarking.workloads import (
    OPERATIONS_PER_IOU,
    Workload,
    anchors,
    head,
    overlaps,
)

WORKLOADS = [overlaps(1), overlaps(64)]
REGRESSED = Workload(
    name="iou-aligned-p8732",
    task="iou",
    description="8732 pairs of boxes, values and gradients",
    make=lambda: {"boxes_a": head("dense", 1)["boxes"][0], "boxes_b": anchors()},
    output_bytes=lambda arrays: 2 * arrays["boxes_a"].nbytes + 2 * 4 * 8732,
    # 3 quotients and about 60 operations of the derivatives.
    work=lambda arrays: len(arrays["boxes_a"]) * (OPERATIONS_PER_IOU + 60),
)
KINDS = ["giou", "diou", "ciou", "ioa"]


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


@pytest.mark.benchmark(group="box_iou")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds(benchmark: Any, kind: str, implementation: str) -> None:
    """Anchors against ground truth by another measure."""
    workload = overlaps(64)
    op = named(functools.partial(box_iou, kind=kind))
    tolerance = (lambda iou: ciou_tolerance(iou.dtype)) if kind == "ciou" else None
    benchmark.group = f"box_iou {kind}"
    time_op(
        benchmark,
        op,
        workload,
        implementation,
        check=lambda: assert_same_on_both(op, workload.inputs, tolerance),
    )


@pytest.mark.benchmark(group="box_iou")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["giou", "ciou"])
def test_aligned_with_gradient(benchmark: Any, kind: str, implementation: str) -> None:
    """What a regression loss does: values of aligned pairs and their gradients."""
    workload = REGRESSED
    boxes_a, boxes_b = workload.inputs

    def both(
        a: tf.Tensor, b: tf.Tensor, implementation: str | None = None
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(a)
            iou = box_iou(a, b, kind=kind, aligned=True, implementation=implementation)
        return tape.gradient(iou, a)

    op = named(tf.function(both, autograph=False))
    benchmark.group = f"box_iou gradient {kind}"
    tolerance = iou_gradient_tolerance(
        boxes_a, boxes_b, np.ones(len(boxes_a), np.float32)
    )
    tensors = tuple(map(tf.constant, workload.inputs))
    time_op(
        benchmark,
        op,
        workload,
        implementation,
        check=lambda: assert_same_on_both(op, tensors, lambda _: tolerance),
    )


def named(op: Any) -> Any:
    """A callable that the harness knows as `box_iou`."""

    def call(*inputs: Any, **options: Any) -> Any:
        return op(*inputs, **options)

    call.__name__ = "box_iou"
    return call
