# SPDX-License-Identifier: Apache-2.0
"""From records to batches: decoding, augmentation, padding, order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from ssdops.constants import IGNORE_LABEL, PADDING_LABEL
from ssdops.data.augmentation import Augmentation, augment
from ssdops.data.records import Dataset, Record
from ssdops.image_io import ImageError
from ssdops.resizing import resize_image

CACHE_BYTES: Final = 2 * 2**30
"""Decoded images of a data set are kept in memory up to this many bytes."""

MAX_AUGMENTED_PIXELS: Final = 2 * 2**20
"""Larger images are shrunk by a whole factor before they are augmented: the canvas that
they are laid on has up to 16 times as many pixels."""

_Pixels = npt.NDArray[np.uint8]


def training_batches(
    dataset: Dataset,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    seed: int,
    first_step: int = 0,
    augmentation: Augmentation | None = None,
    use_difficult: bool = True,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """Endless batches in an order that depends only on the seed and the step.

    Every epoch visits all images once, in an order of its own and changed in a way of
    its own; a batch may join the end of one epoch and the beginning of the next. A
    pipeline that starts at step `k` gives the batches that a longer one gives from its
    step `k` on.

    Args:
        dataset: at least one record.
        image_size: height and width that images are stretched to.
        batch_size: images per batch, at least 1.
        seed: of the order and the augmentation.
        first_step: number of batches to leave out, at no cost.
        augmentation: random changes of the images; None to resize them only.
        use_difficult: whether difficult objects are trained on, as the official code
            does for VOC; else they are left out.
        worker: which part of every batch is given, from 0.
        num_workers: equal parts that every batch has; divides `batch_size`.

    Returns:
        Batches with `images` uint8 `[B, h, w, 3]` RGB, `gt_boxes` float32 `[B, G, 4]`
        relative, `gt_labels` int32 `[B, G]` padded with 0 and with -1 for crowds, where
        `G` is the largest number of objects in the data set (at least 1), and `indices`
        int64 `[B]` into `dataset.records`.

    Raises:
        ValueError: if the data set is empty or a number is out of range.
    """
    if len(dataset) == 0:
        raise ValueError("dataset must have at least one record, got 0")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= worker < num_workers or batch_size % num_workers:
        raise ValueError(
            f"worker must be below num_workers, which must divide batch_size"
            f" {batch_size}, got worker {worker} of {num_workers}"
        )
    count = len(dataset)
    part = batch_size // num_workers

    def shuffled(position: tf.Tensor) -> tf.Tensor:
        # A pseudo-random permutation that is computed element by element: the
        # order of a later epoch needs nothing of the ones before.
        epoch = tf.stack([tf.constant(seed, tf.int64), position // count])
        return tf.random.experimental.index_shuffle(
            position % count, seed=epoch, max_index=count - 1
        )

    table = _GroundTruth(dataset, use_difficult=use_difficult)
    images = _DecodedImages(
        dataset, _small_enough if augmentation else _resized_to(image_size)
    )

    def load(place: tf.Tensor) -> dict[str, Any]:
        # Counted over the parts of this worker; in the order of all of them:
        position = place // part * batch_size + worker * part + place % part
        index = shuffled(position)
        image = images.at(index)
        boxes, labels = table.at(index)
        if augmentation is not None:
            image, boxes, labels = augment(
                image,
                boxes,
                labels,
                seed=tf.stack([tf.constant(seed, tf.int64), position]),
                image_size=image_size,
                settings=augmentation,
            )
        return _element(image, boxes, labels, index, image_size)

    # Of the largest batches that there can be, the position is an int64 still.
    last = np.iinfo(np.int64).max // batch_size
    return _batches(tf.data.Dataset.range(first_step * part, last), load, part)


def evaluation_batches(
    dataset: Dataset,
    image_size: tuple[int, int],
    batch_size: int,
    fit: Callable[[_Pixels], _Pixels] | None = None,
) -> tf.data.Dataset:
    """All images once, in the order of the records; the last batch may be smaller.

    Arguments and elements are those of `training_batches`.

    Args:
        dataset: images with ground truth.
        image_size: height and width of the images.
        batch_size: images per batch.
        fit: makes an image of this size of one of another, uint8 [H, W, 3]; None to
            stretch it, which is what the ground truth is right for.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    table = _GroundTruth(dataset, use_difficult=True)
    images = _DecodedImages(dataset, fit or _resized_to(image_size))

    def load(index: tf.Tensor) -> dict[str, Any]:
        return _element(images.at(index), *table.at(index), index, image_size)

    return _batches(tf.data.Dataset.range(len(dataset)), load, batch_size)


