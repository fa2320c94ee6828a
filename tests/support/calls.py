# SPDX-License-Identifier: Apache-2.0
"""One small call of every function of the native module, for what holds for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from support.cases import random_boxes, random_labels, tied_scores

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Call:
    """A call.

    Attributes:
        inputs: arrays.
        batched: for each of them, whether its first axis is the image.
        options: keywords.
        by_image: whether every result belongs to an image, along its first axis.
    """

    inputs: tuple[Array, ...]
    batched: tuple[bool, ...]
    options: dict[str, Any] = field(default_factory=dict)
    by_image: bool = True

    def of_images(self, images: slice) -> tuple[Array, ...]:
        """The inputs of some of the images."""
        return tuple(
            array[images] if batched else array
            for array, batched in zip(self.inputs, self.batched, strict=True)
        )


def _box_iou(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    boxes = random_boxes(rng, batch, 37, dtype=dtype)
    return Call((boxes, random_boxes(rng, 21, dtype=dtype)), (True, False))


def _box_iou_grad(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    call = _box_iou(rng, batch, dtype)
    grad = rng.normal(size=(batch, 37, 21)).astype(dtype)
    return Call((grad, *call.inputs), (True, True, False), by_image=False)


def _coding(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    values = rng.normal(0, 0.5, (batch, 61, 4)).astype(dtype)
    return Call((values, random_boxes(rng, 61, dtype=dtype)), (True, False))


def _encode(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    boxes = random_boxes(rng, batch, 61, dtype=dtype)
    return Call((boxes, random_boxes(rng, 61, dtype=dtype)), (True, False))


def _coding_grad(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    values, anchors = _encode(rng, batch, dtype).inputs
    grad = rng.normal(size=values.shape).astype(dtype)
    return Call((grad, values, anchors), (True, True, False))


def _matching(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    boxes = random_boxes(rng, batch, 11, dtype=dtype)
    labels = random_labels(rng, batch, 11)
    anchors = random_boxes(rng, 300, dtype=dtype)
    return Call((anchors, boxes, labels), (False, True, True))


def _mining(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    losses = tied_scores(rng, batch, 300, dtype=dtype, steps=50)
    classes = rng.choice([-1, 0, 1], (batch, 300), p=[0.1, 0.8, 0.1]).astype(np.int32)
    return Call((losses, classes), (True, True))


def _loss(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    logits = rng.normal(size=(batch, 61, 21)).astype(dtype)
    offsets = rng.normal(size=(batch, 61, 4)).astype(dtype)
    classes = rng.choice([-1, 0, 1, 20], (batch, 61), p=[0.1, 0.7, 0.1, 0.1])
    targets = rng.normal(size=(batch, 61, 4)).astype(dtype)
    inputs = (logits, offsets, classes.astype(np.int32), targets)
    return Call(inputs, (True,) * 4, by_image=False)


def _detect(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    logits = rng.normal(0, 2, (batch, 300, 5)).astype(dtype)
    offsets = rng.normal(0, 0.5, (batch, 300, 4)).astype(dtype)
    anchors = random_boxes(rng, 300, dtype=dtype)
    options = {"score_limits": [np.inf, 0.2, 0.2, 0.2, 0.2], "max_detections": 20}
    return Call((logits, offsets, anchors), (True, True, False), options)


def _batched_nms(method: str) -> Callable[..., Call]:
    def make(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
        boxes = random_boxes(rng, batch, 100, dtype=dtype)
        scores = tied_scores(rng, batch, 100, 4, dtype=dtype, steps=40)
        options = {"method": method, "max_detections": 30, "pre_nms_top_k": 40}
        return Call((boxes, scores), (True, True), options)

    return make


def _nms(rng: np.random.Generator, batch: int, dtype: Any) -> Call:
    boxes = random_boxes(rng, 300, dtype=dtype)
    scores = tied_scores(rng, 300, dtype=dtype, steps=40)
    return Call((boxes, scores), (False, False), by_image=False)


NMS_METHODS = (
    "greedy",
    "soft_linear",
    "soft_gaussian",
    "matrix_linear",
    "matrix_gaussian",
    "weighted",
)

CALLS: dict[str, tuple[str, Callable[..., Call]]] = {
    "box_iou": ("box_iou", _box_iou),
    "box_iou_grad": ("box_iou_grad", _box_iou_grad),
    "match_anchors": ("match_anchors", _matching),
    "assign_targets": ("assign_targets", _matching),
    "encode_boxes": ("encode_boxes", _encode),
    "encode_boxes_grad": ("encode_boxes_grad", _coding_grad),
    "decode_boxes": ("decode_boxes", _coding),
    "decode_boxes_grad": ("decode_boxes_grad", _coding_grad),
    "mine_hard_negatives": ("mine_hard_negatives", _mining),
    "multibox_loss": ("multibox_loss", _loss),
    "detect": ("detect", _detect),
    **{f"batched_nms_{m}": ("batched_nms", _batched_nms(m)) for m in NMS_METHODS},
    "nms": ("nms", _nms),
}
"""By name: the function, and what makes a call of it from an rng, images and dtype."""
