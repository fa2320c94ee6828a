# SPDX-License-Identifier: Apache-2.0
"""What a TensorFlow user has without `ssdops`: its image ops, and compositions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred, detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    MAX_DETECTIONS,
    NEGATIVE_RATIO,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_FORCED = "each object takes its best anchor, without the global order"


def start(threads: int) -> None:
    """Import TensorFlow and fix its threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _compiled(function: Callable[..., Any], *given: Any, xla: bool) -> Any:
    """A call of the function as a graph, with the inputs as tensors."""
    import tensorflow as tf

    tensors = [tf.constant(array) for array in given]
    graph = tf.function(function, jit_compile=xla)
    return lambda: graph(*tensors)


def _decode(offsets: Any, anchors: Any) -> Any:
    """Boxes `[..., 4]`; anchors as centres and sizes."""
    import tensorflow as tf

    scale = tf.constant(VARIANCES, tf.float32)
    centre = offsets[..., :2] * scale[:2] * anchors[:, 2:] + anchors[:, :2]
    half = tf.exp(offsets[..., 2:] * scale[2:]) * anchors[:, 2:] * 0.5
    return tf.concat([centre - half, centre + half], -1)


def _encode(boxes: Any, anchors: Any) -> Any:
    """Offsets `[..., 4]`; anchors as centres and sizes."""
    import tensorflow as tf

    scale = tf.constant(VARIANCES, tf.float32)
    centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    size = boxes[..., 2:] - boxes[..., :2]
    shift = (centre - anchors[:, :2]) / anchors[:, 2:] / scale[:2]
    stretch = tf.math.log(size / anchors[:, 2:]) / scale[2:]
    return tf.concat([shift, stretch], -1)


def _combined(boxes: Any, scores: Any) -> Any:
    import tensorflow as tf

    return tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores[:, :, 1:],
        max_output_size_per_class=MAX_DETECTIONS,
        max_total_size=MAX_DETECTIONS,
        iou_threshold=IOU_THRESHOLD,
        score_threshold=SCORE_THRESHOLD,
        clip_boxes=False,
    )


def _rows(found: Any) -> Arrays:
    boxes, scores, classes, numbers = (tensor.numpy() for tensor in found)
    rows = [
        detection_rows(i, classes[i, :n] + 1, scores[i, :n], boxes[i, :n])
        for i, n in enumerate(numbers)
    ]
    return {"rows": np.concatenate(rows)}


_COMBINED = "combined_non_max_suppression"


def _suppress(arrays: Arrays) -> Variants:
    return {
        _COMBINED: lambda: Prepared(
            _compiled(_combined, *arrays.values(), xla=False), _rows
        )
    }


def _postprocess(arrays: Arrays) -> Variants:
    scores, offsets, corners = arrays.values()

    def build() -> Prepared:
        anchors = centred(corners)
        return Prepared(
            _compiled(
                lambda o, s: _combined(_decode(o, anchors), s),
                offsets,
                scores,
                xla=False,
            ),
            _rows,
        )

    return {f"decode + {_COMBINED}": build}


def _detect(arrays: Arrays) -> Variants:
    logits, offsets, corners = arrays.values()

    def build() -> Prepared:
        import tensorflow as tf

        anchors = centred(corners)
        return Prepared(
            _compiled(
                lambda o, x: _combined(_decode(o, anchors), tf.nn.softmax(x)),
                offsets,
                logits,
                xla=False,
            ),
            _rows,
        )

    return {f"softmax + decode + {_COMBINED}": build}


def _overlaps(gt_boxes: Any, anchors: Any) -> Any:
    """IoU `[..., G, A]` of boxes `[..., G, 4]` with anchors `[A, 4]`."""
    import tensorflow as tf

    b = [x[..., None] for x in tf.unstack(gt_boxes, axis=-1)]
    a = tf.unstack(anchors, axis=-1)
    height = tf.maximum(tf.minimum(b[2], a[2]) - tf.maximum(b[0], a[0]), 0.0)
    width = tf.maximum(tf.minimum(b[3], a[3]) - tf.maximum(b[1], a[1]), 0.0)
    common = height * width
    areas = (b[2] - b[0]) * (b[3] - b[1]) + (a[2] - a[0]) * (a[3] - a[1])
    return tf.where(common > 0, common / (areas - common), 0.0)


