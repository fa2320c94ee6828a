# SPDX-License-Identifier: Apache-2.0
"""Seeded inputs of the benchmarks: what SSD heads, labels and targets look like.

Every generator is a pure function of its arguments, and image `i` of a head is the
same in every batch size. Boxes are corners (ymin, xmin, ymax, xmax), relative to the
image unless said otherwise; offsets are `(ty, tx, th, tw)`. This module needs NumPy
only and makes nothing before `Workload.arrays` is read.

Groups:
    W1: heads of SSD300 on 21 classes, a trained and an untrained ("dense") network.
    W2: heads of SSD512 on 81 classes.
    W3: ground truth of a training batch, few objects or many.
    W4: offsets of a training batch to boxes and back.
    W5: confidence losses, from which hard negatives are mined.
    W6: boxes of one class, in pixels, most of them kept ("low" overlap) or few.
    loss, iou, empty: the training loss, overlap matrices, and calls without any work.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.anchors import AnchorLevel, ssd300_voc, ssd512_voc
from ssdops.benchmarking import arithmetic
from ssdops.constants import BACKGROUND_CLASS

__all__ = [
    "HEADLINE",
    "IOU_THRESHOLD",
    "MATCH_THRESHOLD",
    "MAX_DETECTIONS",
    "NEGATIVE_RATIO",
    "PRE_NMS_TOP_K",
    "SCORE_THRESHOLD",
    "SINGLE_CLASS_IOU_THRESHOLD",
    "TASKS",
    "Arrays",
    "Workload",
    "anchors",
    "centred_anchors",
    "decoding",
    "detection",
    "encoding",
    "head",
    "loss",
    "matching",
    "mining",
    "overlaps",
    "single_class",
    "suite",
]

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

SCORE_THRESHOLD = 0.01
IOU_THRESHOLD = 0.45
PRE_NMS_TOP_K = 400
MAX_DETECTIONS = 200
MATCH_THRESHOLD = 0.5
NEGATIVE_RATIO = 3
SINGLE_CLASS_IOU_THRESHOLD = 0.5

TASKS = {
    "suppress": "boxes and scores to detections",
    "postprocess": "offsets and scores to detections",
    "detect": "offsets and logits to detections",
    "assign": "ground truth to the targets of every anchor",
    "encode": "boxes to offsets",
    "decode": "offsets to boxes",
    "mine": "losses to the hardest negatives",
    "nms": "boxes and scores of one class to the kept indices",
    "loss": "predictions and targets to the loss and its gradients",
    "iou": "two lists of boxes to the matrix of their IoU",
}
"""What an implementation is asked for, by `Workload.task`."""

OPERATIONS_PER_IOU = 14
"""4 min/max, 5 differences and sums, 1 product, 1 quotient, 3 comparisons."""

OPERATIONS_PER_CODING = 60
"""Of one box: 2 functions of about 20 operations, 20 sums, products and quotients."""

OPERATIONS_PER_LOGIT = 22
"""An exponential of about 20 operations, a sum and a quotient."""

# Axis order of the generators' draws, x before y, to the order of the library.
_YX = (1, 0, 3, 2)


@dataclass(frozen=True)
class Workload:
    """One measured case.

    Attributes:
        name: as `ssdops bench --workload` takes it; the group comes first.
        task: key of `TASKS`.
        description: what it stands for.
        make: makes `arrays`.
        output_bytes: of the results, each once, from the arrays.
        work: floating point operations that the definition needs at least, from the
            arrays.
        reference: whether plain TensorFlow finishes it in reasonable time.
    """

    name: str
    task: str
    description: str
    make: Callable[[], Arrays]
    output_bytes: Callable[[Arrays], int]
    work: Callable[[Arrays], int]
    reference: bool = True

    @property
    def group(self) -> str:
        """Part of the name before the first hyphen."""
        return self.name.split("-", 1)[0]

    @functools.cached_property
    def arrays(self) -> Arrays:
        """The inputs by name, in the order of the op's arguments."""
        return self.make()

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The inputs in the order of the op's arguments."""
        return tuple(self.arrays.values())

    @property
    def bytes_moved(self) -> int:
        """Bytes of inputs and outputs, each once."""
        inputs = sum(array.nbytes for array in self.arrays.values())
        return inputs + self.output_bytes(self.arrays)

    @property
    def operations(self) -> int:
        """Floating point operations that the definition of the task needs at least."""
        return self.work(self.arrays)


