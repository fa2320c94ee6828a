# SPDX-License-Identifier: Apache-2.0
"""`Detector`: images of every kind, batches, streams, results, and other views."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.data import data_path

import ssdops
from ssdops.data import read_voc
from ssdops.detection import (
    DetectedImage,
    Detector,
    TestTimeAugmentation,
    image_array,
    write_coco,
    write_voc,
)
from ssdops.detection.views import View, merge_views
from ssdops.image_io import ImageError, load_image
from ssdops.models import SSD, build_model

COCO = "weights/coco_ssd_mobilenet_v1_quant"
PHOTOS = ("000001", "000456", "001763", "004545")
NAMES = ("background", "cat", "???", "dog")


@pytest.fixture(scope="module")
def small() -> SSD:
    """An untrained model, whose class 2 is unused."""
    keras.utils.set_random_seed(0)
    return build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)


@pytest.fixture(scope="module")
def coco() -> Detector:
    labels = data_path(f"{COCO}/labelmap.txt").read_text().splitlines()
    names = ["background", *labels[1:]]
    weights = data_path(f"{COCO}/detect.tflite")
    return ssdops.Detector("ssd300_mobilenet_v1", weights, class_names=names)


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def assert_equal(ours: DetectedImage, theirs: DetectedImage) -> None:
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), atol=1e-5, err_msg=name
        )
    assert ours.names == theirs.names
    assert ours.image_size == theirs.image_size


# Images of every kind


def test_kinds_of_arrays() -> None:
    rgb = noise(5, 7, 3)
    np.testing.assert_array_equal(image_array(rgb), rgb)
    np.testing.assert_array_equal(image_array(tf.constant(rgb)), rgb)
    np.testing.assert_array_equal(image_array(rgb.astype(np.float64) + 0.2), rgb)
    np.testing.assert_array_equal(image_array(tf.cast(rgb, tf.bfloat16)), rgb)
    np.testing.assert_array_equal(image_array(rgb.astype(np.uint16) * 257), rgb)
    # What TensorFlow makes of a list of arrays of bytes.
    np.testing.assert_array_equal(image_array(tf.stack([rgb, rgb])[0]), rgb)
    np.testing.assert_array_equal(image_array(rgb.astype(np.int64)), rgb)
    grey = rgb[..., :1]
    for array in (grey, grey[..., 0]):
        np.testing.assert_array_equal(image_array(array), np.repeat(grey, 3, axis=-1))
    mirrored = rgb[:, ::-1]
    assert image_array(mirrored).flags.c_contiguous
    np.testing.assert_array_equal(image_array(mirrored), mirrored)


def test_transparent_pixels_lie_over_white() -> None:
    rgba = noise(4, 6, 4)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    found = image_array(rgba)
    np.testing.assert_array_equal(found[0], 255)
    np.testing.assert_array_equal(found[1], rgba[1, :, :3])
    opacity = rgba[..., 3:] / 255
    expected = rgba[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(found - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"got ndarray of shape \[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 4, 3), bool), "pixels must be numbers, got bool"),
        (np.full((4, 4, 3), 256), r"int64 pixels must lie in \[0, 255\], got 256 to"),
        (np.full((4, 4, 3), -1, np.int8), "int8 pixels must lie in"),
        (np.full((4, 4, 3), 256.0), r"\[0, 255\], got 256 to 256"),
        (np.full((4, 4, 3), np.nan), r"got nan"),
        (np.full((4, 4, 3), -1.0), "got -1"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "more than the 100000000"),
        (None, "got NoneType"),
        ("none.jpg", "none.jpg does not exist"),
    ],
)
def test_what_is_no_image(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image_array(image)


# One and many


def test_one_image_of_any_kind(small: SSD, tmp_path: Path) -> None:
    image = noise(50, 200, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    detector = Detector(small, score_threshold=0.1)
    expected = detector.detect(image)
    assert isinstance(expected, DetectedImage)
    assert len(expected) > 0
    assert expected.source == 0
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), tf.constant(image)):
        assert_equal(detector.detect(same), expected)
    assert detector.detect(tmp_path / "a.png").source == str(tmp_path / "a.png")


def test_boxes_belong_to_the_image(small: SSD) -> None:
    """In pixels of the photo, not of the network, and inside; unused classes hidden."""
    found = Detector(small, score_threshold=0.1).detect(noise(50, 200, 3))
    assert found.image_size == (50, 200)
    np.testing.assert_allclose(
        found.boxes_pixels, found.boxes * np.array([50, 200, 50, 200]), rtol=1e-6
    )
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= 1
    assert 2 not in found.labels
    assert "???" not in found.names
    assert found.names == tuple(NAMES[label] for label in found.labels)
    assert (np.diff(found.scores) <= 0).all()


def test_many_images_are_as_one_by_one(small: SSD) -> None:
    images = [noise(30 + 7 * i, 90 - 5 * i, 3, seed=i) for i in range(7)]
    detector = Detector(small, score_threshold=0.1, batch_size=3)
    expected = [detector.detect(image) for image in images]
    found = detector.detect(images)
    assert isinstance(found, list)
    assert [result.source for result in found] == list(range(7))
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)
    for ours, theirs in zip(detector.detect(iter(images)), expected, strict=True):
        assert_equal(ours, theirs)
    batch = np.stack([noise(40, 50, 3, seed=i) for i in range(4)])
    for ours, image in zip(detector.detect(batch), batch, strict=True):
        assert_equal(ours, detector.detect(image))
    assert detector.detect([]) == []
    assert list(detector.detect(iter([]))) == []


def test_a_stream_is_read_no_further_than_asked(small: SSD) -> None:
    asked = []

    def endless() -> Iterator[Any]:
        number = 0
        while True:
            asked.append(number)
            yield noise(20, 20, 3, seed=number)
            number += 1

    results = Detector(small, batch_size=4).detect(endless())
    assert asked == []
    for expected in range(6):
        assert next(results).source == expected
    # Two batches asked for, two more ahead.
    assert len(asked) <= 4 * 4
    results.close()


def test_pixels_of_files_are_not_kept(
    small: SSD, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the batch, however large the photos are."""
    made: list[Any] = []
    most = []

    def decoded(path: Any) -> Any:
        image = noise(20, 30, 3)
        made.append(weakref.ref(image))
        most.append(sum(each() is not None for each in list(made)))
        return image

    monkeypatch.setattr("ssdops.detection.detector.image_array", decoded)
    results = list(Detector(small, batch_size=8).detect(map(str, range(40))))
    assert [result.source for result in results] == [str(i) for i in range(40)]
    # Two threads decode; each may hold one more until it begins the next.
    assert max(most) <= 4


