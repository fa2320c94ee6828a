# SPDX-License-Identifier: Apache-2.0
"""SSDLite on MobileNet-V3, as in torchvision's `ssdlite320_mobilenet_v3_large`.

References:
    Howard et al., "Searching for MobileNetV3", arXiv:1905.02244, section 6.3.
    `torchvision/models/detection/ssdlite.py` and `torchvision/models/mobilenetv3.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import keras

from ssdops.anchors import AnchorGrid, ssdlite320_torchvision
from ssdops.models.heads import detection_network
from ssdops.models.layers import conv, conv_bn
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec

__all__ = ["BLOCKS", "EXTRAS", "network", "spec"]


class Block(NamedTuple):
    """An inverted residual block.

    Attributes:
        kernel: Side of the depthwise kernels.
        middle: Channels of the depthwise convolution.
        outputs: Channels of the output.
        excitation: Whether channels are weighted by what the whole map holds.
        activation: Of the first two convolutions.
        stride: Of the depthwise convolution.
    """

    kernel: int
    middle: int
    outputs: int
    excitation: bool
    activation: str
    stride: int = 1


_SWISH: Final = "hard_swish"
BLOCKS: Final = (
    Block(3, 16, 16, False, "relu"),
    Block(3, 64, 24, False, "relu", 2),
    Block(3, 72, 24, False, "relu"),
    Block(5, 72, 40, True, "relu", 2),
    Block(5, 120, 40, True, "relu"),
    Block(5, 120, 40, True, "relu"),
    Block(3, 240, 80, False, _SWISH, 2),
    Block(3, 200, 80, False, _SWISH),
    Block(3, 184, 80, False, _SWISH),
    Block(3, 184, 80, False, _SWISH),
    Block(3, 480, 112, True, _SWISH),
    Block(3, 672, 112, True, _SWISH),
    # From here on all but the first 672 are halved with the reduced tail.
    Block(5, 672, 160, True, _SWISH, 2),
    Block(5, 960, 160, True, _SWISH),
    Block(5, 960, 160, True, _SWISH),
)
_TAIL: Final = 13
# Channels of the extra blocks.
EXTRAS: Final = (512, 256, 256, 128)
_FIRST: Final = 16
_PADDINGS: Final = ("symmetric", "same")
_LAST: Final = 6  # times the channels of the last block


def spec(
    num_classes: int = 91,
    anchors: AnchorGrid | None = None,
    reduced_tail: bool = True,
    head: str = "ssdlite",
    padding: str = "symmetric",
) -> ModelSpec:
    """Returns the specification of SSDLite320 on MobileNet-V3 Large.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid; None for `ssdops.anchors.ssdlite320_torchvision`.
        reduced_tail: Whether the last blocks have half their channels, as in weights
            trained on COCO; not so if the backbone was trained to classify.
        head: "ssdlite" for depthwise separable heads, or "ssd" for 3x3 ones.
        padding: Where zeros are put around maps of even size in strided layers:
            "symmetric" for as many on all sides, as PyTorch does, or "same" for one
            more at the end than at the beginning, as TensorFlow and Keras do.

    Raises:
        ValueError: For another kind of head or padding, or a tail that is neither.
    """
    if not isinstance(reduced_tail, bool):
        raise ValueError(f"reduced_tail must be true or false, got {reduced_tail!r}")
    if head not in ("ssd", "ssdlite"):
        raise ValueError(f'head must be "ssd" or "ssdlite", got {head!r}')
    if padding not in _PADDINGS:
        raise ValueError(f'padding must be "symmetric" or "same", got {padding!r}')
    anchors = anchors or ssdlite320_torchvision()
    return ModelSpec(
        name="ssdlite320_mobilenet_v3_large",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            anchors.image_size, mean=(127.5, 127.5, 127.5), scale=1 / 127.5
        ),
        options={"reduced_tail": reduced_tail, "head": head, "padding": padding},
        post_processing=PostProcessing(
            score_threshold=0.001,
            iou_threshold=0.55,
            pre_nms_top_k=300,
            max_detections=300,
            clip=True,
        ),
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network."""
    symmetric = model.options.get("padding", "symmetric") == "symmetric"
    normalized = partial(conv_bn, epsilon=1e-3, momentum=0.97)
    share = 2 if model.options.get("reduced_tail", True) else 1

    def padding(kernel: int) -> int | str:
        return kernel // 2 if symmetric else "same"

    inputs = keras.Input((*model.image_size, 3), name="images")
    features: Any = normalized(
        inputs, _FIRST, "conv1", strides=2, padding=padding(3), activation=_SWISH
    )
    sources = []
    channels = _FIRST
    for index, block in enumerate(BLOCKS, start=1):
        name = f"block{index}"
        count = block.outputs // (share if index >= _TAIL else 1)
        middle = block.middle // (share if index > _TAIL else 1)
        shortcut = features
        if middle != channels:
            features = normalized(
                features,
                middle,
                f"{name}_expand",
                kernel=1,
                activation=block.activation,
            )
        if index == _TAIL:
            sources.append((f"{name}_expand", features))
        features = normalized(
            features,
            None,
            f"{name}_depthwise",
            kernel=block.kernel,
            strides=block.stride,
            padding=padding(block.kernel),
            activation=block.activation,
        )
        if block.excitation:
            features = _excited(features, middle, name)
        features = normalized(
            features, count, f"{name}_project", kernel=1, activation=None
        )
        if block.stride == 1 and channels == count:
            features = keras.layers.Add(name=f"{name}_add")([features, shortcut])
        channels = count
    features = normalized(
        features, _LAST * channels, "conv_last", kernel=1, activation=_SWISH
    )
    sources.append(("conv_last", features))
    relu6 = partial(normalized, activation="relu6")
    for index, count in enumerate(EXTRAS, start=1):
        name = f"extra{index}"
        features = relu6(features, count // 2, f"{name}_1", kernel=1)
        features = relu6(features, None, f"{name}_2", strides=2, padding=padding(3))
        features = relu6(features, count, f"{name}_3", kernel=1)
        sources.append((f"{name}_3", features))
    return detection_network(
        inputs, sources, model, head=model.options.get("head", "ssdlite")
    )


def _excited(features: Any, channels: int, name: str) -> Any:
    """Returns features times a weight per channel (squeeze and excitation)."""
    weights = keras.layers.GlobalAveragePooling2D(
        keepdims=True, name=f"{name}_excitation_mean"
    )(features)
    # A quarter, as a multiple of 8 that is not less than nine tenths of it.
    count = max(8, (channels // 4 + 4) // 8 * 8)
    if count < 0.9 * (channels // 4):
        count += 8
    weights = conv(weights, count, 1, f"{name}_excitation1", activation="relu")
    weights = conv(
        weights, channels, 1, f"{name}_excitation2", activation="hard_sigmoid"
    )
    return keras.layers.Multiply(name=f"{name}_excitation")([features, weights])
