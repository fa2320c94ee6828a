# SPDX-License-Identifier: Apache-2.0
"""Networks of `.prototxt` files: OpenCV's results, saving, other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.caffe_parity import (
    assert_same_detections,
    assert_same_outputs,
    assert_same_priors,
    run_beside_reference,
    weight_generator,
)
from support.data import data_path

from ssdops.anchors import mobilenet_ssd_voc, ssd300_voc
from ssdops.models import (
    SSD,
    build_from_prototxt,
    build_model,
    change_classes,
    load_model,
)

PHOTOS = ("000001", "000456", "004545")
STAGES = {"conv4_3__relu": "relu4_3", "fc7__relu": "relu7"}
NETS: dict[str, dict[str, Any]] = {
    "vgg_ssd300": {
        "weights": {"first_scale": 1 / 60},
        "import": {"mean": (104, 117, 123)},
        "anchors": ssd300_voc(),
        "limits": (0.01, 0.45, 400, 200),
        "model": "ssd300_vgg16",
    },
    "mobilenet_ssd": {
        "weights": {"head_gain": 8.0},
        "import": {"mean": (127.5,) * 3, "scale": 0.007843},
        "anchors": mobilenet_ssd_voc(),
        "limits": (0.25, 0.45, 100, 100),
        "model": "mobilenet_ssd",
    },
}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(net: str, tmp_path_factory: pytest.TempPathFactory) -> SSD:
    """The network of the file, with weights out of a `.caffemodel`."""
    prototxt = str(data_path(f"parity/random_weights/{net}_deploy.prototxt"))
    generator = weight_generator()
    blobs = generator.weights(prototxt, **NETS[net]["weights"])
    path = tmp_path_factory.mktemp("weights") / "net.caffemodel"
    generator.write_caffemodel(prototxt, blobs, str(path))
    model, report = build_from_prototxt(prototxt, path, **NETS[net]["import"])
    assert not report.skipped
    assert not report.missing
    return model


@pytest.fixture(scope="module")
def outputs(model: SSD, net: str) -> dict[str, dict[str, Any]]:
    return run_beside_reference(model, net, PHOTOS, {})


@pytest.mark.parametrize("photo", PHOTOS)
def test_offsets_and_logits(photo: str, outputs: dict[str, dict[str, Any]]) -> None:
    assert_same_outputs(outputs[photo])


def test_anchors_and_limits(
    model: SSD, net: str, outputs: dict[str, dict[str, Any]]
) -> None:
    assert_same_priors(model, outputs["000001"]["reference"])
    assert model.spec.anchors == NETS[net]["anchors"]
    limits = model.spec.post_processing
    assert NETS[net]["limits"] == (
        limits.score_threshold,
        limits.iou_threshold,
        limits.pre_nms_top_k,
        limits.max_detections,
    )
    named = build_model(NETS[net]["model"]).spec
    assert model.spec.preprocessing == named.preprocessing
    assert model.spec.post_processing == named.post_processing


@pytest.mark.parametrize("photo", PHOTOS)
def test_detections(photo: str, model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    """With the thresholds that the file gives."""
    found = model.detect(outputs[photo]["images"])
    expected = outputs[photo]["reference"]["detection_out"][0, 0]
    assert_same_detections(found, expected)


def test_weights_are_those_of_the_named_model(model: SSD, net: str) -> None:
    named = build_model(NETS[net]["model"])
    assert named.network.count_params() == model.network.count_params()


def test_saved_and_loaded(
    model: SSD, outputs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    again = load_model(model.save(tmp_path))
    assert again.spec == model.spec
    inputs = model.spec.preprocessing(outputs["000001"]["images"])
    ours, theirs = (each.network(inputs, training=False) for each in (model, again))
    for name in ("offsets", "logits"):
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_other_classes(model: SSD, outputs: dict[str, dict[str, Any]]) -> None:
    names = ("background", "class 7", "new", "class 3")
    changed, report = change_classes(model, names)
    assert set(report.reasons.values()) == {"3 of 4 classes are known"}
    inputs = model.spec.preprocessing(outputs["000001"]["images"])
    logits = changed.network(inputs, training=False)["logits"].numpy()
    expected = outputs["000001"]["logits"]
    np.testing.assert_allclose(
        logits[..., [0, 1, 3]], expected[..., [0, 7, 3]], atol=1e-4
    )
