# SPDX-License-Identifier: Apache-2.0
"""SSD on VGG-16 against the original network, run by OpenCV with the same weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.caffe_parity import (
    assert_close,
    assert_same_detections,
    assert_same_layer,
    assert_same_outputs,
    assert_same_priors,
    run_beside_reference,
    weight_generator,
)
from support.data import data_path

from ssdops import batched_nms, decode_boxes
from ssdops.anchors import AnchorGrid, ssd300_coco, ssd300_voc
from ssdops.models import SSD, build_from_weights, build_model
from ssdops.models.weights import load_caffe_blobs, read_weights
from ssdops.models.weights.caffe import inferred_options

PHOTOS = ("000001", "000456", "004545")
TRUNK = [
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"),
]
EXTRAS_300 = [f"conv{group}_{index}" for group in (6, 7, 8, 9) for index in (1, 2)]
SOURCES_300 = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]
# Blob of the reference -> layer here, whose output includes the ReLU.
STAGES = {
    "relu4_3": "conv4_3",
    "conv4_3_norm": "conv4_3_norm",
    "relu7": "fc7",
    "conv6_2_relu": "conv6_2",
    "conv7_2_relu": "conv7_2",
    "conv8_2_relu": "conv8_2",
    "conv9_2_relu": "conv9_2",
}


@pytest.fixture(scope="module")
def prototxt() -> str:
    return str(data_path("parity/random_weights") / "vgg_ssd300_deploy.prototxt")


@pytest.fixture(scope="module")
def blobs(prototxt: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = weight_generator().weights(
        prototxt, first_scale=1 / 60
    )
    return found


def test_a_caffemodel_of_another_program_is_read(
    prototxt: str, blobs: dict[str, list[Any]], tmp_path: Path
) -> None:
    """The file that OpenCV got the weights of the reference from."""
    path = tmp_path / "VGG_VOC0712_SSD_300x300.caffemodel"
    weight_generator().write_caffemodel(prototxt, blobs, str(path))
    arrays = read_weights(path)
    assert len(arrays) == 71
    for name, values in blobs.items():
        for index, value in enumerate(values):
            np.testing.assert_array_equal(arrays[f"{name}|{index}"], value)
    assert inferred_options(arrays) == {"num_classes": 21}


@pytest.fixture(scope="module")
def model(blobs: dict[str, list[Any]]) -> SSD:
    model = build_model("ssd300_vgg16")
    report = load_caffe_blobs(model, blobs)
    assert len(report.loaded) == 71
    assert not report.skipped
    assert not report.missing
    return model


@pytest.fixture(scope="module")
def outputs(model: SSD) -> dict[str, dict[str, Any]]:
    return run_beside_reference(model, "vgg_ssd300", PHOTOS, STAGES)


def test_weights_are_those_of_the_reference(
    blobs: dict[str, list[Any]], outputs: dict[str, dict[str, Any]]
) -> None:
    digest = hashlib.sha256()
    for name in sorted(blobs):
        for blob in blobs[name]:
            digest.update(blob.tobytes())
    expected = str(outputs["000001"]["reference"]["weights_sha256"])
    assert digest.hexdigest() == expected


@pytest.mark.parametrize("photo", PHOTOS)
def test_offsets_and_logits(photo: str, outputs: dict[str, dict[str, Any]]) -> None:
    """Measured: 4e-6 of the largest value."""
    assert_same_outputs(outputs[photo])


@pytest.mark.parametrize("blob", STAGES)
def test_layers_in_between(blob: str, outputs: dict[str, dict[str, Any]]) -> None:
    assert_same_layer(outputs, blob, STAGES[blob])


def test_priors(model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    assert model.anchors.shape == (8732, 4)
    assert_same_priors(model, outputs["000001"]["reference"])


@pytest.mark.parametrize("photo", PHOTOS)
def test_detections(photo: str, model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    """All 200 rows, from the public ops and from `SSD.detect`."""
    ours = outputs[photo]
    expected = ours["reference"]["detection_out"][0, 0]
    thresholds: dict[str, Any] = {
        "score_threshold": 0.01,
        "iou_threshold": 0.45,
        "pre_nms_top_k": 400,
        "max_detections": 200,
    }
    boxes = decode_boxes(ours["offsets"], model.anchors, variances=model.spec.variances)
    found = batched_nms(boxes, tf.nn.softmax(ours["logits"]), **thresholds)
    assert_same_detections(found, expected)
    assert_same_detections(model.detect(ours["images"], **thresholds), expected)


def test_default_thresholds_are_those_of_the_original(
    model: SSD, outputs: dict[str, dict[str, Any]]
) -> None:
    found = model.detect(outputs["000456"]["images"])
    expected = outputs["000456"]["reference"]["detection_out"][0, 0]
    assert_same_detections(found, expected)


def trained_layers(model: SSD) -> Iterator[Any]:
    return (layer for layer in model.network.layers if layer.weights)


def test_layers_have_the_official_names(model: SSD) -> None:
    heads = [
        f"{source}_mbox_{kind}" for source in SOURCES_300 for kind in ("loc", "conf")
    ]
    expected = {*TRUNK, *EXTRAS_300, "conv4_3_norm", *heads}
    assert {layer.name for layer in trained_layers(model)} == expected


def test_shapes_and_parameter_count(model: SSD) -> None:
    assert model.network.count_params() == 26_285_486
    assert model.anchors.shape == (8732, 4)
    boxes = (4, 6, 6, 6, 4, 4)
    for source, count in zip(SOURCES_300, boxes, strict=True):
        layer = model.network.get_layer
        assert layer(f"{source}_mbox_loc").filters == 4 * count
        assert layer(f"{source}_mbox_conf").filters == 21 * count
    sizes = [model.network.get_layer(name).output.shape[1] for name in SOURCES_300]
    assert sizes == [38, 19, 10, 5, 3, 1]
    fc6 = model.network.get_layer("fc6")
    assert (fc6.dilation_rate, fc6.padding) == ((6, 6), "same")


def test_only_the_heads_see_the_normalised_map(model: SSD) -> None:
    """The trunk goes on from conv4_3 itself."""
    [node] = model.network.get_layer("pool4")._inbound_nodes
    assert node.parent_nodes[0].operation.name == "conv4_3"


@pytest.mark.parametrize("name", ["conv6_2", "conv7_2"])
def test_strided_convolutions_pad_on_every_side(
    name: str, blobs: dict[str, list[Any]], outputs: dict[str, dict[str, Any]]
) -> None:
    """On the even map 10 x 10, "same" would pad at the bottom and right only."""
    before = name.replace("_2", "_1")
    source = {"conv6": "fc7", "conv7": "conv6_2"}[name[:5]]
    features = outputs["000001"][source]

    def run(x: Any, layer: str, strides: int, padding: str) -> Any:
        kernel, bias = (np.asarray(blob) for blob in blobs[layer])
        kernel = kernel.transpose(2, 3, 1, 0)
        return tf.nn.relu(tf.nn.conv2d(x, kernel, strides, padding) + bias)

    narrow = run(features, before, 1, "VALID")
    padded = tf.pad(narrow, [[0, 0], [1, 1], [1, 1], [0, 0]])
    symmetric = run(padded, name, 2, "VALID").numpy()
    same = run(narrow, name, 2, "SAME").numpy()
    assert_close(outputs["000001"][name], symmetric, 1e-5)
    is_even = features.shape[1] % 2 == 0
    assert bool(np.abs(same - symmetric).max() > 0.1) is is_even


def test_512_network() -> None:
    """Shapes only: its weights differ from those of SSD300 in the extra layers."""
    model = build_model("ssd512_vgg16", num_classes=21)
    sources = [*SOURCES_300, "conv10_2"]
    sizes = [model.network.get_layer(name).output.shape[1] for name in sources]
    assert sizes == [64, 32, 16, 8, 4, 2, 1]
    assert model.network.get_layer("conv10_2").kernel_size == (4, 4)
    assert model.network.output["offsets"].shape == (None, 24564, 4)
    assert model.network.output["logits"].shape == (None, 24564, 21)
    names = {layer.name for layer in trained_layers(model)}
    assert {*TRUNK, *EXTRAS_300, "conv10_1", "conv10_2"} <= names
    for group in (6, 7, 8, 9, 10):
        assert model.network.get_layer(f"conv{group}_2").padding == "valid"
        padding = model.network.get_layer(f"conv{group}_2_pad").padding
        assert padding == ((1, 1), (1, 1))


def test_new_weights_are_uniform_within_the_xavier_bound() -> None:
    """Caffe's "xavier": uniform in +-sqrt(3 / fan_in), not Glorot; biases zero."""
    model = build_model("ssd300_vgg16", num_classes=3)
    layer = model.network.get_layer("conv6_2")
    bound = np.sqrt(3 / (3 * 3 * 256))
    kernel = layer.kernel.numpy()
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert not layer.bias.numpy().any()
    scale = model.network.get_layer("conv4_3_norm").scale.numpy()
    np.testing.assert_array_equal(scale, np.full(512, 20.0))


@pytest.mark.parametrize(
    ("classes", "given", "expected"),
    [
        (81, {}, ssd300_coco()),
        (21, {}, ssd300_voc()),
        (21, {"anchors": "ssd300_coco"}, ssd300_coco()),
        (81, {"anchors": "ssd300_voc"}, ssd300_voc()),
    ],
)
def test_weights_of_coco_have_its_anchors(
    classes: int, given: dict[str, Any], expected: AnchorGrid, tmp_path: Path
) -> None:
    """What the released models need; other boxes would be wrong without a word."""
    head = "conv4_3_norm_mbox"
    arrays = {
        f"{head}_loc|0": np.zeros((16, 512, 3, 3), np.float32),
        f"{head}_conf|0": np.zeros((4 * classes, 512, 3, 3), np.float32),
    }
    np.savez(tmp_path / "heads.npz", **arrays)
    model, _ = build_from_weights(
        "ssd300_vgg16", tmp_path / "heads.npz", strict=False, **given
    )
    assert model.spec.num_classes == classes
    assert model.spec.anchors == expected
