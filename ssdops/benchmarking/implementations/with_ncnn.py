# SPDX-License-Identifier: Apache-2.0
"""ncnn: its `DetectionOutput` layer, one image a call."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_LAYERS = """7767517
4 4
Input loc 0 1 loc
Input conf 0 1 conf
Input prior 0 1 prior
DetectionOutput out 3 1 loc conf prior out 0={classes} 1={iou} 2={k} 3={most} 4={score}
"""
_threads = 1


def start(threads: int) -> None:
    """Import ncnn; every network gets that many threads."""
    import ncnn  # noqa: F401

    global _threads  # noqa: PLW0603 - networks are made later
    _threads = threads


def _network(num_classes: int) -> Any:
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = _threads
    network.opt.use_vulkan_compute = False
    network.opt.use_fp16_packed = False
    network.opt.use_fp16_storage = False
    network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = False
    layers = _LAYERS.format(
        classes=num_classes,
        iou=IOU_THRESHOLD,
        k=PRE_NMS_TOP_K,
        most=MAX_DETECTIONS,
        score=SCORE_THRESHOLD,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detection_output.param"
        path.write_text(layers, "utf-8")
        if network.load_param(str(path)) != 0:
            raise RuntimeError("ncnn does not read the layers")
    network.load_model(ncnn.DataReaderFromEmpty())
    return network


def _postprocess(arrays: Arrays) -> Variants:
    scores, offsets, corners = arrays.values()

    def build() -> Prepared:
        import ncnn

        network = _network(scores.shape[2])
        # x before y there.
        swap = [1, 0, 3, 2]
        scale = np.tile(np.asarray(VARIANCES, np.float32), len(corners))
        priors = np.stack([corners[:, swap].reshape(-1), scale])
        prior = ncnn.Mat(priors)
        # ncnn keeps no reference to the memory of an array.
        rows = [np.ascontiguousarray(image[:, swap]).reshape(-1) for image in offsets]
        flat = [np.ascontiguousarray(image).reshape(-1) for image in scores]
        locations = [ncnn.Mat(row) for row in rows]
        confidences = [ncnn.Mat(row) for row in flat]

        def call(_keep: Any = (priors, rows, flat)) -> Any:
            found = []
            for location, confidence in zip(locations, confidences, strict=True):
                extractor = network.create_extractor()
                extractor.input("loc", location)
                extractor.input("conf", confidence)
                extractor.input("prior", prior)
                found.append(np.array(extractor.extract("out")[1]))
            return found

        def result(found: Any) -> Arrays:
            detections = [
                detection_rows(i, image[:, 0], image[:, 1], image[:, 2:6][:, swap])
                for i, image in enumerate(found)
            ]
            return {"rows": np.concatenate(detections)}

        return Prepared(call, result, "one image a call")

    return {"DetectionOutput": build}


TASKS: dict[str, Task] = {"postprocess": _postprocess}
