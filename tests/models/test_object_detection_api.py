# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and frozen graphs of the Object Detection API, with a network of its own.

The network of the test is written down from the definition of MobileNet-V1 and SSD in
that code, with convolutions and normalisations one after the other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.damaged_files import is_readable
from support.object_detection_keras import write_objects
from support.tensorflow_files import write_checkpoint, write_graph, write_lite

from ssdops.models import SSD, build_from_weights
from ssdops.models.weights import read_weights
from ssdops.models.weights.checkpoint import read_checkpoint

CLASSES = 4  # with the background
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
CHANNELS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
SCOPE = "FeatureExtractor/MobilenetV1"
MULTIPLIER = 0.25


def scaled(count: int, least: int) -> int:
    return max(least, int(count * MULTIPLIER))


def extras(kind: str, least: int) -> list[tuple[str, int, int | None, int]]:
    """Name, kernel, channels and stride of the layers after the trunk."""
    found = []
    for index, count in enumerate((512, 256, 256, 128), start=2):
        narrow, wide = scaled(count // 2, least), scaled(count, least)
        name = f"Conv2d_13_pointwise_1_Conv2d_{index}_1x1_{narrow}"
        found.append((name, 1, narrow, 1))
        name = f"Conv2d_13_pointwise_2_Conv2d_{index}_3x3_s2_{wide}"
        if kind == "ssdlite":
            found.append((f"{name}_depthwise", 3, None, 2))
            found.append((name, 1, wide, 1))
        else:
            found.append((name, 3, wide, 2))
    return found


def trained(
    head: str, kind: str | None = None, side: int = 1, least: int = 8
) -> dict[str, Any]:
    """All variables of a trained model.

    Heads of a kind and with kernels of a side, further layers of a kind, and the least
    number of channels.
    """
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}

    def layer(name: str, kernel: int, inputs: int, outputs: int | None) -> int:
        shape = (kernel, kernel, inputs, 1 if outputs is None else outputs)
        kind = "depthwise_weights" if outputs is None else "weights"
        spread = 1.5 / np.sqrt(kernel**2 * (1 if outputs is None else inputs))
        scope = name if name.startswith("Box") else f"{SCOPE}/{name}"
        made[f"{scope}/{kind}"] = rng.normal(0, spread, shape)
        count = inputs if outputs is None else outputs
        for part, values in (
            ("gamma", rng.uniform(0.5, 1.5, count)),
            ("beta", rng.normal(0, 0.3, count)),
            ("moving_mean", rng.normal(0, 0.3, count)),
            ("moving_variance", rng.uniform(0.5, 1.5, count)),
        ):
            made[f"{scope}/BatchNorm/{part}"] = values
        return count

    count = layer("Conv2d_0", 3, 3, scaled(32, least))
    sources = []
    for index, outputs in enumerate(CHANNELS, start=1):
        layer(f"Conv2d_{index}_depthwise", 3, count, None)
        count = layer(f"Conv2d_{index}_pointwise", 1, count, scaled(outputs, least))
        if index in (11, 13):
            sources.append(count)
    for name, kernel, channels, _ in extras(kind or head, least):
        count = layer(name, kernel, count, channels)
        if "_2_Conv2d" in name and channels is not None:
            sources.append(count)
    for level, inputs in enumerate(sources):
        boxes = 3 if level == 0 else 6
        for part, values in (("BoxEncoding", 4), ("Class", CLASSES)):
            name = f"BoxPredictor_{level}/{part}Predictor"
            if head == "ssdlite":
                layer(f"{name}_depthwise", 3, inputs, None)
                sides = (1, 1)
            else:
                sides = (side, side)
            shape = (*sides, inputs, boxes * values)
            made[f"{name}/weights"] = rng.normal(0, 0.3, shape)
            made[f"{name}/biases"] = rng.normal(0, 0.3, boxes * values)
    return {name: np.asarray(value, np.float32) for name, value in made.items()}


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return trained("ssd")


KINDS = ("weights", "biases")


