# SPDX-License-Identifier: Apache-2.0
"""Numbers, warnings and pictures of `ssdops inspect`."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from support.data import data_path
from support.squares import NAMES, make_dataset
from typer.testing import CliRunner

from ssdops.anchors import AnchorGrid, AnchorLevel, anchor_grid
from ssdops.cli import app
from ssdops.data import Dataset, Record, read_voc, write_voc
from ssdops.inspection import inspect_dataset
from ssdops.reporting import save_augmented, save_ground_truth

# One anchor of 16 pixels in each of 16 cells, and one of 40 in the middle.
GRID = AnchorGrid(
    (64, 64), (AnchorLevel((4, 4), (16.0,)), AnchorLevel((1, 1), (40.0,)))
)


def record(boxes, labels=None, image_id="a", **changes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    values = {
        "image": np.full((64, 64, 3), 90, np.uint8),
        "boxes": boxes,
        "labels": np.ones(len(boxes), np.int32) if labels is None else labels,
        "difficult": np.zeros(len(boxes), bool),
        "image_id": image_id,
    }
    return Record(**{**values, **changes})


def inspect(*records, names=NAMES, dropped=None, **options):
    data = Dataset(records, names, dropped or {})
    return inspect_dataset(data, options.pop("grid", GRID), **options)


def groups(report):
    return {
        group.name: (
            group.objects,
            group.by_threshold,
            group.by_bipartite_step,
            group.unmatched,
        )
        for group in report.fit
        if group.objects
    }


def test_counts():
    report = inspect(
        record([[0, 0, 0.25, 0.25], [0, 0, 0.25, 0.25]]),
        record([[0.5, 0.5, 1, 0.75]], np.array([2], np.int32), "b"),
        record([], image_id="c"),
        dropped={"outside the image": 3},
    )
    assert (report.images, report.objects, report.images_without_objects) == (3, 3, 1)
    assert report.objects_by_class == {"red": 2, "blue": 1}
    assert (report.duplicates, report.at_border) == (1, 1)
    assert report.dropped == {"outside the image": 3}
    assert report.mean_colour == (90, 90, 90)
    json.dumps(report.to_dict())


def test_fit_of_the_anchors():
    report = inspect(
        # Exactly an anchor; half of one; inside the large one only.
        record([[0, 0, 0.25, 0.25], [0.5, 0.5, 0.75, 0.625], [0.4, 0.4, 0.55, 0.6]])
    )
    found = groups(report)
    assert found["all"] == (3, 2, 1, 0)
    assert found["small"] == (3, 2, 1, 0)
    assert found["upright"] == (1, 1, 0, 0)
    assert report.positives_by_level == (3, 0)
    assert report.positives_per_image == 3
    everything = report.fit[0]
    assert everything.mean_best_iou == pytest.approx((1 + 0.5 + 0.3) / 3, abs=0.06)


def test_an_object_without_an_anchor_is_unmatched():
    grid = AnchorGrid((64, 64), (AnchorLevel((1, 1), (16.0,)),))
    two = [[0.4, 0.4, 0.6, 0.6], [0.42, 0.4, 0.62, 0.6]]
    report = inspect(record(two), grid=grid)
    assert groups(report)["all"] == (2, 1, 0, 1)
    assert any("have no anchor" in warning for warning in report.warnings)


def test_crowds_are_not_matched():
    report = inspect(
        record([[0, 0, 0.25, 0.25], [0, 0, 1, 1]], crowd=np.array([False, True]))
    )
    assert report.crowds == 1
    assert groups(report)["all"] == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropped": {"outside the image": 90}}, "are they in pixels"),
        (
            {"dropped": {"degenerate (no width or no height)": 90}},
            r"\(x, y, width, height\)",
        ),
        ({"names": ("background", "first", "red")}, None),
        ({"names": ("background", "red", "blue", "last")}, "last at the end"),
        ({"names": ("background", "red", "background")}, "named background"),
    ],
)
def test_likely_mistakes_are_named(arguments, message):
    labels = np.array([1, 2] * 8, np.int32)
    boxes = GRID.level_boxes(0) * 0.99
    report = inspect(
        record(boxes, labels), record(boxes, labels, image_id="b"), **arguments
    )
    text = " ".join(report.warnings)
    if message is None:
        assert not report.warnings, text
    else:
        assert re.search(message, text), text


def test_labels_that_begin_too_late():
    report = inspect(record([[0, 0, 0.25, 0.25]], np.array([2], np.int32)))
    assert any("red at the end" in warning for warning in report.warnings)


def test_boxes_at_the_border_and_blue_images():
    boxes = np.tile(np.array([[0, 0, 0.5, 1.0]]), (25, 1))
    boxes[:, 0] = np.linspace(0, 0.2, 25)
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[..., 2] = 200
    report = inspect(record(boxes, image=blue))
    text = " ".join(report.warnings)
    assert "are x and y exchanged" in text
    assert "BGR" in text


def test_images_that_cannot_be_read_are_listed(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    bad = record([[0, 0, 0.25, 0.25]], image=broken, image_id="bad")
    report = inspect(bad, record([], image_id="good"))
    assert list(report.unreadable) == ["bad"]
    assert "broken.jpg" in report.unreadable["bad"]
    assert any("cannot be read" in warning for warning in report.warnings)
    assert not inspect(bad, open_images=False).unreadable


def test_images_of_another_size_than_said_are_listed(tmp_path):
    file = tmp_path / "turned.png"
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(file)
    turned = record([], image=file, image_id="turned", image_size=(9, 6))
    right = record([], image=file, image_id="right", image_size=(6, 9))
    report = inspect(right, turned, record([], image=file, image_id="unknown"))
    assert report.other_sizes == {"turned": ((9, 6), (6, 9))}
    [warning] = [text for text in report.warnings if "another size" in text]
    assert warning.startswith("1 images have another size than the data set says")
    assert "turned: 9 x 6, said to be 6 x 9" in warning
    assert not inspect(turned, open_images=False).other_sizes


def test_proposals_cover_the_objects():
    rng = np.random.default_rng(1)
    sides = rng.uniform(0.1, 0.5, 300)
    boxes = np.stack([0 * sides, 0 * sides, sides, 2 * sides], 1)
    report = inspect(record(boxes), open_images=False)
    assert report.proposed_ratios == (2.0,)
    assert len(report.proposed_sizes) == len(GRID.levels) + 1
    assert report.proposed_sizes == tuple(sorted(report.proposed_sizes))
    assert report.proposed_sizes[0] == pytest.approx(0.108 * 64 * 2**0.5, rel=0.05)
    assert inspect(record([[0, 0, 1, 1]])).proposed_sizes == ()


def test_an_empty_data_set():
    report = inspect()
    assert (report.images, report.objects, report.mean_colour) == (0, 0, None)
    assert report.warnings == ()


def test_real_data():
    data = read_voc(data_path("bccd/BCCD"), "test")
    report = inspect_dataset(data, anchor_grid("ssd300_voc"), open_images=False)
    assert (report.images, report.dropped) == (72, dict(data.dropped))
    fit = report.fit[0]
    assert fit.objects == report.objects
    assert fit.by_threshold / fit.objects > 0.9


class TestPictures:
    def test_ground_truth(self, tmp_path):
        data = make_dataset(9)
        save_ground_truth(data, GRID, tmp_path / "a.png", count=3)
        with Image.open(tmp_path / "a.png") as image:
            assert min(image.size) > 400
        save_ground_truth(Dataset((), NAMES), GRID, tmp_path / "b.png")
        assert (tmp_path / "b.png").exists()

    def test_augmented(self, tmp_path):
        from ssdops.data import Augmentation

        for seed in (0, 0, 1):
            save_augmented(
                make_dataset(),
                (64, 64),
                Augmentation(),
                tmp_path / f"{seed}.png",
                count=5,
                seed=seed,
            )
        assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        write_voc(tmp_path / "voc", make_dataset().records, "train", NAMES)
        return tmp_path / "voc"

    def run(self, *arguments):
        return CliRunner().invoke(
            app, ["inspect", *map(str, arguments)], env={"COLUMNS": "200"}
        )

    def test_tables_pictures_and_numbers(self, folder, tmp_path):
        result = self.run(
            *(folder, "--split", "train", "--anchors", "ssd300_coco"),
            *("--output", tmp_path / "out", "--json", tmp_path / "numbers.json"),
        )
        assert result.exit_code == 0, result.output
        assert "6 images" in result.output
        assert "anchors of ssd300_coco" in result.output
        numbers = json.loads((tmp_path / "numbers.json").read_text())
        assert numbers["objects_by_class"] == {"blue": 3, "red": 6}
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"ground_truth.png", "augmented.png"}

    def test_the_anchors_of_a_model(self, folder):
        result = self.run(
            *(folder, "--model", "ssd_small", "--model-options", "image_size=[256,128]")
        )
        assert result.exit_code == 0, result.output
        assert "anchors of ssd_small" in result.output
        # Levels of stride 8 to 32: as many as fit four times into the shorter side.
        assert re.search(r"by feature map \d+, \d+, \d+\n", result.output)

    def test_a_broken_image_does_not_stop_it(self, folder, tmp_path):
        records = make_dataset().records
        write_voc(tmp_path / "data", records, "train", NAMES)
        file = next(iter((tmp_path / "data" / "JPEGImages").iterdir()))
        file.write_bytes(b"")
        result = self.run(tmp_path / "data", "--output", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert f"cannot be read: {file.stem}" in result.output
        assert (tmp_path / "out" / "augmented.png").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("nowhere",), "nowhere: no such file or folder"),
            ((".", "--anchors", "x"), "unknown anchor grid"),
            ((".", "--anchors", "ssd_small", "--model", "ssd_small"), "not both"),
            ((".", "--model", "x"), "unknown model 'x'; known are"),
            ((".", "--augmentation", "x"), "augmentation must be one of ssd, mirror"),
            ((".", "--classes", "none.txt"), "none.txt"),
        ],
    )
    def test_mistakes_are_one_sentence(self, tmp_path, arguments, message):
        result = self.run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