@functools.cache
def centred_anchors(model: str = "ssd300") -> Array:
    """Anchors as `(centre y, centre x, height, width)`, float32 `[A, 4]`.

    Args:
        model: `"ssd300"`, 8732 anchors, or `"ssd512"`, 24564, sizes not truncated.
    """
    grid = {"ssd300": ssd300_voc(), "ssd512": ssd512_voc("none")}[model]
    levels = []
    for index, level in enumerate(grid.levels):
        assert isinstance(level, AnchorLevel)
        [smallest], [largest] = level.min_sizes, level.max_sizes
        shapes = [(smallest, smallest), (math.sqrt(smallest * largest),) * 2]
        for ratio in level.aspect_ratios:
            long, short = smallest * math.sqrt(ratio), smallest / math.sqrt(ratio)
            shapes += [(short, long), (long, short)]
        size = np.asarray(shapes) / grid.image_size
        rows, columns = (
            (np.arange(count) + 0.5) * step / side
            for count, step, side in zip(
                level.feature_size, grid.level_step(index), grid.image_size, strict=True
            )
        )
        boxes = np.empty((len(rows), len(columns), len(size), 4))
        boxes[..., 0] = rows[:, None, None]
        boxes[..., 1] = columns[:, None]
        boxes[..., 2:] = size
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


@functools.cache
def anchors(model: str = "ssd300") -> Array:
    """Anchors as corners, float32 `[A, 4]`; see `centred_anchors`."""
    centred = centred_anchors(model)
    centre, size = centred[:, :2], centred[:, 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], -1)


@functools.lru_cache(maxsize=4)
def head(kind: str, batch: int, num_classes: int = 21, model: str = "ssd300") -> Arrays:
    """What the heads of an SSD put out.

    Args:
        kind: `"trained"`, about ten objects per image and background elsewhere, or
            `"dense"`, an untrained network with thousands of candidates per class.
        batch: images.
        num_classes: background included.
        model: `"ssd300"` or `"ssd512"`.

    Returns:
        float32 `offsets [B, A, 4]`, `logits [B, A, C]`, and what follows from them:
        `scores`, the softmax, and `boxes [B, A, 4]`.
    """
    images = [_head_of_image(kind, i, num_classes, model) for i in range(batch)]
    offsets = np.stack([image[0] for image in images])
    logits = np.stack([image[1] for image in images])
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    scores = exponentials / exponentials.sum(-1, keepdims=True)
    boxes = arithmetic.decode(offsets, centred_anchors(model))
    return {"offsets": offsets, "logits": logits, "scores": scores, "boxes": boxes}