def _assign(arrays: Arrays) -> Variants:
    corners, gt_boxes, gt_labels = arrays.values()
    anchors = centred(corners)
    number = len(anchors)
    if not number:
        return {}  # argmax refuses an axis of length 0

    def targets(boxes: Any, labels: Any, row: Any, positive: Any) -> Any:
        import tensorflow as tf

        batch_dims = len(labels.shape) - 1
        matched = tf.gather(boxes, row, batch_dims=batch_dims)
        unit = tf.constant([0.0, 0.0, 1.0, 1.0])
        offsets = _encode(tf.where(positive[..., None], matched, unit), anchors)
        return (
            tf.where(positive, tf.gather(labels, row, batch_dims=batch_dims), 0),
            tf.where(positive[..., None], offsets, 0.0),
        )

    def one_hot(boxes: Any, labels: Any) -> Any:
        import tensorflow as tf

        real = labels > 0
        iou = tf.where(real[:, :, None], _overlaps(boxes, corners), -1.0)
        best = tf.argmax(iou, 2, tf.int32)
        forced = tf.one_hot(best, number) * tf.cast(real, tf.float32)[:, :, None]
        is_forced = tf.reduce_max(forced, 1) > 0
        row = tf.where(
            is_forced, tf.argmax(forced, 1, tf.int32), tf.argmax(iou, 1, tf.int32)
        )
        positive = is_forced | (tf.reduce_max(iou, 1) >= MATCH_THRESHOLD)
        return targets(boxes, labels, row, positive)

    def scattered(boxes: Any, labels: Any) -> Any:
        import tensorflow as tf

        real = labels > 0
        batch, largest = labels.shape
        iou = tf.where(real[:, :, None], _overlaps(boxes, corners), -1.0)
        best = tf.argmax(iou, 2, tf.int32)
        image = tf.broadcast_to(tf.range(batch)[:, None], [batch, largest])
        # The lowest row wins where two objects want the same anchor.
        rank = tf.where(real, largest - 1 - tf.range(largest)[None], -1)
        forced = tf.tensor_scatter_nd_max(
            tf.fill([batch, number], -1), tf.stack([image, best], -1), rank
        )
        row = tf.where(forced >= 0, largest - 1 - forced, tf.argmax(iou, 1, tf.int32))
        positive = (forced >= 0) | (tf.reduce_max(iou, 1) >= MATCH_THRESHOLD)
        return targets(boxes, labels, row, positive)

    def mapped(boxes: Any, labels: Any) -> Any:
        import tensorflow as tf

        def one(image: Any) -> Any:
            count = tf.reduce_sum(tf.cast(image[1] > 0, tf.int32))
            some, names = image[0][:count], image[1][:count]
            iou = _overlaps(some, corners)
            best = tf.argmax(iou, 1, tf.int32)
            forced = tf.tensor_scatter_nd_max(
                tf.fill([number], -1), best[:, None], count - 1 - tf.range(count)
            )
            row = tf.where(forced >= 0, count - 1 - forced, tf.argmax(iou, 0, tf.int32))
            positive = (forced >= 0) | (tf.reduce_max(iou, 0) >= MATCH_THRESHOLD)
            return targets(some, names, row, positive)

        return tf.map_fn(
            one,
            (boxes, labels),
            fn_output_signature=(tf.int32, tf.float32),
            parallel_iterations=8,
        )

    def result(found: Any) -> Arrays:
        return {"classes": found[0].numpy(), "offsets": found[1].numpy()}

    def variant(function: Callable[..., Any], xla: bool) -> Callable[[], Prepared]:
        return lambda: Prepared(
            _compiled(function, gt_boxes, gt_labels, xla=xla), result, _FORCED
        )

    return {
        "one-hot": variant(one_hot, xla=False),
        "map over images": variant(mapped, xla=False),
        "scatter, XLA": variant(scattered, xla=True),
    }


def _coding(function: Callable[..., Any], output: str) -> Task:
    def task(arrays: Arrays) -> Variants:
        given, corners = arrays.values()
        anchors = centred(corners)

        def variant(xla: bool) -> Prepared:
            return Prepared(
                _compiled(lambda x: function(x, anchors), given, xla=xla),
                lambda found: {output: found.numpy()},
            )

        return {"ops": lambda: variant(False), "XLA": lambda: variant(True)}

    return task


