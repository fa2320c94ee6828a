# SPDX-License-Identifier: Apache-2.0
"""Seeded inputs of the benchmarks: what SSD300 heads, labels and targets look like.

Every generator is a pure function of its arguments, and image `i` is the same in
every batch size. Boxes are corners (ymin, xmin, ymax, xmax) relative to the image.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops import encode_boxes
from ssdops.anchors import ssd300_voc

Array = npt.NDArray[Any]

OPERATIONS_PER_IOU = 14
"""4 min/max, 5 differences and sums, 1 product, 1 quotient, 3 comparisons."""


@dataclass(frozen=True)
class Workload:
    """One measured case.

    Attributes:
        name: short name in tables.
        description: what it stands for.
        inputs: arrays, in the order of the op's arguments.
        bytes_moved: of inputs and outputs, each once.
        operations: floating point operations that the definition of the op needs
            at least.
        reference: whether plain TensorFlow is timed on it too.
    """

    name: str
    description: str
    inputs: tuple[Array, ...]
    bytes_moved: int
    operations: int
    reference: bool = True


@functools.cache
def anchors() -> Array:
    """The 8732 anchors of SSD300 on VOC, float32 `[8732, 4]`."""
    return np.asarray(ssd300_voc().boxes(), np.float32)


@functools.cache
def detection(kind: str, batch: int, num_classes: int) -> Workload:
    """Decoded boxes and softmax scores of an SSD300 head.

    Args:
        kind: `"trained"`, about ten objects per image and background elsewhere, or
            `"dense"`, an untrained network with thousands of candidates per class.
        batch: images.
        num_classes: background included.
    """
    images = [_head_outputs(kind, i, num_classes) for i in range(batch)]
    boxes = np.stack([image[0] for image in images])
    scores = _softmax(np.stack([image[1] for image in images]))
    rows = batch * 200
    candidates = np.minimum((scores[..., 1:] > 0.01).sum(1), 400).sum()
    return Workload(
        name=f"{kind}-b{batch}-c{num_classes}",
        description=f"SSD300, {kind} scores, {batch} images, {num_classes} classes",
        inputs=(boxes, scores),
        bytes_moved=boxes.nbytes + scores.nbytes + rows * 28 + batch * 4,
        # One comparison per score; every candidate but the best of its class meets
        # at least one kept box.
        operations=int(scores.size + candidates * OPERATIONS_PER_IOU),
        reference=batch == 1,
    )


@functools.cache
def head_outputs(kind: str, batch: int, num_classes: int) -> Workload:
    """The same as `detection` before softmax and decoding: logits and offsets."""
    images = [_head_outputs(kind, i, num_classes) for i in range(batch)]
    boxes = np.stack([image[0] for image in images])
    logits = np.stack([image[1] for image in images])
    offsets = np.asarray(encode_boxes(boxes.astype(np.float32), anchors()))
    rows = batch * 200
    return Workload(
        name=f"{kind}-b{batch}-c{num_classes}",
        description=f"SSD300, {kind} logits, {batch} images, {num_classes} classes",
        inputs=(logits, offsets, anchors()),
        bytes_moved=logits.nbytes + rows * 28 + batch * 4,
        # One difference and one comparison per logit: most rows need no exponential.
        operations=2 * logits.size,
        reference=batch == 1,
    )


@functools.cache
def matching(batch: int, largest: int, padded: int) -> Workload:
    """Ground truth of a training batch against the anchors of SSD300.

    Args:
        batch: images.
        largest: objects per image are 1 to this many.
        padded: rows that they are padded to.
    """
    boxes, labels = _ground_truth(batch, 1, largest, padded)
    num_anchors = len(anchors())
    real = int((labels > 0).sum())
    return Workload(
        name=f"b{batch}-g{largest}-p{padded}",
        description=f"{batch} images, 1 to {largest} objects padded to {padded}",
        inputs=(anchors(), boxes, labels),
        bytes_moved=anchors().nbytes
        + boxes.nbytes
        + labels.nbytes
        + batch * num_anchors * 8,
        operations=real * num_anchors * OPERATIONS_PER_IOU,
        reference=batch <= 2,
    )


@functools.cache
def assignment(batch: int, smallest: int, largest: int, padded: int) -> Workload:
    """Targets of a training batch for the anchors of SSD300.

    Args:
        batch: images.
        smallest: objects per image, at least.
        largest: at most.
        padded: rows that they are padded to.
    """
    boxes, labels = _ground_truth(batch, smallest, largest, padded)
    num_anchors = len(anchors())
    real = int((labels > 0).sum())
    return Workload(
        name=f"b{batch}-g{smallest}to{largest}-p{padded}",
        description=f"{batch} images, {smallest} to {largest} objects of {padded} rows",
        inputs=(anchors(), boxes, labels),
        bytes_moved=anchors().nbytes
        + boxes.nbytes
        + labels.nbytes
        + batch * num_anchors * 28,
        operations=real * num_anchors * OPERATIONS_PER_IOU,
        reference=batch <= 2,
    )


@functools.cache
def overlaps(num_gt: int) -> Workload:
    """The anchors of SSD300 against `num_gt` boxes, the whole matrix."""
    boxes = _objects(np.random.default_rng([2, num_gt]), num_gt)
    pairs = len(anchors()) * num_gt
    return Workload(
        name=f"a8732-g{num_gt}",
        description=f"8732 anchors x {num_gt} boxes",
        inputs=(anchors(), boxes),
        bytes_moved=anchors().nbytes + boxes.nbytes + pairs * 4,
        operations=pairs * OPERATIONS_PER_IOU,
    )


@functools.cache
def regressed() -> Workload:
    """Predicted boxes and their targets: every anchor of an image moved a little."""
    boxes = _shifted(np.random.default_rng([6]))
    count = len(boxes)
    return Workload(
        name="aligned-8732",
        description="8732 pairs of boxes, values and gradients",
        inputs=(boxes, anchors()),
        bytes_moved=4 * boxes.nbytes + 2 * count * 4,
        # 3 quotients and about 60 operations of the derivatives.
        operations=count * (OPERATIONS_PER_IOU + 60),
    )


@functools.cache
def encoding(batch: int) -> Workload:
    """Matched ground truth of every anchor of a training batch."""
    rng = np.random.default_rng([4, batch])
    boxes = _shifted(rng, batch)
    return Workload(
        name=f"encode-b{batch}",
        description=f"{batch} x 8732 boxes to offsets",
        inputs=(boxes, anchors()),
        bytes_moved=2 * boxes.nbytes + anchors().nbytes,
        # 2 logarithms of about 20 operations, 8 quotients, 12 sums and products.
        operations=batch * len(anchors()) * 60,
    )


@functools.cache
def decoding(batch: int) -> Workload:
    """Offsets predicted for a batch."""
    rng = np.random.default_rng([5, batch])
    offsets = rng.normal(0, 1, (batch, len(anchors()), 4)).astype(np.float32)
    return Workload(
        name=f"decode-b{batch}",
        description=f"{batch} x 8732 offsets to boxes",
        inputs=(offsets, anchors()),
        bytes_moved=2 * offsets.nbytes + anchors().nbytes,
        # 2 exponentials of about 20 operations, 20 sums and products.
        operations=batch * len(anchors()) * 60,
    )


def _ground_truth(
    batch: int, smallest: int, largest: int, padded: int
) -> tuple[Array, Array]:
    """Boxes `[batch, padded, 4]` and labels `[batch, padded]`."""
    boxes = np.zeros((batch, padded, 4), np.float32)
    labels = np.zeros((batch, padded), np.int32)
    for i in range(batch):
        rng = np.random.default_rng([3, i, largest])
        count = int(rng.integers(smallest, largest + 1))
        boxes[i, :count] = _objects(rng, count)
        labels[i, :count] = rng.integers(1, 21, count)
    return boxes, labels


def _objects(rng: np.random.Generator, count: int) -> Array:
    """Boxes `[count, 4]` inside the image with sides of 5 to 80 percent."""
    side = np.exp(rng.uniform(np.log(0.06), np.log(0.7), count))
    aspect = np.exp(rng.normal(0, 0.4, count))
    size = np.stack([side / np.sqrt(aspect), side * np.sqrt(aspect)], -1)
    size = np.clip(size, 0.05, 0.8)
    low = rng.uniform(0, 1 - size)
    return np.concatenate([low, low + size], -1).astype(np.float32)


def _shifted(rng: np.random.Generator, *lead: int) -> Array:
    """Every anchor moved and stretched a little, `[*lead, 8732, 4]`."""
    low, high = anchors()[:, :2], anchors()[:, 2:]
    size = high - low
    shape = (*lead, len(size), 2)
    centre = (low + high) / 2 + rng.normal(0, 0.1, shape) * size
    size = size * np.exp(rng.normal(0, 0.2, shape))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1)
    return boxes.astype(np.float32)


def _head_outputs(kind: str, image: int, num_classes: int) -> tuple[Array, Array]:
    """Boxes `[8732, 4]` and logits `[8732, num_classes]` of one image."""
    rng = np.random.default_rng([1, image, num_classes, kind == "dense"])
    boxes = _shifted(rng)
    logits = rng.normal(0, 0.5, (len(boxes), num_classes))
    if kind == "trained":
        count = int(rng.integers(6, 15))
        objects = _objects(rng, count)
        labels = rng.choice(rng.integers(1, num_classes, 4), count)
        iou = _iou(anchors(), objects)
        best, overlap = iou.argmax(1), iou.max(1)
        near = np.flatnonzero(overlap > 0.25)
        jitter = rng.normal(0, 0.02, (len(near), 4))
        boxes[near] = objects[best[near]] + jitter
        certainty = (overlap[near] - 0.4) * 20
        logits[:, 0] += 7
        logits[near, labels[best[near]]] += np.clip(certainty + 4, 0, 12)
        logits[near, 0] -= np.clip(certainty, 0, 6)
    return boxes, logits.astype(np.float32)


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    scores = exponentials / exponentials.sum(-1, keepdims=True)
    return scores.astype(np.float32)


def _iou(a: Array, b: Array) -> Array:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), -1)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], -1) for x in (a, b))
    return overlap / (area_a[:, None] + area_b - overlap)
