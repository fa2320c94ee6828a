# SPDX-License-Identifier: Apache-2.0
"""All random changes of a training image, in the order of the official code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import tensorflow as tf

from ssdops.data.augmentation.geometry import Window, choose_window, mirror
from ssdops.data.augmentation.photometric import distort
from ssdops.data.augmentation.settings import Augmentation

_RESIZE_STREAM: Final = 5
_PHOTOMETRIC_STREAM: Final = 6


def augment(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    *,
    seed: tf.Tensor,
    image_size: tuple[int, int],
    settings: Augmentation,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A training image with its ground truth after random changes.

    Photometric distortion, expansion, cropping, resizing and mirroring, in this order;
    only what the crop shows is computed. For `tf.data.Dataset.map`; not for XLA.

    Args:
        image: uint8 `[H, W, 3]` RGB in its own size.
        boxes: float32 `[G, 4]`, `(ymin, xmin, ymax, xmax)` relative.
        labels: int32 `[G]`; 0 is padding, -1 an ignore region.
        seed: int32 or int64 `[2]`. The result depends on nothing else that is random.
        image_size: height and width of the result.
        settings: probabilities and ranges.

    Returns:
        `(image uint8 [h, w, 3], boxes [G, 4], labels [G])`. Rows of objects that are
        not in the picture any more are padding; there may be no others.
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    window, boxes, labels = choose_window(
        tf.shape(image)[:2], boxes, labels, seed, settings
    )
    picture = _show(image, window, seed, settings)
    u = tf.random.stateless_uniform([2], tf.random.fold_in(seed, _RESIZE_STREAM))
    picture = _resize(picture, image_size, u[0], settings.interpolations)
    is_mirrored = u[1] < settings.mirror_probability
    picture = tf.cond(
        is_mirrored, lambda: tf.reverse(picture, axis=[1]), lambda: picture
    )
    mirrored = tf.where((labels != 0)[:, tf.newaxis], mirror(boxes), 0.0)
    boxes = tf.where(is_mirrored, mirrored, boxes)
    return tf.ensure_shape(picture, (*image_size, 3)), boxes, labels


def _show(
    image: tf.Tensor, window: Window, seed: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    """The window of the distorted image on its canvas, uint8."""
    size = tf.shape(image)[:2]
    begin = tf.clip_by_value(window.offset, 0, size)
    end = tf.clip_by_value(window.offset + window.size, 0, size)
    patch = image[begin[0] : end[0], begin[1] : end[1]]
    patch = distort(patch, tf.random.fold_in(seed, _PHOTOMETRIC_STREAM), settings)
    patch = _through_jpeg(patch, settings.jpeg_quality)
    # The window may miss the image: then all is before it or behind.
    before = tf.clip_by_value(-window.offset, 0, window.size)
    after = window.size - (end - begin) - before
    return tf.cond(
        tf.reduce_any(before + after > 0),
        lambda: _through_jpeg(
            _on_canvas(patch, before, after, settings.expand_fill),
            settings.jpeg_quality,
        ),
        lambda: patch,
    )


def _on_canvas(
    image: tf.Tensor, before: tf.Tensor, after: tf.Tensor, fill: tuple[int, int, int]
) -> tf.Tensor:
    """The image with rows and columns of a colour before and behind it, `[2]` each."""
    height, width = tf.unstack(tf.shape(image)[:2])
    wide = width + before[1] + after[1]
    # Of whole rows: an op that looks at colours one by one takes twenty times as long.
    row = tf.tile(tf.constant(fill, tf.uint8), [wide])[tf.newaxis]
    left = tf.tile(row[:, : before[1] * 3], [height, 1])
    right = tf.tile(row[:, : after[1] * 3], [height, 1])
    middle = tf.reshape(image, [height, width * 3])
    canvas = tf.concat(
        [
            tf.tile(row, [before[0], 1]),
            tf.concat([left, middle, right], axis=1),
            tf.tile(row, [after[0], 1]),
        ],
        axis=0,
    )
    return tf.reshape(canvas, [-1, wide, 3])


def _through_jpeg(image: tf.Tensor, quality: int) -> tf.Tensor:
    """The image after it was encoded and decoded; itself for quality 0."""
    if quality == 0:
        return image

    def recoded() -> tf.Tensor:
        encoded = tf.io.encode_jpeg(image, "rgb", quality)
        # As accurate as OpenCV; without this, the decoder would be the fast one.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    return tf.cond(tf.size(image) > 0, recoded, lambda: image)


def _resize(
    image: tf.Tensor,
    image_size: tuple[int, int],
    u: tf.Tensor,
    interpolations: tuple[str, ...],
) -> tf.Tensor:
    def with_method(method: str) -> Callable[[], Any]:
        def resize() -> Any:
            resized = tf.image.resize(image, image_size, method, antialias=False)
            resized = tf.clip_by_value(tf.round(resized), 0, 255)
            return tf.cast(resized, tf.uint8)

        return resize

    choice = tf.cast(u * len(interpolations), tf.int32)
    return tf.switch_case(choice, [with_method(method) for method in interpolations])
