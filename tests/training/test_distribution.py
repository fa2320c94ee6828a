# SPDX-License-Identifier: Apache-2.0
"""Several replicas and several processes give what one would have given."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.programs import run_program

from ssdops.data import training_batches
from ssdops.training import TrainingConfig, make_strategy, read_log, train
from ssdops.training.distribution import make_agreement, num_workers, worker_index

PATHS = [str(Path(__file__).parents[1])]
# Batch normalization gathers its statistics in every replica by itself.
PROGRAM = f"""
import contextlib, os, sys
sys.path[:0] = {PATHS!r}
import numpy as np, tensorflow as tf
folder, strategy_name, dies_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
if strategy_name == "two_cpus":
    cpus = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpus[0], two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    from ssdops.training import make_strategy
    strategy = make_strategy(strategy_name)
import keras
from rich.console import Console
from support.squares import NAMES, make_dataset
from ssdops.models import build_model
from ssdops.training import TrainingConfig, loop, train
from ssdops.training.distribution import WorkerLostError, worker_index
config = TrainingConfig(
    steps=12, batch_size=4, warmup_steps=2, checkpoint_every=5, evaluate_every=6,
    freeze=("*_bn",), augmentation="mirror", ema_decay=0.5, gradient_clip_norm=1.0,
)
original = loop.make_train_step
def make(*arguments):
    step, done = original(*arguments), [0]
    def counted(*values):
        done[0] += 1
        if done[0] == dies_at:
            os._exit(3)
        return step(*values)
    return counted
loop.make_train_step = make
keras.utils.set_random_seed(1)
with contextlib.nullcontext() if strategy is None else strategy.scope():
    model = build_model(
        "ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25
    )
data = make_dataset()
try:
    result = train(
        model, data, config, folder, evaluation_data=data, strategy=strategy,
        console=Console(width=200),
    )
except WorkerLostError as error:
    print(error)
    raise SystemExit(4)
weights = [np.ravel(value) for value in model.network.get_weights()]
np.save(f"{{folder}}/weights{{worker_index(strategy)}}.npy", np.concatenate(weights))
print(f"went on after step {{result.first_step}}")
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Weights and losses of a run on one device."""
    folder = tmp_path_factory.mktemp("one")
    run_program(PROGRAM, str(folder), "none", "0")
    return np.load(folder / "weights0.npy"), read_log(folder / "training.csv")


def assert_same_run(folder, worker, one):
    weights, log = one
    np.testing.assert_allclose(
        np.load(folder / f"weights{worker}.npy"), weights, rtol=1e-4, atol=1e-6
    )
    rows = read_log(folder / "training.csv")
    for name in ("step", "loss", "localization", "confidence", "gradient_norm"):
        assert [row[name] for row in rows] == pytest.approx(
            [row[name] for row in log], rel=1e-4
        )


def test_two_replicas_in_a_process(tmp_path, one):
    run_program(PROGRAM, str(tmp_path), "two_cpus", "0")
    assert_same_run(tmp_path, 0, one)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def run_workers(folder, *dies_at):
    """Exit status and output of each worker."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(dies_at))]
    processes = []
    for index, step in enumerate(dies_at):
        task = {"type": "worker", "index": index}
        tf_config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), "auto", str(step)],
                cwd=folder,
                env={**os.environ, "TF_CONFIG": tf_config},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, output, errors)
        for process, (output, errors) in zip(processes, outputs, strict=True)
    ]


def test_a_worker_that_dies_and_both_started_again(tmp_path, one):
    (status, output, errors), (other, _, _) = run_workers(tmp_path, 0, 8)
    assert (status, other) == (4, 3), errors
    assert "another worker is gone after step 7" in output
    assert "ckpt-5" in output
    for worker, (status, output, errors) in enumerate(run_workers(tmp_path, 0, 0)):
        assert status == 0, errors
        assert "went on after step 5" in output
        assert_same_run(tmp_path, worker, one)


def test_workers_share_every_batch():
    from support.squares import make_dataset

    data = make_dataset(10)
    whole = training_batches(data, (8, 8), 6, seed=4)
    parts = [
        training_batches(
            data, (8, 8), 6, seed=4, first_step=first, worker=worker, num_workers=3
        )
        for first in (0, 2)
        for worker in range(3)
    ]
    expected = [batch["indices"].numpy() for batch in whole.take(5)]
    for first, workers in ((0, parts[:3]), (2, parts[3:])):
        columns = [
            [batch["indices"].numpy() for batch in part.take(5 - first)]
            for part in workers
        ]
        for step, indices in enumerate(expected[first:]):
            together = np.concatenate([column[step] for column in columns])
            np.testing.assert_array_equal(together, indices)
    for worker, workers in ((2, 2), (-1, 2), (0, 4)):
        with pytest.raises(ValueError, match="worker must be below num_workers"):
            training_batches(
                data, (8, 8), 6, seed=0, worker=worker, num_workers=workers
            )


def test_without_partners(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert make_strategy("auto") is None
    assert make_strategy("none") is None
    assert (num_workers(None), worker_index(None)) == (1, 0)
    assert [make_agreement(None)(number) for number in (0, 15)] == [0, 15]
    with pytest.raises(ValueError, match="needs TF_CONFIG"):
        make_strategy("multi_worker")
    with pytest.raises(ValueError, match="strategy must be one of auto"):
        make_strategy("tpu")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cluster": 3}', "null"])
def test_a_wrong_tf_config_is_shown(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        make_strategy("auto")


class TwoReplicas:
    """What is looked at before anything runs."""

    num_replicas_in_sync = 2
    cluster_resolver = None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 3}, "batch_size 3 must be a multiple of 2 replicas"),
        ({"precision": "float16"}, "float16 is for one replica"),
    ],
)
def test_settings_that_replicas_cannot_have(tmp_path, changes, message):
    from support.squares import NAMES, make_dataset

    from ssdops.models import build_model

    model = build_model("ssd_small", class_names=NAMES, image_size=(64, 64))
    config = TrainingConfig(steps=200, **changes)
    with pytest.raises(ValueError, match=message):
        train(model, make_dataset(), config, tmp_path, strategy=TwoReplicas())
    assert not list(tmp_path.iterdir())
