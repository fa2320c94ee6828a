# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels on NumPy arrays, without TensorFlow.

Arrays are float16, bfloat16 (of `ml_dtypes`), float32 or float64, of one dtype per
call. `out` takes the results in place: C-contiguous arrays of the exact shape and
dtype. The contracts stand in `csrc/include/ssdops/<op>.h`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def active_isa() -> str:
    """Name of the instruction set that the kernels use."""

def assign_targets(
    anchors: NDArray[Any],
    gt_boxes: NDArray[Any],
    gt_labels: NDArray[np.int32],
    *,
    iou_threshold: float = ...,
    negative_threshold: float = ...,
    ignore_threshold: float = ...,
    bipartite_only: bool = ...,
    ignore_cross_boundary: bool = ...,
    variances: Sequence[float] = ...,
    out: tuple[NDArray[Any], ...] | None = ...,
    num_threads: int = ...,
) -> tuple[NDArray[np.int32], NDArray[Any], NDArray[np.int32], NDArray[Any]]:
    """Classes, offsets, ground truth and IoU of every anchor."""

def atan(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The arctangent that CIoU uses, element by element."""

def batched_nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    *,
    method: str = ...,
    criterion: str = ...,
    sigma: float = ...,
    class_agnostic: bool = ...,
    score_threshold: float = ...,
    iou_threshold: float = ...,
    pre_nms_top_k: int = ...,
    max_detections: int = ...,
    background_class: int = ...,
    out: tuple[NDArray[Any], ...] | None = ...,
    num_threads: int = ...,
) -> tuple[
    NDArray[Any],
    NDArray[Any],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
]:
    """Non-maximum suppression; -1 stands for no limit and no background."""

def box_iou(
    boxes_a: NDArray[Any],
    boxes_b: NDArray[Any],
    *,
    kind: str = ...,
    aligned: bool = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> NDArray[Any]:
    """Intersection over union, of every pair or of aligned pairs."""

def box_iou_grad(
    grad_iou: NDArray[Any],
    boxes_a: NDArray[Any],
    boxes_b: NDArray[Any],
    *,
    kind: str = ...,
    aligned: bool = ...,
    out: tuple[NDArray[Any], NDArray[Any]] | None = ...,
    num_threads: int = ...,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of `box_iou` with respect to both boxes."""

def decode_boxes(
    offsets: NDArray[Any],
    anchors: NDArray[Any],
    *,
    variances: Sequence[float] = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> NDArray[Any]:
    """Boxes from offsets."""

def decode_boxes_grad(
    grad_boxes: NDArray[Any],
    offsets: NDArray[Any],
    anchors: NDArray[Any],
    *,
    variances: Sequence[float] = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> NDArray[Any]:
    """Gradient of `decode_boxes` with respect to the offsets."""

def detect(
    logits: NDArray[Any],
    offsets: NDArray[Any],
    anchors: NDArray[Any],
    *,
    score_limits: Sequence[float],
    score_activation: str = ...,
    variances: Sequence[float] = ...,
    clip: bool = ...,
    criterion: str = ...,
    iou_threshold: float = ...,
    eta: float = ...,
    class_agnostic: bool = ...,
    pre_nms_top_k: int = ...,
    max_detections: int = ...,
    return_class_probabilities: bool = ...,
    out: tuple[NDArray[Any], ...] | None = ...,
    num_threads: int = ...,
) -> tuple[
    NDArray[Any],
    NDArray[Any],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[Any],
]:
    """Detections of logits and offsets; an infinite limit leaves a class out."""

def encode_boxes(
    boxes: NDArray[Any],
    anchors: NDArray[Any],
    *,
    variances: Sequence[float] = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> NDArray[Any]:
    """Offsets of boxes from anchors."""

def encode_boxes_grad(
    grad_offsets: NDArray[Any],
    boxes: NDArray[Any],
    anchors: NDArray[Any],
    *,
    variances: Sequence[float] = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> NDArray[Any]:
    """Gradient of `encode_boxes` with respect to the boxes."""

def exp(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The exponential that decoding uses, element by element."""

def isas() -> list[str]:
    """Names of the instruction sets that can run here, lowest first."""

def log(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm that encoding uses, element by element."""

def match_anchors(
    anchors: NDArray[Any],
    gt_boxes: NDArray[Any],
    gt_labels: NDArray[np.int32],
    *,
    iou_threshold: float = ...,
    negative_threshold: float = ...,
    ignore_threshold: float = ...,
    bipartite_only: bool = ...,
    ignore_cross_boundary: bool = ...,
    out: tuple[NDArray[Any], NDArray[Any]] | None = ...,
    num_threads: int = ...,
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Ground truth of every anchor, and the IoU with it."""

def nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    *,
    iou_threshold: float = ...,
    score_threshold: float = ...,
    max_output_size: int = ...,
    any_diagonal: bool = ...,
    out: tuple[NDArray[Any], NDArray[Any]] | None = ...,
    num_threads: int = ...,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Greedy suppression of one set of boxes; -1 stands for no limit."""

def set_active_isa(name: str) -> None:
    """Use another instruction set, for tests and measurements; same results."""
