# SPDX-License-Identifier: Apache-2.0
"""SSD300 on MobileNet-V1 in the form of TensorFlow's Object Detection API.

Batch normalisation is folded into the weights and biases of the convolutions, as in
released inference models, unless it is asked for; layers are called as there, without
the leading scopes.

References:
    Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
    Vision Applications", arXiv:1704.04861.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from ssdops.anchors import AnchorGrid, object_detection_grid
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv, conv_bn, depthwise_conv
from ssdops.models.plain_values import number_in, whole_number
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec, anchors_of_size

__all__ = ["FIRST", "LAST_IN_TRUNK", "network", "scaled", "spec"]

# Output channels at depth multiplier 1 and stride of each separable convolution.
_TRUNK = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
LAST_IN_TRUNK = _TRUNK[-1][0]
FIRST = 32
_SOURCE_IN_TRUNK = 11
_EXTRAS = (512, 256, 256, 128)
_KINDS = ("ssd", "ssdlite")


def spec(
    num_classes: int = 91,
    anchors: AnchorGrid | None = None,
    depth_multiplier: float = 1.0,
    head: str = "ssd",
    batch_norm: bool = False,
    extras: str | None = None,
    head_kernel: int | None = None,
    min_depth: int = 8,
    image_size: tuple[int, int] | None = None,
) -> ModelSpec:
    """Returns the specification of SSD300 on MobileNet-V1.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid; None for `object_detection_grid` of the image size.
        depth_multiplier: Factor of all channel counts.
        head: "ssd", or "ssdlite" for depthwise separable heads.
        batch_norm: Whether batch normalisation has layers of its own, for training
            from scratch; otherwise it is part of the convolutions.
        extras: As `head`, for the layers after the trunk; None for that of the heads.
        head_kernel: Side of the kernels of the heads, 1 or 3; None for 1 with "ssd", 3
            with "ssdlite".
        min_depth: Least number of channels that the multiplier leaves, 1 to 64.
        image_size: Height and width of the input; None for 300 x 300 or the size of
            `anchors`.

    Raises:
        ValueError: For another size than that of the anchors, a depth multiplier
            outside [0.125, 4], another kind of heads or layers, another side or least
            number, or a normalisation that is neither true nor false.
    """
    extras = head if extras is None else extras
    for option, kind in (("head", head), ("extras", extras)):
        if kind not in _KINDS:
            raise ValueError(f'{option} must be "ssd" or "ssdlite", got {kind!r}')
    if head_kernel is None:
        head_kernel = _usual_kernel(head)
    if isinstance(head_kernel, bool) or head_kernel not in (1, 3):
        raise ValueError(f"head_kernel must be 1 or 3, got {head_kernel!r}")
    if not isinstance(batch_norm, bool):
        raise ValueError(f"batch_norm must be true or false, got {batch_norm!r}")
    min_depth = whole_number("min_depth", min_depth, 1, 64)
    depth_multiplier = number_in("depth_multiplier", depth_multiplier, 0.125, 4.0)
    anchors = anchors_of_size(anchors, image_size, (300, 300), object_detection_grid)
    return ModelSpec(
        name="ssd300_mobilenet_v1",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            image_size=anchors.image_size, mean=(128.0, 128.0, 128.0), scale=1 / 128
        ),
        score_activation="sigmoid",
        options={
            "depth_multiplier": depth_multiplier,
            "head": head,
            "batch_norm": batch_norm,
            "extras": extras,
            "head_kernel": int(head_kernel),
            "min_depth": min_depth,
        },
        # As released, but for a score threshold of 1e-8.
        post_processing=PostProcessing(iou_threshold=0.6, max_detections=100),
    )


def _usual_kernel(head: str) -> int:
    return 3 if head == "ssdlite" else 1


def scaled(count: int, depth_multiplier: float) -> int:
    """Returns a channel count scaled by the multiplier, rounded down."""
    return int(count * depth_multiplier)


def network(model: ModelSpec) -> keras.Model:
    """Returns the network; strided layers pad as TensorFlow's "same" does."""
    multiplier = model.options.get("depth_multiplier", 1.0)
    head = model.options.get("head", "ssd")
    extras = model.options.get("extras", head)
    least: int = model.options.get("min_depth", 8)
    convolution = partial(_convolved, batch_norm=model.options.get("batch_norm", False))

    def channels(count: int) -> int:
        return max(least, scaled(count, multiplier))

    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = convolution(inputs, channels(FIRST), "Conv2d_0", strides=2)
    sources = []
    for index, (count, stride) in enumerate(_TRUNK, start=1):
        features = convolution(
            features, None, f"Conv2d_{index}_depthwise", strides=stride
        )
        name = f"Conv2d_{index}_pointwise"
        features = convolution(features, channels(count), name, kernel=1)
        if index in (_SOURCE_IN_TRUNK, len(_TRUNK)):
            sources.append((name, features))
    for index, count in enumerate(_EXTRAS, start=2):
        narrow, wide = (channels(each) for each in (count // 2, count))
        name = f"Conv2d_13_pointwise_1_Conv2d_{index}_1x1_{narrow}"
        features = convolution(features, narrow, name, kernel=1)
        name = f"Conv2d_13_pointwise_2_Conv2d_{index}_3x3_s2_{wide}"
        if extras == "ssdlite":
            features = convolution(features, None, f"{name}_depthwise", strides=2)
            features = convolution(features, wide, name, kernel=1)
        else:
            features = convolution(features, wide, name, strides=2)
        sources.append((name, features))
    kernel = model.options.get("head_kernel", _usual_kernel(head))
    return detection_network(inputs, sources, model, kernel=kernel, head=head)


def _convolved(
    features: Any,
    filters: int | None,
    name: str,
    *,
    batch_norm: bool,
    kernel: int = 3,
    strides: int = 1,
) -> Any:
    """Returns a convolution with ReLU6, depthwise if `filters` is None."""
    if batch_norm:
        return conv_bn(
            features, filters, name, kernel=kernel, strides=strides, activation="relu6"
        )
    if filters is None:
        return depthwise_conv(features, name, strides=strides, activation="relu6")
    return conv(features, filters, kernel, name, strides=strides, activation="relu6")
