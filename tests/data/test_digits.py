# SPDX-License-Identifier: Apache-2.0
"""The digit scenes: reproducible, disjoint, and what the settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssdops.data import DIGIT_NAMES, SceneSettings, compose_digit_scenes, read_voc
from ssdops.data.digits import _load_glyphs, _split_glyphs

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SETTINGS = SceneSettings(train_scenes=6, test_scenes=4, seed=7)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_seed_fixes_every_byte(tmp_path):
    for name, settings in (
        ("a", SETTINGS),
        ("b", SETTINGS),
        ("c", replace(SETTINGS, seed=8)),
    ):
        assert compose_digit_scenes(tmp_path / name, settings)
    first = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == first
    other = contents(tmp_path / "c")
    image = "JPEGImages/train_00000.jpg"
    assert first.keys() == other.keys()
    assert first[image] != other[image]


def test_a_longer_run_begins_with_the_same_scenes(tmp_path):
    compose_digit_scenes(tmp_path / "short", SETTINGS)
    compose_digit_scenes(tmp_path / "long", replace(SETTINGS, train_scenes=9))
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    images = [name for name in short if name.startswith("JPEGImages")]
    assert len(images) == 10
    assert all(short[name] == long[name] for name in images)


def test_scenes_that_are_there_are_kept_and_others_replaced(tmp_path):
    assert compose_digit_scenes(tmp_path, SETTINGS)
    assert not compose_digit_scenes(tmp_path, SETTINGS)
    assert compose_digit_scenes(tmp_path, replace(SETTINGS, test_scenes=2))
    assert len(read_voc(tmp_path, "test", DIGIT_NAMES)) == 2


def test_an_incomplete_folder_is_composed_anew(tmp_path):
    def stop(done, _total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compose_digit_scenes(tmp_path, SETTINGS, progress=stop)
    assert compose_digit_scenes(tmp_path, SETTINGS)
    compose_digit_scenes(tmp_path.parent / "whole", SETTINGS)
    assert contents(tmp_path) == contents(tmp_path.parent / "whole")


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/mine.xml").write_text("mine")
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        compose_digit_scenes(tmp_path, SETTINGS)
    assert (tmp_path / "Annotations/mine.xml").read_text() == "mine"


def test_scenes_are_what_the_settings_say(tmp_path):
    settings = replace(SETTINGS, train_scenes=40)
    compose_digit_scenes(tmp_path, settings)
    data = read_voc(tmp_path, "train", DIGIT_NAMES)
    assert data.class_names == ("background", *DIGIT_NAMES)
    assert len(data) == 40
    assert not data.dropped
    assert max(len(record.labels) for record in data.records) <= settings.max_digits
    assert {label for r in data.records for label in r.labels} == set(range(1, 11))
    heights = np.concatenate([r.boxes[:, 2] - r.boxes[:, 0] for r in data.records])
    heights *= settings.image_size
    assert heights.min() > 0.7 * settings.min_height
    assert heights.max() > 2 * heights.min()


def test_no_digit_of_a_test_scene_is_seen_in_training():
    glyphs, digits = _load_glyphs()
    train, test = _split_glyphs(digits, SETTINGS)
    assert not set(train) & set(test)
    assert len(train) + len(test) == len(digits) == 1797
    assert np.bincount(digits[test]).min() >= 40
    # Distinct rows could still hold the same picture.
    seen = {glyphs[i].tobytes() for i in train}
    assert not any(glyphs[i].tobytes() in seen for i in test)


@pytest.mark.parametrize(
    ("name", "value"),
    [("train_scenes", 0), ("seed", -1), ("min_height", 4), ("max_height", 128)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SceneSettings(**{name: value})
