# SPDX-License-Identifier: Apache-2.0
"""Order, padding and seeking of the input pipeline."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssdops.data import (
    Dataset,
    Record,
    evaluation_batches,
    pipeline,
    training_batches,
)
from ssdops.data.augmentation import Augmentation

NAMES = ("background", "a", "b")
SIZE = (8, 12)


def make_dataset(count: int, objects=lambda i: i % 3) -> Dataset:
    records = []
    for i in range(count):
        number = objects(i)
        records.append(
            Record(
                image=np.full((*SIZE, 3), i, np.uint8),
                boxes=np.tile(np.array([[0, 0, 0.5, 1]], np.float32), (number, 1)),
                labels=np.full(number, 1 + i % 2, np.int32),
                difficult=np.zeros(number, bool),
                image_id=str(i),
            )
        )
    return Dataset(records, NAMES)


def indices(batches, count):
    return [batch["indices"].numpy().tolist() for batch in islice(batches, count)]


def test_every_epoch_visits_every_image_once_in_its_own_order():
    batches = training_batches(make_dataset(10), SIZE, 4, seed=0)
    order = [i for batch in indices(batches, 10) for i in batch]
    epochs = [order[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("first_step", [1, 3, 7])
def test_seeking_gives_the_batches_of_a_longer_run(first_step):
    data = make_dataset(10)
    whole = indices(training_batches(data, SIZE, 4, seed=5), 10)
    rest = training_batches(data, SIZE, 4, seed=5, first_step=first_step)
    assert indices(rest, 10 - first_step) == whole[first_step:]


def test_the_seed_decides_the_order():
    data = make_dataset(20)
    runs = [
        indices(training_batches(data, SIZE, 5, seed=s), 4) for s in (1, 1, 2, 2**40)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[2] != runs[3]


def test_elements_belong_together_and_are_padded():
    data = make_dataset(7)
    batch = next(iter(training_batches(data, SIZE, 6, seed=0)))
    assert batch["images"].shape == (6, *SIZE, 3)
    assert batch["images"].dtype == "uint8"
    assert batch["gt_boxes"].shape == (6, 2, 4)
    assert batch["gt_labels"].dtype == "int32"
    for row, index in enumerate(batch["indices"].numpy()):
        record = data.records[index]
        number = len(record.labels)
        assert (batch["images"][row].numpy() == index).all()
        np.testing.assert_array_equal(batch["gt_boxes"][row][:number], record.boxes)
        np.testing.assert_array_equal(batch["gt_labels"][row][:number], record.labels)
        assert (batch["gt_labels"][row][number:].numpy() == 0).all()


def test_images_without_objects_still_have_a_padding_row():
    data = make_dataset(2, objects=lambda _: 0)
    batch = next(iter(training_batches(data, SIZE, 2, seed=0)))
    assert batch["gt_boxes"].shape == (2, 1, 4)
    assert not batch["gt_labels"].numpy().any()


def test_a_batch_may_be_larger_than_the_data_set():
    batches = training_batches(make_dataset(1), SIZE, 3, seed=0)
    assert indices(batches, 2) == [[0, 0, 0], [0, 0, 0]]


def test_difficult_objects_may_be_left_out_and_crowds_are_ignored():
    record = Record(
        image=np.zeros((*SIZE, 3), np.uint8),
        boxes=np.array([[0, 0, 0.1 * i, 1] for i in (1, 2, 3)], np.float32),
        labels=np.array([1, 2, 2], np.int32),
        difficult=np.array([True, False, False]),
        crowd=np.array([False, False, True]),
        image_id="x",
    )
    data = Dataset([record], NAMES)
    batch = next(iter(training_batches(data, SIZE, 1, seed=0)))
    assert batch["gt_labels"].numpy().tolist() == [[1, 2, -1]]
    np.testing.assert_array_equal(batch["gt_boxes"][0], record.boxes)
    batch = next(iter(training_batches(data, SIZE, 1, seed=0, use_difficult=False)))
    assert batch["gt_labels"].numpy().tolist() == [[2, -1, 0]]
    np.testing.assert_array_equal(batch["gt_boxes"][0, :2], record.boxes[1:])


class TestAugmented:
    """Batches of randomly changed images."""

    DATA = make_dataset(5, objects=lambda _: 2)

    def batches(self, count, **options):
        batches = training_batches(
            self.DATA, SIZE, 4, seed=9, augmentation=Augmentation(), **options
        )
        return [
            {name: value.numpy() for name, value in batch.items()}
            for batch in islice(batches, count)
        ]

    @pytest.mark.parametrize("first_step", [0, 2, 4])
    def test_seeking_gives_the_same_changes(self, first_step):
        whole = self.batches(6)[first_step:]
        for a, b in zip(
            whole, self.batches(6 - first_step, first_step=first_step), strict=True
        ):
            for name, value in a.items():
                np.testing.assert_array_equal(value, b[name])

    def test_every_epoch_changes_an_image_in_another_way(self):
        seen = [
            image.tobytes()
            for batch in self.batches(10)
            for image, index in zip(batch["images"], batch["indices"], strict=True)
            if index == 3
        ]
        assert len(seen) == 8
        assert len(set(seen)) == len(seen)

    def test_large_images_are_shrunk_before(self, monkeypatch):
        monkeypatch.setattr(pipeline, "MAX_AUGMENTED_PIXELS", 20)
        small = pipeline._small_enough(np.full((*SIZE, 3), 7, np.uint8))
        assert small.shape == (3, 4, 3)
        assert (small == 7).all()

    def test_images_of_any_size_meet_in_a_batch(self, tmp_path):
        records = []
        for i, size in enumerate([(7, 300), (90, 40), (1, 1)]):
            path = tmp_path / f"{i}.png"
            Image.new("RGB", size, (i, i, i)).save(path)
            records.append(replace(self.DATA.records[i], image=path, image_size=None))
        batches = training_batches(
            Dataset(records, NAMES), SIZE, 3, seed=0, augmentation=Augmentation()
        )
        for batch in islice(batches, 4):
            assert batch["images"].shape == (3, *SIZE, 3)


def test_evaluation_keeps_the_order_and_the_rest():
    batches = evaluation_batches(make_dataset(5), SIZE, 2)
    assert indices(batches, 9) == [[0, 1], [2, 3], [4]]
    assert indices(evaluation_batches(make_dataset(0), SIZE, 2), 9) == []


def test_files_are_decoded_by_content_and_resized(tmp_path: Path):
    path = tmp_path / "misnamed.jpg"
    Image.new("L", (33, 17), 77).save(path, "PNG")
    record = Record(
        image=path,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int32),
        difficult=np.zeros(0, bool),
        image_id="x",
    )
    batch = next(iter(evaluation_batches(Dataset([record], NAMES), SIZE, 1)))
    assert batch["images"].shape == (1, *SIZE, 3)
    assert (batch["images"].numpy() == 77).all()


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="at least one record"):
        training_batches(make_dataset(0), SIZE, 1, seed=0)
    with pytest.raises(ValueError, match="batch_size"):
        training_batches(make_dataset(1), SIZE, 0, seed=0)
    with pytest.raises(ValueError, match="batch_size"):
        evaluation_batches(make_dataset(1), SIZE, 0)
