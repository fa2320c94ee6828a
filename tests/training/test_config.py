# SPDX-License-Identifier: Apache-2.0
"""Settings of a run: ranges, schedule, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from ssdops.training import ConfigMismatchError, TrainingConfig
from ssdops.training.config import CONFIG_FILE

CONFIG = TrainingConfig(steps=200, learning_rate=0.01, warmup_steps=20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_steps", 200),
        ("warmup_steps", -1),
        ("weight_decay", -1e-9),
        ("gradient_clip_norm", 0.0),
        ("iou_threshold", 1.1),
        ("negative_ratio", -1.0),
        ("seed", -1),
        ("evaluate_every", 0),
        ("checkpoint_every", 0),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **{name: value})


def test_the_rate_rises_then_falls_to_zero():
    schedule = CONFIG.learning_rate_schedule()
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0
    assert rates[20] == pytest.approx(0.01)
    assert all(a < b for a, b in pairwise(rates[:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[110] == pytest.approx(0.005, rel=0.01)
    assert rates[200] == pytest.approx(0, abs=1e-9)


def test_settings_are_kept_as_json_and_compared(tmp_path):
    CONFIG.keep(tmp_path)
    assert json.loads((tmp_path / CONFIG_FILE).read_text()) == asdict(CONFIG)
    CONFIG.keep(tmp_path)
    with pytest.raises(ConfigMismatchError) as error:
        replace(CONFIG, seed=3, batch_size=8).keep(tmp_path)
    message = str(error.value)
    assert "seed was 0 and is 3 now" in message
    assert "batch_size was 32 and is 8 now" in message
    assert "learning_rate" not in message


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=CONFIG_FILE):
        CONFIG.keep(tmp_path)
