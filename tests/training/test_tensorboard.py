# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard reads of a run."""

from __future__ import annotations

import io

import keras
import pytest
from rich.console import Console
from support.squares import NAMES, make_dataset

from ssdops.models import build_model
from ssdops.training import TrainingConfig, tensorboard, train

DATA = make_dataset()


def run(folder):
    keras.utils.set_random_seed(0)
    model = build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)
    config = TrainingConfig(steps=4, batch_size=2, warmup_steps=1, evaluate_every=2)
    console = Console(file=io.StringIO())
    train(model, DATA, config, folder, evaluation_data=DATA, console=console)


def test_curves_and_pictures(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"loss", "localization", "confidence", "learning_rate", "map_50"} <= tags
    assert [event.step for event in events.Tensors("map_50")] == [2, 4]
    [first, _] = events.Tensors("detections")
    width, height, *pictures = first.tensor_proto.string_val
    assert (int(width), int(height)) == (512, 512)
    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    log = tensorboard.TensorBoardLog(tmp_path / "events")
    log.scalars(1, {"loss": 1.0})
    log.detections(1, None, DATA)
    assert not list(tmp_path.iterdir())
