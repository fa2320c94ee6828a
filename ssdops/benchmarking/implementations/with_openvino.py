# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: its detection ops, and elementwise graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred, detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_threads = 1


def start(threads: int) -> None:
    """Import OpenVINO; every compiled model gets that many threads."""
    import openvino  # noqa: F401

    global _threads  # noqa: PLW0603 - models are compiled later
    _threads = threads


def _compiled(outputs: Any, parameters: Any) -> Callable[..., Any]:
    """A function from input arrays to the outputs, views of the memory inside."""
    import openvino

    model = openvino.Model(outputs, parameters, "model")
    settings = {
        "INFERENCE_NUM_THREADS": _threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(model, "CPU", settings)
    inference = request.create_infer_request()

    def call(*arrays: Any) -> Any:
        for i, array in enumerate(arrays):
            tensor = openvino.Tensor(array, shared_memory=True)
            inference.set_input_tensor(i, tensor)
        inference.infer()
        return [inference.get_output_tensor(i).data for i in range(len(outputs))]

    return call


def _parameter(array: Any) -> Any:
    import openvino.opset9 as ops

    return ops.parameter(list(array.shape), np.float32)


def _suppress(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()

    def build() -> Prepared:
        import openvino.opset9 as ops

        parameters = [_parameter(boxes), _parameter(scores)]
        across = ops.transpose(parameters[1], np.array([0, 2, 1]))
        found = ops.multiclass_nms(
            parameters[0],
            across,
            None,
            sort_result_type="none",
            sort_result_across_batch=False,
            output_type="i32",
            iou_threshold=IOU_THRESHOLD,
            score_threshold=SCORE_THRESHOLD,
            nms_top_k=PRE_NMS_TOP_K,
            keep_top_k=MAX_DETECTIONS,
            background_class=0,
            normalized=True,
            nms_eta=1.0,
        )
        model = _compiled([found.output(0), found.output(2)], parameters)

        def result(outputs: Any) -> Arrays:
            rows, numbers = outputs
            rows = rows[: numbers.sum()]
            image = np.repeat(np.arange(len(numbers)), numbers)
            return {"rows": detection_rows(image, rows[:, 0], rows[:, 1], rows[:, 2:6])}

        return Prepared(lambda: model(boxes, scores), result)

    return {"Transpose + MulticlassNms": build}


def _postprocess(arrays: Arrays) -> Variants:
    scores, offsets, corners = arrays.values()

    def build() -> Prepared:
        import openvino.opset8 as ops

        # x before y there.
        swap = [1, 0, 3, 2]
        batch = len(scores)
        flat_scores = scores.reshape(batch, -1)
        flat_offsets = np.ascontiguousarray(offsets[..., swap]).reshape(batch, -1)
        scale = np.tile(np.asarray(VARIANCES, np.float32), len(corners))
        priors = np.stack([corners[:, swap].reshape(-1), scale])[None]
        parameters = [_parameter(a) for a in (flat_offsets, flat_scores, priors)]
        found = ops.detection_output(
            *parameters,
            {
                "background_label_id": 0,
                "top_k": PRE_NMS_TOP_K,
                "keep_top_k": np.array([MAX_DETECTIONS]),
                "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
                "share_location": True,
                "variance_encoded_in_target": False,
                "nms_threshold": IOU_THRESHOLD,
                "confidence_threshold": SCORE_THRESHOLD,
                "clip_after_nms": False,
                "clip_before_nms": False,
                "decrease_label_id": False,
                "normalized": True,
                "input_height": 1,
                "input_width": 1,
                "objectness_score": 0.0,
            },
        )
        model = _compiled([found.output(0)], parameters)

        def result(outputs: Any) -> Arrays:
            rows = outputs[0].reshape(-1, 7)
            end = np.flatnonzero(rows[:, 0] < 0)
            rows = rows[: end[0]] if len(end) else rows
            corners = rows[:, 3:][:, swap]
            return {"rows": detection_rows(rows[:, 0], rows[:, 1], rows[:, 2], corners)}

        return Prepared(lambda: model(flat_offsets, flat_scores, priors), result)

    return {"DetectionOutput": build}


def _nms(arrays: Arrays) -> Variants:
    boxes, scores = arrays["boxes"][None], arrays["scores"][None, None]

    def build() -> Prepared:
        import openvino.opset9 as ops

        parameters = [_parameter(boxes), _parameter(scores)]
        found = ops.non_max_suppression(
            *parameters,
            np.int64(scores.size),
            np.float32(SINGLE_CLASS_IOU_THRESHOLD),
            np.float32(0.0),
            box_encoding="corner",
            sort_result_descending=False,
            output_type="i32",
        )
        model = _compiled([found.output(0), found.output(2)], parameters)
        return Prepared(
            lambda: model(boxes, scores),
            lambda outputs: {"indices": outputs[0][: int(outputs[1][0]), 2].copy()},
        )

    return {"NonMaxSuppression": build}


def _parts(value: Any) -> list[Any]:
    """The first and the last two of the four numbers of every row."""
    import openvino.opset9 as ops

    step, axis = np.array([1]), np.array([-1])
    return [
        ops.slice(value, np.array([first]), np.array([first + 2]), step, axis)
        for first in (0, 2)
    ]


def _encode(arrays: Arrays) -> Variants:
    boxes, corners = arrays.values()

    def build() -> Prepared:
        import openvino.opset9 as ops

        anchors = centred(corners)
        scale = np.asarray(VARIANCES, np.float32)
        parameter = _parameter(boxes)
        low, high = _parts(parameter)
        centre = ops.multiply(ops.add(low, high), ops.constant(np.float32(0.5)))
        shift = ops.multiply(
            ops.subtract(centre, ops.constant(anchors[:, :2])),
            ops.constant(1 / (anchors[:, 2:] * scale[:2])),
        )
        ratio = ops.multiply(ops.subtract(high, low), ops.constant(1 / anchors[:, 2:]))
        stretch = ops.multiply(ops.log(ratio), ops.constant(1 / scale[2:]))
        model = _compiled([ops.concat([shift, stretch], -1)], [parameter])
        return Prepared(
            lambda: model(boxes), lambda outputs: {"offsets": outputs[0].copy()}
        )

    return {"graph": build}


def _decode(arrays: Arrays) -> Variants:
    offsets, corners = arrays.values()

    def build() -> Prepared:
        import openvino.opset9 as ops

        anchors = centred(corners)
        scale = np.asarray(VARIANCES, np.float32)
        parameter = _parameter(offsets)
        shift, stretch = _parts(parameter)
        centre = ops.add(
            ops.multiply(shift, ops.constant(scale[:2] * anchors[:, 2:])),
            ops.constant(anchors[:, :2]),
        )
        half = ops.multiply(
            ops.exp(ops.multiply(stretch, ops.constant(scale[2:]))),
            ops.constant(anchors[:, 2:] * 0.5),
        )
        both = ops.concat([ops.subtract(centre, half), ops.add(centre, half)], -1)
        model = _compiled([both], [parameter])
        return Prepared(
            lambda: model(offsets), lambda outputs: {"boxes": outputs[0].copy()}
        )

    return {"graph": build}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "encode": _encode,
    "decode": _decode,
    "nms": _nms,
}
