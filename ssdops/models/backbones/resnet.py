# SPDX-License-Identifier: Apache-2.0
"""SSD300 on the first three stages of a ResNet, as trained by NVIDIA on COCO.

The third stage keeps the size of the second, so that the first source is 38 x 38.
Strides of bottleneck blocks are in their 3x3 convolution, as in torchvision.

References:
    https://github.com/NVIDIA/DeepLearningExamples, `PyTorch/Detection/SSD`.
    He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import keras

from ssdops.anchors import AnchorGrid, ssd300_nvidia
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv_bn
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_SCALE,
    Preprocessing,
)
from ssdops.models.spec import ModelSpec

__all__ = ["network", "spec"]


class _Variant(NamedTuple):
    """What the depths of a ResNet differ in.

    Attributes:
        blocks: Number of blocks per stage.
        bottleneck: Whether a block narrows its input, else it is two 3x3 convolutions.
        extras: Output channels of the extra groups.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    extras: tuple[int, ...]


_VARIANTS: Final = {
    18: _Variant((2, 2, 2), False, (512, 512, 256, 256, 128)),
    34: _Variant((3, 4, 6), False, (512, 512, 256, 256, 256)),
    50: _Variant((3, 4, 6), True, (512, 512, 256, 256, 256)),
}
# Channels and stride of each stage.
_STAGES: Final = ((64, 1), (128, 2), (256, 1))
# Channels of the 1x1, then stride and padding of the 3x3 convolution of each group.
_EXTRAS: Final = ((256, 2, 1), (256, 2, 1), (128, 2, 1), (128, 1, 0), (128, 1, 0))

_conv_bn = partial(conv_bn, epsilon=1e-5, momentum=0.9)


def spec(
    depth: int, num_classes: int = 81, anchors: AnchorGrid | None = None
) -> ModelSpec:
    """Returns the specification of SSD300 on a ResNet.

    Args:
        depth: 18, 34 or 50.
        num_classes: Number of classes including the background.
        anchors: Grid for 300 x 300 inputs; None for `ssd300_nvidia`.
    """
    anchors = anchors or ssd300_nvidia()
    return ModelSpec(
        name=f"ssd300_resnet{depth}",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            anchors.image_size, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE
        ),
        # As its evaluation on COCO.
        post_processing=PostProcessing(
            score_threshold=0.05, iou_threshold=0.5, pre_nms_top_k=200
        ),
    )


def network(depth: int, model: ModelSpec) -> keras.Model:
    """Returns the network; every strided convolution pads the same on each side."""
    variant = _VARIANTS[depth]
    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = _conv_bn(inputs, 64, "conv1", kernel=7, strides=2, padding=3)
    # After a ReLU, zeros are as good as the lowest number.
    features = keras.layers.ZeroPadding2D(1, name="pool1_pad")(features)
    features = keras.layers.MaxPooling2D(3, 2, name="pool1")(features)
    block = _bottleneck if variant.bottleneck else _basic_block
    for stage, ((channels, stride), blocks) in enumerate(
        zip(_STAGES, variant.blocks, strict=True), start=1
    ):
        for index in range(blocks):
            name = f"layer{stage}_{index}"
            features = block(features, channels, stride if index == 0 else 1, name)
    sources = [(f"layer{len(_STAGES)}", features)]
    for group, ((narrow, stride, pad), channels) in enumerate(
        zip(_EXTRAS, variant.extras, strict=True), start=1
    ):
        name = f"extra{group}"
        features = _conv_bn(features, narrow, f"{name}_1", kernel=1)
        features = _conv_bn(
            features, channels, f"{name}_2", strides=stride, padding=pad
        )
        sources.append((name, features))
    return detection_network(inputs, sources, model)


def _basic_block(features: Any, channels: int, stride: int, name: str) -> Any:
    """Returns two 3x3 convolutions with what goes past them."""
    out = _conv_bn(features, channels, f"{name}_conv1", strides=stride, padding=1)
    out = _conv_bn(out, channels, f"{name}_conv2", activation=None)
    return _joined(features, out, stride, name)


def _bottleneck(features: Any, channels: int, stride: int, name: str) -> Any:
    """Returns a 3x3 convolution between two of 1x1 with what goes past them."""
    out = _conv_bn(features, channels, f"{name}_conv1", kernel=1)
    out = _conv_bn(out, channels, f"{name}_conv2", strides=stride, padding=1)
    out = _conv_bn(out, 4 * channels, f"{name}_conv3", kernel=1, activation=None)
    return _joined(features, out, stride, name)


def _joined(features: Any, out: Any, stride: int, name: str) -> Any:
    """Returns the sum of a block and its input, which a 1x1 makes of the same shape."""
    channels = out.shape[-1]
    if stride != 1 or features.shape[-1] != channels:
        features = _conv_bn(
            features,
            channels,
            f"{name}_downsample",
            kernel=1,
            strides=stride,
            activation=None,
        )
    out = keras.layers.Add(name=f"{name}_sum")([out, features])
    return keras.layers.Activation("relu", name=f"{name}_relu")(out)
