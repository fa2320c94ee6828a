# SPDX-License-Identifier: Apache-2.0
"""The training loop: learns, resumes exactly, stops on request, fails clearly."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import types
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.programs import run_program
from support.squares import NAMES, make_dataset

from ssdops.data import Dataset, training_batches
from ssdops.evaluation import evaluate
from ssdops.image_io import ImageError
from ssdops.models import build_model, load_model
from ssdops.training import (
    ConfigMismatchError,
    NonFiniteLossError,
    TrainingConfig,
    TrainingInterrupted,
    loop,
    read_log,
    train,
)

CONFIG = TrainingConfig(
    steps=12,
    batch_size=4,
    warmup_steps=2,
    evaluate_every=100,
    checkpoint_every=5,
    seed=3,
)


DATA = make_dataset()


def run(folder, config=CONFIG, *, first_weights=1, data=DATA, **options):
    keras.utils.set_random_seed(first_weights)
    model = build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)
    output = io.StringIO()
    console = Console(file=output, width=200)
    result = train(model, data, config, folder, console=console, **options)
    return model, result, output.getvalue()


def weights(model):
    return np.concatenate([np.ravel(value) for value in model.network.get_weights()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all steps, which others must equal."""
    folder = tmp_path_factory.mktemp("whole")
    model, _, _ = run(folder)
    return folder, weights(model)


def call_at_step(monkeypatch, number, action):
    """Makes `action(arguments)` happen just before a step; it may return others."""
    original = loop.make_train_step

    def patched(*arguments):
        step, done = original(*arguments), [0]

        def counted(*values):
            done[0] += 1
            return step(*(action(values) or values if done[0] == number else values))

        return counted

    monkeypatch.setattr(loop, "make_train_step", patched)


def test_a_few_pictures_are_learnt_by_heart(tmp_path):
    config = replace(CONFIG, steps=250, learning_rate=5e-3, warmup_steps=10)
    model, result, _ = run(tmp_path, config)
    rows = read_log(tmp_path / loop.TRAINING_LOG)
    assert rows[-1]["loss"] < 0.1
    assert rows[-1]["loss"] < rows[0]["loss"] / 20
    assert evaluate(model, DATA).mean > 0.99
    assert (result.steps, result.first_step) == (250, 0)
    saved = load_model(tmp_path / loop.MODEL)
    assert saved.class_names == NAMES
    np.testing.assert_array_equal(weights(saved), weights(model))


