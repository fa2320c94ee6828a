# SPDX-License-Identifier: Apache-2.0
"""SSD300 on MobileNet-V1 with the weights that were trained on COCO.

The reference is the quantised model run by LiteRT. Its logits are multiples of 0.05,
and its layers round to 8 bits, so the float network agrees with it statistically.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.data import data_path

from ssdops import box_iou
from ssdops.cli.classes import read_labels
from ssdops.image_io import load_image
from ssdops.models import SSD, build_from_weights, build_model
from ssdops.models.weights import LoadReport, load_tflite_arrays, read_npz, read_tflite
from ssdops.resizing import resize_image

RUNS = "parity/coco_ssd_mobilenet_v1_quant"
WEIGHTS = "weights/coco_ssd_mobilenet_v1_quant"
PHOTOS = ("000001", "000456", "001763", "004545")


@pytest.fixture(scope="module")
def loaded() -> tuple[SSD, LoadReport]:
    return build_from_weights(
        "ssd300_mobilenet_v1",
        data_path(f"{WEIGHTS}/detect.tflite"),
        read_labels(data_path(f"{WEIGHTS}/labelmap.txt")),
    )


@pytest.fixture(scope="module")
def model(loaded: tuple[SSD, LoadReport]) -> SSD:
    return loaded[0]


def stored_run(photo: str) -> dict[str, Any]:
    with np.load(data_path(f"{RUNS}/{photo}.npz")) as arrays:
        return dict(arrays)


def test_the_file_has_the_weights_that_another_program_read() -> None:
    arrays = read_tflite(data_path(f"{WEIGHTS}/detect.tflite"))
    expected = read_npz(data_path(f"{WEIGHTS}/weights_dequant_float32.npz"))
    assert arrays.pop("input|shape").tolist() == [1, 300, 300, 3]
    assert arrays.pop("input|scale_zp").tolist() == [1 / 128, 128]
    assert set(arrays) == {name for name in expected if not name.endswith("|q")}
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_every_tensor_is_loaded(loaded: tuple[SSD, LoadReport]) -> None:
    model, report = loaded
    assert (len(report.loaded), report.skipped, report.missing) == (94, {}, {})
    assert str(report) == "94 tensors loaded, 0 skipped, 0 missing"
    assert model.spec.num_classes == 91
    assert model.spec.options == {
        "depth_multiplier": 0.75,
        "head": "ssd",
        "batch_norm": False,
        "extras": "ssd",
        "head_kernel": 1,
        "min_depth": 8,
    }
    assert model.class_names[:4] == ("background", "person", "bicycle", "car")
    assert model.anchors.shape == (1917, 4)


@pytest.mark.parametrize("photo", PHOTOS)
def test_outputs_agree_with_the_quantised_model(photo: str, model: SSD) -> None:
    run = stored_run(photo)
    images = model.spec.preprocessing(run["input_rgb_uint8"][None])
    outputs = model.network(images, training=False)
    logits, offsets = outputs["logits"][0].numpy(), outputs["offsets"][0].numpy()
    scale, zero_point = run["class_logits_scale_zp"]
    expected = (run["class_logits_q"].astype(np.float64) - zero_point) * scale
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.997
    assert np.abs(logits - expected).mean() < 0.05
    for ours, theirs in zip(offsets.T, run["box_encodings"].T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.997

    # Column 0 is the background, which the sigmoid scores do not use.
    objects = run["class_scores_q"][:, 1:].astype(int)
    strongest = np.argsort(-objects.max(axis=1), kind="stable")[:20]
    classes = logits[strongest, 1:].argmax(axis=1)
    best = objects[strongest].argmax(axis=1)
    # Two classes within two steps of the quantisation are the same to the reference.
    margin = (
        expected[strongest, 1:].max(axis=1)
        - expected[strongest, 1:][np.arange(20), classes]
    )
    assert margin.max() <= 2 * scale + 1e-9
    assert (classes == best).sum() >= 19


@pytest.mark.parametrize("photo", PHOTOS)
def test_detections_agree_with_the_stored_ones(photo: str, model: SSD) -> None:
    """The stored ones count one class per box; ours may name more for one box."""
    run = stored_run(photo)
    found = model.detect(
        run["input_rgb_uint8"][None], score_threshold=0.4, iou_threshold=0.6
    )
    sure = run["det_scores"] > 0.5
    assert sure.any()
    overlaps = box_iou(run["det_boxes_yxyx"][sure], found.boxes[0]).numpy()
    for row, label, score in zip(
        overlaps, run["det_classes"][sure] + 1, run["det_scores"][sure], strict=True
    ):
        same = (found.classes[0].numpy() == label) & (row > 0.8)
        assert same.any()
        assert abs(found.scores[0].numpy()[same].max() - score) < 0.08


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ("000001", {"person", "dog"}),
        ("000456", {"bus"}),
        ("001763", {"cat", "dog", "couch"}),
        ("004545", {"person", "horse", "dog", "car"}),
    ],
)
def test_objects_are_found_on_photos(
    photo: str, expected: set[str], model: SSD
) -> None:
    image = load_image(data_path(f"photos/{photo}.jpg"))
    resized = resize_image(image, model.spec.image_size)
    found = model.detect(resized[None], score_threshold=0.5)
    names = {
        model.class_names[label]
        for label, score in zip(
            found.classes[0].numpy(), found.scores[0].numpy(), strict=True
        )
        if score > 0
    }
    assert expected <= names
    assert len(names - expected) <= 2


def test_resized_photos_are_those_of_the_reference() -> None:
    """OpenCV's bilinear resize, within its rounding and that of the JPEG decoders."""
    for photo in PHOTOS:
        ours = resize_image(load_image(data_path(f"photos/{photo}.jpg")), (300, 300))
        expected = stored_run(photo)["input_rgb_uint8"]
        difference = np.abs(ours.astype(int) - expected.astype(int))
        assert difference.mean() < 0.5
        assert (difference > 2).mean() < 0.02


