# SPDX-License-Identifier: Apache-2.0
"""The small detector: trained from scratch in minutes on a few processor cores."""

from __future__ import annotations

import keras

from ssdops.anchors import AnchorGrid, ssd_small
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv_bn
from ssdops.models.plain_values import number_in
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec, anchors_of_size

__all__ = ["network", "spec"]


def spec(
    num_classes: int = 2,
    anchors: AnchorGrid | None = None,
    image_size: tuple[int, int] | None = None,
    width: float = 1.0,
) -> ModelSpec:
    """Returns the specification of the small detector.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid, or None for `ssdops.anchors.ssd_small` of the image size.
        image_size: Height and width of the input, multiples of 32; None for 128 x 128
            or the size of `anchors`.
        width: Factor of all channel counts.

    Raises:
        ValueError: For a width outside [0.125, 8] or a size that does not fit.
    """
    width = number_in("width", width, 0.125, 8.0)
    anchors = anchors_of_size(anchors, image_size, (128, 128), ssd_small)
    return ModelSpec(
        name="ssd_small",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            image_size=anchors.image_size,
            mean=(127.5, 127.5, 127.5),
            scale=1 / 127.5,
        ),
        options={"width": width},
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network of the small detector.

    A stem of stride 4, then two 3x3 convolutions per level, the first with stride 2;
    all with batch normalisation. Channels double up to stride 16 and stay there.
    """
    width = float(model.options.get("width", 1.0))

    def channels(count: int) -> int:
        return max(8, 8 * round(count * width / 8))

    inputs = keras.Input((*model.image_size, 3), name="images")
    features = conv_bn(inputs, channels(16), "stem1", strides=2)
    features = conv_bn(features, channels(32), "stem2", strides=2)
    features = conv_bn(features, channels(32), "stem3")
    sources = []
    for index in range(len(model.anchors.levels)):
        stride = 8 << index
        count = channels(64 if index == 0 else 128)
        features = conv_bn(features, count, f"stride{stride}_1", strides=2)
        features = conv_bn(features, count, f"stride{stride}_2")
        sources.append((f"stride{stride}", features))
    return detection_network(inputs, sources, model)
