# SPDX-License-Identifier: Apache-2.0
"""Data sets of tensorflow_datasets, which a stand-in plays here."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.datasets import HEIGHT, WIDTH, make_image

from ssdops.data import DroppedObjectsWarning, read_dataset, read_tfds

LABELS = SimpleNamespace(names=["cat", "dog"])
FEATURES = {"image": 0, "objects": {"bbox": 0, "label": LABELS}}
BOXES = [[0.0, 0.25, 0.5, 1.0], [0.25, 0.0, 1.0, 0.5]]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with one data set; gives what it was asked for."""
    encoded = make_image(tmp_path / "a.jpg").read_bytes()

    def install(extra=None, objects=None, features=FEATURES, count=2):
        asked = {}

        def load(name, **arguments):
            asked.update(name=name, **arguments)
            columns = {
                "bbox": np.array(BOXES, np.float32),
                "label": np.array([1, 0], np.int64),
                **(objects or {}),
            }
            made = max(count, 1)
            extras = extra or {"image/filename": [f"{i}.jpg" for i in range(made)]}
            examples = {
                "image": [encoded] * made,
                "objects": {k: np.stack([v] * made) for k, v in columns.items()},
                **extras,
            }
            data = tf.data.Dataset.from_tensor_slices(examples)
            return data.take(count), SimpleNamespace(features=features)

        module = ModuleType("tensorflow_datasets")
        module.load = load
        module.decode = SimpleNamespace(SkipDecoding=lambda: "encoded")
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
        return asked

    return install


@pytest.mark.parametrize("place", ["tfds:voc/2007", "voc/2007"])
def test_a_data_set_by_name(install, place):
    asked = install(objects={"is_difficult": np.array([True, False])})
    data_format = "auto" if place.startswith("tfds:") else "tfds"
    data = read_dataset(place, split="train[:5%]", data_format=data_format)
    assert asked["name"] == "voc/2007"
    assert asked["split"] == "train[:5%]"
    assert asked["decoders"] == {"image": "encoded"}
    assert asked["shuffle_files"] is False
    assert data.class_names == ("background", "cat", "dog")
    assert [record.image_id for record in data.records] == ["0", "1"]
    record = data.records[0]
    np.testing.assert_array_equal(record.boxes, np.array(BOXES, np.float32))
    assert record.labels.tolist() == [2, 1]
    assert record.difficult.tolist() == [True, False]
    assert record.crowd is None
    assert record.area is None
    assert record.image_size == (HEIGHT, WIDTH)
    assert isinstance(record.image, bytes)
    assert record.load_image().shape == (HEIGHT, WIDTH, 3)


def test_the_features_of_coco(install):
    objects = {"is_crowd": np.array([False, True]), "area": np.array([12, 7])}
    asked = install({"image/id": [397133, 4]}, objects)
    data = read_dataset("tfds:coco/2017", class_names=["dog", "cat"])
    assert asked["split"] == "train"
    assert [record.image_id for record in data.records] == ["397133", "4"]
    record = data.records[0]
    assert record.labels.tolist() == [1, 2]
    assert record.crowd.tolist() == [False, True]
    assert record.area.tolist() == [12, 7]
    assert record.difficult.tolist() == [False, False]


def test_images_without_a_name_are_counted(install):
    install({"other": [0, 0]})
    assert [record.image_id for record in read_tfds("a").records] == ["0", "1"]


def test_unusable_boxes_are_dropped(install):
    boxes = np.array([[0, 0, np.nan, 1], [0, 0, 1, 1]], np.float32)
    install(objects={"bbox": boxes}, count=1)
    with pytest.warns(DroppedObjectsWarning, match="tfds:a: 1 objects"):
        assert read_tfds("a").records[0].labels.tolist() == [1]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_name_is_an_error(install, label):
    install(objects={"label": np.array([0, label])})
    with pytest.raises(ValueError, match=f"tfds:a, image 0: label must .* got {label}"):
        read_tfds("a")


@pytest.mark.parametrize(
    "features",
    [
        {"image": 0, "label": 0},
        {"objects": FEATURES["objects"]},
        {"image": 0, "objects": {"bbox": 0}},
        {"image": 0, "objects": {"label": LABELS}},
        {"image": 0, "objects": {"bbox": 0, "label": 0}},
    ],
)
def test_other_kinds_of_data_sets_are_refused(install, features):
    install(features=features)
    with pytest.raises(ValueError, match=r"tfds:mnist: expected the features image"):
        read_tfds("mnist")


def test_a_split_without_images_is_an_error(install):
    install(count=0)
    with pytest.raises(ValueError, match="tfds:a: the split 'test' has no images"):
        read_tfds("a", "test")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        read_dataset("tfds:voc/2007")
