# SPDX-License-Identifier: Apache-2.0
"""Records refuse what nothing behind a reader could use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssdops.data import Dataset, EncodedImage, Record
from ssdops.image_io import ImageError


def make_record(count=1, **changes):
    values = {
        "image": np.zeros((4, 4, 3), np.uint8),
        "boxes": np.tile(np.array([[0, 0, 1, 1]], np.float32), (count, 1)),
        "labels": np.ones(count, np.int32),
        "difficult": np.zeros(count, bool),
        "image_id": "picture",
    }
    return Record(**{**values, **changes})


def test_a_record_may_be_empty():
    data = Dataset([make_record(0)], ("background", "a"))
    assert (len(data), data.num_objects, data.num_classes) == (1, 0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([1, 1], np.int32)}, "labels"),
        ({"labels": np.array([1.0], np.float32)}, "labels"),
        ({"labels": np.array([0], np.int32)}, "at least 1"),
        ({"boxes": np.array([[0, 0, 0, 1]], np.float32)}, "area"),
        ({"boxes": np.array([[0.5, 0, 0.2, 1]], np.float32)}, "area"),
        ({"boxes": np.array([[np.nan, 0, 1, 1]], np.float32)}, "area"),
        ({"boxes": np.array([[0, 0, 1]], np.float32)}, "boxes"),
        ({"difficult": np.zeros(1, np.int32)}, "difficult"),
        ({"crowd": np.zeros(2, bool)}, "crowd"),
        ({"area": np.zeros(1, np.float64)}, "area"),
        ({"image_size": (4, 5)}, "image_size"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        make_record(**changes)
    assert "picture" in str(error.value)


def test_the_size_of_an_image_in_memory_is_known():
    assert make_record().image_size == (4, 4)
    assert make_record(image=Path("a.jpg")).image_size is None


def test_an_image_is_loaded_wherever_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    encoded = file.read_bytes()
    archive = tmp_path / "archive"
    archive.write_bytes(b"before" + encoded + b"after")
    inside = EncodedImage(archive, len(b"before"), len(encoded))
    for image in (pixels, file, encoded, inside):
        np.testing.assert_array_equal(make_record(image=image).load_image(), pixels)
    archive.write_bytes(encoded[:30])
    with pytest.raises(ImageError, match=rf"archive.*must have {len(encoded)} bytes"):
        make_record(image=inside).load_image()
    archive.unlink()
    with pytest.raises(ImageError, match=r"archive.*cannot be read"):
        make_record(image=inside).load_image()
    with pytest.raises(ImageError, match="image picture"):
        make_record(image=b"no image").load_image()


def test_every_label_needs_a_name():
    with pytest.raises(ValueError, match="picture"):
        Dataset([make_record(labels=np.array([2], np.int32))], ("background", "a"))


def test_classes_have_numbers_of_their_own():
    names = ("background", "a", "b")
    assert Dataset((), names).category_ids is None
    assert Dataset((), names, category_ids=(7, 7, 0)).category_ids == (7, 7, 0)
    for wrong in ((0, 1), (0, 1, 1), (0, 1, 2, 3)):
        with pytest.raises(ValueError, match="category_ids must be 3 numbers"):
            Dataset((), names, category_ids=wrong)