def detection(
    kind: str,
    batch: int,
    num_classes: int = 21,
    model: str = "ssd300",
    given: str = "boxes",
) -> Workload:
    """Outputs of a head, to be turned into detections.

    Args:
        kind: see `head`.
        batch: see `head`.
        num_classes: see `head`.
        model: see `head`.
        given: `"boxes"` (decoded) and scores, `"offsets"` and scores, or `"logits"`
            and offsets.
    """
    names = {
        "boxes": ("boxes", "scores"),
        "offsets": ("scores", "offsets"),
        "logits": ("logits", "offsets"),
    }[given]

    def make() -> Arrays:
        outputs = head(kind, batch, num_classes, model)
        arrays = {name: outputs[name] for name in names}
        if given != "boxes":
            arrays["anchors"] = anchors(model)
        return arrays

    def work(arrays: Arrays) -> int:
        # One comparison per score. Every candidate but the best of its class meets
        # at least one kept box, and no candidate can do without its box. The sum of a
        # softmax is needed only at anchors with a candidate.
        above = head(kind, batch, num_classes, model)["scores"][..., 1:]
        above = above > SCORE_THRESHOLD
        candidates = int(np.minimum(above.sum(1), PRE_NMS_TOP_K).sum())
        anchors_seen = batch * len(centred_anchors(model))
        total = anchors_seen * num_classes + candidates * OPERATIONS_PER_IOU
        if given != "boxes":
            total += candidates * OPERATIONS_PER_CODING
        if given == "logits":
            total += int(above.any(2).sum()) * num_classes * OPERATIONS_PER_LOGIT
        return total

    group = {"ssd300": "W1", "ssd512": "W2"}[model]
    suffix = "" if given == "boxes" else f"-{given}"
    task = {"boxes": "suppress", "offsets": "postprocess", "logits": "detect"}[given]
    plural = "s" if batch > 1 else ""
    return Workload(
        name=f"{group}-{kind}-b{batch}{suffix}",
        task=task,
        description=f"{model}, {kind}, {batch} image{plural}, {num_classes} classes,"
        f" from {' and '.join(names)}",
        make=make,
        output_bytes=lambda arrays: batch * (MAX_DETECTIONS * 24 + 4),
        work=work,
        reference=kind == "trained" and batch == 1,
    )


def matching(
    batch: int = 32,
    largest: int = 20,
    padded: int = 64,
    fewest: int = 1,
    model: str = "ssd300",
) -> Workload:
    """Ground truth of a training batch against the anchors.

    Args:
        batch: images.
        largest: objects of an image, at most.
        padded: rows that they are padded to.
        fewest: objects of an image, at least.
        model: see `centred_anchors`.
    """

    def make() -> Arrays:
        boxes, labels = _ground_truth(batch, fewest, largest, padded)
        return {"anchors": anchors(model), "gt_boxes": boxes, "gt_labels": labels}

    def work(arrays: Arrays) -> int:
        real = int((arrays["gt_labels"] > 0).sum())
        return real * len(arrays["anchors"]) * OPERATIONS_PER_IOU

    number = len(centred_anchors(model))
    count = f"{fewest} to {largest}" if fewest < largest else f"{fewest}"
    return Workload(
        name=f"W3-p{number}-g{largest}" + (f"-b{batch}" if batch != 32 else ""),
        task="assign",
        description=f"{batch} images, {count} objects in {padded} rows,"
        f" {number} anchors",
        make=make,
        output_bytes=lambda arrays: batch * number * 20,
        work=work,
        reference=batch <= 2,
    )


def encoding(batch: int = 32, model: str = "ssd300") -> Workload:
    """Matched ground truth of every anchor of a batch, to be encoded."""
    return _coding("encode", "boxes", batch, model)


def decoding(batch: int = 32, model: str = "ssd300") -> Workload:
    """Offsets predicted for every anchor of a batch, to be decoded."""
    return _coding("decode", "offsets", batch, model)


def mining(batch: int = 32, model: str = "ssd300") -> Workload:
    """Confidence losses of a training batch, to mine three negatives a positive."""
    number = len(centred_anchors(model))

    def make() -> Arrays:
        boxes, labels = _ground_truth(batch, 1, 20, 64)
        rng = np.random.default_rng([5, number])
        classes = np.zeros((batch, number), np.int32)
        for i in range(batch):
            real = labels[i] > 0
            matched = arithmetic.match(boxes[i][real], anchors(model), MATCH_THRESHOLD)
            classes[i] = np.where(matched >= 0, labels[i][matched], BACKGROUND_CLASS)
        losses = np.exp(rng.normal(-3, 1.5, classes.shape)).astype(np.float32)
        return {"losses": losses, "target_classes": classes}

    return Workload(
        name=f"W5-p{number}" + (f"-b{batch}" if batch != 32 else ""),
        task="mine",
        description=f"{batch} images, {number} losses each, 3 negatives a positive",
        make=make,
        output_bytes=lambda arrays: batch * number,
        work=lambda arrays: 2 * batch * number,
    )


