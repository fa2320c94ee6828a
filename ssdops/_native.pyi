# SPDX-License-Identifier: Apache-2.0
"""The kernels on NumPy arrays and on arrays on a GPU, without TensorFlow.

Arrays are float16, bfloat16 (of `ml_dtypes`), float32 or float64, of one dtype per
call, all in host memory or all on one GPU. Everything with `__cuda_array_interface__`
is an array on a GPU: those of CuPy, PyTorch, Numba, JAX, and `DeviceArray`, which is
what a call with such arrays returns. It runs in the stream with the address `stream`
(0: the default stream), and does not wait for its end. `out` takes the results in
place: C-contiguous arrays of the exact shape and dtype. The contracts stand in
`csrc/include/ssdops/<op>.h`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class DeviceArray:
    """An array in the memory of a GPU, copied there from a NumPy array."""

    def __init__(self, array: NDArray[Any]) -> None: ...
    def numpy(self) -> NDArray[Any]:
        """A copy in host memory; waits for what writes the array."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> int:
        """Number of the GPU."""

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
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of `box_iou` with respect to both boxes."""

def cuda_device_count() -> int:
    """Number of GPUs that the kernels can run on; 0 in a build without CUDA."""

def cuda_is_emulated() -> bool:
    """Whether the GPU is an emulation by the CPU, in a build for tests."""

def decode_boxes(
    offsets: NDArray[Any],
    anchors: NDArray[Any],
    *,
    variances: Sequence[float] = ...,
    out: NDArray[Any] | None = ...,
    num_threads: int = ...,
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
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
    stream: int = ...,
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Ground truth of every anchor, and the IoU with it."""

def multibox_loss(
    logits: NDArray[Any],
    offsets: NDArray[Any],
    target_classes: NDArray[np.int32],
    target_offsets: NDArray[Any],
    *,
    anchors: NDArray[Any] | None = ...,
    variances: Sequence[float] = ...,
    negative_ratio: float = ...,
    localization_weight: float = ...,
    confidence_loss: str = ...,
    localization_loss: str = ...,
    normalizer: float | None = ...,
    focal_alpha: float = ...,
    focal_gamma: float = ...,
    grad_losses: Sequence[float] = ...,
    out: tuple[NDArray[Any], ...] | None = ...,
    num_threads: int = ...,
    stream: int = ...,
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
    """The four losses, what was mined, and the gradients of logits and offsets."""

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
    stream: int = ...,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Greedy suppression of one set of boxes; -1 stands for no limit."""

def mine_hard_negatives(
    losses: NDArray[Any],
    target_classes: NDArray[np.int32],
    *,
    negative_ratio: float = ...,
    out: NDArray[np.bool_] | None = ...,
    num_threads: int = ...,
    stream: int = ...,
) -> NDArray[np.bool_]:
    """The negatives with the largest losses, per image."""

def set_active_isa(name: str) -> None:
    """Use another instruction set, for tests and measurements; same results."""
