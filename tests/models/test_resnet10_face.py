# SPDX-License-Identifier: Apache-2.0
"""OpenCV's face detector: its graph, its prototxt, and what OpenCV computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.caffe_parity import assert_same_detections, assert_same_priors
from support.caffemodel import caffemodel
from support.data import data_path

from ssdops.models import (
    SSD,
    build_from_prototxt,
    build_from_weights,
    build_model,
    load_model,
)
from ssdops.models.weights import read_weights
from ssdops.models.weights.opencv_face_graph import with_caffe_blobs

FOLDER = "weights/opencv_face_res10"
GRAPH = f"{FOLDER}/opencv_face_detector_uint8.pb"
PROTOTXT = f"{FOLDER}/deploy.prototxt"
PHOTOS = (
    *("000001", "2007_007763", "2008_001009", "2008_001322", "2008_002079"),
    *("2008_002470", "2008_002506", "2008_004176", "2008_007676", "2009_004587"),
)
# Stored layer -> layer here.
STAGES = {
    "data_bn__FusedBatchNorm": "data_bn",
    "data_scale__BiasAdd": "data_scale",
    "conv1_h__Conv2D": "conv1_h",
    "conv1_scale_h__BiasAdd": "conv1_scale_h",
    "conv1_pool__MaxPool": "conv1_pool",
    "add": "layer_64_1_sum",
    "add_1": "layer_128_1_sum",
    "layer_256_1_conv2__Conv2D": "layer_256_1_conv2",
    "conv4_3_norm__mul_1": "conv4_3_norm",
    "add_2": "layer_256_1_sum",
    "last_relu": "last_relu",
    **{f"conv{i}_2_h__Relu": f"conv{i}_2_relu" for i in (6, 7, 8, 9)},
}
# OpenCV ran it with the thresholds of its pbtxt.
IOU_THRESHOLD = 0.45
NAMES = ("background", "face")


@pytest.fixture(scope="module")
def named() -> SSD:
    """The model by its name, its weights out of the graph; the model is recognised."""
    model, report = build_from_weights(None, data_path(GRAPH), NAMES)
    assert model.spec.name == "ssd300_resnet10_face"
    assert (len(report.loaded), report.skipped, report.missing) == (104, {}, {})
    return model


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> SSD:
    """The model out of the prototxt, its weights out of a `.caffemodel`."""
    arrays = with_caffe_blobs(read_weights(data_path(GRAPH)))
    layers: dict[str, list[Any]] = {}
    for name in sorted(arrays):
        layers.setdefault(name.rpartition("|")[0], []).append(arrays[name])
    path = tmp_path_factory.mktemp("weights") / "res10.caffemodel"
    path.write_bytes(caffemodel(layers))
    model, report = build_from_prototxt(
        data_path(PROTOTXT), path, NAMES, mean=(104, 177, 123)
    )
    assert (len(report.loaded), report.skipped, report.missing) == (104, {}, {})
    return model


@pytest.fixture(scope="module", params=["named", "described"])
def model(request: pytest.FixtureRequest) -> SSD:
    found: SSD = request.getfixturevalue(request.param)
    return found


def reference(photo: str) -> dict[str, Any]:
    with np.load(data_path(f"parity/res10_face/{photo}.npz")) as npz:
        return dict(npz)


def rgb(stored: dict[str, Any]) -> Any:
    return stored["image_bgr_300"][None, ..., ::-1]


@pytest.mark.parametrize("photo", PHOTOS)
def test_outputs_and_detections(photo: str, model: SSD) -> None:
    """Measured: 1.3e-5 at most, of values up to 11."""
    stored = reference(photo)
    outputs = model.network(model.spec.preprocessing(rgb(stored)), training=False)
    x_first = outputs["offsets"].numpy()[..., [1, 0, 3, 2]]
    expected = stored["mbox_loc"].reshape(1, -1, 4)
    np.testing.assert_allclose(x_first, expected, rtol=0, atol=1e-4)
    expected = stored["mbox_conf"].reshape(1, -1, 2)
    np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=1e-4)
    found = model.detect(rgb(stored), iou_threshold=IOU_THRESHOLD)
    assert_same_detections(found, stored["detection_out"][0, 0])


def test_layers_in_between(model: SSD) -> None:
    stored = reference("2008_002506")
    layers = {name: model.network.get_layer(name).output for name in STAGES.values()}
    outputs = keras.Model(model.network.input, layers)(
        model.spec.preprocessing(rgb(stored)), training=False
    )
    for name, layer in STAGES.items():
        ours = outputs[layer].numpy().transpose(0, 3, 1, 2)
        step = ours.shape[1] // stored[name].shape[1]
        assert step in (1, 8)
        largest = np.abs(stored[name]).max()
        difference = np.abs(ours[:, ::step] - stored[name]).max()
        assert difference <= 1e-4 * largest, (name, difference, largest)


def test_anchors(model: SSD) -> None:
    """Also those outside the image: the last maps are 5 x 5, their steps 100, 300."""
    assert model.anchors.shape == (8892, 4)
    assert_same_priors(model, reference("2008_002506"))


def test_both_ways_give_one_model(named: SSD, described: SSD) -> None:
    for field in ("anchors", "preprocessing", "post_processing", "score_activation"):
        assert getattr(named.spec, field) == getattr(described.spec, field)
    ours = {weight.path: weight for weight in named.network.weights}
    theirs = {weight.path: weight for weight in described.network.weights}
    assert ours.keys() == theirs.keys()
    for path, weight in ours.items():
        np.testing.assert_array_equal(weight, theirs[path], err_msg=path)


def test_arrays_as_opencv_holds_them(described: SSD, tmp_path: Path) -> None:
    """Another program's reading of the graph; normalisations have four blobs there."""
    ends = {
        "Conv2D|Convolution|0": "|0",
        "convolution|Convolution|0": "|0",
        "Conv2D|Convolution|1": "|1",
        **{f"FusedBatchNorm|BatchNorm|{i}": f"|{i}" for i in range(4)},
        "Mul|Scale|0": "|0",
        "mul_1|Scale|0": "|0",
        "BiasAdd|Scale|0": "|1",
    }
    arrays = {}
    with np.load(data_path(f"{FOLDER}/weights_float32.npz")) as npz:
        for stored, value in npz.items():
            layer, _, end = stored.partition("/")
            arrays[layer + ends[end]] = value
    # Where OpenCV has the normalisation inside the convolution before it.
    for conv in [name for name in arrays if "_conv1" in name and name.endswith("|1")]:
        value = -arrays.pop(conv)
        block = conv.partition("_conv1")[0]
        norm = block + "_bn2" + "_h" * (f"{block}_scale2_h|0" in arrays)
        one = np.ones_like(value)
        for index, blob in enumerate((value, one - 1e-5, one, 0 * one)):
            arrays[f"{norm}|{index}"] = blob
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    model, report = build_from_prototxt(data_path(PROTOTXT), path)
    assert (report.skipped, report.missing) == ({}, {})
    for ours, theirs in zip(
        model.network.weights, described.network.weights, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    arrays["data_bn|2"] = 2 * arrays["data_bn|2"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="layer data_bn must have factors of 1"):
        build_from_prototxt(data_path(PROTOTXT), path)


def test_faces_are_found(named: SSD) -> None:
    """All faces of a photo of VOC 2011 that are large enough for 300 x 300 pixels."""
    stored = reference("2008_002506")
    found = named.detect(rgb(stored), score_threshold=0.5)
    boxes = found.boxes[0, : int(found.num_detections[0])].numpy()
    height, width = stored["original_hw"]
    faces = [(78, 329, 187, 438), (95, 224, 186, 315), (65, 125, 156, 215)]
    assert len(boxes) >= len(faces)
    for top, left, bottom, right in faces:
        y, x = (top + bottom) / 2 / height, (left + right) / 2 / width
        inside = (boxes[:, :2] < (y, x)).all(1) & (boxes[:, 2:] > (y, x)).all(1)
        assert inside.any()


def test_saved_and_loaded(model: SSD, tmp_path: Path) -> None:
    again = load_model(model.save(tmp_path))
    assert again.spec == model.spec
    images = rgb(reference("000001"))
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_trains(model: SSD) -> None:
    """Every weight has a gradient, and averages move."""
    import tensorflow as tf

    images = model.spec.preprocessing(rgb(reference("000001")))
    network = keras.models.clone_model(model.network)
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = sum(tf.reduce_mean(tf.square(value)) for value in outputs.values())
    for gradient in tape.gradient(loss, network.trainable_variables):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_what_it_finds_has_a_name() -> None:
    assert build_model("ssd300_resnet10_face").class_names == ("background", "face")
    other = build_model("ssd300_resnet10_face", num_classes=3)
    assert other.class_names == ("background", "class 1", "class 2")
