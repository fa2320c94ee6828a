# SPDX-License-Identifier: Apache-2.0
"""MobileNet-SSD, the Caffe network of that name, on Pascal VOC.

MobileNet-V1 with ReLU, batch normalisation folded into the convolutions, and heads of
1x1. Layers are called as in its prototxt, with `_dw` for `/dw`.

References:
    https://github.com/chuanqi305/MobileNet-SSD, `deploy.prototxt`.
"""

from __future__ import annotations

from typing import Any

import keras

from ssdops.anchors import AnchorGrid, mobilenet_ssd_voc
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv, depthwise_conv
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec

__all__ = ["network", "spec"]

# Output channels and stride of each separable convolution.
_TRUNK = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
_SOURCES_IN_TRUNK = (11, 13)
# Channels of the 1x1 and of the strided 3x3 convolution of each extra group.
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))


def spec(num_classes: int = 21, anchors: AnchorGrid | None = None) -> ModelSpec:
    """Returns the specification of MobileNet-SSD.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 300 x 300 inputs; None for `mobilenet_ssd_voc`.
    """
    anchors = anchors or mobilenet_ssd_voc()
    return ModelSpec(
        name="mobilenet_ssd",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            image_size=anchors.image_size,
            channel_order="bgr",
            mean=(127.5, 127.5, 127.5),
            scale=0.007843,
        ),
        # Of its layer DetectionOutput as deployed.
        post_processing=PostProcessing(
            score_threshold=0.25, pre_nms_top_k=100, max_detections=100
        ),
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network; every 3x3 convolution pads one zero on each side."""
    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = conv(inputs, 32, 3, "conv0", strides=2, padding=1)
    sources = []
    for index, (count, stride) in enumerate(_TRUNK, start=1):
        name = f"conv{index}"
        features = depthwise_conv(features, f"{name}_dw", strides=stride, padding=1)
        features = conv(features, count, 1, name)
        if index in _SOURCES_IN_TRUNK:
            sources.append((name, features))
    for group, (narrow, count) in enumerate(_EXTRAS, start=len(_TRUNK) + 1):
        features = conv(features, narrow, 1, f"conv{group}_1")
        name = f"conv{group}_2"
        features = conv(features, count, 3, name, strides=2, padding=1)
        sources.append((name, features))
    return detection_network(inputs, sources, model, kernel=1)
