# SPDX-License-Identifier: Apache-2.0
"""MobileNet-SSD against the original network, run by OpenCV with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.caffe_parity import (
    assert_same_detections,
    assert_same_layer,
    assert_same_outputs,
    assert_same_priors,
    run_beside_reference,
    weight_generator,
)
from support.caffemodel import caffemodel
from support.data import data_path

from ssdops.models import SSD, build_from_weights, build_model, load_model
from ssdops.models.weights.caffe import fold_batch_normalization, load_caffe_blobs

PHOTOS = ("000001", "000456", "004545")
# Blob of the reference -> layer here, whose output includes the ReLU.
STAGES = {
    f"{layer}__relu": layer
    for layer in (
        *("conv0", "conv5", "conv11", "conv13"),
        *("conv14_2", "conv15_2", "conv16_2", "conv17_2"),
    )
}
PROTOTXT = "parity/random_weights/mobilenet_ssd_deploy.prototxt"


@pytest.fixture(scope="module")
def blobs() -> dict[str, list[Any]]:
    prototxt = str(data_path(PROTOTXT))
    found: dict[str, list[Any]] = weight_generator().weights(prototxt, head_gain=8.0)
    return found


@pytest.fixture(scope="module")
def model(blobs: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> SSD:
    path = tmp_path_factory.mktemp("weights") / "MobileNetSSD_deploy.caffemodel"
    weight_generator().write_caffemodel(str(data_path(PROTOTXT)), blobs, str(path))
    model, report = build_from_weights("mobilenet_ssd", path)
    assert (len(report.loaded), report.skipped, report.missing) == (94, {}, {})
    return model


@pytest.fixture(scope="module")
def outputs(model: SSD) -> dict[str, dict[str, Any]]:
    return run_beside_reference(model, "mobilenet_ssd", PHOTOS, STAGES)


@pytest.mark.parametrize("photo", PHOTOS)
def test_offsets_and_logits(photo: str, outputs: dict[str, dict[str, Any]]) -> None:
    """Within 1e-4 of the largest value."""
    assert_same_outputs(outputs[photo])


@pytest.mark.parametrize("blob", STAGES)
def test_layers_in_between(blob: str, outputs: dict[str, dict[str, Any]]) -> None:
    assert_same_layer(outputs, blob, STAGES[blob])


def test_priors(model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    assert model.anchors.shape == (1917, 4)
    assert_same_priors(model, outputs["000001"]["reference"])


@pytest.mark.parametrize("photo", PHOTOS)
def test_detections(photo: str, model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    found = model.detect(
        outputs[photo]["images"],
        score_threshold=0.25,
        iou_threshold=0.45,
        pre_nms_top_k=100,
        max_detections=100,
    )
    expected = outputs[photo]["reference"]["detection_out"][0, 0]
    assert_same_detections(found, expected)


def as_trained(blobs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same network before batch normalisation was put into the convolutions."""
    rng = np.random.default_rng(0)
    trained: dict[str, list[Any]] = {}
    for name, (kernel, bias) in blobs.items():
        if "_mbox_" in name:
            trained[name] = [kernel, bias]
            continue
        channels = len(bias)
        mean, variance = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
        gamma, count = rng.uniform(0.5, 2, channels), 7.5
        factor = gamma / np.sqrt(variance + 1e-5)
        trained[name] = [kernel / factor.reshape(-1, 1, 1, 1)]
        trained[f"{name}/bn"] = [mean * count, variance * count, np.array([count])]
        trained[f"{name}/scale"] = [gamma, bias + mean * factor]
    return trained


def test_the_network_as_it_was_trained(
    blobs: dict[str, list[Any]], model: SSD, tmp_path: Path
) -> None:
    path = tmp_path / "trained.caffemodel"
    path.write_bytes(caffemodel(as_trained(blobs), "v1"))
    again, report = build_from_weights("mobilenet_ssd", path)
    assert len(report.loaded) == 94
    for ours, expected in zip(
        again.network.weights, model.network.weights, strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_folding_as_caffe_computes_it() -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 2, 1, 1))
    x = rng.normal(size=(2, 50))
    mean, variance = rng.normal(size=3), rng.uniform(0.1, 2, 3)
    gamma, beta, bias = rng.normal(size=(3, 3))
    [(name, (folded, offset))] = fold_batch_normalization(
        {
            "c": [kernel, bias.reshape(1, 1, 1, 3)],
            "c/bn": [mean * 4, variance * 4, [[4.0]]],
            "c/scale": [gamma, beta],
        }
    ).items()
    convolved = kernel[..., 0, 0] @ x + bias[:, None]
    normalised = (convolved - mean[:, None]) / np.sqrt(variance + 1e-5)[:, None]
    expected = normalised * gamma[:, None] + beta[:, None]
    assert name == "c"
    actual = folded[..., 0, 0] @ x + offset[:, None]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    # Caffe counts nothing as nothing.
    empty = {"c": [kernel], "c/bn": [mean, variance, [0.0]], "c/scale": [gamma, beta]}
    _, offset = fold_batch_normalization(empty)["c"]
    np.testing.assert_allclose(offset, beta, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "values"),
    [
        ("c/bn", [np.zeros(3), np.zeros(3)]),
        ("c/bn", [np.zeros(3), np.zeros(2), [1.0]]),
        ("c/scale", [np.zeros(3)]),
        ("c", []),
        ("c", [np.zeros((3, 2, 1, 1)), np.zeros(5)]),
    ],
)
def test_folding_what_does_not_fit(layer: str, values: list[Any]) -> None:
    blobs: dict[str, Any] = {
        "c": [np.zeros((3, 2, 1, 1))],
        "c/bn": [np.zeros(3), np.ones(3), [1.0]],
        "c/scale": [np.zeros(3), np.zeros(3)],
        layer: values,
    }
    with pytest.raises(
        ValueError, match="layers c/bn and c/scale cannot be put into c"
    ):
        fold_batch_normalization(blobs)


def test_depthwise_shapes_are_named(model: SSD, blobs: dict[str, list[Any]]) -> None:
    wrong = {**blobs, "conv1/dw": [blobs["conv1/dw"][0][:, :, :2], np.zeros(32)]}
    with pytest.raises(
        ValueError, match=r"conv1/dw\|0 must have shape \[32, 1, 3, 3\]"
    ):
        load_caffe_blobs(model, wrong)


def test_other_classes_and_a_saved_model(tmp_path: Path) -> None:
    model = build_model("mobilenet_ssd", class_names=["background", "cat", "dog"])
    assert model.network.get_layer("conv13_mbox_conf").filters == 18
    assert model.anchors.shape == (1917, 4)
    images = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    again = load_model(model.save(tmp_path / "saved"))
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)
