# SPDX-License-Identifier: Apache-2.0
"""`ssdops` itself: the public functions, called eagerly, on native kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    MAX_DETECTIONS,
    NEGATIVE_RATIO,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)

__all__ = ["TASKS", "start", "tasks"]

_SUPPRESSION = {
    "score_threshold": SCORE_THRESHOLD,
    "iou_threshold": IOU_THRESHOLD,
    "pre_nms_top_k": PRE_NMS_TOP_K,
    "max_detections": MAX_DETECTIONS,
}


def start(threads: int) -> None:
    """Import TensorFlow and fix its threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def tasks(implementation: str) -> dict[str, Task]:
    """The tasks on one implementation of the ops.

    Args:
        implementation: `"native"` or `"reference"`.
    """
    return {
        name: functools.partial(variants, implementation)
        for name, variants in {
            "suppress": _suppress,
            "postprocess": _postprocess,
            "detect": _detect,
            "assign": _assign,
            "encode": _encode,
            "decode": _decode,
            "mine": _mine,
            "nms": _nms,
            "loss": _loss,
            "iou": _iou,
        }.items()
    }


def _tensors(arrays: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def _public(name: str, implementation: str) -> Callable[..., Any]:
    from ssdops import ops

    return functools.partial(getattr(ops, name), implementation=implementation)


def _rows(found: Any) -> Arrays:
    boxes, scores, classes, numbers = (tensor.numpy() for tensor in found[:4])
    rows = [
        detection_rows(i, classes[i, :n], scores[i, :n], boxes[i, :n])
        for i, n in enumerate(numbers)
    ]
    return {"rows": np.concatenate(rows)}


def _suppress(implementation: str, arrays: Arrays) -> Variants:
    def build() -> Prepared:
        op = _public("batched_nms", implementation)
        given = tuple(_tensors(arrays).values())
        return Prepared(lambda: op(*given, **_SUPPRESSION), _rows)

    return {"": build}


def _postprocess(implementation: str, arrays: Arrays) -> Variants:
    def fused() -> Prepared:
        op = _public("detect", implementation)
        scores, offsets, anchors = _tensors(arrays).values()
        return Prepared(
            lambda: op(
                scores, offsets, anchors, score_activation="none", **_SUPPRESSION
            ),
            _rows,
        )

    def two_ops() -> Prepared:
        decode = _public("decode_boxes", implementation)
        suppress = _public("batched_nms", implementation)
        scores, offsets, anchors = _tensors(arrays).values()
        return Prepared(
            lambda: suppress(decode(offsets, anchors), scores, **_SUPPRESSION), _rows
        )

    return {"": fused, "decode_boxes + batched_nms": two_ops}


def _detect(implementation: str, arrays: Arrays) -> Variants:
    def fused() -> Prepared:
        op = _public("detect", implementation)
        logits, offsets, anchors = _tensors(arrays).values()
        return Prepared(
            lambda: op(
                logits, offsets, anchors, score_activation="softmax", **_SUPPRESSION
            ),
            _rows,
        )

    def three_ops() -> Prepared:
        import tensorflow as tf

        decode = _public("decode_boxes", implementation)
        suppress = _public("batched_nms", implementation)
        logits, offsets, anchors = _tensors(arrays).values()
        return Prepared(
            lambda: suppress(
                decode(offsets, anchors), tf.nn.softmax(logits), **_SUPPRESSION
            ),
            _rows,
        )

    return {"": fused, "softmax + decode_boxes + batched_nms": three_ops}


def _assign(implementation: str, arrays: Arrays) -> Variants:
    def result(found: Any) -> Arrays:
        return {"classes": found[0].numpy(), "offsets": found[1].numpy()}

    def fused() -> Prepared:
        op = _public("assign_targets", implementation)
        given = tuple(_tensors(arrays).values())
        return Prepared(lambda: op(*given, iou_threshold=MATCH_THRESHOLD), result)

    def two_ops() -> Prepared:
        import tensorflow as tf

        match = _public("match_anchors", implementation)
        encode = _public("encode_boxes", implementation)
        anchors, gt_boxes, gt_labels = _tensors(arrays).values()

        def call() -> Any:
            matched, _ = match(
                anchors, gt_boxes, gt_labels, iou_threshold=MATCH_THRESHOLD
            )
            positive = matched >= 0
            row = tf.maximum(matched, 0)
            labels = tf.gather(gt_labels, row, batch_dims=1)
            offsets = encode(tf.gather(gt_boxes, row, batch_dims=1), anchors)
            return (
                tf.where(positive, labels, 0),
                tf.where(positive[..., None], offsets, 0.0),
            )

        return Prepared(call, result)

    variants: Variants = {"": fused}
    if arrays["gt_labels"].size:
        variants["match_anchors + encode_boxes"] = two_ops
    return variants


def _encode(implementation: str, arrays: Arrays) -> Variants:
    return _plain("encode_boxes", "offsets", implementation, arrays)


def _decode(implementation: str, arrays: Arrays) -> Variants:
    return _plain("decode_boxes", "boxes", implementation, arrays)


def _iou(implementation: str, arrays: Arrays) -> Variants:
    return _plain("box_iou", "iou", implementation, arrays)


def _plain(name: str, output: str, implementation: str, arrays: Arrays) -> Variants:
    def build() -> Prepared:
        op = _public(name, implementation)
        given = tuple(_tensors(arrays).values())
        return Prepared(lambda: op(*given), lambda found: {output: found.numpy()})

    return {"": build}


def _mine(implementation: str, arrays: Arrays) -> Variants:
    def build() -> Prepared:
        op = _public("mine_hard_negatives", implementation)
        given = tuple(_tensors(arrays).values())
        return Prepared(
            lambda: op(*given, negative_ratio=NEGATIVE_RATIO),
            lambda found: {"mined": found.numpy().astype(bool)},
        )

    return {"": build}


def _nms(implementation: str, arrays: Arrays) -> Variants:
    def single() -> Prepared:
        op = _public("nms", implementation)
        boxes, scores = _tensors(arrays).values()
        return Prepared(
            lambda: op(boxes, scores, iou_threshold=SINGLE_CLASS_IOU_THRESHOLD),
            lambda found: {"indices": found.indices.numpy()[: int(found.num_valid)]},
        )

    def batched() -> Prepared:
        op = _public("batched_nms", implementation)
        boxes, scores = _tensors(arrays).values()
        options = {
            "iou_threshold": SINGLE_CLASS_IOU_THRESHOLD,
            "score_threshold": 0.0,
            "pre_nms_top_k": None,
            "max_detections": max(len(arrays["scores"]), 1),
            "background_class": None,
            "return_anchor_indices": True,
        }
        return Prepared(
            lambda: op(boxes[None], scores[None, :, None], **options),
            lambda found: {
                "indices": found.anchor_indices.numpy()[
                    0, : int(found.num_detections[0])
                ]
            },
        )

    return {"": single, "batched_nms": batched}


def _loss(implementation: str, arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import tensorflow as tf

        op = _public("multibox_loss", implementation)
        logits, offsets, classes, targets = _tensors(arrays).values()

        def call() -> Any:
            with tf.GradientTape() as tape:
                tape.watch([logits, offsets])
                # The total comes first, its parts follow.
                total = tf.nest.flatten(op(logits, offsets, classes, targets))[0]
            return total, *tape.gradient(total, [logits, offsets])

        return Prepared(call, _gradients)

    return {"": build}


def _gradients(found: Any) -> Arrays:
    names = ("loss", "grad_logits", "grad_offsets")
    return {name: value.numpy() for name, value in zip(names, found, strict=True)}


TASKS = tasks("native")
