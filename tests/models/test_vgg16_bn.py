# SPDX-License-Identifier: Apache-2.0
"""SSD on VGG-16 with batch normalisation, and torchvision's weights for its trunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.torch_file import FakeTensor, write_torch
from support.torch_modules import Tensors, batch_norm, convolution

from ssdops.models import SSD, build_from_weights, build_model, load_model
from ssdops.models.weights.torchvision_vgg import load_vgg16_bn_arrays

# As torchvision writes it: channels of convolutions, M for a pooling.
PLAN = (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M")


def vgg16_bn() -> Tensors:
    rng = np.random.default_rng(0)
    tensors: Tensors = {}
    inputs, number = 3, 0
    for item in PLAN:
        if item == "M":
            number += 1
            continue
        channels = int(item)
        tensors |= convolution(
            rng, f"features.{number}", (channels, inputs, 3, 3), bias=True
        )
        tensors |= batch_norm(rng, f"features.{number + 1}", channels)
        inputs, number = channels, number + 3
    tensors["classifier.6.bias"] = np.zeros(10, np.float32)
    return tensors


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return vgg16_bn()


@pytest.fixture(scope="module")
def model(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> SSD:
    state = {name: FakeTensor(value) for name, value in tensors.items()}
    path = write_torch(tmp_path_factory.mktemp("weights") / "vgg16_bn.pth", state)
    model, report = build_from_weights(
        "ssd300_vgg16_bn", path, num_classes=3, strict=False
    )
    assert len(report.loaded) == 13 * 6
    assert list(report.skipped) == ["classifier.6.bias"]
    missing = {name.split("/")[0] for name in report.missing}
    assert {"conv4_3_norm", "fc6", "fc6_bn", "conv9_2", "fc7_mbox_conf"} <= missing
    assert not missing & {"conv1_1", "conv5_3_bn"}
    with pytest.raises(ValueError, match="the weights do not fit model ssd300_vgg16_b"):
        build_from_weights("ssd300_vgg16_bn", path)
    return model


def test_trunk_by_hand(model: SSD, tensors: Tensors) -> None:
    """Its first two convolutions with their biases, at one place inside the image."""
    images = np.random.default_rng(1).integers(0, 256, (1, 300, 300, 3), np.uint8)
    pixels = (images[0] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    patch = pixels[100:105, 200:205].transpose(2, 0, 1)
    for number in (0, 3):
        side = patch.shape[1] - 2
        kernel, bias = (tensors[f"features.{number}.{k}"] for k in ("weight", "bias"))
        windows = np.stack(
            [patch[:, y : y + side, x : x + side] for y in range(3) for x in range(3)]
        )
        values = np.einsum(
            "oik,kihw->ohw", kernel.reshape(*kernel.shape[:2], 9), windows
        )
        gamma, beta, mean, variance = (
            tensors[f"features.{number + 1}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        values = (values + bias[:, None, None] - mean) / np.sqrt(variance + 1e-5)
        patch = np.maximum(values * gamma + beta, 0)
    layer = model.network.get_layer("conv1_2_relu")
    until = keras.Model(model.network.input, layer.output)
    actual = until(model.spec.preprocessing(images), training=False)[0, 102, 202]
    np.testing.assert_allclose(actual, patch[:, 0, 0], rtol=1e-3, atol=1e-4)


def test_wrong_tensors(model: SSD, tensors: Tensors) -> None:
    before = model.network.get_weights()
    wrong = {**tensors, "features.41.weight": np.zeros(7, np.float32)}
    with pytest.raises(ValueError, match=r"features\.41\.weight must have shape \[512"):
        load_vgg16_bn_arrays(model, wrong)
    wrong = {**tensors, "features.0.bias": np.full(64, np.nan, np.float32)}
    with pytest.raises(ValueError, match=r"features\.0\.bias must hold finite numbers"):
        load_vgg16_bn_arrays(model, wrong, strict=False)
    for ours, expected in zip(model.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_bias_of_another_shape_is_left_out(tensors: Tensors) -> None:
    model = build_model("ssd300_vgg16_bn", num_classes=2)
    wrong = {**tensors, "features.0.bias": np.zeros(7, np.float32)}
    report = load_vgg16_bn_arrays(model, wrong, strict=False)
    assert report.skipped["features.0.bias"] == (7,)
    assert "must have shape [64]" in report.reasons["features.0.bias"]
    norm = model.network.get_layer("conv1_1_bn")
    np.testing.assert_array_equal(norm.moving_mean, tensors["features.1.running_mean"])


def test_weights_without_normalisation_are_refused(tmp_path: Path) -> None:
    state = {"features.0.weight": FakeTensor(np.zeros((64, 3, 3, 3), np.float32))}
    path = write_torch(tmp_path / "vgg16.pth", state)
    with pytest.raises(ValueError, match="not those of torchvision's vgg16_bn"):
        build_from_weights("ssd300_vgg16_bn", path, strict=False)


@pytest.mark.parametrize("size", [300, 512])
def test_shapes(size: int) -> None:
    """Those of the model without normalisation; biases are in the normalisations."""
    plain = build_model(f"ssd{size}_vgg16")
    model = build_model(f"ssd{size}_vgg16_bn")
    assert model.spec.anchors == plain.spec.anchors
    assert model.network.output["logits"].shape == plain.network.output["logits"].shape
    norms = [
        layer
        for layer in model.network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(norms) == 13 + 2 + (8 if size == 300 else 10)
    channels = sum(norm.gamma.shape[0] for norm in norms)
    expected = plain.network.count_params() - channels + 4 * channels
    assert model.network.count_params() == expected
    # The normalised map goes to the heads only, and is that after the ReLU.
    [node] = model.network.get_layer("conv4_3_norm")._inbound_nodes
    assert node.parent_nodes[0].operation.name == "conv4_3_relu"


def test_saved_and_loaded(model: SSD, tmp_path: Path) -> None:
    images: Any = np.random.default_rng(2).random((1, 300, 300, 3), np.float32)
    inputs = model.spec.preprocessing(255 * images)
    again = load_model(model.save(tmp_path))
    for key in ("offsets", "logits"):
        ours, theirs = (
            each.network(inputs, training=False)[key] for each in (model, again)
        )
        np.testing.assert_array_equal(ours, theirs)
