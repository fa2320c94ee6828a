# SPDX-License-Identifier: Apache-2.0
"""Settings of a run: ranges, schedule, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from ssdops.training import ConfigMismatchError, TrainingConfig
from ssdops.training.config import CONFIG_FILE
from ssdops.training.optimizer import learning_rate_schedule

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
        ("gradient_clip_norm", -1.0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("learning_rate", "0.1"),
        ("augmentation", "other"),
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("precision", "float64"),
        ("momentum", 1.0),
        ("ema_decay", 1.0),
        ("accumulation_steps", 3),
        ("decay_steps", (5.5,)),
        ("freeze", ("a", 1)),
        ("bias_learning_rate_factor", 2.0),
        ("early_stopping", -1),
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
    schedule = learning_rate_schedule(CONFIG)
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0
    assert rates[20] == pytest.approx(0.01)
    assert all(a < b for a, b in pairwise(rates[:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[110] == pytest.approx(0.005, rel=0.01)
    assert rates[200] == pytest.approx(0, abs=1e-9)


def test_the_rate_falls_at_the_steps_that_are_named():
    config = replace(
        CONFIG, schedule="multistep", decay_steps=(100, 150), warmup_steps=10
    )
    schedule = learning_rate_schedule(config)
    rates = [float(schedule(step)) for step in range(200)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.005)
    assert rates[10:100] == pytest.approx([0.01] * 90)
    assert rates[100:150] == pytest.approx([0.001] * 50)
    assert rates[150:] == pytest.approx([0.0001] * 50)
    constant = learning_rate_schedule(
        replace(CONFIG, schedule="constant", warmup_steps=0, decay_steps=(300, 5))
    )
    assert {float(constant(step)) for step in (0, 1, 199)} == {np.float32(0.01)}


@pytest.mark.parametrize("steps", [(150, 100), (100, 100), (0,), (200,)])
def test_steps_of_decay_must_rise_and_be_reached(steps):
    with pytest.raises(ValueError, match="decay_steps must be rising"):
        replace(CONFIG, schedule="multistep", decay_steps=steps)


def test_settings_are_kept_as_json_and_compared(tmp_path):
    CONFIG.keep(tmp_path)
    assert json.loads((tmp_path / CONFIG_FILE).read_text()) == json.loads(
        json.dumps(asdict(CONFIG))
    )
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