def test_images_that_cannot_be_used(small: SSD, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    images = [noise(20, 30, 3), tmp_path / "bad.jpg", np.zeros((3, 3, 2), np.uint8)]
    detector = Detector(small, score_threshold=0.1, batch_size=2)
    with pytest.raises(ImageError, match=r"bad\.jpg is not an image"):
        detector.detect(images)
    with pytest.raises(ImageError, match=r"^1: an image must"):
        detector.detect([images[0], images[2]])
    good, bad, wrong = detector.detect(images, on_error="skip")
    assert good.error is None
    assert len(bad) == len(wrong) == 0
    assert "bad.jpg is not an image" in str(bad.error)
    assert json.loads(bad.to_json())["error"] == bad.error
    with pytest.raises(ValueError, match="not an image"):
        bad.draw()
    with pytest.raises(ValueError, match="on_error"):
        detector.detect(images, on_error="ignore")
    with pytest.raises(ImageError, match="several of them, got int"):
        detector.detect(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none",), "none is neither a saved model nor one of ssd300_vgg16"),
        (("ssd300_vgg16",), "ssd300_vgg16 needs weights, or the folder"),
        (("small", "w.npz"), "unknown model 'small'"),
    ],
)
def test_models_that_are_not_there(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": 2},
        {"iou_threshold": -0.1},
        {"max_detections": 0},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"class_names": ["a"]},
        {"weights": "w.npz"},
    ],
)
def test_arguments_outside_their_range(options: dict[str, Any], small: SSD) -> None:
    with pytest.raises(ValueError, match=r"must|weights of its own"):
        Detector(small, **options)


def test_thresholds(small: SSD, tmp_path: Path) -> None:
    """Those given, else those of the model; a run folder brings its own."""
    limits = replace(small.spec.post_processing, score_threshold=0.2, max_detections=3)
    names = ("background", "cat", "fox", "dog")
    model = SSD(replace(small.spec, post_processing=limits), small.network, names)
    model.save(tmp_path / "best")
    image = noise(64, 64, 3)
    low = Detector(tmp_path, score_threshold=None, max_detections=None).detect(image)
    assert 0 < len(low) <= 3
    assert low.scores.min() > 0.2
    assert len(Detector(tmp_path, score_threshold=0.99).detect(image)) == 0