def _mine(arrays: Arrays) -> Variants:
    number = arrays["losses"].shape[1]

    def ranked(losses: Any, classes: Any) -> Any:
        import tensorflow as tf

        positive = classes > 0
        wanted = NEGATIVE_RATIO * tf.math.count_nonzero(
            positive, 1, keepdims=True, dtype=tf.int32
        )
        candidates = tf.where(positive, -1.0, losses)
        order = tf.argsort(candidates, direction="DESCENDING", stable=True)
        return (tf.argsort(order) < wanted) & ~positive

    def thresholded(losses: Any, classes: Any) -> Any:
        import tensorflow as tf

        positive = classes > 0
        wanted = NEGATIVE_RATIO * tf.math.count_nonzero(positive, 1, dtype=tf.int32)
        candidates = tf.where(positive, -1.0, losses)
        best, _ = tf.math.top_k(candidates, tf.minimum(tf.reduce_max(wanted), number))
        last = tf.gather(best, tf.maximum(wanted - 1, 0), batch_dims=1)
        return (candidates >= last[:, None]) & ~positive & (wanted > 0)[:, None]

    def variant(function: Callable[..., Any]) -> Prepared:
        return Prepared(
            _compiled(function, *arrays.values(), xla=False),
            lambda found: {"mined": found.numpy()},
        )

    if not number:
        return {"argsort of argsort": lambda: variant(ranked)}
    return {
        "argsort of argsort": lambda: variant(ranked),
        "top_k": lambda: variant(thresholded),
    }


def _nms(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import tensorflow as tf

        boxes, scores = (tf.constant(array) for array in arrays.values())
        return Prepared(
            lambda: tf.image.non_max_suppression(
                boxes, scores, len(arrays["scores"]), SINGLE_CLASS_IOU_THRESHOLD
            ),
            lambda found: {"indices": found.numpy()},
        )

    return {"non_max_suppression": build}


def _loss(arrays: Arrays) -> Variants:
    def forward(logits: Any, offsets: Any, classes: Any, targets: Any) -> Any:
        import tensorflow as tf

        positive = classes > 0
        number = tf.math.count_nonzero(positive, dtype=tf.int32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
        wanted = NEGATIVE_RATIO * tf.math.count_nonzero(
            positive, 1, keepdims=True, dtype=tf.int32
        )
        candidates = tf.where(positive, -1.0, tf.stop_gradient(losses))
        order = tf.argsort(candidates, direction="DESCENDING", stable=True)
        counted = positive | (tf.argsort(order) < wanted)
        distance = tf.abs(offsets - targets)
        smooth = tf.where(distance < 1, 0.5 * distance**2, distance - 0.5)
        total = tf.reduce_sum(tf.where(counted, losses, 0.0))
        total += tf.reduce_sum(tf.where(positive[..., None], smooth, 0.0))
        return total / tf.cast(tf.maximum(number, 1), tf.float32)

    def both(logits: Any, offsets: Any, classes: Any, targets: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch([logits, offsets])
            total = forward(logits, offsets, classes, targets)
        return total, *tape.gradient(total, [logits, offsets])

    def variant(xla: bool) -> Prepared:
        names = ("loss", "grad_logits", "grad_offsets")
        return Prepared(
            _compiled(both, *arrays.values(), xla=xla),
            lambda found: {
                name: value.numpy() for name, value in zip(names, found, strict=True)
            },
        )

    return {"ops": lambda: variant(False), "XLA": lambda: variant(True)}


def _iou(arrays: Arrays) -> Variants:
    def variant(xla: bool) -> Prepared:
        return Prepared(
            _compiled(_overlaps, *arrays.values(), xla=xla),
            lambda found: {"iou": found.numpy()},
        )

    return {"ops": lambda: variant(False), "XLA": lambda: variant(True)}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "detect": _detect,
    "assign": _assign,
    "encode": _coding(_encode, "offsets"),
    "decode": _coding(_decode, "boxes"),
    "mine": _mine,
    "nms": _nms,
    "loss": _loss,
    "iou": _iou,
}
