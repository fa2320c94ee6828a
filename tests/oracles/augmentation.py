# SPDX-License-Identifier: Apache-2.0
"""The official augmentation written as its source reads, drawing one number at a time.

Source: `im_transforms.cpp`, `sampler.cpp` and `data_transformer.cpp` of the official
Caffe code; the colour conversions are those of OpenCV 3 for 8 bits.
"""

from __future__ import annotations

import math

import numpy as np

MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50


def saturate(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def brightness(image, delta):
    return saturate(image.astype(np.float32) + np.float32(delta))


def contrast(image, factor):
    return saturate(image.astype(np.float32) * np.float32(factor))


def rgb_to_hsv(image):
    """OpenCV's fixed-point conversion; hue 0 to 179."""
    r, g, b = (image[..., i].astype(np.int64) for i in range(3))
    v = np.maximum(np.maximum(r, g), b)
    spread = v - np.minimum(np.minimum(r, g), b)
    by_value = np.rint((255 << 12) / np.maximum(v, 1)).astype(np.int64)
    by_spread = np.rint((180 << 12) / (6.0 * np.maximum(spread, 1))).astype(np.int64)
    s = (spread * by_value + 2048) >> 12
    h = np.where(
        v == r, g - b, np.where(v == g, b - r + 2 * spread, r - g + 4 * spread)
    )
    h = (h * by_spread + 2048) >> 12
    h = np.where(h < 0, h + 180, h)
    return np.stack([h, s, v], axis=-1).astype(np.uint8)


def hsv_to_rgb(hsv):
    """By sectors of 60 degrees; a hue above 179 begins again."""
    h = hsv[..., 0].astype(np.float64) / 30
    h = np.where(h >= 6, h - 6, h)
    s, v = hsv[..., 1] / 255.0, hsv[..., 2] / 255.0
    sector = np.floor(h).astype(int)
    f = h - sector
    p, q, t = v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))
    r = np.choose(sector, [v, q, p, p, t, v])
    g = np.choose(sector, [t, v, v, q, p, p])
    b = np.choose(sector, [p, p, t, v, v, q])
    return saturate(255 * np.stack([r, g, b], axis=-1))


def saturation(image, factor):
    hsv = rgb_to_hsv(image)
    hsv[..., 1] = saturate(hsv[..., 1] * np.float32(factor))
    return hsv_to_rgb(hsv)


def hue(image, delta):
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = saturate(hsv[..., 0] + np.float32(delta))
    return hsv_to_rgb(hsv)


def distort(image, rng):
    def maybe(change, low, high):
        nonlocal image
        if rng.uniform() < 0.5:
            image = change(image, rng.uniform(low, high))

    if rng.uniform() > 0.5:
        maybe(brightness, -32, 32)
        maybe(contrast, 0.5, 1.5)
        maybe(saturation, 0.5, 1.5)
        maybe(hue, -18, 18)
    else:
        maybe(brightness, -32, 32)
        maybe(saturation, 0.5, 1.5)
        maybe(hue, -18, 18)
        maybe(contrast, 0.5, 1.5)
    return image


def iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    both = height * width
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (areas - both)


def expand(image_size, boxes, rng):
    """Size of the canvas, place of the image, boxes on the canvas."""
    height, width = image_size
    if rng.uniform() > 0.5:
        return image_size, (0, 0), boxes
    ratio = rng.uniform(1, 4)
    canvas = int(height * ratio), int(width * ratio)
    place = (
        math.floor(rng.uniform(0, canvas[0] - height)),
        math.floor(rng.uniform(0, canvas[1] - width)),
    )
    scaled = boxes * [height, width, height, width] + [*place, *place]
    return canvas, place, scaled / [*canvas, *canvas]


def random_crop(rng):
    scale = rng.uniform(0.3, 1)
    ratio = rng.uniform(max(0.5, scale**2), min(2, 1 / scale**2))
    width, height = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
    xmin, ymin = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return ymin, xmin, ymin + height, xmin + width


def choose_crop(boxes, rng):
    crops = [(0.0, 0.0, 1.0, 1.0)]
    for limit in (*MIN_IOUS, None):
        for _ in range(TRIALS):
            crop = random_crop(rng)
            if len(boxes) and (
                limit is None or any(iou(crop, box) >= limit for box in boxes)
            ):
                crops.append(crop)
                break
    return crops[rng.integers(len(crops))]


def window(image_size, boxes, rng):
    """`(top, left, height, width)` in pixels of the image, and the boxes in it."""
    canvas, place, boxes = expand(image_size, boxes, rng)
    crop = choose_crop(boxes, rng)
    top, left = int(crop[0] * canvas[0]), int(crop[1] * canvas[1])
    height = int((crop[2] - crop[0]) * canvas[0])
    width = int((crop[3] - crop[1]) * canvas[1])
    kept = []
    for box in boxes:
        y, x = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if not (crop[0] <= y <= crop[2] and crop[1] <= x <= crop[3]):
            continue
        low, size = np.array(crop[:2]), np.array(crop[2:]) - crop[:2]
        moved = np.clip((box - [*low, *low]) / [*size, *size], 0, 1)
        if (moved[2:] > moved[:2]).all():
            kept.append(moved)
    return (top - place[0], left - place[1], height, width), kept
