# SPDX-License-Identifier: Apache-2.0
"""SSD on MobileNet-V2: weights of the Object Detection API in its own network.

The network of the test is written down from the definition of MobileNet-V2 and SSD in
that code, with the variables of a checkpoint, and made of TensorFlow's operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.object_detection_keras import write_objects
from support.tensorflow_files import write_checkpoint, write_graph, write_lite

from ssdops.anchors import ssd300_mobilenet_v1_coco
from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models import SSD, build_from_weights, build_model, load_model
from ssdops.models.weights.mobilenet_v2 import (
    inferred_options,
    load_mobilenet_v2_arrays,
)

CLASSES = 3  # with the background
SCOPE = "FeatureExtractor/MobilenetV2"
# Channels at a multiplier of 0.5 and stride of every block: multiples of 8 from 16 on.
BLOCKS = (
    *((16, 1), (16, 2), (16, 1), (16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)),
    *((32, 1), (48, 1), (48, 1), (48, 1), (80, 2), (80, 1), (80, 1), (160, 1)),
)
EXTRAS = ((128, 256), (64, 128), (64, 128), (32, 64))
# Kinds of the heads and of the layers after the trunk, side of the kernels of heads.
KINDS = (("ssd", "ssd", 3), ("ssd", "ssdlite", 1), ("ssdlite", "ssdlite", 3))


class Network:
    """Layers that make their variables when they are first applied."""

    def __init__(self, head: str, extras: str, kernel: int) -> None:
        self.head, self.extras, self.kernel = head, extras, kernel
        self.variables: dict[str, Any] = {}
        self._rng = np.random.default_rng(3)

    def _variable(self, name: str, shape: tuple[int, ...], kind: str) -> Any:
        if name not in self.variables:
            values = {
                "kernel": lambda: self._rng.normal(
                    0, 1.3 / np.sqrt(np.prod(shape[:-1])), shape
                ),
                "depthwise": lambda: self._rng.normal(0, 0.4, shape),
                "positive": lambda: self._rng.uniform(0.6, 1.4, shape),
                "any": lambda: self._rng.normal(0, 0.2, shape),
            }[kind]()
            self.variables[name] = np.asarray(values, np.float32)
        return self.variables[name]

    def normalized(self, x: Any, scope: str, relu: bool = True) -> Any:
        count = (x.shape[-1],)
        gamma, beta, mean, variance = (
            self._variable(f"{scope}/BatchNorm/{part}", count, kind)
            for part, kind in (
                ("gamma", "positive"),
                ("beta", "any"),
                ("moving_mean", "any"),
                ("moving_variance", "positive"),
            )
        )
        x, _, _ = tf.compat.v1.nn.fused_batch_norm(
            *(x, gamma, beta, mean, variance),
            epsilon=0.001,
            is_training=False,
            name=f"{scope}/BatchNorm/FusedBatchNormV3",
        )
        return tf.nn.relu6(x, name=f"{scope}/Relu6") if relu else x

    def conv(self, x: Any, scope: str, size: int, count: int, stride: int = 1) -> Any:
        shape = (size, size, x.shape[-1], count)
        kernel = self._variable(f"{scope}/weights", shape, "kernel")
        return tf.nn.conv2d(x, kernel, stride, "SAME", name=f"{scope}/Conv2D")

    def depthwise(self, x: Any, scope: str, stride: int = 1, size: int = 3) -> Any:
        shape = (size, size, x.shape[-1], 1)
        kernel = self._variable(f"{scope}/depthwise_weights", shape, "depthwise")
        return tf.nn.depthwise_conv2d(
            x, kernel, (1, stride, stride, 1), "SAME", name=f"{scope}/depthwise"
        )

    def __call__(self, images: Any) -> tuple[Any, Any]:
        """Offsets and logits for images in [0, 255]."""
        x = images * (2 / 255) - 1
        x = self.normalized(self.conv(x, f"{SCOPE}/Conv", 3, 16, 2), f"{SCOPE}/Conv")
        sources = []
        for index, (count, stride) in enumerate(BLOCKS):
            scope = f"{SCOPE}/expanded_conv" + (f"_{index}" if index else "")
            before = x
            if index:
                scope_expand = f"{scope}/expand"
                x = self.conv(x, scope_expand, 1, 6 * x.shape[-1])
                x = self.normalized(x, scope_expand)
            if index == 13:
                sources.append(x)
            x = self.normalized(
                self.depthwise(x, f"{scope}/depthwise", stride), f"{scope}/depthwise"
            )
            x = self.conv(x, f"{scope}/project", 1, count)
            x = self.normalized(x, f"{scope}/project", relu=False)
            if stride == 1 and before.shape[-1] == count:
                x = x + before
        x = self.normalized(self.conv(x, f"{SCOPE}/Conv_1", 1, 640), f"{SCOPE}/Conv_1")
        sources.append(x)
        for group, (narrow, wide) in enumerate(EXTRAS, start=2):
            scope = f"{SCOPE}/layer_19_1_Conv2d_{group}_1x1_{narrow}"
            x = self.normalized(self.conv(x, scope, 1, narrow), scope)
            scope = f"{SCOPE}/layer_19_2_Conv2d_{group}_3x3_s2_{wide}"
            if self.extras == "ssdlite":
                deep = f"{scope}_depthwise"
                x = self.normalized(self.depthwise(x, deep, 2), deep)
                x = self.normalized(self.conv(x, scope, 1, wide), scope)
            else:
                x = self.normalized(self.conv(x, scope, 3, wide, 2), scope)
            sources.append(x)
        outputs = []
        for head, values in (("BoxEncoding", 4), ("Class", CLASSES)):
            rows = []
            for level, source in enumerate(sources):
                scope = f"BoxPredictor_{level}/{head}Predictor"
                y, kernel = source, self.kernel
                if self.head == "ssdlite":
                    deep = f"{scope}_depthwise"
                    y = self.normalized(self.depthwise(y, deep, 1, kernel), deep)
                    kernel = 1
                count = (3 if level == 0 else 6) * values
                y = self.conv(y, scope, kernel, count)
                biases = self._variable(f"{scope}/biases", (count,), "any")
                y = tf.nn.bias_add(y, biases, name=f"{scope}/BiasAdd")
                rows.append(tf.reshape(y, (images.shape[0], -1, values)))
            outputs.append(tf.concat(rows, 1))
        return outputs[0], outputs[1]


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 300, 300, 3)).astype(np.float32)


def built(kinds: tuple[str, str, int]) -> tuple[Network, Any, Any]:
    """A network, and what it gives."""
    network = Network(*kinds)
    return network, *network(IMAGES)


@pytest.fixture(scope="module")
def reference() -> tuple[Network, Any, Any]:
    return built(KINDS[1])


def assert_same(
    model: SSD, reference: tuple[Network, Any, Any], tolerance: float = 1e-4
) -> None:
    outputs = model.network(model.spec.preprocessing(IMAGES), training=False)
    for ours, theirs in zip(
        (outputs["offsets"], outputs["logits"]), reference[1:], strict=True
    ):
        limit = tolerance * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def folded(variables: dict[str, Any]) -> dict[str, Any]:
    """As in a TensorFlow Lite file: kernels [out, h, w, in] with a bias."""
    found = {}
    for name, kernel in variables.items():
        scope, _, kind = name.rpartition("/")
        if kind not in ("weights", "depthwise_weights"):
            continue
        lite = np.transpose(kernel, (3, 0, 1, 2))
        norm = f"{scope}/BatchNorm"
        if f"{norm}/beta" in variables:
            factor = variables[f"{norm}/gamma"] / np.sqrt(
                variables[f"{norm}/moving_variance"] + 0.001
            )
            lite = lite * (factor if kind != "weights" else factor[:, None, None, None])
            bias = variables[f"{norm}/beta"] - variables[f"{norm}/moving_mean"] * factor
            found[f"{scope}/Conv2D_Fold_bias"] = bias
        else:
            found[f"{scope}/biases"] = variables[f"{scope}/biases"]
        found[f"{scope}/{kind}"] = lite
    return found


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        ("checkpoint", KINDS[0]),
        ("graph", KINDS[1]),
        ("average", KINDS[2]),
        ("folded", KINDS[0]),
        ("folded", KINDS[2]),
        ("objects", KINDS[0]),
        ("saved model", KINDS[2]),
    ],
)
def test_outputs_are_those_of_the_trained_network(
    kind: str, kinds: tuple[str, str, int], tmp_path: Path
) -> None:
    reference = built(kinds)
    variables = reference[0].variables
    path = tmp_path / "model.ckpt"
    if kind == "checkpoint":
        slots = {f"{name}/RMSProp": value for name, value in variables.items()}
        # Ranges of numbers, as training for quantisation keeps them.
        ranges = {
            f"{name}_quant/{end}": np.float32(1)
            for name in variables
            if name.endswith("weights")
            for end in ("min", "max", "max/biased")
        }
        stored = {**slots, **variables, **ranges, "global_step": np.int64(3)}
        write_checkpoint(path, stored)
    elif kind == "average":
        averages = {
            f"{name}/ExponentialMovingAverage": value
            for name, value in variables.items()
            if "moving" not in name
        }
        last = {
            name: value if "moving" in name else 0 * value
            for name, value in variables.items()
        }
        write_checkpoint(path, {**last, **averages})
    elif kind == "graph":
        path = tmp_path / "frozen_inference_graph.pb"
        write_graph(path, variables)
    elif kind in ("objects", "saved model"):
        path = tmp_path / "exported"
        write_objects(path, variables, kind)
    else:
        path = tmp_path / "lite.npz"
        np.savez(path, **folded(variables))
    model, report = build_from_weights(None, path)
    assert model.spec.name == "ssd300_mobilenet_v2"
    network = reference[0]
    assert model.spec.options == {
        "depth_multiplier": 0.5,
        "head": network.head,
        "extras": network.extras,
        "head_kernel": network.kernel,
    }
    assert model.spec.num_classes == CLASSES
    assert not report.missing
    assert_same(model, reference)


@pytest.mark.parametrize(
    ("kind", "kinds", "tolerance"),
    [
        ("float32", KINDS[1], 1e-4),
        ("float16", KINDS[2], 2e-2),
        ("int8 weights", KINDS[0], 0.2),
    ],
)
def test_files_of_the_converter_of_today(
    kind: str, kinds: tuple[str, str, int], tolerance: float, tmp_path: Path
) -> None:
    """It keeps no names of variables; kernels are found by their operations."""
    reference = built(kinds)
    path = write_lite(tmp_path / "net.tflite", reference[0], kind)
    model, report = build_from_weights(None, path)
    assert model.spec.name == "ssd300_mobilenet_v2"
    assert not report.missing
    assert model.spec.preprocessing.scale == (1 / 127.5,) * 3
    assert_same(model, reference, tolerance)


def test_files_for_images_of_another_size(tmp_path: Path) -> None:
    network = Network(*KINDS[2])
    images = np.zeros((1, 320, 256, 3), np.float32)
    offsets, _ = network(images)
    path = write_lite(tmp_path / "net.tflite", network, "float32", (320, 256))
    model, report = build_from_weights(None, path)
    assert model.spec.image_size == (320, 256)
    assert not report.missing
    ours = model.network(model.spec.preprocessing(images), training=False)["offsets"]
    limit = 1e-4 * np.abs(offsets).max()
    np.testing.assert_allclose(ours, offsets, rtol=0, atol=limit)


def test_specification(tmp_path: Path) -> None:
    model = build_model("ssd300_mobilenet_v2", num_classes=1000, head="ssdlite")
    assert model.network.output["logits"].shape == (None, 1917, 1000)
    assert model.spec.score_activation == "sigmoid"
    assert load_model(model.save(tmp_path)).spec == model.spec
    for options in (
        {"head": "fpn"},
        {"extras": 1},
        {"head_kernel": 2},
        {"head_kernel": True},
        {"depth_multiplier": 0},
    ):
        with pytest.raises(ValueError, match="must"):
            build_model("ssd300_mobilenet_v2", **options)


def test_published_numbers_of_weights() -> None:
    """3.4 million of ImageNet's MobileNet-V2, without its 1.3 million that classify."""
    network = build_model("ssd300_mobilenet_v2", num_classes=91).network
    trunk = sum(
        layer.count_params()
        for layer in network.layers
        if layer.name.startswith(("Conv", "expanded_conv")) and "mbox" not in layer.name
    )
    assert trunk == 2_257_984