def readable(batches: tf.data.Dataset) -> Iterator[dict[str, Any]]:
    """The batches one by one.

    Raises:
        ssdops.image_io.ImageError: if an image cannot be read; TensorFlow would wrap it
            in an error of its own.
    """
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            found = re.search(rf"{ImageError.__name__}: (.*)", str(error))
            if found is None:
                raise
            raise ImageError(found[1]) from None
        yield batch


def _batches(
    positions: tf.data.Dataset,
    load: Callable[[tf.Tensor], dict[str, Any]],
    batch_size: int,
) -> tf.data.Dataset:
    loaded = positions.map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return loaded.batch(batch_size).prefetch(2)


def _element(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    index: tf.Tensor,
    image_size: tuple[int, int],
) -> dict[str, Any]:
    return {
        "images": tf.ensure_shape(image, (*image_size, 3)),
        "gt_boxes": boxes,
        "gt_labels": labels,
        "indices": index,
    }


class _GroundTruth:
    """Padded ground truth of all images, by index."""

    def __init__(self, dataset: Dataset, *, use_difficult: bool) -> None:
        rows = max([1, *(len(record.labels) for record in dataset.records)])
        boxes = np.zeros((len(dataset), rows, 4), np.float32)
        labels = np.full((len(dataset), rows), PADDING_LABEL, np.int32)
        for i, record in enumerate(dataset.records):
            of_record = _training_labels(record, use_difficult=use_difficult)
            used = of_record != PADDING_LABEL
            boxes[i, : used.sum()] = record.boxes[used]
            labels[i, : used.sum()] = of_record[used]
        self._boxes, self._labels = tf.constant(boxes), tf.constant(labels)

    def at(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._boxes[index], self._labels[index]


def _training_labels(record: Record, *, use_difficult: bool) -> npt.NDArray[np.int32]:
    labels = record.labels.copy()
    if not use_difficult:
        labels[record.difficult] = PADDING_LABEL
    if record.crowd is not None:
        labels[record.crowd] = IGNORE_LABEL
    return labels


def _resized_to(image_size: tuple[int, int]) -> Callable[[_Pixels], _Pixels]:
    return lambda image: resize_image(image, image_size)


def _small_enough(image: _Pixels) -> _Pixels:
    factor = 1
    while image.shape[0] * image.shape[1] > MAX_AUGMENTED_PIXELS * factor**2:
        factor += 1
    if factor == 1:
        return image
    return np.asarray(Image.fromarray(image).reduce(factor))


class _DecodedImages:
    """Images of a data set by index, decoded once while they fit in memory."""

    def __init__(self, dataset: Dataset, prepare: Callable[[_Pixels], _Pixels]) -> None:
        self._dataset = dataset
        self._prepare = prepare
        self._cache: dict[int, _Pixels] = {}
        self._bytes_left = CACHE_BYTES

    def at(self, index: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(self._get, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(image, (None, None, 3))

    def _get(self, index: np.int64) -> _Pixels:
        key = int(index)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        image = self._prepare(self._dataset.records[key].load_image())
        # Several threads may be here; a few bytes more or less do not matter.
        if image.nbytes <= self._bytes_left:
            self._bytes_left -= image.nbytes
            self._cache[key] = image
        return image