def test_letterboxed_models(small: SSD) -> None:
    """What is found in the middle of the picture is found on the image."""
    preprocessing = replace(small.spec.preprocessing, resize="letterbox")
    model = SSD(replace(small.spec, preprocessing=preprocessing), small.network, NAMES)
    image = noise(32, 64, 3)
    found = Detector(model, score_threshold=0.1).detect(image)
    raw = model.detect(preprocessing.fit(image)[None], score_threshold=0.1)
    count = min(100, int(raw.num_detections[0]))
    shown = raw.classes[0, :count].numpy() != 2
    boxes = raw.boxes[0, :count].numpy()[shown]
    expected = (boxes - [0.25, 0, 0.25, 0]) / [0.5, 1, 0.5, 1]
    np.testing.assert_allclose(found.boxes, np.clip(expected, 0, 1), atol=1e-5)


# Results


def test_results_as_plain_values(coco: Detector) -> None:
    found = coco.detect(data_path("photos/004545.jpg"))
    assert "horse" in found.names
    values = json.loads(found.to_json())
    assert (values["width"], values["height"]) == found.image_size[::-1]
    first = values["detections"][0]
    assert first["name"] == found.names[0]
    np.testing.assert_allclose(first["box"], found.boxes_pixels[0], rtol=1e-5)
    horses = found.filter(names={"horse"})
    assert set(horses.names) == {"horse"}
    assert len(found.filter(min_score=2.0)) == 0
    with pytest.raises(ValueError, match="no classes unicorn"):
        found.filter(names=["unicorn"])


def test_pictures(coco: Detector, small: SSD) -> None:
    path = data_path("photos/004545.jpg")
    for source in (path, load_image(path)):
        found = coco.detect(source)
        picture = np.asarray(found.draw())
        original = load_image(path)
        assert picture.shape == original.shape
        changed = (picture != original).any(-1).mean()
        assert 0.005 < changed < 0.3
    assert Detector(small).detect(noise(64, 64, 3)).draw().size == (384, 384)


def test_results_for_supervision(coco: Detector) -> None:
    pytest.importorskip("supervision")
    found = coco.detect(data_path("photos/004545.jpg"))
    theirs = found.to_supervision()
    assert len(theirs) == len(found)
    np.testing.assert_allclose(theirs.xyxy, found.boxes_pixels[:, [1, 0, 3, 2]])
    assert list(theirs.data["class_name"]) == list(found.names)


def test_files_of_coco(coco: Detector, tmp_path: Path) -> None:
    results = coco.detect([data_path(f"photos/{photo}.jpg") for photo in PHOTOS])
    write_coco(tmp_path / "found.json", results)
    entries = json.loads((tmp_path / "found.json").read_text())
    assert len(entries) == sum(map(len, results))
    first = entries[0]
    ymin, xmin, ymax, xmax = results[0].boxes_pixels[0]
    # Names with zeros before are no numbers.
    assert first["image_id"] == "000001"
    assert first["category_id"] == results[0].labels[0]
    np.testing.assert_allclose(
        first["bbox"], [xmin, ymin, xmax - xmin, ymax - ymin], rtol=1e-5
    )
    with pytest.raises(ValueError, match="has no category_id"):
        write_coco(tmp_path / "found.json", results, {99: 1})


def test_files_of_voc(coco: Detector, tmp_path: Path) -> None:
    """They can be read as a data set, with the boxes that were found."""
    paths = [data_path(f"photos/{photo}.jpg") for photo in PHOTOS]
    results = [*coco.detect(paths), coco.detect(load_image(paths[0]))]
    write_voc(tmp_path, results, "found")
    names = ("background", *dict.fromkeys(n for r in results for n in r.names))
    dataset = read_voc(tmp_path, "found", names)
    assert [record.image_id for record in dataset.records] == [*PHOTOS, "000000"]
    for record, result in zip(dataset.records, results, strict=True):
        pairs = [
            sorted((name, *box) for name, box in zip(called, boxes, strict=True))
            for called, boxes in (
                ([names[label] for label in record.labels], record.boxes.round(4)),
                (result.names, result.boxes.round(4)),
            )
        ]
        assert [pair[0] for pair in pairs[0]] == [pair[0] for pair in pairs[1]]
        ours, theirs = (np.array([pair[1:] for pair in each]) for each in pairs)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    with pytest.raises(ValueError, match="two images called 000001"):
        write_voc(tmp_path, [results[0], results[0]], "twice")