def single_class(overlap: str, count: int) -> Workload:
    """Boxes of one class in pixels, all scores different.

    Args:
        overlap: `"low"`, about 90 % are kept at IoU 0.5, or `"high"`, clusters of 20
            of which about one box is kept.
        count: boxes.
    """

    def work(arrays: Arrays) -> int:
        number = max(len(arrays["scores"]), 1)
        comparisons = number * max(1, round(math.log2(number)))
        return comparisons + number * OPERATIONS_PER_IOU

    return Workload(
        name=f"W6-{overlap}-n{count}",
        task="nms",
        description=f"{count} boxes of one class, {overlap} overlap",
        make=lambda: _one_class(overlap, count),
        output_bytes=lambda arrays: 4 * len(arrays["scores"]),
        work=work,
        reference=count <= 1000,
    )


def loss(batch: int = 32, model: str = "ssd300", num_classes: int = 21) -> Workload:
    """Predictions of an untrained network and the targets of a training batch."""
    number = len(centred_anchors(model))

    def make() -> Arrays:
        outputs = head("dense", batch, num_classes, model)
        boxes, labels = _ground_truth(batch, 1, 20, 64)
        classes = np.zeros((batch, number), np.int32)
        targets = np.zeros((batch, number, 4), np.float32)
        for i in range(batch):
            real = labels[i] > 0
            matched = arithmetic.match(boxes[i][real], anchors(model), MATCH_THRESHOLD)
            positive = matched >= 0
            classes[i, positive] = labels[i][matched[positive]]
            targets[i, positive] = arithmetic.encode(
                boxes[i][matched[positive]], centred_anchors(model)[positive]
            )
        return {
            "logits": outputs["logits"],
            "offsets": outputs["offsets"],
            "target_classes": classes,
            "target_offsets": targets,
        }

    return Workload(
        name=f"loss-p{number}" + (f"-b{batch}" if batch != 32 else ""),
        task="loss",
        description=f"{batch} images, {number} anchors, {num_classes} classes,"
        " forward and backward",
        make=make,
        output_bytes=lambda arrays: arrays["logits"].nbytes + arrays["offsets"].nbytes,
        work=lambda arrays: (
            (OPERATIONS_PER_LOGIT + 3) * arrays["logits"].size
            + 10 * arrays["offsets"].size
        ),
    )


def overlaps(num_gt: int, model: str = "ssd300") -> Workload:
    """The anchors against `num_gt` boxes, the whole matrix."""
    number = len(centred_anchors(model))

    def make() -> Arrays:
        boxes = _objects(np.random.default_rng([2, num_gt]), num_gt)
        return {"boxes_a": anchors(model), "boxes_b": boxes}

    return Workload(
        name=f"iou-p{number}-g{num_gt}",
        task="iou",
        description=f"{number} anchors x {num_gt} boxes",
        make=make,
        output_bytes=lambda arrays: number * num_gt * 4,
        work=lambda arrays: number * num_gt * OPERATIONS_PER_IOU,
    )