def test_anchors_of_the_file_are_those_of_the_model(
    reference: tuple[Network, Any, Any], tmp_path: Path
) -> None:
    anchors = yxyx_to_cyxhw(ssd300_mobilenet_v1_coco().boxes())
    arrays = folded(reference[0].variables)
    np.savez(tmp_path / "same.npz", anchors=anchors, **arrays)
    build_from_weights(None, tmp_path / "same.npz")
    np.savez(tmp_path / "half.npz", anchors=anchors.astype(np.float16), **arrays)
    build_from_weights(None, tmp_path / "half.npz")
    # A third that is written in other digits moves no side by a tenth of a pixel.
    np.savez(tmp_path / "third.npz", anchors=anchors + 1e-4, **arrays)
    build_from_weights(None, tmp_path / "third.npz")
    anchors[7, 2] += 0.01
    np.savez(tmp_path / "moved.npz", anchors=anchors, **arrays)
    with pytest.raises(ValueError, match=r"anchors of the weights differ .* 0\.0100"):
        build_from_weights("ssd300_mobilenet_v2", tmp_path / "moved.npz")


def test_quantised_weights_imply_their_preprocessing(
    reference: tuple[Network, Any, Any], tmp_path: Path
) -> None:
    arrays = folded(reference[0].variables)
    arrays[f"{SCOPE}/Conv/weights|scale_zp"] = np.array([0.1, 128.0])
    np.savez(tmp_path / "quantized.npz", **arrays)
    model, _ = build_from_weights(None, tmp_path / "quantized.npz")
    assert model.spec.preprocessing.mean == (128.0, 128.0, 128.0)
    assert model.spec.preprocessing.scale == (1 / 128,) * 3


