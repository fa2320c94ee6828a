# SPDX-License-Identifier: Apache-2.0
"""The official augmentation: exact where it is exact, the same odds where it is not."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import oracles.augmentation as oracle
import pytest
import tensorflow as tf
from PIL import Image

from ssdops.data.augmentation import Augmentation, augment, make_augmentation
from ssdops.data.augmentation.geometry import choose_window, mirror
from ssdops.data.augmentation.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    distort,
    hsv_to_rgb,
    rgb_to_hsv,
)

SSD = Augmentation()
NOTHING = make_augmentation("mirror", {"mirror_probability": 0.0})
assert NOTHING is not None
BOXES = np.array(
    [[0.1, 0.1, 0.35, 0.3], [0.4, 0.5, 0.95, 0.9], [0.05, 0.6, 0.2, 0.65]], np.float32
)
LABELS = np.array([1, 2, 3], np.int32)
# Two-sample Kolmogorov-Smirnov: the chance of a larger distance is 1 in 10 000.
KS_FACTOR = 2.225


def seeds(count):
    return tf.stack([tf.zeros([count], tf.int64), tf.range(count, dtype=tf.int64)], 1)


def for_each_seed(change, count, dtypes):
    @tf.function
    def run():
        return tf.map_fn(change, seeds(count), fn_output_signature=dtypes)

    return tf.nest.map_structure(lambda value: value.numpy(), run())


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def assert_same_distribution(actual, expected, what):
    actual, expected = np.sort(actual), np.sort(expected)
    points = np.concatenate([actual, expected])
    shares = [
        np.searchsorted(values, points, side="right") / len(values)
        for values in (actual, expected)
    ]
    distance = np.abs(shares[0] - shares[1]).max()
    limit = KS_FACTOR * np.sqrt(1 / len(actual) + 1 / len(expected))
    assert distance < limit, f"{what}: {distance} >= {limit}"


class TestPhotometric:
    @pytest.mark.parametrize("delta", [-300.0, -32.0, -0.5, 0.5, 1.5, 31.7])
    def test_brightness(self, delta):
        image = image_of(16, 16)
        actual = adjust_brightness(image, delta).numpy()
        np.testing.assert_array_equal(actual, oracle.brightness(image, delta))

    @pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.4999])
    def test_contrast_is_about_zero(self, factor):
        image = image_of(16, 16)
        actual = adjust_contrast(image, factor).numpy()
        np.testing.assert_array_equal(actual, oracle.contrast(image, factor))

    def test_every_hue_saturation_and_value_is_that_of_opencv(self):
        levels = np.array([0, 1, 2, 50, 127, 128, 200, 254, 255])
        few = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        image = np.concatenate([few.astype(np.uint8), image_of(1, 5000)], axis=1)
        actual = tf.stack(rgb_to_hsv(image), axis=-1).numpy()
        np.testing.assert_array_equal(actual, oracle.rgb_to_hsv(image))

    def test_colours_come_back(self):
        hues = np.arange(256, dtype=np.uint8)
        hsv = np.concatenate([image_of(1, 5000), image_of(1, 256, seed=1)], axis=1)
        hsv[0, -256:, 0] = hues
        planes = [tf.constant(hsv[..., i], tf.float32) for i in range(3)]
        actual = hsv_to_rgb(*planes).numpy().astype(int)
        difference = np.abs(actual - oracle.hsv_to_rgb(hsv))
        # In floating point a half may fall to either side.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 2e-3

    @pytest.mark.parametrize(
        ("change", "expected", "amount"),
        [
            (adjust_saturation, oracle.saturation, 0.5),
            (adjust_saturation, oracle.saturation, 1.5),
            (adjust_hue, oracle.hue, -18.0),
            (adjust_hue, oracle.hue, 17.3),
        ],
    )
    def test_saturation_and_hue(self, change, expected, amount):
        image = image_of(40, 40)
        difference = np.abs(
            change(image, amount).numpy().astype(int) - expected(image, amount)
        )
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-2

    def test_hue_does_not_come_round_below_zero(self):
        red = np.array([[[200, 20, 10]]], np.uint8)
        hue = float(rgb_to_hsv(red)[0][0, 0])
        assert 0 < hue < 18
        actual = rgb_to_hsv(adjust_hue(red, -18.0))[0].numpy()
        assert actual[0, 0] == 0

    def test_odds_are_those_of_the_official_code(self):
        image = np.array([[[200, 90, 30], [20, 120, 220], [240, 200, 180]]], np.uint8)
        count = 3000
        actual = for_each_seed(lambda seed: distort(image, seed, SSD), count, tf.uint8)
        rng = np.random.default_rng(5)
        expected = np.stack([oracle.distort(image, rng) for _ in range(count)])
        for pixel in range(3):
            for channel in range(3):
                assert_same_distribution(
                    actual[:, 0, pixel, channel],
                    expected[:, 0, pixel, channel],
                    f"channel {channel} of pixel {pixel}",
                )

    def test_channels_change_places_only_if_asked(self):
        image = np.array([[[10, 20, 30]]], np.uint8)
        always = replace(
            NOTHING, channel_shuffle_probability=1.0, mirror_probability=0.0
        )
        orders = {
            tuple(distort(image, seed, always).numpy().ravel()) for seed in seeds(60)
        }
        assert len(orders) == 6
        assert {tuple(sorted(order)) for order in orders} == {(10, 20, 30)}


class TestGeometry:
    def windows(self, settings, boxes=BOXES, labels=LABELS, count=2000):
        def one(seed):
            window, moved, kept = choose_window(
                tf.constant([375, 500]), boxes, labels, seed, settings
            )
            return tf.concat([window.offset, window.size], 0), moved, kept

        return for_each_seed(one, count, (tf.int32, tf.float32, tf.int32))

    def test_odds_are_those_of_the_official_code(self):
        windows, boxes, labels = self.windows(SSD)
        rng = np.random.default_rng(6)
        expected = [
            oracle.window((375, 500), BOXES.astype(np.float64), rng)
            for _ in range(2000)
        ]
        for axis, what in enumerate(("top", "left", "height", "width")):
            assert_same_distribution(
                windows[:, axis], [window[axis] for window, _ in expected], what
            )
        counts = (labels > 0).sum(axis=1)
        assert_same_distribution(counts, [len(kept) for _, kept in expected], "objects")
        # Rounded, for many are those of the untouched image.
        boxes = boxes.astype(np.float64)
        areas = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1).sum(axis=1)
        expected_areas = [
            sum(np.prod(box[2:] - box[:2]) for box in kept) for _, kept in expected
        ]
        assert_same_distribution(
            np.round(areas, 4), np.round(expected_areas, 4), "area of the objects"
        )

    def test_without_objects_there_is_nothing_to_crop_to(self):
        windows, _, labels = self.windows(
            replace(SSD, expand_probability=0.0),
            labels=np.array([0, -1, 0], np.int32),
            count=100,
        )
        assert (windows == [0, 0, 375, 500]).all()
        assert (labels == [0, -1, 0]).all()

    def test_an_object_stays_if_its_centre_is_shown(self):
        settings = replace(SSD, expand_probability=0.0)
        windows, boxes, labels = self.windows(settings, count=500)
        scale = np.array([375, 500, 375, 500])
        lost = kept = 0
        for window, moved, label in zip(windows, boxes, labels, strict=True):
            low, high = window[:2], window[:2] + window[2:]
            for row in range(len(BOXES)):
                centre = (BOXES[row, :2] + BOXES[row, 2:]) / 2 * scale[:2]
                # The window is cut to pixels.
                inside = ((centre > low + 1) & (centre < high - 1)).all()
                outside = ((centre < low - 1) | (centre > high + 1)).any()
                if inside:
                    assert label[row] == LABELS[row]
                    back = moved[row] * np.tile(window[2:], 2) + np.tile(low, 2)
                    shown = np.clip(
                        BOXES[row] * scale, np.tile(low, 2), np.tile(high, 2)
                    )
                    np.testing.assert_allclose(back, shown, atol=2.5)
                    kept += 1
                if outside:
                    assert label[row] == 0
                    assert (moved[row] == 0).all()
                    lost += 1
        assert min(lost, kept) > 100

    def test_what_is_left_of_an_ignore_region_is_one(self):
        labels = np.array([1, -1, 0], np.int32)
        boxes = np.array([[0, 0, 0.2, 0.2], [0, 0, 1, 1], [0, 0, 0, 0]], np.float32)
        _, moved, kept = self.windows(SSD, boxes=boxes, labels=labels, count=200)
        is_region = kept[:, 1] == -1
        # Only a crop of the canvas beside the image has none of it.
        assert is_region.mean() > 0.9
        assert (moved[is_region, 1, 2:] > moved[is_region, 1, :2]).all()
        assert (kept[:, 2] == 0).all()

    def test_mirroring_twice_changes_nothing(self):
        np.testing.assert_allclose(mirror(mirror(BOXES)).numpy(), BOXES, atol=1e-7)
        np.testing.assert_allclose(mirror(BOXES).numpy()[0], [0.1, 0.7, 0.35, 0.9])


class TestAugment:
    def run(self, image, seed, settings, boxes=BOXES, labels=LABELS, size=(64, 48)):
        return [
            value.numpy()
            for value in augment(
                image, boxes, labels, seed=seed, image_size=size, settings=settings
            )
        ]

    def test_without_changes_the_image_is_resized(self):
        image = image_of(90, 120)
        actual, boxes, labels = self.run(image, [0, 1], NOTHING)
        expected = tf.image.resize(image, (64, 48), antialias=False)
        np.testing.assert_array_equal(actual, np.rint(expected))
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_array_equal(labels, LABELS)

    def test_the_seed_decides_everything(self):
        image = image_of(90, 120)
        first = self.run(image, [3, 4], SSD)
        for a, b in zip(first, self.run(image, [3, 4], SSD), strict=True):
            np.testing.assert_array_equal(a, b)
        others = [self.run(image, [3, i], SSD)[0] for i in range(5, 10)]
        assert all((first[0] != other).any() for other in others)

    def test_boxes_stay_on_their_objects(self):
        """Objects are painted in their own colour: it must be in the box afterwards."""
        image = np.full((600, 800, 3), 60, np.uint8)
        scaled = np.rint(BOXES * [600, 800, 600, 800]).astype(int)
        boxes = (scaled / [600, 800, 600, 800]).astype(np.float32)
        for number, (ymin, xmin, ymax, xmax) in enumerate(scaled):
            image[ymin:ymax, xmin:xmax, number] = 255
        plain = replace(
            SSD,
            brightness_probability=0.0,
            contrast_probability=0.0,
            saturation_probability=0.0,
            hue_probability=0.0,
            expand_fill=(60, 60, 60),
            interpolations=("bilinear", "area", "nearest"),
        )
        seen = np.zeros(3, int)
        for seed in range(60):
            picture, moved, labels = self.run(
                image, [1, seed], plain, boxes=boxes, size=(200, 200)
            )
            for number, label in enumerate(labels):
                if label == 0:
                    continue
                ymin, xmin, ymax, xmax = np.rint(moved[number] * 200).astype(int)
                if ymax - ymin < 9 or xmax - xmin < 9:
                    continue
                inside = picture[ymin + 3 : ymax - 3, xmin + 3 : xmax - 3, number]
                assert (inside > 200).all()
                around = picture[..., number].copy()
                low, high = max(ymin - 3, 0), max(xmin - 3, 0)
                around[low : ymax + 3, high : xmax + 3] = 60
                # What is cut off by the rule of the centre may show beside it, but
                # this object not.
                assert (around < 100).all()
                seen[number] += 1
        assert (seen > 10).all()

    def test_a_window_beside_the_image_shows_the_fill(self):
        beside = replace(
            NOTHING,
            expand_probability=1.0,
            expand_ratio=16.0,
            crop=True,
            crop_min_ious=(),
            crop_scale=(0.3, 0.31),
        )
        image = np.zeros((8, 8, 3), np.uint8)
        boxes, labels = BOXES[:1], LABELS[:1]
        found = 0
        for seed in range(80):
            picture, _, kept = self.run(image, [2, seed], beside, boxes, labels)
            if (picture == SSD.expand_fill).all():
                assert (kept == 0).all()
                found += 1
        assert found > 5

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3)])
    def test_tiny_images(self, shape):
        for seed in range(20):
            picture, boxes, _ = self.run(image_of(*shape), [7, seed], SSD)
            assert picture.shape == (64, 48, 3)
            assert np.isfinite(boxes).all()

    def test_through_jpeg(self):
        """As Pillow encodes and decodes it, which has the same library inside."""
        image = np.asarray(Image.fromarray(image_of(12, 16)).resize((128, 96)))
        settings = replace(NOTHING, jpeg_quality=95)
        actual, _, _ = self.run(image, [0, 0], settings, size=(96, 128))
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95, subsampling="4:2:0")
        expected = np.asarray(Image.open(file)).astype(int)
        assert (np.abs(actual - expected) <= 1).mean() > 0.99
        assert (actual != image).any()
        # Where nothing of the image is shown, there is nothing to encode.
        everywhere = replace(SSD, jpeg_quality=30, expand_ratio=16.0)
        for seed in range(40):
            picture, _, _ = self.run(image_of(9, 7), [8, seed], everywhere)
            assert picture.shape == (64, 48, 3)

    def test_no_rows_at_all(self):
        picture, boxes, labels = self.run(
            image_of(20, 20), [0, 0], SSD, np.zeros((0, 4), np.float32), LABELS[:0]
        )
        assert (picture.shape, boxes.shape, labels.shape) == ((64, 48, 3), (0, 4), (0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hue_probability": 1.5}, "hue_probability must be in"),
        ({"hue_probability": float("nan")}, "hue_probability must be in"),
        ({"brightness_delta": -1.0}, "brightness_delta must be in"),
        ({"contrast_range": (1.5, 0.5)}, "contrast_range must be two numbers above 0"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale must end at 1"),
        ({"crop_aspect_ratio": (1.5, 2.0)}, "crop_aspect_ratio must hold 1"),
        ({"crop_min_ious": (0.5, 1.5)}, "crop_min_ious must be in"),
        ({"crop_trials": 0}, "crop_trials must be at least 1"),
        ({"expand_ratio": 0.5}, "expand_ratio must be in"),
        ({"expand_fill": (0, 0, 300)}, "expand_fill must be 3 levels"),
        ({"expand_fill": (0, 0)}, "expand_fill must be 3 levels"),
        ({"hue_delta": float("inf")}, "hue_delta must be in"),
        ({"contrast_range": (0.5,)}, "contrast_range must be two numbers"),
        ({"jpeg_quality": 101}, "jpeg_quality must be in"),
        ({"interpolations": ("cubic",)}, "interpolations must be some of"),
        ({"interpolations": ()}, "interpolations must be some of"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)


def test_a_name_with_changes():
    assert make_augmentation("ssd") == SSD
    assert make_augmentation("none") is None
    # As a file has them.
    options = {"hue_delta": 9, "interpolations": ["area"], "contrast_range": [0.9, 1]}
    changed = make_augmentation("mirror", options)
    assert changed.interpolations == ("area",)
    assert changed.contrast_range == (0.9, 1)
    assert (changed.hue_delta, changed.crop) == (9, False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("other", {}, "augmentation must be one of ssd, mirror, none, got 'other'"),
        ("ssd", {"hue": 1}, "no option 'hue'; there are brightness_probability"),
        ("none", {"hue_delta": 1.0}, "no option 'hue_delta'; there are none"),
        ("ssd", {"hue_delta": -1.0}, "'ssd': hue_delta must be in"),
        ("ssd", {"hue_delta": "1"}, "hue_delta must be like 18.0, got '1'"),
        ("ssd", {"crop_trials": 1.5}, "crop_trials must be like 50"),
        ("ssd", {"crop_trials": True}, "crop_trials must be like 50"),
        ("ssd", {"crop": 1}, "crop must be like True"),
        ("ssd", {"contrast_range": 1.5}, "contrast_range must be like"),
        ("ssd", {"contrast_range": ["a", "b"]}, "contrast_range must be like"),
    ],
)
def test_changes_that_are_refused(name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_augmentation(name, options)
