# SPDX-License-Identifier: Apache-2.0
"""Weights of one detector in another: classes chosen, reordered, added, replaced."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from support.data import data_path

from ssdops.image_io import load_image
from ssdops.models import SSD, build_from_weights, build_model, change_classes
from ssdops.models.class_names import (
    COCO_CLASS_NAMES,
    COCO_ID_NAMES,
    VOC_CLASS_NAMES,
    match_class_names,
)
from ssdops.models.transfer import transfer_weights
from ssdops.resizing import resize_image

SMALL = {"image_size": (64, 64), "width": 0.25}
NAMES = ("background", "cat", "dining table", "motorcycle", "tv")


def small(class_names: tuple[str, ...], seed: int = 0) -> SSD:
    keras.utils.set_random_seed(seed)
    return build_model("ssd_small", class_names=class_names, **SMALL)


@pytest.fixture(scope="module")
def model() -> SSD:
    return small(NAMES)


@pytest.fixture(scope="module")
def images() -> Any:
    rng = np.random.default_rng(4)
    return rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def outputs(model: SSD, images: Any) -> dict[str, Any]:
    found = model.network(model.spec.preprocessing(images), training=False)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("background", "dog", "cat"), [0, None, 1]),
        (("background", "tvmonitor"), [0, 4]),
        (("none", "TV", "Motorbike", "diningtable", "cat"), [0, 4, 3, 2, 1]),
        (NAMES, [0, 1, 2, 3, 4]),
        (("x", "cat", *(f"new {i}" for i in range(300))), [0, 1] + [None] * 300),
    ],
)
def test_logits_of_known_classes_stay(
    names: tuple[str, ...], classes: list[int | None], model: SSD, images: Any
) -> None:
    changed, report = change_classes(model, names)
    assert changed.class_names == names
    before, after = outputs(model, images), outputs(changed, images)
    np.testing.assert_array_equal(after["offsets"], before["offsets"])
    assert after["logits"].shape[-1] == len(names)
    for index, match in enumerate(classes):
        if match is not None:
            np.testing.assert_allclose(
                after["logits"][..., index], before["logits"][..., match], atol=1e-6
            )
    assert not report.missing
    assert not report.skipped
    partly = {path for path in report.loaded if path in report.reasons}
    assert bool(partly) == (None in classes)
    assert all("mbox_conf" in path for path in partly)


def test_the_source_is_not_changed(model: SSD) -> None:
    before = [weight.numpy() for weight in model.network.weights]
    changed, _ = change_classes(model, ("background", "tv"))
    changed.network.get_layer("stem1").kernel.assign_add(
        np.ones(changed.network.get_layer("stem1").kernel.shape, np.float32)
    )
    for old, new in zip(before, model.network.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_classes_of_another_name(model: SSD, images: Any) -> None:
    changed, _ = change_classes(model, ("background", "lion"), {"lion": "cat"})
    logits = outputs(model, images)["logits"][..., :2]
    np.testing.assert_allclose(outputs(changed, images)["logits"], logits, atol=1e-6)
    for sources in ({"lion": "dog"}, {"tiger": "cat"}):
        with pytest.raises(ValueError, match=r"there is no class '(dog|tiger)'"):
            change_classes(model, ("background", "lion"), sources)


def test_without_a_common_class_the_heads_begin_anew(model: SSD) -> None:
    keras.utils.set_random_seed(9)
    changed, report = change_classes(model, ("background", "RBC", "WBC"))
    assert report.missing
    assert report.missing.keys() == report.skipped.keys() == report.reasons.keys()
    assert all("mbox_conf" in path for path in report.missing)
    assert set(report.reasons.values()) == {"1 of 3 classes are known"}
    keras.utils.set_random_seed(9)
    fresh = build_model("ssd_small", num_classes=3, **SMALL)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(
            getattr(changed.network.get_layer("stride8_mbox_conf"), name),
            getattr(fresh.network.get_layer("stride8_mbox_conf"), name),
        )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("background",), "counts the background"),
        (("background", "cat", "cat"), "must differ"),
    ],
)
def test_names_that_cannot_be(names: tuple[str, ...], message: str, model: SSD) -> None:
    with pytest.raises(ValueError, match=message):
        change_classes(model, names)


def test_other_shapes_are_left_out_with_the_reason(model: SSD) -> None:
    target = build_model(
        "ssd_small", class_names=NAMES, image_size=(128, 128), width=0.5
    )
    report = transfer_weights(model, target)
    assert set(report.loaded).isdisjoint(report.missing)
    paths = {weight.path for weight in target.network.weights}
    assert {*report.loaded, *report.missing} == paths
    assert report.reasons.keys() == report.missing.keys() | report.skipped.keys()
    reasons = set(report.reasons.values())
    assert "ssd_small has no weight of this name" in reasons
    assert any("has shape [3, 3, 16, 16] in the source" in text for text in reasons)


def test_the_background_is_no_object() -> None:
    assert match_class_names(["x", "background"], ["background", "x"]) == [0, None]
    assert match_class_names(["_", "background"], ["background", "x"]) == [0, None]


def test_names_that_are_equal_go_before_similar_ones() -> None:
    known = ["background", "TV", "tv", "tvmonitor"]
    assert match_class_names(known, known) == [0, 1, 2, 3]
    assert match_class_names(["background", "Tv"], known) == [0, 1]


def test_the_coco_model_on_pascal_voc() -> None:
    """All 20 classes of VOC are in COCO, and stay the best ones on a photo."""
    folder = "weights/coco_ssd_mobilenet_v1_quant"
    labels = data_path(f"{folder}/labelmap.txt").read_text().splitlines()
    names = ["background", *labels[1:]]
    assert None not in match_class_names(VOC_CLASS_NAMES, names)
    coco, _ = build_from_weights(
        "ssd300_mobilenet_v1", data_path(f"{folder}/detect.tflite"), names
    )
    voc, report = change_classes(coco, VOC_CLASS_NAMES)
    assert not report.reasons
    image = load_image(data_path("photos/004545.jpg"))
    resized = resize_image(image, coco.spec.image_size)[None]
    found = [model.detect(resized, score_threshold=0.5) for model in (coco, voc)]
    objects = [
        [
            (model.class_names[label], round(float(score), 5))
            for label, score in zip(result.classes[0], result.scores[0], strict=True)
            if score > 0
        ]
        for model, result in zip((coco, voc), found, strict=True)
    ]
    assert {"horse", "person"} <= {name for name, _ in objects[1]}
    assert objects[1] == [entry for entry in objects[0] if entry[0] in VOC_CLASS_NAMES]


def test_lists_of_coco() -> None:
    """Those of VOC are among them; the numbers of the categories have ten gaps."""
    assert len(COCO_CLASS_NAMES) == len(set(COCO_CLASS_NAMES)) == 81
    assert (len(COCO_ID_NAMES), COCO_ID_NAMES.count("???")) == (91, 10)
    assert tuple(name for name in COCO_ID_NAMES if name != "???") == COCO_CLASS_NAMES
    for names in (COCO_CLASS_NAMES, COCO_ID_NAMES):
        assert None not in match_class_names(VOC_CLASS_NAMES, names)
    numbers = {"person": 1, "stop sign": 13, "bed": 65, "toothbrush": 90}
    assert {name: COCO_ID_NAMES.index(name) for name in numbers} == numbers
