# SPDX-License-Identifier: Apache-2.0
"""PyTorch: compositions of its tensor functions, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred
from ssdops.benchmarking.workloads import MATCH_THRESHOLD, NEGATIVE_RATIO, Arrays
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "decode", "encode", "start", "tensors"]


def start(threads: int) -> None:
    """Import PyTorch and fix its threads."""
    import torch

    torch.set_num_threads(threads)


def tensors(arrays: Arrays) -> list[Any]:
    """The inputs as tensors, which share their memory."""
    import torch

    return [torch.from_numpy(array) for array in arrays.values()]


def decode(offsets: Any, anchors: Any) -> Any:
    """Boxes `[..., 4]` of offsets; anchors as centres and sizes, both tensors."""
    import torch

    scale = torch.tensor(VARIANCES)
    centre = offsets[..., :2] * scale[:2] * anchors[:, 2:] + anchors[:, :2]
    half = torch.exp(offsets[..., 2:] * scale[2:]) * anchors[:, 2:] * 0.5
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Any, anchors: Any) -> Any:
    """Offsets `[..., 4]` of boxes; anchors as centres and sizes, both tensors."""
    import torch

    scale = torch.tensor(VARIANCES)
    centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    size = boxes[..., 2:] - boxes[..., :2]
    shift = (centre - anchors[:, :2]) / anchors[:, 2:] / scale[:2]
    stretch = torch.log(size / anchors[:, 2:]) / scale[2:]
    return torch.cat([shift, stretch], -1)


def _overlaps(boxes: Any, anchors: Any) -> Any:
    import torch

    b = [x[..., None] for x in boxes.unbind(-1)]
    a = anchors.unbind(-1)
    height = (torch.minimum(b[2], a[2]) - torch.maximum(b[0], a[0])).clamp(min=0)
    width = (torch.minimum(b[3], a[3]) - torch.maximum(b[1], a[1])).clamp(min=0)
    common = height * width
    areas = (b[2] - b[0]) * (b[3] - b[1]) + (a[2] - a[0]) * (a[3] - a[1])
    return common / (areas - common)


def _assign(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import torch

        corners, gt_boxes, labels = tensors(arrays)
        labels = labels.long()
        anchors = torch.from_numpy(centred(arrays["anchors"]))
        (batch, largest), number = labels.shape, len(anchors)
        unit = torch.tensor([0.0, 0.0, 1.0, 1.0])

        def call() -> Any:
            real = labels > 0
            iou = torch.where(real[:, :, None], _overlaps(gt_boxes, corners), -1.0)
            quality, best = iou.max(1)
            forced = torch.full((batch, number), -1).scatter_reduce(
                1,
                iou.max(2)[1],
                torch.where(real, torch.arange(largest), -1),
                "amax",
            )
            row = torch.where(forced >= 0, forced, best)
            positive = (forced >= 0) | (quality >= MATCH_THRESHOLD)
            boxes = gt_boxes.gather(1, row[..., None].expand(batch, number, 4))
            offsets = encode(torch.where(positive[..., None], boxes, unit), anchors)
            return (
                torch.where(positive, labels.gather(1, row), 0),
                torch.where(positive[..., None], offsets, 0.0),
            )

        return Prepared(
            call,
            lambda found: {"classes": found[0].numpy(), "offsets": found[1].numpy()},
            "each object takes its best anchor, without the global order",
        )

    return {"ops": build}


def _coding(function: Callable[..., Any], output: str) -> Task:
    def task(arrays: Arrays) -> Variants:
        def build() -> Prepared:
            import torch

            given, corners = arrays.values()
            inputs = torch.from_numpy(given)
            anchors = torch.from_numpy(centred(corners))
            return Prepared(
                lambda: function(inputs, anchors),
                lambda found: {output: found.numpy()},
            )

        return {"ops": build}

    return task


def _mine(arrays: Arrays) -> Variants:
    def two_sorts() -> Prepared:
        losses, classes = tensors(arrays)

        def call() -> Any:
            positive = classes > 0
            wanted = NEGATIVE_RATIO * positive.sum(1, keepdim=True)
            candidates = losses.clone()
            candidates[positive] = -float("inf")
            order = candidates.sort(1, descending=True)[1]
            return order.sort(1)[1] < wanted

        return Prepared(call, lambda found: {"mined": found.numpy()})

    def top_k() -> Prepared:
        import torch

        losses, classes = tensors(arrays)

        def call() -> Any:
            positive = classes > 0
            wanted = NEGATIVE_RATIO * positive.sum(1)
            candidates = torch.where(positive, -1.0, losses)
            best = candidates.topk(int(wanted.max()), dim=1)[0]
            last = best.gather(1, (wanted - 1).clamp(min=0)[:, None])
            return (candidates >= last) & ~positive & (wanted > 0)[:, None]

        return Prepared(call, lambda found: {"mined": found.numpy()})

    return {"two sorts": two_sorts, "topk": top_k}


def _loss(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import torch

        logits, offsets, classes, targets = tensors(arrays)
        classes = classes.long()
        logits.requires_grad_()
        offsets.requires_grad_()

        def call() -> Any:
            positive = classes > 0
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), classes.flatten(), reduction="none"
            ).view(classes.shape)
            wanted = NEGATIVE_RATIO * positive.sum(1, keepdim=True)
            candidates = losses.detach().clone()
            candidates[positive] = -float("inf")
            order = candidates.sort(1, descending=True)[1]
            counted = positive | (order.sort(1)[1] < wanted)
            smooth = torch.nn.functional.smooth_l1_loss(
                offsets[positive], targets[positive], reduction="sum"
            )
            total = losses[counted].sum() + smooth
            total = total / positive.sum().clamp(min=1)
            return total, *torch.autograd.grad(total, [logits, offsets])

        names = ("loss", "grad_logits", "grad_offsets")
        return Prepared(
            call,
            lambda found: {
                name: value.detach().numpy()
                for name, value in zip(names, found, strict=True)
            },
        )

    return {"ops": build}


def _iou(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        boxes_a, boxes_b = tensors(arrays)
        return Prepared(
            lambda: _overlaps(boxes_a, boxes_b), lambda found: {"iou": found.numpy()}
        )

    return {"ops": build}


TASKS: dict[str, Task] = {
    "assign": _assign,
    "encode": _coding(encode, "offsets"),
    "decode": _coding(decode, "boxes"),
    "mine": _mine,
    "loss": _loss,
    "iou": _iou,
}
