# SPDX-License-Identifier: Apache-2.0
"""NVIDIA DALI: the CPU version of its `box_encoder`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.workloads import MATCH_THRESHOLD, Arrays
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_threads = 1


def start(threads: int) -> None:
    """Import DALI; every pipeline gets that many threads."""
    import nvidia.dali  # noqa: F401

    global _threads  # noqa: PLW0603 - pipelines are made later
    _threads = threads


def _assign(arrays: Arrays) -> Variants:
    corners, gt_boxes, gt_labels = arrays.values()

    def build() -> Prepared:
        from nvidia.dali import Pipeline, fn

        batch = len(gt_boxes)
        # x before y there.
        swap = [1, 0, 3, 2]
        real = [labels > 0 for labels in gt_labels]
        boxes = [
            np.ascontiguousarray(rows[keep][:, swap])
            for rows, keep in zip(gt_boxes, real, strict=True)
        ]
        labels = [row[keep] for row, keep in zip(gt_labels, real, strict=True)]
        pipeline = Pipeline(
            batch,
            _threads,
            None,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
        with pipeline:
            offsets, classes = fn.box_encoder(
                fn.external_source(lambda: boxes, batch=True, no_copy=True),
                fn.external_source(lambda: labels, batch=True, no_copy=True),
                anchors=corners[:, swap].reshape(-1).tolist(),
                criteria=MATCH_THRESHOLD,
                offset=True,
                stds=list(VARIANCES),
            )
            pipeline.set_outputs(offsets, classes)
        pipeline.build()

        def result(found: Any) -> Arrays:
            offsets, classes = (
                np.stack([np.asarray(part[i]) for i in range(batch)]) for part in found
            )
            offsets = np.where(classes[..., None] > 0, offsets[..., swap], 0)
            return {"classes": classes, "offsets": offsets}

        return Prepared(
            pipeline.run,
            result,
            "each object takes its best anchor, the highest of equal ones",
        )

    return {"box_encoder": build}


TASKS: dict[str, Task] = {"assign": _assign}