def test_saved_model_detects_the_same(model: SSD, tmp_path: Path) -> None:
    from ssdops.models import load_model

    images = stored_run("004545")["input_rgb_uint8"][None]
    again = load_model(model.save(tmp_path / "coco"))
    assert again.spec == model.spec
    assert again.class_names == model.class_names
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    path = data_path(f"{WEIGHTS}/weights_dequant_float32.npz")
    return {name: value for name, value in read_npz(path).items() if "|" not in name}


def test_other_anchors_are_refused(model: SSD, arrays: dict[str, Any]) -> None:
    moved = {**arrays, "anchors": arrays["anchors"] + 0.1}
    with pytest.raises(ValueError, match="anchors of the weights differ"):
        load_tflite_arrays(model, moved)


def test_tensors_that_do_not_fit_are_named(model: SSD, arrays: dict[str, Any]) -> None:
    """Nothing is changed by a refused import."""
    arrays = {name: value for name, value in arrays.items() if name != "anchors"}
    before = [value.numpy() for value in model.network.weights]
    name = next(name for name in arrays if "Conv2d_0" in name and "bias" not in name)
    rest = {key: value for key, value in arrays.items() if key != name}
    cases = (
        ({**arrays, name: arrays[name][:-1]}, "must have shape.*for this model, got"),
        ({**arrays, name: arrays[name] * np.nan}, "must hold finite numbers"),
        (rest, r"1 missing \(Conv2d_0/kernel"),
        ({**arrays, "other": np.zeros(3)}, r"1 unknown \(other"),
    )
    for changed, message in cases:
        with pytest.raises(ValueError, match=message):
            load_tflite_arrays(model, changed)
    report = load_tflite_arrays(model, {**rest, "other": np.zeros(3)}, strict=False)
    assert report.skipped == {"other": (3,)}
    assert list(report.missing) == ["Conv2d_0/kernel"]
    for old, new in zip(before, model.network.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_number_of_names_must_fit() -> None:
    with pytest.raises(ValueError, match=r"91 classes .* got 2 names"):
        build_from_weights(
            "ssd300_mobilenet_v1",
            data_path(f"{WEIGHTS}/weights_dequant_float32.npz"),
            ["background", "cat"],
        )


def test_build_without_weights() -> None:
    model = build_model("ssd300_mobilenet_v1", num_classes=3, depth_multiplier=0.25)
    assert model.spec.score_activation == "sigmoid"
    assert model.network.get_layer("Conv2d_0").filters == 8
    assert model.network.get_layer("Conv2d_13_pointwise").filters == 256
    with pytest.raises(ValueError, match="depth_multiplier must lie in"):
        build_model("ssd300_mobilenet_v1", depth_multiplier=9.0)
    with pytest.raises(ValueError, match='head must be "ssd" or "ssdlite"'):
        build_model("ssd300_mobilenet_v1", head="fpn")
    with pytest.raises(ValueError, match='extras must be "ssd" or "ssdlite"'):
        build_model("ssd300_mobilenet_v1", extras="fpn")
    with pytest.raises(ValueError, match="batch_norm must be true or false"):
        build_model("ssd300_mobilenet_v1", batch_norm=1)
    with pytest.raises(ValueError, match="head_kernel must be 1 or 3, got 2"):
        build_model("ssd300_mobilenet_v1", head_kernel=2)
    with pytest.raises(ValueError, match=r"min_depth must be an integer in \[1, 64\]"):
        build_model("ssd300_mobilenet_v1", min_depth=0)


def test_normalisations_that_are_layers(arrays: dict[str, Any], model: SSD) -> None:
    """They begin as the biases of the file, and change nothing."""
    trainable = build_model(
        "ssd300_mobilenet_v1", depth_multiplier=0.75, batch_norm=True
    )
    arrays = {name: value for name, value in arrays.items() if name != "anchors"}
    report = load_tflite_arrays(trainable, arrays)
    assert len(report.loaded) == 94
    images = model.spec.preprocessing(stored_run(PHOTOS[0])["input_rgb_uint8"][None])
    ours, theirs = (each.network(images, training=False) for each in (trainable, model))
    for name in ("offsets", "logits"):
        limit = 1e-4 * np.abs(theirs[name]).max()
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=limit)