# Other views


def test_views_and_back() -> None:
    image = noise(40, 60, 3)
    boxes = np.array([[0.2, 0.3, 0.6, 0.9]])
    for view in TestTimeAugmentation(scales=(1.0, 1.5, 2.0)).views():
        seen = view.of(image)
        top, left, bottom, right = (
            np.array(view.window) * np.array([40, 60, 40, 60])
        ).round()
        assert seen.shape[:2] == (bottom - top, right - left)
        back, _ = view.to_image(boxes, (40, 60))
        y, x = np.array([0.2, 0.6]), np.array([0.3, 0.9])
        if view.flip:
            x = 1 - x[::-1]
        ys = (y * (bottom - top) + top) / 40
        xs = (x * (right - left) + left) / 60
        np.testing.assert_allclose(back[0], [ys[0], xs[0], ys[1], xs[1]])


@pytest.mark.parametrize(("scale", "count"), [(1.0, 1), (1.25, 4), (1.5, 4), (2.0, 9)])
def test_windows_cover_the_image(scale: float, count: int) -> None:
    views = TestTimeAugmentation(flip=False, scales=(scale,)).views()
    assert len(views) == count
    grid = (np.arange(100) + 0.5) / 100
    rows = np.zeros((100, 100), bool)
    for view in views:
        top, left, bottom, right = view.window
        inside = (grid > top) & (grid < bottom)
        rows |= np.outer(inside, (grid > left) & (grid < right))
    assert rows.all()


def test_boxes_that_a_border_cut_off_are_left_out() -> None:
    view = View((0.0, 0.0, 0.5, 0.5))
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0.2, 0.97, 0.4], [0.2, 0.2, 0.4, 0.4]])
    _, whole = view.to_image(boxes, (100, 100))
    assert whole.tolist() == [True, False, True]


def test_merged_views() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.52], [0.6, 0.6, 1, 1.0]])
    scores = np.array([0.6, 0.9, 0.5])
    found, kept, labels = merge_views(
        boxes, scores, np.array([7, 7, 3]), iou_threshold=0.5, max_detections=9
    )
    assert labels.tolist() == [7, 3]
    np.testing.assert_allclose(kept, [0.9, 0.5], rtol=1e-6)
    np.testing.assert_allclose(
        found[0], [0, 0, 0.5, (0.6 * 0.5 + 0.9 * 0.52) / 1.5], rtol=1e-5
    )
    nothing = merge_views(
        boxes[:0], scores[:0], np.zeros(0, int), iou_threshold=0.5, max_detections=9
    )
    assert all(len(part) == 0 for part in nothing)


def test_a_mirrored_image_gives_mirrored_objects(coco: Detector) -> None:
    detector = Detector(coco.model, augmentation=TestTimeAugmentation())
    image = load_image(data_path("photos/004545.jpg"))
    ours, theirs = detector.detect(image), detector.detect(image[:, ::-1])
    assert len(ours) > 3
    assert ours.names == theirs.names
    mirrored = theirs.boxes.copy()
    mirrored[:, [1, 3]] = 1 - theirs.boxes[:, [3, 1]]
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, mirrored, atol=1e-4)


def test_the_same_objects_in_more_views(coco: Detector) -> None:
    """What is found with a good score at once is found in several views, too."""
    views = TestTimeAugmentation(scales=(1.0, 1.5))
    detector = Detector(coco.model, augmentation=views)
    for photo in PHOTOS:
        path = data_path(f"photos/{photo}.jpg")
        plain, several = coco.detect(path), detector.detect(path)
        for box, name in zip(
            plain.filter(min_score=0.6).boxes, plain.names, strict=False
        ):
            same = [other == name for other in several.names]
            iou = ssdops.box_iou(box[None], several.boxes[same]).numpy()
            assert iou.max() > 0.6, (photo, name)


@pytest.mark.parametrize("scales", [(), (0.5,), (9.0,), (float("nan"),)])
def test_scales_outside_their_range(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"scales must be numbers in \[1, 8\]"):
        TestTimeAugmentation(scales=scales)
    with pytest.raises(ValueError, match=r"merge_iou must lie in \[0, 1\]"):
        TestTimeAugmentation(merge_iou=2.0)