@functools.cache
def suite() -> dict[str, Workload]:
    """Every workload by name, in the order in which they are measured."""
    heads = [
        ("ssd300", 21, kind, batch) for kind in ("trained", "dense") for batch in _B
    ]
    heads += [("ssd512", 81, kind, 8) for kind in ("trained", "dense")]
    workloads = [
        detection(kind, batch, num_classes, model, given)
        for model, num_classes, kind, batch in heads
        for given in ("boxes", "offsets", "logits")
    ]
    models = ("ssd300", "ssd512")
    workloads += [
        matching(32, *counts, model)
        for model in models
        for counts in ((20, 64, 1), (100, 100, 100))
    ]
    workloads += [make(32, model) for model in models for make in (encoding, decoding)]
    workloads += [mining(32, model) for model in models]
    workloads += [
        single_class(overlap, count)
        for overlap in ("low", "high")
        for count in (1_000, 5_000, 20_000, 100_000)
    ]
    workloads.append(loss())
    workloads += [overlaps(number) for number in (1, 64)]
    workloads += _without_work()
    return {workload.name: workload for workload in workloads}


_B = (1, 8, 32)

HEADLINE = (
    "W1-trained-b1",
    "W1-trained-b8",
    "W1-trained-b8-logits",
    "W1-dense-b8",
    "W2-trained-b8",
    "W3-p8732-g20",
    "W4-p8732-encode",
    "W4-p8732-decode",
    "W5-p8732",
    "W6-low-n1000",
    "W6-high-n5000",
    "W6-low-n20000",
    "loss-p8732",
    "iou-p8732-g64",
    "empty-suppress",
)
"""Names of the workloads that are measured if nothing else is asked for."""


def _coding(task: str, name: str, batch: int, model: str) -> Workload:
    number = len(centred_anchors(model))

    def make() -> Arrays:
        rng = np.random.default_rng([4, number])
        offsets = rng.normal(0, 1.0, (batch, number, 4)).astype(np.float32)
        offsets = np.ascontiguousarray(offsets[..., _YX])
        boxes = arithmetic.decode(offsets, centred_anchors(model))
        return {
            name: {"boxes": boxes, "offsets": offsets}[name],
            "anchors": anchors(model),
        }

    return Workload(
        name=f"W4-p{number}-{task}" + (f"-b{batch}" if batch != 32 else ""),
        task=task,
        description=f"{batch} x {number} {name}",
        make=make,
        output_bytes=lambda arrays: batch * number * 16,
        work=lambda arrays: batch * number * OPERATIONS_PER_CODING,
    )


def _without_work() -> list[Workload]:
    """Empty inputs: what a call costs before it computes anything."""
    rows = np.zeros((1, 0, 4), np.float32)
    scores = np.zeros((1, 0, 21), np.float32)
    empty = np.zeros((0, 4), np.float32)
    labels = np.zeros((1, 0), np.int32)
    arrays: dict[str, Arrays] = {
        "suppress": {"boxes": rows, "scores": scores},
        "detect": {"logits": scores, "offsets": rows, "anchors": empty},
        "assign": {"anchors": empty, "gt_boxes": rows, "gt_labels": labels},
        "encode": {"boxes": rows, "anchors": empty},
        "decode": {"offsets": rows, "anchors": empty},
        "mine": {"losses": rows[..., 0], "target_classes": labels},
        "nms": {"boxes": empty, "scores": empty[:, 0]},
        "iou": {"boxes_a": empty, "boxes_b": empty},
    }
    return [
        Workload(
            name=f"empty-{task}",
            task=task,
            description=f"nothing: a call of {task} without work",
            make=functools.partial(dict, inputs),
            output_bytes=lambda arrays: 0,
            work=lambda arrays: 0,
        )
        for task, inputs in arrays.items()
    ]


def _objects(rng: np.random.Generator, count: int) -> Array:
    """Boxes `[count, 4]` inside the image, sizes as on VOC: 5 to 90 % of the side."""
    side = np.exp(rng.uniform(np.log(0.06), np.log(0.75), count))
    ratio = np.exp(rng.normal(0, 0.45, count))
    width = np.clip(side * np.sqrt(ratio), 0.04, 0.95)
    height = np.clip(side / np.sqrt(ratio), 0.04, 0.95)
    x = rng.uniform(width / 2, 1 - width / 2)
    y = rng.uniform(height / 2, 1 - height / 2)
    centre, size = np.stack([y, x], -1), np.stack([height, width], -1)
    corners = np.concatenate([centre - size / 2, centre + size / 2], -1)
    return corners.astype(np.float32)


