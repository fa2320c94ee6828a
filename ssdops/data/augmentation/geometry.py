# SPDX-License-Identifier: Apache-2.0
"""Expansion, cropping and mirroring: what a training picture shows of its image."""

from __future__ import annotations

from typing import Final, NamedTuple

import tensorflow as tf

from ssdops.constants import PADDING_LABEL
from ssdops.data.augmentation.settings import Augmentation
from ssdops.ops import box_iou

# Of one random stream per image.
_EXPAND_STREAM: Final = 2
_CROP_STREAM: Final = 3
_CHOICE_STREAM: Final = 4


class Window(NamedTuple):
    """A rectangle of an image in pixels, which may reach over its borders.

    Attributes:
        offset: int32 `[2]`, top and left, from those of the image; may be negative.
        size: int32 `[2]`, height and width, at least 1.
    """

    offset: tf.Tensor
    size: tf.Tensor


def choose_window(
    image_size: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    settings: Augmentation,
) -> tuple[Window, tf.Tensor, tf.Tensor]:
    """Expand, then crop: the window of the image that is shown, and what is in it.

    Args:
        image_size: int32 `[2]`, height and width in pixels.
        boxes: float32 `[G, 4]` relative.
        labels: int32 `[G]`; 0 is padding, -1 an ignore region.
        seed: int32 or int64 `[2]`; the same seed gives the same window.
        settings: probabilities and ranges.

    Returns:
        `(window, boxes [G, 4] relative to the window, labels [G])`. A row whose object
        is not in the window any more is padding.
    """
    canvas, place = _expand(image_size, seed, settings)
    size = tf.cast(canvas, tf.float32)
    corner = tf.cast(tf.tile(place, [2]), tf.float32)
    scale = tf.tile(tf.cast(image_size, tf.float32), [2])
    boxes = (boxes * scale + corner) / tf.tile(size, [2])
    crop = _choose_crop(boxes, labels, seed, settings)
    # Pixels are cut off, boxes are not: so does the official code.
    offset = tf.cast(crop[:2] * size, tf.int32)
    extent = tf.cast((crop[2:] - crop[:2]) * size, tf.int32)
    boxes, labels = _into_crop(boxes, labels, crop)
    return Window(offset - place, tf.maximum(extent, 1)), boxes, labels


def mirror(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes `[..., 4]` after left and right were exchanged."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    return tf.stack([ymin, 1.0 - xmax, ymax, 1.0 - xmin], axis=-1)


def _expand(
    image_size: tf.Tensor, seed: tf.Tensor, settings: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Size of the canvas, and the place of the image on it; int32 `[2]`."""
    u = tf.random.stateless_uniform([4], tf.random.fold_in(seed, _EXPAND_STREAM))
    ratio = 1.0 + u[1] * (settings.expand_ratio - 1.0)
    size = tf.cast(image_size, tf.float32)
    canvas = tf.cast(size * ratio, tf.int32)
    room = tf.cast(canvas - image_size, tf.float32)
    place = tf.cast(u[2:] * room, tf.int32)
    expands = u[0] < settings.expand_probability
    return (
        tf.where(expands, canvas, image_size),
        tf.where(expands, place, tf.zeros_like(place)),
    )


def _choose_crop(
    boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    """A crop, float32 `[4]` relative, or the whole."""
    whole = tf.constant([0.0, 0.0, 1.0, 1.0])
    limits = settings.crop_min_ious + ((0.0,) if settings.crop_free else ())
    if not settings.crop or not limits:
        return whole
    trials = settings.crop_trials
    candidates = _random_crops(len(limits) * trials, seed, settings)
    # At least one object has to satisfy the limit, whichever.
    iou = tf.where(labels > 0, box_iou(candidates, boxes), -1.0)
    best = tf.reshape(tf.reduce_max(iou, axis=1), [len(limits), trials])
    accepted = best >= tf.constant(limits)[:, tf.newaxis]
    found = tf.reduce_any(accepted, axis=1)
    first = tf.argmax(accepted, axis=1, output_type=tf.int32)
    chosen = tf.gather(candidates, tf.range(len(limits)) * trials + first)
    crops = tf.concat([whole[tf.newaxis], tf.boolean_mask(chosen, found)], axis=0)
    pick = tf.random.stateless_uniform(
        [],
        tf.random.fold_in(seed, _CHOICE_STREAM),
        maxval=tf.shape(crops)[0],
        dtype=tf.int32,
    )
    return crops[pick]


def _random_crops(count: int, seed: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Crops `[count, 4]` of random scale, aspect ratio and place inside the image."""
    u = tf.random.stateless_uniform([4, count], tf.random.fold_in(seed, _CROP_STREAM))
    low, high = settings.crop_scale
    scale = low + u[0] * (high - low)
    # So that neither side is longer than that of the image.
    narrowest = tf.maximum(settings.crop_aspect_ratio[0], tf.square(scale))
    widest = tf.minimum(settings.crop_aspect_ratio[1], 1.0 / tf.square(scale))
    ratio = narrowest + u[1] * (widest - narrowest)
    height = tf.minimum(scale / tf.sqrt(ratio), 1.0)
    width = tf.minimum(scale * tf.sqrt(ratio), 1.0)
    ymin = u[2] * (1.0 - height)
    xmin = u[3] * (1.0 - width)
    return tf.stack([ymin, xmin, ymin + height, xmin + width], axis=-1)


def _into_crop(
    boxes: tf.Tensor, labels: tf.Tensor, crop: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Ground truth relative to the crop: objects by the rule of the centre."""
    low, high = crop[:2], crop[2:]
    centre = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    inside = tf.reduce_all((centre >= low) & (centre <= high), axis=1)
    moved = (boxes - tf.tile(low, [2])) / tf.tile(high - low, [2])
    moved = tf.clip_by_value(moved, 0.0, 1.0)
    has_area = tf.reduce_all(moved[:, 2:] > moved[:, :2], axis=1)
    # What is left of an ignore region is one, wherever its centre was.
    stays = has_area & (inside | (labels < 0)) & (labels != PADDING_LABEL)
    return (
        tf.where(stays[:, tf.newaxis], moved, 0.0),
        tf.where(stays, labels, PADDING_LABEL),
    )
