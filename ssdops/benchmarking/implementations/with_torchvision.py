# SPDX-License-Identifier: Apache-2.0
"""torchvision: its NMS ops, and the parts of its SSD."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdops.benchmarking.implementations import with_torch
from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred, detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    MAX_DETECTIONS,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]


def start(threads: int) -> None:
    """Import torchvision, fix the threads, and see that its ops are there.

    Raises:
        RuntimeError: if the compiled part of torchvision does not fit PyTorch.
    """
    import torch
    import torchvision

    torch.set_num_threads(threads)
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def _rows(found: Any) -> Arrays:
    rows = [
        detection_rows(i, classes, scores, boxes)
        for i, (boxes, scores, classes) in enumerate(found)
    ]
    return {"rows": np.concatenate(rows)}


def _best_of_each_class(boxes: Any, scores: Any) -> Any:
    import torch
    from torchvision.ops import batched_nms

    found = []
    number = scores.shape[2]
    most = min(PRE_NMS_TOP_K, scores.shape[1])
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        best, anchor = image_scores[:, 1:].t().topk(most, dim=1)
        enough = best > SCORE_THRESHOLD
        classes = torch.arange(1, number)[:, None].expand_as(best)[enough]
        best, candidates = best[enough], image_boxes[anchor[enough]]
        kept = batched_nms(candidates, best, classes, IOU_THRESHOLD)[:MAX_DETECTIONS]
        found.append((candidates[kept], best[kept], classes[kept]))
    return found


def _all_candidates(boxes: Any, scores: Any) -> Any:
    from torchvision.ops import batched_nms

    found = []
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        anchor, label = (image_scores[:, 1:] > SCORE_THRESHOLD).nonzero(as_tuple=True)
        candidates, best = image_boxes[anchor], image_scores[anchor, label + 1]
        kept = batched_nms(candidates, best, label, IOU_THRESHOLD)[:MAX_DETECTIONS]
        found.append((candidates[kept], best[kept], label[kept] + 1))
    return found


def _few(scores: Any) -> bool:
    """Whether so few candidates exist that no limit per class is needed."""
    return bool((scores[..., 1:] > SCORE_THRESHOLD).mean() < 0.05)


def _suppress(arrays: Arrays) -> Variants:
    def variant(function: Any) -> Prepared:
        boxes, scores = with_torch.tensors(arrays)
        return Prepared(lambda: function(boxes, scores), _rows)

    variants: Variants = {"topk + batched_nms": lambda: variant(_best_of_each_class)}
    if _few(arrays["scores"]):
        variants["nonzero + batched_nms"] = lambda: variant(_all_candidates)
    return variants


def _postprocess(arrays: Arrays) -> Variants:
    def variant(function: Any) -> Prepared:
        import torch

        scores, offsets, corners = with_torch.tensors(arrays)
        anchors = torch.from_numpy(centred(corners.numpy()))
        return Prepared(
            lambda: function(with_torch.decode(offsets, anchors), scores), _rows
        )

    variants: Variants = {
        "decode + topk + batched_nms": lambda: variant(_best_of_each_class)
    }
    if _few(arrays["scores"]):
        variants["decode + nonzero + batched_nms"] = lambda: variant(_all_candidates)
    return variants


def _detect(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import types

        import torch
        from torchvision.models.detection._utils import BoxCoder
        from torchvision.models.detection.ssd import SSD

        logits, offsets, anchors = with_torch.tensors(arrays)
        # The order of the axes there is x before y.
        swap = [1, 0, 3, 2]
        offsets, anchors = offsets[..., swap].clone(), anchors[:, swap].clone()
        size = 300
        settings = types.SimpleNamespace(
            box_coder=BoxCoder(weights=tuple(1 / v for v in VARIANCES)),
            score_thresh=SCORE_THRESHOLD,
            topk_candidates=PRE_NMS_TOP_K,
            nms_thresh=IOU_THRESHOLD,
            detections_per_img=MAX_DETECTIONS,
        )
        batch = len(logits)
        heads = {"bbox_regression": offsets, "cls_logits": logits}
        images = [(size, size)] * batch
        pixels = [anchors * float(size)] * batch

        def call() -> Any:
            with torch.no_grad():
                return SSD.postprocess_detections(settings, heads, pixels, images)

        def result(found: Any) -> Arrays:
            return _rows(
                [
                    (image["boxes"][:, swap] / size, image["scores"], image["labels"])
                    for image in found
                ]
            )

        return Prepared(call, result, "clips boxes to the image before suppression")

    return {"SSD.postprocess_detections": build}


def _assign(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import torch
        from torchvision.models.detection._utils import BoxCoder, SSDMatcher
        from torchvision.ops import box_iou

        anchors, gt_boxes, gt_labels = with_torch.tensors(arrays)
        matcher = SSDMatcher(MATCH_THRESHOLD)
        coder = BoxCoder(weights=tuple(1 / v for v in VARIANCES))
        images = [
            (boxes[labels > 0], labels[labels > 0])
            for boxes, labels in zip(gt_boxes, gt_labels, strict=True)
        ]

        def call() -> Any:
            classes, offsets = [], []
            for boxes, labels in images:
                row = matcher(box_iou(boxes, anchors))
                positive = row >= 0
                row = row.clamp(min=0)
                classes.append(torch.where(positive, labels[row], 0))
                offsets.append(coder.encode_single(boxes[row], anchors))
            return torch.stack(classes), torch.stack(offsets)

        def result(found: Any) -> Arrays:
            classes, offsets = found[0].numpy(), found[1].numpy()
            return {
                "classes": classes,
                "offsets": np.where(classes[..., None] > 0, offsets, 0),
            }

        return Prepared(
            call, result, "each object takes its best anchor, the last one wins"
        )

    return {"box_iou + SSDMatcher + BoxCoder": build}


def _nms(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        from torchvision.ops import nms

        boxes, scores = with_torch.tensors(arrays)
        return Prepared(
            lambda: nms(boxes, scores, SINGLE_CLASS_IOU_THRESHOLD),
            lambda found: {"indices": found.numpy()},
        )

    return {"nms": build}


def _iou(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        from torchvision.ops import box_iou

        boxes_a, boxes_b = with_torch.tensors(arrays)
        return Prepared(
            lambda: box_iou(boxes_a, boxes_b), lambda found: {"iou": found.numpy()}
        )

    return {"box_iou": build}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "detect": _detect,
    "assign": _assign,
    "nms": _nms,
    "iou": _iou,
}