def test_an_image_that_cannot_be_read_ends_the_run_which_goes_on_once_it_can(
    tmp_path, whole
):
    batches = training_batches(DATA, (64, 64), 4, seed=CONFIG.seed)
    order = np.concatenate([batch["indices"] for batch in batches.take(CONFIG.steps)])
    # The image that comes up last.
    first, index = max((int((order == i).argmax()) // 4, i) for i in range(len(DATA)))
    assert first > 0
    file = tmp_path / "picture.png"
    Image.fromarray(DATA.records[index].image).save(file)
    good = file.read_bytes()
    records = list(DATA.records)
    records[index] = replace(records[index], image=file, image_size=None)
    data = Dataset(records, NAMES)
    file.write_bytes(good[:-30])
    with pytest.raises(ImageError, match=rf"picture.png.*after step {first}, the last"):
        run(tmp_path / "run", data=data)
    file.write_bytes(good)
    model, result, _ = run(tmp_path / "run", data=data, first_weights=2)
    assert result.first_step == first
    np.testing.assert_array_equal(weights(model), whole[1])


def test_the_same_run_twice_gives_the_same_weights(tmp_path, whole):
    model, _, _ = run(tmp_path)
    np.testing.assert_array_equal(weights(model), whole[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_the_run_can_be_resumed(
    tmp_path, whole, monkeypatch, number
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        call_at_step(patch, 7, lambda _: os.kill(os.getpid(), number))
        with pytest.raises(TrainingInterrupted) as stopped:
            run(tmp_path)
    assert stopped.value.step == 7
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    load_model(tmp_path / loop.MODEL)
    # Other first weights: everything must come from the checkpoint.
    model, result, text = run(tmp_path, first_weights=2)
    assert result.first_step == 7
    assert "after step 7" in text
    np.testing.assert_array_equal(weights(model), whole[1])


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, whole, monkeypatch):
    class Killed(BaseException):
        pass

    def die(_):
        raise Killed

    with monkeypatch.context() as patch:
        call_at_step(patch, 9, die)
        with pytest.raises(Killed):
            run(tmp_path)
    model, result, _ = run(tmp_path)
    assert result.first_step == 5
    np.testing.assert_array_equal(weights(model), whole[1])
    assert [row["step"] for row in read_log(tmp_path / loop.TRAINING_LOG)] == [10, 12]


def test_a_finished_run_is_not_trained_further(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    model, result, _ = run(tmp_path, first_weights=2)
    assert (result.first_step, result.steps) == (12, 12)
    np.testing.assert_array_equal(weights(model), whole[1])


def test_a_run_killed_after_its_last_checkpoint_still_gives_the_model(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / loop.MODEL)
    run(tmp_path)
    np.testing.assert_array_equal(weights(load_model(tmp_path / loop.MODEL)), whole[1])


def test_restart_begins_anew(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    model, result, _ = run(tmp_path, restart=True)
    assert result.first_step == 0
    np.testing.assert_array_equal(weights(model), whole[1])
    assert [row["step"] for row in read_log(tmp_path / loop.TRAINING_LOG)] == [10, 12]


def test_restart_leaves_folders_that_are_no_run_alone(tmp_path):
    mine = tmp_path / loop.MODEL / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    run(tmp_path, replace(CONFIG, steps=3), restart=True)
    assert mine.read_text() == "mine"


def test_other_settings_do_not_resume(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    before = sorted(path.name for path in (tmp_path / loop.CHECKPOINTS).iterdir())
    with pytest.raises(ConfigMismatchError, match="seed was 3 and is 4 now"):
        run(tmp_path, replace(CONFIG, seed=4))
    after = sorted(path.name for path in (tmp_path / loop.CHECKPOINTS).iterdir())
    assert before == after


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(
    tmp_path, whole, monkeypatch
):
    with monkeypatch.context() as patch:
        call_at_step(
            patch, 8, lambda v: (np.full(v[0].shape, np.nan, np.float32), *v[1:])
        )
        # Another signature than uint8 images: the step is traced once more.
        with pytest.raises(
            NonFiniteLossError,
            match=r"step 8; not finite first: the loss or its.*picture",
        ) as error:
            run(tmp_path)
    assert "ckpt-5" in str(error.value)
    model, result, _ = run(tmp_path)
    assert result.first_step == 5
    np.testing.assert_array_equal(weights(model), whole[1])


def test_the_best_model_is_kept_and_a_run_that_stagnates_ends(tmp_path, monkeypatch):
    maps = iter([0.2, 0.5, 0.4, 0.5, 0.3])
    monkeypatch.setattr(
        loop, "evaluate", lambda *_: types.SimpleNamespace(mean=next(maps))
    )
    config = replace(CONFIG, evaluate_every=2, early_stopping=3, steps=40)
    best = []
    original = loop.SSD.save

    def save(model, folder):
        if folder.name == loop.BEST_MODEL:
            best.append(weights(model))
        return original(model, folder)

    monkeypatch.setattr(loop.SSD, "save", save)
    _, result, text = run(tmp_path, config, evaluation_data=DATA)
    assert (result.steps, result.best_map, result.stopped_early) == (10, 0.5, True)
    assert "did not rise in the last 3 evaluations" in text
    assert len(best) == 2
    np.testing.assert_array_equal(
        weights(load_model(tmp_path / loop.BEST_MODEL)), best[1]
    )
    # Nothing is left to do: no evaluation, no step.
    _, result, _ = run(tmp_path, config, evaluation_data=DATA)
    assert (result.first_step, result.steps, result.stopped_early) == (10, 10, True)


def test_a_run_with_everything_is_resumed_exactly(tmp_path, monkeypatch):
    config = replace(
        CONFIG,
        augmentation="ssd",
        augmentation_options={"crop_trials": 5},
        optimizer="sgd",
        learning_rate=1e-3,
        bias_learning_rate_factor=2.0,
        accumulation_steps=2,
        ema_decay=0.9,
        precision="bfloat16",
        freeze=("stem*",),
    )
    whole_model, _, _ = run(tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        call_at_step(patch, 8, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            run(tmp_path / "parts", config)
    model, result, _ = run(tmp_path / "parts", config, first_weights=1)
    assert result.first_step == 8
    np.testing.assert_array_equal(weights(model), weights(whole_model))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, whole):
    """Files may not grow beyond a limit: the next checkpoint cannot be written."""
    code = f"""
import resource, signal, sys
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
import test_loop
from ssdops.training import loop
original = loop.make_train_step
def make(*arguments):
    step, done = original(*arguments), [0]
    def counted(*values):
        done[0] += 1
        if done[0] == 7:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return step(*values)
    return counted
loop.make_train_step = make
try:
    test_loop.run(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""
    assert run_program(code, str(tmp_path)).strip()
    model, result, _ = run(tmp_path)
    assert result.first_step == 5
    np.testing.assert_array_equal(weights(model), whole[1])


def test_logs_and_settings_are_written(tmp_path):
    config = replace(CONFIG, evaluate_every=6)
    run(tmp_path, config, evaluation_data=DATA)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 12
    evaluations = read_log(tmp_path / loop.EVALUATION_LOG)
    assert [row["step"] for row in evaluations] == [6, 12]
    assert all(0 <= row["map_50"] <= 1 for row in evaluations)
    for row in read_log(tmp_path / loop.TRAINING_LOG):
        assert row["loss"] == pytest.approx(
            row["localization"] + row["confidence"], rel=1e-4
        )
        assert row["images_per_s"] > 0


def test_pictures_without_objects_are_no_problem(tmp_path):
    empty = [
        replace(
            record,
            boxes=np.zeros((0, 4), np.float32),
            labels=np.zeros(0, np.int32),
            difficult=np.zeros(0, bool),
        )
        for record in DATA.records
    ]
    run(tmp_path, replace(CONFIG, steps=3), data=Dataset(empty, NAMES))
    assert read_log(tmp_path / loop.TRAINING_LOG)[-1]["loss"] == 0


def test_model_and_data_must_have_the_same_number_of_classes(tmp_path):
    data = Dataset(DATA.records, (*NAMES, "green"))
    with pytest.raises(ValueError, match=r"3 classes.*4"):
        run(tmp_path, data=data)
    assert not any(tmp_path.iterdir())
