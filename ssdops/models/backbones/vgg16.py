# SPDX-License-Identifier: Apache-2.0
"""SSD300 and SSD512 on VGG-16; layers are called as in the original Caffe networks.

The models whose names end in `_bn` have batch normalisation after every convolution but
those of the heads.
"""

from __future__ import annotations

from typing import Any, Final

import keras

from ssdops.anchors import AnchorGrid, ssd300_voc, ssd512_voc
from ssdops.models.heads import detection_network
from ssdops.models.layers import L2Normalization, conv, conv_bn
from ssdops.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_SCALE,
    Preprocessing,
)
from ssdops.models.spec import ModelSpec

__all__ = ["network", "ssd300_bn_spec", "ssd300_spec", "ssd512_bn_spec", "ssd512_spec"]

_NORMALIZED: Final = "_bn"

# Filters of the 3x3 convolutions in the five groups.
_TRUNK = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)

# Per extra group: filters of the 1x1, then filters, kernel, stride and padding of the
# second convolution.
_EXTRAS_300 = (
    (256, 512, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 1, 0),
    (128, 256, 3, 1, 0),
)
_EXTRAS_512 = (
    (256, 512, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 4, 1, 1),
)


def ssd300_spec(num_classes: int = 21, anchors: AnchorGrid | None = None) -> ModelSpec:
    """Returns the specification of SSD300 on VGG-16.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 300 x 300 inputs; None for that of Pascal VOC. Weights of
            models that were trained on COCO at any time need `ssd300_coco`.
    """
    return _spec("ssd300_vgg16", num_classes, anchors or ssd300_voc())


def ssd512_spec(num_classes: int = 21, anchors: AnchorGrid | None = None) -> ModelSpec:
    """Returns the specification of SSD512 on VGG-16.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 512 x 512 inputs; None for that of Pascal VOC. Weights of
            models that were trained on COCO at any time need `ssd512_coco`.
    """
    return _spec("ssd512_vgg16", num_classes, anchors or ssd512_voc())


def ssd300_bn_spec(
    num_classes: int = 21, anchors: AnchorGrid | None = None
) -> ModelSpec:
    """Returns the specification of SSD300 on VGG-16 with batch normalisation.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 300 x 300 inputs; None for that of Pascal VOC.
    """
    return _spec("ssd300_vgg16_bn", num_classes, anchors or ssd300_voc())


def ssd512_bn_spec(
    num_classes: int = 21, anchors: AnchorGrid | None = None
) -> ModelSpec:
    """Returns the specification of SSD512 on VGG-16 with batch normalisation.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 512 x 512 inputs; None for that of Pascal VOC.
    """
    return _spec("ssd512_vgg16_bn", num_classes, anchors or ssd512_voc())


def _spec(name: str, num_classes: int, anchors: AnchorGrid) -> ModelSpec:
    """Returns a specification with the pixel means of the weights of the trunk.

    Those of VGG-16 come from Caffe, those with batch normalisation from PyTorch.
    """
    size = anchors.image_size
    if name.endswith(_NORMALIZED):
        preprocessing = Preprocessing(size, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE)
    else:
        preprocessing = Preprocessing(
            size, channel_order="bgr", mean=(104.0, 117.0, 123.0)
        )
    return ModelSpec(
        name=name,
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=preprocessing,
    )


def _normalized(
    features: Any, filters: int, kernel: int, name: str, **options: Any
) -> Any:
    """Returns convolution, batch normalisation as in PyTorch, and ReLU."""
    return conv_bn(
        features,
        filters,
        name,
        kernel=kernel,
        epsilon=1e-5,
        momentum=0.9,
        **options,
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network of one of the four models.

    Pooling rounds up, as in Caffe: TensorFlow's "same" max pooling does so and leaves
    the padding out of the maximum. Strided convolutions pad one zero on every side,
    which "same" would not.
    """
    block = _normalized if model.name.endswith(_NORMALIZED) else conv
    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = inputs
    sources = []
    for group, filters in enumerate(_TRUNK, start=1):
        for index, count in enumerate(filters, start=1):
            features = block(features, count, 3, f"conv{group}_{index}")
        if group == 4:
            # Only the heads see the normalised map.
            normalised = L2Normalization(name="conv4_3_norm")(features)
            sources.append(("conv4_3_norm", normalised))
        size, stride = (3, 1) if group == 5 else (2, 2)
        features = keras.layers.MaxPooling2D(
            size, stride, padding="same", name=f"pool{group}"
        )(features)
    features = block(features, 1024, 3, "fc6", dilation=6)
    features = block(features, 1024, 1, "fc7")
    sources.append(("fc7", features))
    extras = _EXTRAS_300 if model.name.startswith("ssd300") else _EXTRAS_512
    for group, (narrow, count, size, stride, pad) in enumerate(extras, start=6):
        features = block(features, narrow, 1, f"conv{group}_1")
        features = block(
            features, count, size, f"conv{group}_2", strides=stride, padding=pad
        )
        sources.append((f"conv{group}_2", features))
    return detection_network(inputs, sources, model)
