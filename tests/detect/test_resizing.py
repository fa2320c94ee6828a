# SPDX-License-Identifier: Apache-2.0
"""Images at the size of the input: OpenCV's numbers, and borders that can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import data_path

from ssdops.data import write_voc
from ssdops.data.records import Record
from ssdops.image_io import load_image
from ssdops.models import Preprocessing
from ssdops.resizing import (
    boxes_from_window,
    letterbox,
    letterbox_window,
    resize_image,
)

STORED = (
    *("res10_face/000001", "res10_face/2007_007763", "res10_face/2008_002506"),
    *("random_weights/vgg_ssd300_000456", "random_weights/mobilenet_ssd_004545"),
)


@pytest.mark.parametrize("stored", STORED)
def test_photos_are_those_that_opencv_makes(stored: str) -> None:
    """Every number of the 300 x 300 images that OpenCV was run on."""
    photo = "_".join(stored.rsplit("/", 1)[-1].split("_")[-2:]).removeprefix("ssd300_")
    photo = photo.removeprefix("ssd_")
    with np.load(data_path(f"parity/{stored}.npz")) as npz:
        expected = npz["image_bgr_300"][..., ::-1]
    image = load_image(data_path(f"photos/{photo}.jpg"))
    np.testing.assert_array_equal(resize_image(image, (300, 300)), expected)


def test_any_size_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for trial in range(200):
        rows, columns, height, width = (int(side) for side in rng.integers(1, 300, 4))
        if trial % 5 == 0:
            rows, columns = 2 * height, 2 * width
        image = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(resize_image(image, (height, width)), expected)


def half_pixel_bilinear(image: Any, size: tuple[int, int]) -> Any:
    """Bilinear interpolation at ((i + 1/2) * scale - 1/2), edges repeated."""
    result = image.astype(np.float64)
    for axis, length in enumerate(size):
        count = result.shape[axis]
        place = (np.arange(length) + 0.5) * count / length - 0.5
        place = np.clip(place, 0, count - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, count - 1)
        shape = [1, 1, 1]
        shape[axis] = length
        weight = (place - low).reshape(shape)
        result = (
            result.take(low, axis) * (1 - weight) + result.take(high, axis) * weight
        )
    return result


@pytest.mark.parametrize("size", [(13, 50), (48, 72), (7, 9), (24, 36), (1, 1)])
def test_resize_is_half_pixel_bilinear(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (24, 36, 3), dtype=np.uint8)
    resized = resize_image(image, size)
    assert resized.dtype == np.uint8
    assert resized.shape == (*size, 3)
    expected = half_pixel_bilinear(image, size)
    # Weights are multiples of 1/2048: one more grey level at most.
    assert np.abs(resized - expected).max() <= 0.501 + 255 * 3 / 2048


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (0, 4, 3), (1, 4, 4, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must have shape \[H, W, 3\]"):
        resize_image(np.zeros(shape, np.uint8), (2, 2))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype uint8, got float32"):
        resize_image(np.zeros((4, 4, 3), np.float32), (2, 2))  # type: ignore[arg-type]


SIDE = st.integers(1, 700)


@given(SIDE, SIDE, SIDE, SIDE)
def test_windows_keep_the_aspect_ratio(
    rows: int, columns: int, height: int, width: int
) -> None:
    top, left, bottom, right = letterbox_window((rows, columns), (height, width))
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    assert bottom - top == height or right - left == width
    factor = min(height / rows, width / columns)
    assert abs(bottom - top - max(1, rows * factor)) <= 0.5
    assert abs(right - left - max(1, columns * factor)) <= 0.5
    # In the middle, up to one pixel.
    assert abs(top - (height - bottom)) <= 1
    assert abs(left - (width - right)) <= 1


def test_letterbox() -> None:
    image = np.full((10, 20, 3), 9, np.uint8)
    picture = letterbox(image, (40, 60), (1, 2, 3))
    assert picture.shape == (40, 60, 3)
    np.testing.assert_array_equal(picture[5:35], 9)
    for border in (picture[:5], picture[35:]):
        np.testing.assert_array_equal(border, np.broadcast_to([1, 2, 3], (5, 60, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boxes_come_back(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.random((50, 4)).astype(dtype)
    window = (0.25, 0.1, 0.75, 0.9)
    inside = boxes * np.array([0.5, 0.8] * 2, dtype) + np.array([0.25, 0.1] * 2, dtype)
    back = boxes_from_window(inside, window)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, boxes, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (64, 64), (7, 300)])
def test_a_square_is_found_where_it_is(size: tuple[int, int]) -> None:
    """The corners of a bright box, through the picture and back."""
    image = np.zeros((*size, 3), np.uint8)
    top, left = size[0] // 4, size[1] // 4
    bottom, right = top + max(1, size[0] // 2), left + size[1] // 2
    image[top:bottom, left:right] = 255
    for resize in ("stretch", "letterbox"):
        preprocessing = Preprocessing((128, 128), resize=resize)
        rows, columns = np.nonzero(preprocessing.fit(image)[..., 0] > 127)
        box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        back = preprocessing.to_image(box / 128, size)
        expected = np.array([top, left, bottom, right]) / np.array([*size] * 2)
        tolerance = 1.5 * max(size) / np.array([*size] * 2) / 128
        assert (np.abs(back - expected) <= tolerance).all(), (resize, back, expected)


def test_borders_have_the_mean_colour() -> None:
    preprocessing = Preprocessing(
        (32, 32), channel_order="bgr", mean=(104.0, 117.4, 123.0), resize="letterbox"
    )
    picture = preprocessing.fit(np.zeros((10, 20, 3), np.uint8))
    np.testing.assert_array_equal(picture[0, 0], [123, 117, 104])
    assert np.abs(preprocessing(picture[None])[0, 0, 0]).max() < 0.5


def test_evaluation_undoes_the_borders(tmp_path: Path) -> None:
    """Detections of a data set are those of its images one by one."""
    from dataclasses import replace

    import keras

    from ssdops.data import read_voc
    from ssdops.evaluation import detect_dataset
    from ssdops.models import SSD, build_model
    from ssdops.training import fit_batches

    keras.utils.set_random_seed(2)
    model = build_model(
        "ssd_small", class_names=("background", "a"), image_size=(64, 64), width=0.125
    )
    preprocessing = replace(model.spec.preprocessing, resize="letterbox")
    model = SSD(
        replace(model.spec, preprocessing=preprocessing), model.network, ("-", "a")
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (30, 90, 3), np.uint8) for _ in range(2)]
    records = [
        Record(
            image=image,
            boxes=np.array([[0.1, 0.1, 0.5, 0.5]], np.float32),
            labels=np.array([1], np.int32),
            difficult=np.array([False]),
            image_id=str(index),
        )
        for index, image in enumerate(images)
    ]
    write_voc(tmp_path, records, "test", ("background", "a"))
    dataset = read_voc(tmp_path, "test", ("background", "a"))
    model = SSD(model.spec, model.network, dataset.class_names)
    for record, found in zip(
        dataset.records, detect_dataset(model, dataset), strict=True
    ):
        picture = preprocessing.fit(record.load_image())
        expected = model.detect(picture[None], score_threshold=0.01)
        count = int(expected.num_detections[0])
        boxes = preprocessing.to_image(expected.boxes[0, :count].numpy(), (30, 90))
        np.testing.assert_allclose(found.boxes, boxes, atol=1e-5)
        assert np.abs(found.boxes[:, 0]).max() > 1  # the borders were undone
    with pytest.raises(ValueError, match='must be "stretch" to be trained'):
        fit_batches(model, dataset, 2, seed=0)
