# SPDX-License-Identifier: Apache-2.0
"""SSD300 on MobileNet-V2 in the form of TensorFlow's Object Detection API.

Layers are called as there, without the leading scopes and with `_` for `/`; each has
its batch normalisation.

References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    arXiv:1801.04381, section 6.2.
    `research/object_detection/models/ssd_mobilenet_v2_feature_extractor.py` and
    `samples/configs/ssd_mobilenet_v2_coco.config` of TensorFlow Models.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import keras

from ssdops.anchors import AnchorGrid, object_detection_grid
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv_bn
from ssdops.models.plain_values import number_in
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec, anchors_of_size

__all__ = ["FIRST_EXTRA", "extra_channels", "network", "spec"]

# Output channels, number of blocks and stride of the first of them.
_GROUPS: Final = (
    *((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2)),
    *((96, 3, 1), (160, 3, 2), (320, 1, 1)),
)
_EXPANSION: Final = 6
_SOURCE_BLOCK: Final = 13
_EXTRAS: Final = (512, 256, 256, 128)
FIRST_EXTRA: Final = _EXTRAS[0]
_LAST: Final = 1280
# `min_depth` of the published configurations.
_LEAST: Final = 16
_KINDS: Final = ("ssd", "ssdlite")


def spec(
    num_classes: int = 91,
    anchors: AnchorGrid | None = None,
    depth_multiplier: float = 1.0,
    head: str = "ssd",
    extras: str | None = None,
    head_kernel: int = 3,
    image_size: tuple[int, int] | None = None,
) -> ModelSpec:
    """Returns the specification of SSD300 on MobileNet-V2.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid; None for `object_detection_grid` of the image size.
        depth_multiplier: Factor of all channel counts.
        head: "ssd", or "ssdlite" for depthwise separable heads.
        extras: The same for the layers after the trunk; None for that of the heads.
        head_kernel: Side of the kernels of the heads, 1 or 3.
        image_size: Height and width of the input; None for 300 x 300 or the size of
            `anchors`.

    Raises:
        ValueError: For another size than that of the anchors, a depth multiplier
            outside [0.125, 4], another kind of heads or layers, or another side.
    """
    depth_multiplier = number_in("depth_multiplier", depth_multiplier, 0.125, 4.0)
    extras = head if extras is None else extras
    for option, kind in (("head", head), ("extras", extras)):
        if kind not in _KINDS:
            raise ValueError(f'{option} must be "ssd" or "ssdlite", got {kind!r}')
    if isinstance(head_kernel, bool) or head_kernel not in (1, 3):
        raise ValueError(f"head_kernel must be 1 or 3, got {head_kernel!r}")
    anchors = anchors_of_size(anchors, image_size, (300, 300), object_detection_grid)
    return ModelSpec(
        name="ssd300_mobilenet_v2",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            anchors.image_size, mean=(127.5, 127.5, 127.5), scale=1 / 127.5
        ),
        score_activation="sigmoid",
        options={
            "depth_multiplier": depth_multiplier,
            "head": head,
            "extras": extras,
            "head_kernel": int(head_kernel),
        },
        # As released, but for a score threshold of 1e-8.
        post_processing=PostProcessing(iou_threshold=0.6, max_detections=100),
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network; strided layers pad as TensorFlow's "same" does."""
    multiplier = model.options.get("depth_multiplier", 1.0)
    head = model.options.get("head", "ssd")
    extras = model.options.get("extras", head)
    normalized = partial(conv_bn, activation="relu6")
    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = normalized(inputs, _channels(32, multiplier), "Conv", strides=2)
    sources = []
    index = 0
    for outputs, blocks, first_stride in _GROUPS:
        for number in range(blocks):
            name = "expanded_conv" + (f"_{index}" if index else "")
            stride = first_stride if number == 0 else 1
            count = _channels(outputs, multiplier)
            shortcut, channels = features, features.shape[-1]
            if index:
                features = normalized(
                    features, _EXPANSION * channels, f"{name}_expand", kernel=1
                )
            if index == _SOURCE_BLOCK:
                sources.append((f"{name}_expand", features))
            features = normalized(features, None, f"{name}_depthwise", strides=stride)
            features = conv_bn(
                features, count, f"{name}_project", kernel=1, activation=None
            )
            if stride == 1 and channels == count:
                features = keras.layers.Add(name=f"{name}_add")([features, shortcut])
            index += 1
    # Unlike that of classifiers, the last layer does shrink with the multiplier.
    features = normalized(features, _channels(_LAST, multiplier), "Conv_1", kernel=1)
    sources.append(("Conv_1", features))
    for group, depth in enumerate(_EXTRAS, start=2):
        narrow, wide = (
            extra_channels(count, multiplier) for count in (depth // 2, depth)
        )
        name = f"layer_19_1_Conv2d_{group}_1x1_{narrow}"
        features = normalized(features, narrow, name, kernel=1)
        name = f"layer_19_2_Conv2d_{group}_3x3_s2_{wide}"
        if extras == "ssdlite":
            features = normalized(features, None, f"{name}_depthwise", strides=2)
            features = normalized(features, wide, name, kernel=1)
        else:
            features = normalized(features, wide, name, strides=2)
        sources.append((name, features))
    kernel = model.options.get("head_kernel", 3)
    return detection_network(inputs, sources, model, kernel=kernel, head=head)


def _channels(count: int, multiplier: float) -> int:
    """Returns a scaled count as a multiple of 8, not less than nine tenths of it."""
    scaled = count * multiplier
    rounded = max(_LEAST, int(scaled + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * scaled)


def extra_channels(count: int, multiplier: float) -> int:
    """Returns a scaled count of a layer after the trunk, rounded down."""
    return max(_LEAST, int(count * multiplier))
