# SPDX-License-Identifier: Apache-2.0
"""A small detection function made of the public ops, as a model would contain it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Detector(tf.Module):
    """Turns offsets `[B, A, 4]` and logits `[B, A, C]` into detections.

    Args:
        anchors: `[A, 4]`.
        num_classes: background included.
        implementation: of the ops.
    """

    def __init__(self, anchors: Any, num_classes: int, implementation: str) -> None:
        super().__init__()
        self.anchors = tf.constant(anchors)
        self.implementation = implementation
        count = len(anchors)
        self.detect = tf.function(
            self._detect,
            input_signature=[
                tf.TensorSpec([None, count, 4], self.anchors.dtype),
                tf.TensorSpec([None, count, num_classes], self.anchors.dtype),
            ],
            autograph=False,
        )

    def _detect(self, offsets: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        from ssdops import batched_nms, decode_boxes

        boxes = decode_boxes(offsets, self.anchors, implementation=self.implementation)
        found = batched_nms(
            boxes,
            tf.nn.softmax(logits),
            max_detections=20,
            return_anchor_indices=True,
            implementation=self.implementation,
        )
        return found._asdict()
