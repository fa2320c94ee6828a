# SPDX-License-Identifier: Apache-2.0
"""torchvision on the same GPU: its suppression and its matcher, a batch at a time.

The fastest way that was found to ask it for the work of a batch: suppression of all
images and classes in one call of `batched_nms`. Its results are not padded and not cut
to the best, which makes its task the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.ops import batched_nms, box_iou, nms

from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
)
from ssdops.constants import VARIANCES

__all__ = ["PEERS"]


def _suppress(boxes: Any, scores: Any) -> Any:
    batch, _, classes = scores.shape
    best, anchor = scores[..., 1:].transpose(1, 2).topk(PRE_NMS_TOP_K, dim=2)
    group = torch.arange(batch * (classes - 1), device=scores.device)
    group = group.view(batch, classes - 1, 1).expand_as(best)
    enough = best > SCORE_THRESHOLD
    image = torch.arange(batch, device=scores.device)[:, None, None].expand_as(best)
    candidates = boxes[image[enough], anchor[enough]]
    return batched_nms(candidates, best[enough], group[enough], IOU_THRESHOLD)


def _detect(logits: Any, offsets: Any, anchors: Any) -> Any:
    coder = BoxCoder(weights=tuple(1 / v for v in VARIANCES))
    flat = offsets.reshape(-1, 4)
    boxes = coder.decode_single(flat, anchors.repeat(len(logits), 1))
    return _suppress(boxes.view_as(offsets), logits.softmax(-1))


def _assign(anchors: Any, gt_boxes: Any, gt_labels: Any) -> Any:
    matcher = SSDMatcher(MATCH_THRESHOLD)
    coder = BoxCoder(weights=tuple(1 / v for v in VARIANCES))
    results = []
    for boxes, labels in zip(gt_boxes, gt_labels, strict=True):
        real = boxes[labels > 0]
        matched = matcher(box_iou(real, anchors))
        results.append(coder.encode_single(real[matched.clamp(min=0)], anchors))
    return results


def _loss(logits: Any, offsets: Any, classes: Any, targets: Any) -> Any:
    logits = logits.detach().requires_grad_()
    offsets = offsets.detach().requires_grad_()
    classes = classes.long()
    positive = classes > 0
    number = positive.sum()
    localization = torch.nn.functional.smooth_l1_loss(
        offsets[positive], targets[positive], reduction="sum"
    )
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), classes.flatten(), reduction="none"
    ).view_as(classes)
    negative = loss.detach().masked_fill(positive, -torch.inf)
    rank = negative.sort(1, descending=True)[1].sort(1)[1]
    mined = rank < 3 * positive.sum(1, keepdim=True)
    total = (localization + loss[positive | mined].sum()) / number
    total.backward()
    return total


PEERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "suppress": ("torchvision topk + batched_nms", _suppress),
    "detect": ("torchvision decode + topk + batched_nms", _detect),
    "assign": ("torchvision SSDMatcher, BoxCoder", _assign),
    "nms": (
        "torchvision nms",
        lambda boxes, scores: nms(boxes, scores, SINGLE_CLASS_IOU_THRESHOLD),
    ),
    "loss": ("torch, as torchvision's SSD", _loss),
    "iou": ("torchvision box_iou", box_iou),
}
"""By task: a name, and a function of the workload's arrays on the GPU."""
