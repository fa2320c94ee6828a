# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: small graphs around its `NonMaxSuppression`, and elementwise ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred, detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_NO_MERGING = "without a limit before suppression and without merging the classes"
_threads = 1


def start(threads: int) -> None:
    """Import ONNX Runtime; every session gets that many threads."""
    import onnxruntime  # noqa: F401

    global _threads  # noqa: PLW0603 - sessions are made later
    _threads = threads


class _Graph:
    """Collects nodes and constants, and makes a session of them."""

    def __init__(self, inputs: dict[str, Sequence[int]]) -> None:
        from onnx import TensorProto, helper

        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ]

    def constant(self, value: Any) -> str:
        """Name of a constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Name of the output of a new node."""
        from onnx import helper

        name = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def part(self, value: str, axis: int, first: int, last: int) -> str:
        """`value[..., first:last]` along an axis."""
        bounds = [self.constant(np.array([n], np.int64)) for n in (first, last, axis)]
        return self.add("Slice", value, *bounds)

    def session(self, output: str, integers: bool = False) -> Any:
        """An inference session that returns one output."""
        import onnxruntime
        from onnx import TensorProto, helper

        dtype = TensorProto.INT64 if integers else TensorProto.FLOAT
        result = helper.make_tensor_value_info(output, dtype, None)
        graph = helper.make_graph(
            self.nodes, "graph", self.inputs, [result], self.constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def _suppression(
    graph: _Graph, boxes: str, scores: str, most: int, iou: float, threshold: float
) -> str:
    return graph.add(
        "NonMaxSuppression",
        boxes,
        scores,
        graph.constant(np.array([most], np.int64)),
        graph.constant(np.array([iou], np.float32)),
        graph.constant(np.array([threshold], np.float32)),
    )


def _foreground(graph: _Graph, scores: str, num_classes: int) -> str:
    """Scores `[B, A, C]` as `[B, C - 1, A]`, without the background."""
    across = graph.add("Transpose", scores, perm=[0, 2, 1])
    return graph.part(across, 1, 1, num_classes)


def _decoded(graph: _Graph, offsets: str, anchors: Any) -> str:
    scale = np.asarray(VARIANCES, np.float32)
    shift = graph.add(
        "Mul",
        graph.part(offsets, 2, 0, 2),
        graph.constant(scale[:2] * anchors[:, 2:]),
    )
    centre = graph.add("Add", shift, graph.constant(anchors[:, :2]))
    stretch = graph.add("Mul", graph.part(offsets, 2, 2, 4), graph.constant(scale[2:]))
    half = graph.add(
        "Mul", graph.add("Exp", stretch), graph.constant(anchors[:, 2:] * 0.5)
    )
    corners = [graph.add(op, centre, half) for op in ("Sub", "Add")]
    return graph.add("Concat", *corners, axis=2)


def _best(selected: Any, boxes: Any, scores: Any) -> Arrays:
    """The best detections of every image among the selected ones."""
    rows = []
    for i in range(len(boxes)):
        chosen = selected[selected[:, 0] == i]
        label, anchor = chosen[:, 1] + 1, chosen[:, 2]
        values = scores[i][anchor, label]
        order = np.argsort(-values, kind="stable")[:MAX_DETECTIONS]
        rows.append(
            detection_rows(i, label[order], values[order], boxes[i][anchor[order]])
        )
    return {"rows": np.concatenate(rows)}


def _suppress(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()

    def build() -> Prepared:
        graph = _Graph({"boxes": boxes.shape, "scores": scores.shape})
        across = _foreground(graph, "scores", scores.shape[2])
        session = graph.session(
            _suppression(
                graph, "boxes", across, MAX_DETECTIONS, IOU_THRESHOLD, SCORE_THRESHOLD
            ),
            integers=True,
        )
        return Prepared(
            lambda: session.run(None, {"boxes": boxes, "scores": scores}),
            lambda found: _best(found[0], boxes, scores),
            _NO_MERGING,
        )

    return {"Transpose + NonMaxSuppression": build}


def _postprocess(arrays: Arrays) -> Variants:
    from ssdops.benchmarking.arithmetic import decode

    scores, offsets, corners = arrays.values()

    def build() -> Prepared:
        anchors = centred(corners)
        graph = _Graph({"offsets": offsets.shape, "scores": scores.shape})
        across = _foreground(graph, "scores", scores.shape[2])
        boxes = _decoded(graph, "offsets", anchors)
        session = graph.session(
            _suppression(
                graph, boxes, across, MAX_DETECTIONS, IOU_THRESHOLD, SCORE_THRESHOLD
            ),
            integers=True,
        )
        return Prepared(
            lambda: session.run(None, {"offsets": offsets, "scores": scores}),
            lambda found: _best(found[0], decode(offsets, anchors), scores),
            _NO_MERGING,
        )

    return {"decode + Transpose + NonMaxSuppression": build}


def _nms(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()
    given = {"boxes": boxes[None], "scores": scores[None, None]}

    def build() -> Prepared:
        graph = _Graph({name: array.shape for name, array in given.items()})
        session = graph.session(
            _suppression(
                graph, "boxes", "scores", len(scores), SINGLE_CLASS_IOU_THRESHOLD, 0.0
            ),
            integers=True,
        )
        return Prepared(
            lambda: session.run(None, given),
            lambda found: {"indices": found[0][:, 2]},
        )

    return {"NonMaxSuppression": build}


def _decode(arrays: Arrays) -> Variants:
    offsets, corners = arrays.values()

    def build() -> Prepared:
        graph = _Graph({"offsets": offsets.shape})
        session = graph.session(_decoded(graph, "offsets", centred(corners)))
        return Prepared(
            lambda: session.run(None, {"offsets": offsets}),
            lambda found: {"boxes": found[0]},
        )

    return {"graph": build}


def _encode(arrays: Arrays) -> Variants:
    boxes, corners = arrays.values()

    def build() -> Prepared:
        anchors = centred(corners)
        scale = np.asarray(VARIANCES, np.float32)
        graph = _Graph({"boxes": boxes.shape})
        low, high = (graph.part("boxes", 2, n, n + 2) for n in (0, 2))
        half = graph.constant(np.float32(0.5))
        centre = graph.add("Mul", graph.add("Add", low, high), half)
        shift = graph.add("Sub", centre, graph.constant(anchors[:, :2]))
        shift = graph.add(
            "Mul", shift, graph.constant(1 / (anchors[:, 2:] * scale[:2]))
        )
        ratio = graph.add(
            "Mul", graph.add("Sub", high, low), graph.constant(1 / anchors[:, 2:])
        )
        stretch = graph.add(
            "Mul", graph.add("Log", ratio), graph.constant(1 / scale[2:])
        )
        session = graph.session(graph.add("Concat", shift, stretch, axis=2))
        return Prepared(
            lambda: session.run(None, {"boxes": boxes}),
            lambda found: {"offsets": found[0]},
        )

    return {"graph": build}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "encode": _encode,
    "decode": _decode,
    "nms": _nms,
}
