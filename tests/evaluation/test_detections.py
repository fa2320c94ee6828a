# SPDX-License-Identifier: Apache-2.0
"""The stream of detections: checks, pairing with images, and the model's side."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.evaluation import NAMES, found, make_record

from ssdops.data import Dataset, Record
from ssdops.evaluation import (
    CocoEvaluator,
    ImageDetections,
    VocEvaluator,
    detect_dataset,
    evaluate,
    feed_evaluators,
)
from ssdops.image_io import ImageError
from ssdops.models import build_model
from ssdops.ops import Detections

BOX = [0.1, 0.1, 0.6, 0.4]


class Listing:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def add(self, record: Record, detections: ImageDetections) -> None:
        assert record.image_id == detections.image_id
        self.seen.append((record.image_id, len(record.labels), len(detections)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scores": [np.nan]}, "scores of x must be finite, got nan in row 0"),
        ({"scores": [np.inf]}, "scores of x must be finite, got inf"),
        ({"boxes": [[0, np.nan, 1, 1]]}, "boxes of x must be finite"),
        ({"scores": [0.5, 0.4]}, r"float32 of shape \[1\], got float32 of shape \[2\]"),
        ({"classes": [0]}, "classes of x must be at least 1, got 0"),
        ({"classes": [1.5]}, "classes of x must be integers, got float64"),
    ],
)
def test_wrong_detections(values: dict, message: str) -> None:
    right = {"boxes": [BOX], "scores": [0.5], "classes": [1]}
    assert len(ImageDetections.from_lists("x", **right)) == 1
    with pytest.raises(ValueError, match=message):
        ImageDetections.from_lists("x", **{**right, **values})


def test_wrong_dtype() -> None:
    with pytest.raises(ValueError, match=r"float32 of shape .*, got float64"):
        ImageDetections(
            "x", np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int32)
        )


def test_above_is_strict() -> None:
    kept = found("x", (BOX, 0.5, 1), (BOX, 0.75, 2)).above(0.5)
    assert kept.classes.tolist() == [2]


def test_every_image_is_seen_once() -> None:
    records = [make_record("a"), make_record("b", [BOX], [1]), make_record("c")]
    first, second = Listing(), Listing()
    steps: list[int] = []
    feed_evaluators(
        Dataset(records, NAMES),
        iter([found("c"), found("b", (BOX, 0.5, 1), (BOX, 0.4, 1))]),
        [first, second],
        progress=steps.append,
    )
    assert first.seen == second.seen == [("c", 0, 0), ("b", 1, 2), ("a", 0, 0)]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "message"),
    [(["a", "a"], "'a': come twice"), (["x"], "'x': not in the data set")],
)
def test_wrong_images(ids: list[str], message: str) -> None:
    dataset = Dataset([make_record("a")], NAMES)
    with pytest.raises(ValueError, match=message):
        feed_evaluators(dataset, [found(name) for name in ids], [Listing()])


def test_image_ids_must_be_unique() -> None:
    dataset = Dataset([make_record("a"), make_record("a")], NAMES)
    with pytest.raises(ValueError, match="got 2 images with 1 ids"):
        feed_evaluators(dataset, [], [])


def pictures(count: int) -> Dataset:
    rng = np.random.default_rng(2)
    records = [
        Record(
            image=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            boxes=np.array([BOX], np.float32),
            labels=np.array([1 + i % 3], np.int32),
            difficult=np.zeros(1, bool),
            image_id=f"picture{i}",
        )
        for i in range(count)
    ]
    return Dataset(records, NAMES)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)


def test_one_pass_serves_all_metrics(model) -> None:
    dataset = pictures(5)
    coco = CocoEvaluator(len(NAMES))
    steps: list[int] = []
    options = {"score_threshold": 0.2, "max_detections": 30, "batch_size": 2}
    result = evaluate(model, dataset, also=[coco], progress=steps.append, **options)
    assert steps == [1, 2, 3, 4, 5]

    detections = list(detect_dataset(model, dataset, **options))
    assert [image.image_id for image in detections] == [
        record.image_id for record in dataset.records
    ]
    assert 0 < sum(len(image) for image in detections) <= 150
    assert min(image.scores.min() for image in detections) > 0.2
    voc, again = VocEvaluator(len(NAMES)), CocoEvaluator(len(NAMES))
    feed_evaluators(dataset, detections, [voc, again])
    assert result.mean == voc.result().mean
    assert result.num_detections.sum() == sum(len(image) for image in detections)
    expected = pytest.approx(dict(again.result().metrics), abs=0, nan_ok=True)
    assert dict(coco.result().metrics) == expected


def test_classes_must_be_those_of_the_model(model) -> None:
    dataset = Dataset([], ("background", "cat"))
    # Told at once, not when the first batch is asked for.
    with pytest.raises(ValueError, match="the data set has"):
        detect_dataset(model, dataset)


def test_boxes_of_a_diverged_model_overlap_nothing(model, monkeypatch) -> None:
    boxes = np.array([[[0, 0, np.inf, 1], BOX]], np.float32)
    diverged = Detections(
        *(
            keras.ops.convert_to_tensor(value)
            for value in (
                boxes,
                np.array([[0.9, 0.8]], np.float32),
                np.array([[1, 1]], np.int32),
                np.array([2], np.int32),
            )
        )
    )
    monkeypatch.setattr(model, "detect", lambda *_, **__: diverged)
    result = evaluate(model, pictures(1))
    assert result.num_detections.tolist() == [0, 2, 0, 0]
    assert result.average_precision[1] == 0.5


def test_an_image_that_is_not_there_is_one_sentence(model) -> None:
    dataset = Dataset([*pictures(1).records, make_record("gone")], NAMES)
    with pytest.raises(ImageError, match=r"^gone\.jpg does not exist$"):
        evaluate(model, dataset)
