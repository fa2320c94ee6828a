# SPDX-License-Identifier: Apache-2.0
"""What each model costs: weights, multiplications, anchors, time and memory.

The time is that of preprocessing and network on one image, without what follows: that
depends on how many objects a trained network finds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import thread_count

from ssdops.models import SSD, available_models, build_model
from ssdops.models.complexity import multiply_adds
from ssdops.training.step import compute_dtype

# The others are made of files and of other models.
NAMES = [
    name
    for name in available_models()
    if name not in ("caffe_network", "keras_backbone")
]
DTYPES = ("float32", "bfloat16")
# What a process needs at most that does what is timed, and nothing before. The peak of
# `getrusage` would begin with the size of the process that starts it.
CHILD = """
import sys
import tensorflow as tf
threads = int(sys.argv[3])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(1)
import bench_models
bench_models.inference(bench_models.build_model(sys.argv[1]), sys.argv[2])()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def inference(model: SSD, dtype: str) -> Any:
    """A call without arguments that runs the network on one image."""
    image = np.random.default_rng(0).integers(
        0, 256, (1, *model.spec.image_size, 3), np.uint8
    )
    pixels = tf.constant(image)

    @tf.function(autograph=False)
    def outputs(pixels: tf.Tensor) -> Any:
        return model.network(model.spec.preprocessing(pixels), training=False)

    with compute_dtype(model.network, dtype):
        outputs(pixels)

    def run() -> Any:
        return outputs(pixels)["logits"].numpy()

    return run


def peak_bytes(name: str, dtype: str) -> int:
    """The largest resident memory of a process of its own."""
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [here, os.path.join(os.path.dirname(here), "tests"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, dtype, str(thread_count())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.split()[-2])


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Rows in Markdown, printed at the end."""
    rows: list[str] = []
    yield rows
    if not rows:
        return
    head = (
        "| model | parameters | multiply-adds | anchors | dtype | ms | MB |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    )
    with request.config.pluginmanager.getplugin(
        "capturemanager"
    ).global_and_fixture_disabled():
        print("", *head, *rows, sep="\n")


@pytest.mark.benchmark(group="model")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_inference(benchmark: Any, name: str, dtype: str, table: list[str]) -> None:
    """One image through the network."""
    if benchmark.disabled and name != "ssd_small":
        pytest.skip("times are not taken, and one model shows that it works")
    model = build_model(name)
    facts = {
        "parameters": model.network.count_params(),
        "multiply_adds": multiply_adds(model.network),
        "anchors": model.spec.anchors.num_anchors,
    }
    assert min(facts.values()) > 0
    run = inference(model, dtype)
    assert np.isfinite(run()).all()
    facts["peak_bytes"] = peak_bytes(name, dtype)
    benchmark.extra_info.update(facts, dtype=dtype, threads=thread_count())
    benchmark(run)
    if benchmark.disabled:
        return
    table.append(
        f"| `{name}` | {facts['parameters'] / 1e6:.2f} M "
        f"| {facts['multiply_adds'] / 1e9:.2f} G | {facts['anchors']} | {dtype} "
        f"| {1e3 * benchmark.stats.stats.median:.1f} "
        f"| {facts['peak_bytes'] / 1e6:.0f} |"
    )
