# SPDX-License-Identifier: Apache-2.0
"""OpenCV's face detector: SSD300 on a residual network of 10 layers.

Layers are called as in its prototxt, and are made by the same code as those of any
other Caffe network.

References:
    https://github.com/opencv/opencv/tree/4.x/samples/dnn/face_detector
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import keras

from ssdops.anchors import AnchorGrid, ssd300_face
from ssdops.models.caffe import network as caffe_network
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec

__all__ = ["network", "spec"]

_INPUT: Final = "data"
# Source of the heads and the blob that it gives.
_SOURCES: Final = {
    "conv4_3_norm": "conv4_3_norm",
    "fc7": "fc7",
    "conv6_2": "conv6_2_h",
    "conv7_2": "conv7_2_h",
    "conv8_2": "conv8_2_h",
    "conv9_2": "conv9_2_h",
}
# Per extra group: channels of the 1x1, then channels, stride and padding of the 3x3.
_EXTRAS: Final = ((128, 256, 2, 1), (64, 128, 2, 1), (64, 128, 1, 1), (64, 128, 1, 1))


# Name; ends of the names of first normalisation, first convolution, second
# normalisation, second convolution and the one beside them, if there are these;
# channels in the middle and at the end; stride; dilation.
_BLOCKS: Final = (
    ("layer_64_1", (None, "_h", "_h", "_h", None), 32, 32, 1, 1),
    ("layer_128_1", ("_h", "_h", "", "", "_h"), 128, 128, 2, 1),
    ("layer_256_1", ("", "", "", "", ""), 256, 256, 2, 1),
    ("layer_512_1", ("", "_h", "_h", "_h", "_h"), 128, 256, 1, 2),
)


def spec(num_classes: int = 2, anchors: AnchorGrid | None = None) -> ModelSpec:
    """Returns the specification of the face detector.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid for 300 x 300 inputs; None for `ssd300_face`.
    """
    anchors = anchors or ssd300_face()
    return ModelSpec(
        name="ssd300_resnet10_face",
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            anchors.image_size, channel_order="bgr", mean=(104.0, 177.0, 123.0)
        ),
        # Of its layer DetectionOutput as deployed.
        post_processing=PostProcessing(iou_threshold=0.3),
    )


def network(model: ModelSpec) -> keras.Model:
    """Returns the network; batch normalisation has layers of its own."""
    layers = _Layers()
    layers.normalized(_INPUT, "data", "", top="data_bn", relu=False)
    layers.convolution("conv1_h", "data_bn", 32, kernel=7, stride=2, pad=3)
    layers.normalized("conv1_h", "conv1", "_h")
    layers.add(
        "Pooling",
        "conv1_pool",
        ["conv1_h"],
        pool="MAX",
        kernel=[3, 3],
        stride=[2, 2],
        pad=[0, 0],
        whole=False,
    )
    blob = "conv1_pool"
    for name, suffixes, middle, count, stride, dilation in _BLOCKS:
        blob = layers.block(name, blob, suffixes, middle, count, stride, dilation)
        if name == "layer_256_1":
            # Of what the block normalises first.
            layers.add(
                "Normalize",
                "conv4_3_norm",
                ["layer_256_1_bn1"],
                scale=20.0,
                shared=False,
                epsilon=1e-10,
            )
    layers.normalized(blob, "last", "_h", blob="fc7")
    blob = "fc7"
    for group, (narrow, count, stride, pad) in enumerate(_EXTRAS, start=6):
        first, second = f"conv{group}_1_h", f"conv{group}_2_h"
        layers.convolution(first, blob, narrow, kernel=1)
        layers.relu(f"conv{group}_1_relu", first)
        layers.convolution(second, first, count, stride=stride, pad=pad)
        layers.relu(f"conv{group}_2_relu", second)
        blob = second
    for source, features in _SOURCES.items():
        for head in ("mbox_loc", "mbox_conf"):
            # As wide as classes and anchors ask for, see `caffe_network`.
            layers.convolution(f"{source}_{head}", features, 1, pad=1)
    options = {
        "input": _INPUT,
        "layers": layers.entries,
        "offsets": [f"{source}_mbox_loc" for source in _SOURCES],
        "logits": [f"{source}_mbox_conf" for source in _SOURCES],
    }
    return caffe_network.network(replace(model, options=options))


class _Layers:
    """Layers as plain values, one after the other."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def add(
        self, kind: str, name: str, bottom: list[str], top: str = "", **values: Any
    ) -> None:
        self.entries.append(
            {
                "type": kind,
                "name": name,
                "bottom": bottom,
                "top": top or name,
                "values": values,
            }
        )

    def convolution(
        self,
        name: str,
        bottom: str,
        count: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        self.add(
            "Convolution",
            name,
            [bottom],
            num_output=count,
            kernel=[kernel] * 2,
            stride=[stride] * 2,
            pad=[pad] * 2,
            dilation=[dilation] * 2,
            group=1,
            bias=bias,
        )

    def relu(self, name: str, blob: str, top: str = "") -> None:
        self.add("ReLU", name, [blob], top or blob, slope=0.0)

    def normalized(
        self,
        bottom: str,
        name: str,
        suffix: str,
        *,
        number: str = "",
        top: str = "",
        blob: str = "",
        relu: bool = True,
    ) -> None:
        """Adds normalisation, scale and ReLU.

        Args:
            bottom: Their input.
            name: Beginning of their names.
            suffix: End of their names.
            number: In the names.
            top: What the first two give; empty to change the input.
            blob: What the ReLU gives; empty to change its input.
            relu: Whether there is a ReLU.
        """
        top = top or bottom
        norm = f"{name}_bn{number}{suffix}"
        self.add("BatchNorm", norm, [bottom], top, epsilon=1e-5)
        self.add("Scale", f"{name}_scale{number}{suffix}", [top], top, bias=True)
        if relu:
            self.relu(f"{name}_relu{number}", top, blob)

    def block(
        self,
        name: str,
        bottom: str,
        suffixes: tuple[str | None, ...],
        middle: int,
        count: int,
        stride: int,
        dilation: int,
    ) -> str:
        """Adds a residual block, normalised before its convolutions.

        Returns:
            The name of its output.
        """
        norm1, conv1, norm2, conv2, expand = suffixes
        features = bottom
        if norm1 is not None:
            features = f"{name}_bn1{norm1}"
            self.normalized(bottom, name, norm1, number="1", top=features)
        first, second = f"{name}_conv1{conv1}", f"{name}_conv2{conv2}"
        self.convolution(first, features, middle, stride=stride, pad=1, bias=False)
        self.normalized(first, name, str(norm2), number="2")
        self.convolution(
            second, first, count, pad=dilation, dilation=dilation, bias=False
        )
        beside = bottom
        if expand is not None:
            beside = f"{name}_conv_expand{expand}"
            self.convolution(
                beside, features, count, kernel=1, stride=stride, bias=False
            )
        self.add(
            "Eltwise",
            f"{name}_sum",
            [second, beside],
            operation="SUM",
            coefficients=[],
        )
        return f"{name}_sum"