def network(variables: dict[str, Any], images: Any) -> tuple[Any, Any]:
    """Offsets and logits of that code for images in [0, 255]."""

    def convolved(features: Any, name: str, stride: int) -> Any:
        scope = name if name.startswith("Box") else f"{SCOPE}/{name}"
        if f"{scope}/depthwise_weights" in variables:
            features = tf.nn.depthwise_conv2d(
                features,
                variables[f"{scope}/depthwise_weights"],
                (1, stride, stride, 1),
                "SAME",
                name=f"{scope}/depthwise",
            )
        else:
            kernel = variables[f"{scope}/weights"]
            features = tf.nn.conv2d(
                features, kernel, stride, "SAME", name=f"{scope}/Conv2D"
            )
        gamma, beta, mean, variance = (
            variables[f"{scope}/BatchNorm/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        features, _, _ = tf.compat.v1.nn.fused_batch_norm(
            *(features, gamma, beta, mean, variance),
            epsilon=0.001,
            is_training=False,
            name=f"{scope}/BatchNorm/FusedBatchNorm",
        )
        return tf.nn.relu6(features, name=f"{scope}/Relu6")

    features = convolved(images * (2 / 255) - 1, "Conv2d_0", 2)
    sources = []
    for index, stride in enumerate(STRIDES, start=1):
        features = convolved(features, f"Conv2d_{index}_depthwise", stride)
        features = convolved(features, f"Conv2d_{index}_pointwise", 1)
        if index in (11, 13):
            sources.append(features)
    deep = "BoxPredictor_0/ClassPredictor_depthwise/depthwise_weights" in variables
    separable = any("_s2_" in n and "_depthwise/" in n for n in variables)
    least = variables[f"{SCOPE}/Conv2d_0/weights"].shape[-1]
    for name, _, channels, stride in extras("ssdlite" if separable else "ssd", least):
        features = convolved(features, name, stride)
        if "_2_Conv2d" in name and channels is not None:
            sources.append(features)
    outputs = []
    for head, values in (("BoxEncoding", 4), ("Class", CLASSES)):
        rows = []
        for level, source in enumerate(sources):
            name = f"BoxPredictor_{level}/{head}Predictor"
            seen = convolved(source, f"{name}_depthwise", 1) if deep else source
            kernel, biases = (variables[f"{name}/{kind}"] for kind in KINDS)
            found = tf.nn.conv2d(seen, kernel, 1, "SAME", name=f"{name}/Conv2D")
            found = tf.nn.bias_add(found, biases, name=f"{name}/BiasAdd")
            rows.append(tf.reshape(found, (images.shape[0], -1, values)))
        outputs.append(tf.concat(rows, 1))
    return outputs[0], outputs[1]


def assert_same(model: SSD, variables: dict[str, Any], tolerance: float = 1e-4) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, *model.spec.image_size, 3)).astype(np.float32)
    offsets, logits = network(variables, images)
    outputs = model.network(model.spec.preprocessing(images), training=False)
    for ours, theirs in ((outputs["offsets"], offsets), (outputs["logits"], logits)):
        limit = tolerance * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("kind", "head", "size", "tolerance"),
    [
        ("float32", "ssd", (300, 300), 1e-4),
        ("float16", "ssdlite", (300, 300), 2e-2),
        ("float32", "ssdlite", (224, 320), 1e-4),
        ("int8", "ssd", (300, 300), 0.2),
    ],
)
def test_files_of_the_converter_of_today(
    kind: str, head: str, size: tuple[int, int], tolerance: float, tmp_path: Path
) -> None:
    """It keeps no names of variables; kernels are found by their operations."""
    variables = trained(head)
    path = write_lite(tmp_path / "a.tflite", partial(network, variables), kind, size)
    model, report = build_from_weights(None, path)
    assert (model.spec.name, model.spec.options["head"]) == (
        "ssd300_mobilenet_v1",
        head,
    )
    assert model.spec.image_size == size
    assert not report.missing
    # Bytes of the last one stand for themselves: the network brings them to [-1, 1].
    assert model.spec.preprocessing.mean == (127.5,) * 3
    assert_same(model, variables, tolerance)


@pytest.mark.parametrize(
    ("head", "kind", "side", "least"),
    [("ssd", "ssdlite", 3, 16), ("ssdlite", "ssd", 3, 8), ("ssd", "ssd", 1, 16)],
)
def test_options_are_read_from_the_weights(
    head: str, kind: str, side: int, least: int, tmp_path: Path
) -> None:
    variables = trained(head, kind, side, least)
    write_checkpoint(tmp_path / "model", variables)
    model, report = build_from_weights(None, tmp_path / "model")
    assert model.spec.options == {
        "depth_multiplier": MULTIPLIER,
        "head": head,
        "batch_norm": False,
        "extras": kind,
        "head_kernel": side,
        "min_depth": least,
    }
    assert not report.missing
    assert_same(model, variables)