def test_weights_that_are_missing(
    reference: tuple[Network, Any, Any], tmp_path: Path
) -> None:
    variables = dict(reference[0].variables)
    name = f"{SCOPE}/expanded_conv_3/expand/BatchNorm/beta"
    del variables[name]
    write_checkpoint(tmp_path / "model", variables)
    with pytest.raises(ValueError, match=r"1 missing .expanded_conv_3_expand/beta"):
        build_from_weights("ssd300_mobilenet_v2", tmp_path / "model")
    model, report = build_from_weights(
        "ssd300_mobilenet_v2", tmp_path / "model", strict=False
    )
    assert list(report.missing) == ["expanded_conv_3_expand/beta"]
    np.testing.assert_array_equal(
        model.network.get_layer("expanded_conv_3_expand_bn").beta, 0
    )
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="not those of a MobileNet-V2 SSD"):
        build_from_weights("ssd300_mobilenet_v2", tmp_path / "other.npz")


@pytest.fixture(scope="module")
def plain() -> tuple[Network, SSD]:
    """Variables of a network, and a model that they fit."""
    network = Network("ssd", "ssd", 1)
    network(IMAGES[:1])
    return network, build_model(
        "ssd300_mobilenet_v2", CLASSES, depth_multiplier=0.5, head_kernel=1
    )


