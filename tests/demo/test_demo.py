# SPDX-License-Identifier: Apache-2.0
"""`ssdops demo` as a user runs it, with few scenes and steps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from ssdops.data import DIGIT_NAMES

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

STEPS = 40
TIMEOUT = 300


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    # Another folder than the repository: the installed package runs.
    return subprocess.Popen(
        [
            sys.executable,
            *("-m", "ssdops", "demo", "--output", str(folder)),
            *("--train-scenes", "40", "--test-scenes", "8", "--steps", str(STEPS)),
            *options,
        ],
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=TIMEOUT)
    return " ".join(output.split())


def logged_steps(folder: Path) -> int:
    log = folder / "training.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that Ctrl-C stopped and a second call finished."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    process = start(folder)
    deadline = time.monotonic() + TIMEOUT
    while logged_steps(folder) < 1 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    status = process.returncode
    steps_when_stopped = logged_steps(folder) * 10
    process = start(folder)
    resumed = finish(process)
    assert process.returncode == 0, resumed
    return folder, status, stopped, steps_when_stopped, resumed


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(finished):
    _, status, stopped, steps, _ = finished
    assert status == 130, stopped
    assert "Stopped after step" in stopped
    assert "--restart" in stopped
    assert 10 <= steps < STEPS


def test_the_second_call_goes_on_where_the_first_stopped(finished):
    *_, stopped, _, resumed = finished
    step = int(stopped.split("Stopped after step ")[1].split(".")[0])
    assert f"resuming after step {step} of {STEPS}" in resumed


def test_everything_is_written_and_named(finished):
    folder, *_, resumed = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["map_50"] <= 1
    assert set(metrics["ap_50"]) <= set(DIGIT_NAMES)
    assert all(0 <= value <= 1 for value in metrics["ap_50"].values())
    assert metrics["seed"] == 0
    assert metrics["steps"] == STEPS
    assert metrics["seconds"] > 0
    assert metrics["implementation"] in ("native", "reference")
    for name in ("detections.png", "curves.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    for name in ("detections.png", "curves.png", "metrics.json", "model"):
        assert name in resumed
    assert (folder / "model/model.json").is_file()
    assert (folder / "model/model.weights.h5").is_file()


def test_a_finished_run_is_evaluated_again_and_says_so(finished):
    folder, *_ = finished
    before = json.loads((folder / "metrics.json").read_text())
    output = finish(start(folder))
    assert "finished before" in output
    assert "--restart" in output
    after = json.loads((folder / "metrics.json").read_text())
    assert after["ap_50"] == before["ap_50"]


def test_other_settings_are_refused_and_harm_nothing(finished):
    folder, *_ = finished
    image = (folder / "data/JPEGImages/train_00000.jpg").read_bytes()
    process = start(folder, "--seed", "5")
    output = finish(process)
    assert process.returncode == 2, output
    assert "seed was 0 and is 5 now" in output
    assert (folder / "data/JPEGImages/train_00000.jpg").read_bytes() == image


def test_the_model_is_usable(finished):
    from ssdops.image_io import load_image
    from ssdops.models import load_model
    from ssdops.resizing import resize_image

    folder, *_ = finished
    model = load_model(folder / "model")
    assert model.class_names == ("background", *DIGIT_NAMES)
    image = load_image(folder / "data/JPEGImages/test_00000.jpg")
    found = model.detect(resize_image(image, model.spec.image_size)[None])
    assert found.boxes.shape[0] == 1