@pytest.mark.parametrize(
    "kind",
    ["prefix", "index", "folder", "graph", "average", "checkpoint", "saved model"],
)
def test_outputs_are_those_of_the_trained_network(
    kind: str, variables: dict[str, Any], tmp_path: Path
) -> None:
    prefix = tmp_path / "run" / "model.ckpt"
    stored = {**variables, "global_step": np.int64(7)}
    first = f"{SCOPE}/Conv2d_0/weights"
    stored[f"{first}/Momentum"] = np.ones_like(variables[first])
    if kind == "average":
        for name in [name for name in variables if "moving" not in name]:
            stored[f"{name}/ExponentialMovingAverage"] = variables[name]
            stored[name] = np.zeros_like(variables[name])
    if kind == "graph":
        write_graph(tmp_path / "frozen.pb", variables)
    elif kind in ("checkpoint", "saved model"):
        write_objects(tmp_path / "objects", variables, kind)
    else:
        write_checkpoint(prefix, stored)
    path = {
        "prefix": prefix,
        "index": Path(f"{prefix}.index"),
        "folder": prefix.parent,
        "graph": tmp_path / "frozen.pb",
        "average": prefix,
        "checkpoint": tmp_path / "objects",
        "saved model": tmp_path / "objects",
    }[kind]
    model, report = build_from_weights(None, path)
    assert model.spec.name == "ssd300_mobilenet_v1"
    assert model.spec.options == {
        "depth_multiplier": MULTIPLIER,
        "head": "ssd",
        "batch_norm": False,
        "extras": "ssd",
        "head_kernel": 1,
        "min_depth": 8,
    }
    assert model.spec.num_classes == CLASSES
    assert not report.missing
    assert_same(model, variables)


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_normalisations_are_put_in_or_kept(
    batch_norm: bool, head: str, tmp_path: Path
) -> None:
    variables = trained(head)
    write_checkpoint(tmp_path / "model", variables)
    model, report = build_from_weights(
        "ssd300_mobilenet_v1", tmp_path / "model", batch_norm=batch_norm
    )
    assert model.spec.options["head"] == head
    assert not report.missing
    if batch_norm:
        assert set(report.loaded) >= {n for n in variables if "BatchNorm" in n}
        np.testing.assert_array_equal(
            model.network.get_layer("Conv2d_3_depthwise_bn").moving_mean,
            variables[f"{SCOPE}/Conv2d_3_depthwise/BatchNorm/moving_mean"],
        )
    assert_same(model, variables)


def test_the_latest_of_several_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", {"a": np.float32(step)})
    with pytest.raises(ValueError, match="has no checkpoint, or several"):
        read_checkpoint(tmp_path)
    state = 'model_checkpoint_path: "model.ckpt-1"\n'
    (tmp_path / "checkpoint").write_text(state)
    assert read_weights(tmp_path)["a"] == 1
    (tmp_path / "checkpoint").write_text(state.replace("model.ckpt-1", "/etc/model"))
    with pytest.raises(ValueError, match="has no checkpoint, or several"):
        read_checkpoint(tmp_path)


def test_variables_of_every_dtype(tmp_path: Path) -> None:
    variables = {
        name: np.arange(6).reshape(2, 3).astype(name)
        for name in ("float64", "float32", "float16", "int32", "int64", "bool")
    }
    write_checkpoint(tmp_path / "model", {**variables, "text": np.array(["a"])})
    read = read_checkpoint(tmp_path / "model")
    assert read.keys() == variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize("objects", [False, True])
def test_damaged_files_raise_nothing_else(objects: bool, tmp_path: Path) -> None:
    prefix = tmp_path / "model"
    if objects:
        variables = {name: tf.Variable(np.ones(9), name=name) for name in ("a", "b")}
        tf.train.Checkpoint(**variables).write(str(prefix))
    else:
        write_checkpoint(prefix, {"a": np.ones((30, 40), np.float32), "b": np.zeros(5)})
    assert is_readable(read_checkpoint, prefix)
    rng = np.random.default_rng(0)
    outcomes = []
    for file in sorted(tmp_path.iterdir()):
        data = file.read_bytes()
        for size in (0, 1, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:size])
            outcomes.append(is_readable(read_checkpoint, prefix))
        for _ in range(60):
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
            file.write_bytes(changed)
            outcomes.append(is_readable(read_checkpoint, prefix))
        file.write_bytes(data)
    assert not all(outcomes)
    assert sum(outcomes) < len(outcomes) / 2


def test_a_normalisation_that_is_not_whole(
    variables: dict[str, Any], tmp_path: Path
) -> None:
    for part, message in (
        ("moving_mean", "must have gamma, beta, moving_mean, moving_variance"),
        ("beta", "must have gamma"),
    ):
        changed = dict(variables)
        del changed[f"{SCOPE}/Conv2d_0/BatchNorm/{part}"]
        write_checkpoint(tmp_path / part, changed)
        with pytest.raises(ValueError, match=message):
            build_from_weights("ssd300_mobilenet_v1", tmp_path / part)
    changed = {**variables, f"{SCOPE}/Conv2d_0/BatchNorm/gamma": np.ones(5, np.float32)}
    write_checkpoint(tmp_path / "shape", changed)
    with pytest.raises(ValueError, match=r"Conv2d_0/BatchNorm does not fit"):
        build_from_weights("ssd300_mobilenet_v1", tmp_path / "shape")