@pytest.mark.parametrize(
    "more",
    [
        "BoxPredictor_0/Conv2d_0_1x1_64/weights",
        "BoxPredictor_6/ClassPredictor/biases",
        f"{SCOPE}/expanded_conv_17/expand/weights",
        f"{SCOPE}/Conv_1/extra/BatchNorm/moving_mean",
    ],
)
def test_weights_that_the_model_has_no_place_for(
    more: str, plain: tuple[Network, SSD]
) -> None:
    """A network with more layers is another one."""
    network, model = plain
    arrays = {**network.variables, more: np.ones(3, np.float32)}
    with pytest.raises(ValueError, match=rf"0 missing, 1 unknown .{more} "):
        load_mobilenet_v2_arrays(model, arrays)
    report = load_mobilenet_v2_arrays(model, arrays, strict=False)
    assert report.skipped == {more: (3,)}
    assert report.loaded.keys() == network.variables.keys()


def test_normalisation_without_a_factor(plain: tuple[Network, SSD]) -> None:
    network, model = Network("ssd", "ssd", 1), plain[1]
    network.variables = {
        name: np.ones_like(value) if name.endswith("gamma") else value
        for name, value in plain[0].variables.items()
    }
    stored = {n: v for n, v in network.variables.items() if not n.endswith("gamma")}
    report = load_mobilenet_v2_arrays(model, stored)
    assert report.loaded.keys() == stored.keys()
    assert_same(model, (network, *network(IMAGES)))
    # Where some have one, the others have lost it.
    stored[f"{SCOPE}/Conv/BatchNorm/gamma"] = np.ones(16)
    with pytest.raises(ValueError, match=r"missing .*/gamma"):
        load_mobilenet_v2_arrays(model, stored)


