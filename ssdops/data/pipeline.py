# SPDX-License-Identifier: Apache-2.0
"""From records to batches: decoding, resizing, padding, order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ssdops.constants import PADDING_LABEL
from ssdops.data.records import Dataset, Record
from ssdops.image_io import resize_image

CACHE_BYTES: Final = 2 * 2**30
"""Resized images of a data set are kept in memory up to this many bytes."""


def training_batches(
    dataset: Dataset,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    seed: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Endless batches in an order that depends only on the seed and the step.

    Every epoch visits all images once, in an order of its own; a batch may join the
    end of one epoch and the beginning of the next. A pipeline that starts at step
    `k` gives the batches that a longer one gives from its step `k` on.

    Args:
        dataset: at least one record.
        image_size: height and width that images are stretched to.
        batch_size: images per batch, at least 1.
        seed: of the order.
        first_step: number of batches to leave out, at no cost.

    Returns:
        Batches with `images` uint8 `[B, h, w, 3]` RGB, `gt_boxes` float32 `[B, G, 4]`
        relative, `gt_labels` int32 `[B, G]` padded with 0, where `G` is the largest
        number of objects in the data set (at least 1), and `indices` int64 `[B]`
        into `dataset.records`.

    Raises:
        ValueError: if the data set is empty or a number is out of range.
    """
    if len(dataset) == 0:
        raise ValueError("dataset must have at least one record, got 0")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    count = len(dataset)

    def shuffled(position: tf.Tensor) -> tf.Tensor:
        # A pseudo-random permutation that is computed element by element: the
        # order of a later epoch needs nothing of the ones before.
        epoch = tf.stack([tf.constant(seed, tf.int64), position // count])
        return tf.random.experimental.index_shuffle(
            position % count, seed=epoch, max_index=count - 1
        )

    positions = tf.data.Dataset.range(first_step * batch_size, np.iinfo(np.int64).max)
    return _load(positions.map(shuffled), dataset, image_size, batch_size)


def evaluation_batches(
    dataset: Dataset, image_size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """All images once, in the order of the records; the last batch may be smaller.

    Arguments and elements are those of `training_batches`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    positions = tf.data.Dataset.range(len(dataset))
    return _load(positions, dataset, image_size, batch_size)


def _load(
    indices: tf.data.Dataset,
    dataset: Dataset,
    image_size: tuple[int, int],
    batch_size: int,
) -> tf.data.Dataset:
    source = _ResizedImages(dataset, image_size)
    rows = max([1, *(len(record.labels) for record in dataset.records)])
    padded = [_padded_ground_truth(record, rows) for record in dataset.records]
    no_boxes = np.zeros((0, rows, 4), np.float32)
    no_labels = np.zeros((0, rows), np.int32)
    all_boxes = tf.constant(np.stack([b for b, _ in padded]) if padded else no_boxes)
    all_labels = tf.constant(np.stack([x for _, x in padded]) if padded else no_labels)

    def load(index: tf.Tensor) -> dict[str, Any]:
        image = tf.numpy_function(source, [index], tf.uint8, stateful=False)
        return {
            "images": tf.ensure_shape(image, (*image_size, 3)),
            "gt_boxes": all_boxes[index],
            "gt_labels": all_labels[index],
            "indices": index,
        }

    loaded = indices.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return loaded.batch(batch_size).prefetch(2)


def _padded_ground_truth(
    record: Record, rows: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    boxes = np.zeros((rows, 4), np.float32)
    labels = np.full(rows, PADDING_LABEL, np.int32)
    boxes[: len(record.boxes)] = record.boxes
    labels[: len(record.labels)] = record.labels
    return boxes, labels


class _ResizedImages:
    """Images of a data set by index, decoded once while they fit in memory."""

    def __init__(self, dataset: Dataset, image_size: tuple[int, int]) -> None:
        self._dataset = dataset
        self._image_size = image_size
        self._cache: dict[int, npt.NDArray[np.uint8]] = {}
        self._capacity = CACHE_BYTES // (image_size[0] * image_size[1] * 3)

    def __call__(self, index: np.int64) -> npt.NDArray[np.uint8]:
        key = int(index)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        image = self._dataset.records[key].load_image()
        resized = resize_image(image, self._image_size)
        if len(self._cache) < self._capacity:
            self._cache[key] = resized
        return resized
