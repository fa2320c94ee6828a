# SPDX-License-Identifier: Apache-2.0
"""SSD on VGG-16 of two programs of PyTorch: their networks as they define them.

Both keep the layers in lists, activations and poolings among them, and make the anchors
with centres and sides that are cut off at the border of the image.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.torch_file import FakeTensor, write_torch
from support.torch_modules import convolution

from ssdops.anchors import anchor_grid, ssd512_voc, within_image
from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models import build_from_weights

VGG = [
    64,
    64,
    "M",
    128,
    128,
    "M",
    256,
    256,
    256,
    "C",
    512,
    512,
    512,
    "M",
    512,
    512,
    512,
]
EXTRAS: dict[int, list[Any]] = {
    300: [256, "S", 512, 128, "S", 256, 128, 256, 128, 256],
    512: [256, "S", 512, 128, "S", 256, 128, "S", 256, 128, "S", 256],
}
BOXES = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "voc 300": {
        "feature_maps": [38, 19, 10, 5, 3, 1],
        "steps": [8, 16, 32, 64, 100, 300],
        "min_sizes": [30, 60, 111, 162, 213, 264],
        "max_sizes": [60, 111, 162, 213, 264, 315],
        "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    },
    "coco 300": {
        "feature_maps": [38, 19, 10, 5, 3, 1],
        "steps": [8, 16, 32, 64, 100, 300],
        "min_sizes": [21, 45, 99, 153, 207, 261],
        "max_sizes": [45, 99, 153, 207, 261, 315],
        "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    },
    "voc 512": {
        "feature_maps": [64, 32, 16, 8, 4, 2, 1],
        "steps": [8, 16, 32, 64, 128, 256, 512],
        "min_sizes": [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8],
        "max_sizes": [76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65],
        "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
    },
    "coco 512": {
        "feature_maps": [64, 32, 16, 8, 4, 2, 1],
        "steps": [8, 16, 32, 64, 128, 256, 512],
        "min_sizes": [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8],
        "max_sizes": [51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72],
        "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
    },
}
# Prefixes of trunk, further layers and heads; name of the scales.
AMDEGROOT = ("vgg", "extras", "loc", "conf", "L2Norm.weight")
LUFFICC = (
    *("backbone.vgg", "backbone.extras"),
    *("box_head.predictor.reg_headers", "box_head.predictor.cls_headers"),
    "backbone.l2_norm.weight",
)


def priors(side: int, configuration: dict[str, Any]) -> Any:
    """Centre x and y, width and height, cut off."""
    rows = []
    for level, cells in enumerate(configuration["feature_maps"]):
        scale = side / configuration["steps"][level]
        low = configuration["min_sizes"][level]
        high = configuration["max_sizes"][level]
        for i, j in product(range(cells), repeat=2):
            x, y = (j + 0.5) / scale, (i + 0.5) / scale
            rows.append([x, y, low / side, low / side])
            rows.append([x, y, sqrt(low * high) / side, sqrt(low * high) / side])
            for ratio in configuration["aspect_ratios"][level]:
                root = sqrt(ratio)
                rows.append([x, y, low / side * root, low / side / root])
                rows.append([x, y, low / side / root, low / side * root])
    return np.clip(np.array(rows), 0, 1)


class Network:
    """A network with random weights by the names of a program."""

    def __init__(self, names: tuple[str, ...], side: int, classes: int) -> None:
        self.names, self.side, self.classes = names, side, classes
        self.tensors: dict[str, Any] = {}
        self._rng = np.random.default_rng(0)
        scales = self._rng.normal(20, 1, 512).astype(np.float32)
        self.tensors[names[4]] = scales

    def conv(
        self, x: Any, name: str, filters: int, kernel: int, pad: int, **options: Any
    ) -> Any:
        if f"{name}.weight" not in self.tensors:
            shape = (filters, int(x.shape[-1]), kernel, kernel)
            self.tensors |= convolution(self._rng, name, shape, bias=True)
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        weight = self.tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        strides = options.pop("stride", 1)
        x = tf.nn.conv2d(x, weight, strides, "VALID", **options)
        return x + self.tensors[f"{name}.bias"]

    def sources(self, x: Any) -> list[Any]:
        """Feature maps of RGB images without their mean."""
        trunk, further, _, _, scales = self.names
        found: list[Any] = []
        index = 0
        for entry in VGG:
            if isinstance(entry, str):
                # Both kinds of pooling round up here: where the size is odd it is "C".
                x = tf.nn.max_pool2d(x, 2, 2, "SAME" if entry == "C" else "VALID")
                index += 1
                continue
            x = tf.nn.relu(self.conv(x, f"{trunk}.{index}", entry, 3, 1))
            index += 2
            if index == 23:
                norm = tf.sqrt(tf.reduce_sum(x**2, -1, keepdims=True)) + 1e-10
                found.append(x / norm * self.tensors[scales])
        x = tf.nn.max_pool2d(x, 3, 1, "SAME")
        assert index + 1 == 31
        x = tf.nn.relu(self.conv(x, f"{trunk}.31", 1024, 3, 6, dilations=6))
        x = tf.nn.relu(self.conv(x, f"{trunk}.33", 1024, 1, 0))
        found.append(x)
        layers = []
        flag, before, configuration = False, 1024, EXTRAS[self.side]
        for k, v in enumerate(configuration):
            if before != "S":
                kernel = (1, 3)[flag]
                if v == "S":
                    layers.append((configuration[k + 1], kernel, 2, 1))
                else:
                    layers.append((v, kernel, 1, 0))
                flag = not flag
            before = v
        if self.side == 512:
            layers += [(128, 1, 1, 0), (256, 4, 1, 1)]
        for k, (filters, kernel, stride, pad) in enumerate(layers):
            name = f"{further}.{k}"
            x = tf.nn.relu(self.conv(x, name, filters, kernel, pad, stride=stride))
            if k % 2 == 1:
                found.append(x)
        return found

    def __call__(self, images: Any) -> tuple[Any, Any]:
        """Offsets (x, y, w, h) and logits of RGB images in [0, 255]."""
        sources = self.sources(images - np.float32([123, 117, 104]))
        rows = []
        for prefix, width in ((self.names[2], 4), (self.names[3], self.classes)):
            found = [
                self.conv(x, f"{prefix}.{k}", boxes * width, 3, 1)
                for k, (x, boxes) in enumerate(
                    zip(sources, BOXES[self.side], strict=True)
                )
            ]
            flat = [tf.reshape(x, (images.shape[0], -1, width)) for x in found]
            rows.append(tf.concat(flat, 1))
        return rows[0], rows[1]


def file_of(network: Network, path: Path, prefix: str = "") -> Path:
    named = network.tensors.items()
    state = OrderedDict((prefix + name, FakeTensor(value)) for name, value in named)
    content = {"model": state} if network.names is LUFFICC else state
    return write_torch(path, content, old=network.names is AMDEGROOT)


@pytest.mark.parametrize(
    ("names", "side", "classes", "configuration"),
    [
        (AMDEGROOT, 300, 21, "voc 300"),
        (AMDEGROOT, 300, 5, "coco 300"),
        (LUFFICC, 300, 81, "coco 300"),
        (LUFFICC, 300, 5, "voc 300"),
        (LUFFICC, 512, 21, "voc 512"),
        (LUFFICC, 512, 81, "coco 512"),
    ],
)
def test_outputs_and_anchors(
    names: tuple[str, ...], side: int, classes: int, configuration: str, tmp_path: Path
) -> None:
    network = Network(names, side, classes)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1, side, side, 3)).astype(np.float32)
    offsets, logits = network(images)
    prefix = "module." if classes == 5 else ""
    path = file_of(network, tmp_path / "net.pth", prefix)
    model, report = build_from_weights(None, path)
    assert model.spec.name == f"ssd{side}_vgg16"
    assert not report.missing
    assert not report.skipped
    assert not model.spec.post_processing.clip
    outputs = model.network(model.spec.preprocessing(images), training=False)
    expected = offsets.numpy()[..., [1, 0, 3, 2]]
    for ours, theirs in (
        (outputs["offsets"], expected),
        (outputs["logits"], logits.numpy()),
    ):
        limit = 1e-4 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)
    theirs = priors(side, CONFIGURATIONS[configuration])[:, [1, 0, 3, 2]]
    ours = yxyx_to_cyxhw(model.spec.anchors.boxes().astype(np.float64))
    # One of the files has a size of 537.65 instead of 537.6 pixels.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-5)


@pytest.mark.parametrize("trained", [True, False])
def test_a_classifier_of_torchvision(trained: bool, tmp_path: Path) -> None:
    """Either all of it, or only the convolutions, which saw the pixels of Caffe."""
    rng = np.random.default_rng(0)
    tensors, inputs = {}, 3
    for position, outputs in zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        strict=True,
    ):
        shape = (outputs, inputs, 3, 3)
        tensors |= convolution(rng, f"features.{position}", shape, bias=True)
        inputs = outputs
    for position, shape in ((0, (4096, 512 * 49)), (3, (4096, 4096)), (6, (9, 4096))):
        values = rng.normal(size=shape).astype(np.float32)
        tensors[f"classifier.{position}.weight"] = (
            values if trained else values * np.nan
        )
        tensors[f"classifier.{position}.bias"] = values[:, 0] * (
            1 if trained else np.nan
        )
    state = OrderedDict((name, FakeTensor(value)) for name, value in tensors.items())
    path = write_torch(tmp_path / "vgg16.pth", state, old=True)
    names = ["background", "cell"]
    model, report = build_from_weights("ssd300_vgg16", path, names, strict=False)
    assert len(report.loaded) == (30 if trained else 26)
    assert len(report.skipped) == (2 if trained else 6)
    kernel = model.network.get_layer("conv1_1").kernel.numpy()
    expected = tensors["features.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected[:, :, ::-1])
    kernel = model.network.get_layer("conv5_3").kernel.numpy()
    expected = tensors["features.28.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    pixel = np.float32([200, 100, 50])  # RGB
    found = model.spec.preprocessing(pixel.reshape(1, 1, 1, 3)).numpy().ravel()[::-1]
    if trained:
        seen = (pixel / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(found, seen, rtol=1e-4)
        kernel = model.network.get_layer("fc6").kernel.numpy()
        whole = tensors["classifier.0.weight"].reshape(4096, 512, 7, 7)
        np.testing.assert_array_equal(kernel[1, 2, :, 5], whole[20, :, 3, 6])
    else:
        np.testing.assert_array_equal(found, pixel - np.float32([123, 117, 104]))


def test_other_layers_are_told_apart(tmp_path: Path) -> None:
    network = Network(AMDEGROOT, 300, 3)
    network(np.zeros((1, 300, 300, 3), np.float32))
    network.tensors["priors"] = np.zeros(3, np.float32)
    del network.tensors["loc.2.bias"]
    path = file_of(network, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"1 missing \(conv6_2_mbox_loc\|1"):
        build_from_weights("ssd300_vgg16", path)
    model, report = build_from_weights("ssd300_vgg16", path, strict=False)
    assert list(report.skipped) == ["priors|0"]
    assert model.spec.num_classes == 3


def test_grids_within_the_image() -> None:
    """Sides are cut off, and what was rounded still is."""
    for grid in (*map(anchor_grid, ("ssd300_voc", "ssd512_voc")), ssd512_voc("none")):
        ours = yxyx_to_cyxhw(within_image(grid).boxes().astype(np.float64))
        theirs = yxyx_to_cyxhw(grid.boxes().astype(np.float64))
        theirs[:, 2:] = np.minimum(theirs[:, 2:], 1)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    grid = anchor_grid("mobilenet_ssd_voc")
    assert within_image(within_image(grid)) == within_image(grid)