def _ground_truth(
    batch: int, fewest: int, largest: int, padded: int
) -> tuple[Array, Array]:
    boxes = np.zeros((batch, padded, 4), np.float32)
    labels = np.zeros((batch, padded), np.int32)
    for i in range(batch):
        rng = np.random.default_rng([3, i, fewest, largest])
        count = int(rng.integers(fewest, largest + 1))
        boxes[i, :count] = _objects(rng, count)
        labels[i, :count] = rng.integers(1, 21, count)
    return boxes, labels


def _head_of_image(
    kind: str, image: int, num_classes: int, model: str
) -> tuple[Array, Array]:
    """Offsets `[A, 4]` and logits `[A, C]` of one image, float32."""
    centred = centred_anchors(model)
    number = len(centred)
    rng = np.random.default_rng([1, image, number, num_classes])
    if kind == "dense":
        offsets = rng.normal(0, 0.5, (number, 4))[:, _YX]
        logits = rng.normal(0, 0.5, (number, num_classes))
        return offsets.astype(np.float32), logits.astype(np.float32)
    if kind != "trained":
        raise ValueError(f"kind must be 'trained' or 'dense', got {kind!r}")
    count = int(rng.integers(6, 15))
    objects = _objects(rng, count)
    few = rng.choice(np.arange(1, num_classes), 4, replace=False)
    labels = rng.choice(few, count)
    iou = arithmetic.overlaps(anchors(model), objects)
    best, overlap = iou.argmax(1), iou.max(1)
    near = overlap > 0.25
    rows = np.flatnonzero(near)

    offsets = rng.normal(0, 0.6, (number, 4))[:, _YX]
    jitter = rng.normal(0, 0.35, (len(rows), 4))[:, _YX]
    offsets[rows] = arithmetic.encode(objects[best[rows]], centred[rows]) + jitter

    logits = rng.normal(0, 0.45, (number, num_classes))
    logits[:, 0] = 7.2 + rng.normal(0, 0.5, number)
    certainty = (overlap[rows] - 0.5) * 16
    noise = rng.normal(0, 1.0, len(rows))
    logits[rows, labels[best[rows]]] += np.clip(certainty + 4.0, 0, 12) + noise
    logits[rows, 0] -= np.clip(certainty, 0, 6)
    return offsets.astype(np.float32), logits.astype(np.float32)


def _one_class(overlap: str, count: int) -> Arrays:
    rng = np.random.default_rng([6, count, overlap == "low"])
    if overlap == "low":
        size = rng.uniform(60, 140, (count, 2))
        centre = rng.uniform(0, math.sqrt(count) * 78.0, (count, 2))
    elif overlap == "high":
        clusters = count // 20
        side = math.ceil(math.sqrt(clusters))
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)
        centres = grid.reshape(-1, 2)[:clusters] * 260.0 + 200
        sizes = rng.uniform(90, 130, (clusters, 2))
        cluster = np.repeat(np.arange(clusters), count // clusters)
        centre = centres[cluster] + rng.normal(0, 4.0, (len(cluster), 2))
        size = sizes[cluster] * np.exp(rng.normal(0, 0.05, (len(cluster), 2)))
        order = rng.permutation(len(cluster))
        centre, size = centre[order], size[order]
    else:
        raise ValueError(f"overlap must be 'low' or 'high', got {overlap!r}")
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1)[:, _YX]
    number = len(boxes)
    scores = rng.permutation(np.arange(1, number + 1) / (number + 1.0))
    return {
        "boxes": np.ascontiguousarray(boxes, np.float32),
        "scores": scores.astype(np.float32),
    }