@pytest.mark.parametrize(
    ("channels", "multiplier"),
    [(512, 1.0), (716, 1.4), (665, 1.3), (384, 0.75), (179, 0.35), (168, 0.33)],
)
def test_the_depth_multiplier_of_rounded_channels(
    channels: int, multiplier: float
) -> None:
    arrays = {
        f"{SCOPE}/Conv/BatchNorm/moving_variance": np.ones(16),
        f"{SCOPE}/layer_19_2_Conv2d_2_3x3_s2_{channels}/weights": np.ones(
            (3, 3, 1, channels)
        ),
        "BoxPredictor_0/BoxEncodingPredictor/biases": np.ones(12),
        "BoxPredictor_0/ClassPredictor/biases": np.ones(12),
    }
    assert inferred_options(arrays)["depth_multiplier"] == multiplier


BOXES = "BoxPredictor_0/BoxEncodingPredictor/biases"
EXTRA = f"{SCOPE}/layer_19_2_Conv2d_2_3x3_s2_256/weights"
OTHER = "not those of a MobileNet-V2 SSD"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (BOXES, np.ones(()), OTHER),
        (BOXES, np.ones(0), OTHER),
        (BOXES, np.ones((12, 1)), "must have shape"),
        (BOXES, np.full(12, np.nan), "must hold finite numbers"),
        (EXTRA, np.ones(()), OTHER),
        (EXTRA, np.ones((3, 3, 1, 4000)), "depth_multiplier must lie in"),
        (EXTRA, np.ones((3, 3, 1, 0)), "depth_multiplier must lie in"),
        (EXTRA, np.ones((3, 3, 128, 255)), "must have shape|missing"),
    ],
    ids=range(8),
)
def test_hostile_shapes(
    name: str, value: Any, message: str, plain: tuple[Network, SSD], tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "model", {**plain[0].variables, name: value})
    with pytest.raises(ValueError, match=message):
        build_from_weights("ssd300_mobilenet_v2", tmp_path / "model")