def test_a_bias_of_another_size_leaves_the_normalisation_alone(
    arrays: dict[str, Any],
) -> None:
    trainable = build_model(
        "ssd300_mobilenet_v1", depth_multiplier=0.75, batch_norm=True
    )
    arrays = {name: value for name, value in arrays.items() if name != "anchors"}
    name = next(name for name in arrays if name.endswith("Conv2d_0/Conv2D_Fold_bias"))
    with pytest.raises(ValueError, match=r"Fold_bias must have shape \[24\]"):
        load_tflite_arrays(trainable, {**arrays, name: arrays[name][:3]})
    report = load_tflite_arrays(trainable, {**arrays, name: arrays[name][:3]}, False)
    assert list(report.skipped) == [name]
    norm = trainable.network.get_layer("Conv2d_0_bn")
    np.testing.assert_array_equal(norm.moving_variance, 1)
    norm = trainable.network.get_layer("Conv2d_1_pointwise_bn")
    np.testing.assert_allclose(norm.moving_variance, 0.999, rtol=1e-6)


def test_only_the_model_that_nearly_fits_is_named(
    arrays: dict[str, Any], tmp_path: Path
) -> None:
    """What is wrong with all others would bury it."""
    name = next(name for name in arrays if "Conv2d_3_pointwise" in name)
    left_out = (name, "anchors")
    rest = {key: value for key, value in arrays.items() if key not in left_out}
    np.savez(tmp_path / "net.npz", **rest)
    with pytest.raises(ValueError, match="1 missing") as error:
        build_from_weights(None, tmp_path / "net.npz")
    message = str(error.value)
    assert "(ssd300_mobilenet_v1: the weights do not fit model" in message
    assert "resnet" not in message
