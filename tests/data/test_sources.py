# SPDX-License-Identifier: Apache-2.0
"""Any data set is read through one function."""

from __future__ import annotations

import numpy as np
import pytest

from ssdops.data import Record, read_dataset, write_voc
from ssdops.image_io import ImageError

NAMES = ("background", "a", "b")


def make_record():
    return Record(
        image=np.zeros((8, 8, 3), np.uint8),
        boxes=np.array([[0, 0, 0.5, 1]], np.float32),
        labels=np.array([2], np.int32),
        difficult=np.zeros(1, bool),
        image_id="picture",
    )


@pytest.mark.parametrize("data_format", ["auto", "voc"])
def test_a_voc_folder(tmp_path, data_format):
    write_voc(tmp_path, [make_record()], "train", NAMES)
    data = read_dataset(
        tmp_path, split="train", class_names=NAMES, data_format=data_format
    )
    assert data.class_names == NAMES
    assert data.records[0].labels.tolist() == [2]
    assert read_dataset(tmp_path).class_names == ("background", "b")


def test_images_may_be_missing_where_only_annotations_matter(tmp_path):
    write_voc(tmp_path, [make_record()], "train", NAMES)
    for image in (tmp_path / "JPEGImages").iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match="no image"):
        read_dataset(tmp_path)
    [record] = read_dataset(tmp_path, check_images=False).records
    assert record.image_size == (8, 8)
    with pytest.raises(ImageError, match="picture"):
        record.load_image()


def test_what_is_not_there_or_not_known_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(
        ValueError,
        match=r"not a data set in a known format \(voc, coco, csv, tfrecord, tfds",
    ):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match="data_format must be auto or one of voc"):
        read_dataset(tmp_path, data_format="other")
