# SPDX-License-Identifier: Apache-2.0
"""SSD300 on a ResNet: its shapes, and weights by the names of PyTorch."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.torch_file import FakeTensor, write_torch
from support.torch_modules import Tensors, batch_norm, convolution

from ssdops.anchors import ssd300_coco
from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models import (
    SSD,
    build_from_weights,
    build_model,
    change_classes,
    load_model,
)
from ssdops.models.weights import read_torch
from ssdops.models.weights.nvidia_ssd import inferred_options, load_nvidia_arrays

CLASSES = 4
BOXES = (4, 6, 6, 6, 4, 4)
CHANNELS = (256, 512, 512, 256, 256, 128)
TRUNK = "feature_extractor.feature_extractor."


def resnet18(stages: dict[int, str], first: tuple[str, str]) -> Tensors:
    """Tensors of the trunk.

    Args:
        stages: number of a stage -> its name.
        first: names of the first convolution and normalisation.
    """
    rng = np.random.default_rng(0)
    tensors = convolution(rng, first[0], (64, 3, 7, 7))
    tensors |= batch_norm(rng, first[1], 64)
    inputs = 64
    for stage, name in stages.items():
        channels = 32 << stage
        for block in (0, 1):
            for index in (1, 2):
                shape = (channels, inputs if index + block == 1 else channels, 3, 3)
                tensors |= convolution(rng, f"{name}.{block}.conv{index}", shape)
                tensors |= batch_norm(rng, f"{name}.{block}.bn{index}", channels)
        if stage > 1:
            down = f"{name}.0.downsample"
            tensors |= convolution(rng, f"{down}.0", (channels, inputs, 1, 1))
            tensors |= batch_norm(rng, f"{down}.1", channels)
        inputs = channels
    return tensors


def nvidia() -> Tensors:
    rng = np.random.default_rng(1)
    tensors = resnet18(
        {stage: f"{TRUNK}{stage + 3}" for stage in (1, 2, 3)},
        (f"{TRUNK}0", f"{TRUNK}1"),
    )
    for index, middle in enumerate((256, 256, 128, 128, 128)):
        name = f"additional_blocks.{index}"
        inputs, outputs = CHANNELS[index : index + 2]
        tensors |= convolution(rng, f"{name}.0", (middle, inputs, 1, 1))
        tensors |= batch_norm(rng, f"{name}.1", middle)
        tensors |= convolution(rng, f"{name}.3", (outputs, middle, 3, 3))
        tensors |= batch_norm(rng, f"{name}.4", outputs)
    for index, (boxes, inputs) in enumerate(zip(BOXES, CHANNELS, strict=True)):
        for head, width in (("loc", 4), ("conf", CLASSES)):
            shape = (boxes * width, inputs, 3, 3)
            tensors |= convolution(rng, f"{head}.{index}", shape, bias=True)
    return tensors


def checkpoint(path: Path, tensors: Tensors, prefix: str = "") -> Path:
    """A file with what NVIDIA's training saves beside the weights."""
    state = {f"{prefix}{name}": FakeTensor(value) for name, value in tensors.items()}
    scheduler = {"milestones": collections.Counter([43, 54, 54]), "gamma": 0.1}
    content = {
        "epoch": 65,
        "scheduler": scheduler,
        "optimizer": {"state": {0: {"momentum_buffer": FakeTensor(np.zeros(3))}}},
        "label_map": {1: "person"},
        "model": state,
    }
    return write_torch(path, content)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights") / "net.pt", nvidia())


@pytest.fixture(scope="module")
def model(path: Path) -> SSD:
    """Found without its name."""
    model, report = build_from_weights(None, path)
    assert model.spec.name == "ssd300_resnet18"
    assert (report.skipped, report.missing) == ({}, {})
    counters = sum(name.endswith("tracked") for name in nvidia())
    assert len(report.loaded) == len(nvidia()) - counters
    return model


def test_the_number_of_classes_is_that_of_the_weights(model: SSD) -> None:
    assert model.spec.num_classes == CLASSES
    assert model.network.output["logits"].shape == (None, 8732, CLASSES)


def test_a_level_with_one_cell(model: SSD) -> None:
    """The last rows by hand: theirs are coordinate or class major."""
    tensors = nvidia()
    images = np.random.default_rng(2).random((1, 300, 300, 3), dtype=np.float32)
    inputs = model.spec.preprocessing(images * 255)
    outputs = model.network(inputs, training=False)
    features = run_until(model, "extra5_2_relu", inputs)[0, 0, 0]
    for head, width, order, key in (
        ("loc", 4, [1, 0, 3, 2], "offsets"),
        ("conf", CLASSES, list(range(CLASSES)), "logits"),
    ):
        kernel, bias = (tensors[f"{head}.5.{part}"] for part in ("weight", "bias"))
        theirs = (kernel[:, :, 1, 1] @ features + bias).reshape(width, 4)
        np.testing.assert_allclose(
            outputs[key][0, -4:], theirs[order].T, rtol=1e-4, atol=1e-4
        )


def run_until(model: SSD, layer: str, inputs: Any) -> Any:
    import keras

    output = model.network.get_layer(layer).output
    return keras.Model(model.network.input, output)(inputs, training=False).numpy()


def test_extra_group_by_hand(model: SSD) -> None:
    """A 3x3 without padding on 3 x 3, batch normalisation with epsilon 1e-5."""
    tensors = nvidia()
    images = np.random.default_rng(3).random((1, 300, 300, 3), dtype=np.float32)
    inputs = model.spec.preprocessing(images * 255)
    values = run_until(model, "extra4_2_relu", inputs)[0].transpose(2, 0, 1)
    for conv, norm in ((0, 1), (3, 4)):
        name = "additional_blocks.4"
        kernel = tensors[f"{name}.{conv}.weight"]
        axes = 1 if kernel.shape[-1] == 1 else 3
        if axes == 1:
            values = np.einsum("oi,ihw->ohw", kernel[:, :, 0, 0], values)
        else:
            values = np.einsum("oihw,ihw->o", kernel, values)[:, None, None]
        gamma, beta, mean, variance = (
            tensors[f"{name}.{norm}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        values = (values - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        values = np.maximum(values, 0)
    actual = run_until(model, "extra5_2_relu", inputs)[0].transpose(2, 0, 1)
    np.testing.assert_allclose(actual, values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["module.", "module.1."])
def test_names_of_parallel_training(prefix: str, model: SSD, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "net.pt", nvidia(), prefix)
    again, _ = build_from_weights("ssd300_resnet18", path)
    for ours, theirs in zip(again.network.weights, model.network.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_backbone_of_torchvision(tmp_path: Path) -> None:
    stages = {stage: f"layer{stage}" for stage in (1, 2, 3, 4)}
    tensors = resnet18(stages, ("conv1", "bn1"))
    tensors |= convolution(np.random.default_rng(4), "fc", (10, 512), bias=True)
    state = {name: FakeTensor(value) for name, value in tensors.items()}
    path = write_torch(tmp_path / "resnet18.pth", state)
    with pytest.raises(ValueError, match=r"the weights do not fit .*missing.*unknown"):
        build_from_weights("ssd300_resnet18", path)
    model, report = build_from_weights(
        "ssd300_resnet18", path, ["background", "cat"], strict=False
    )
    assert model.class_names == ("background", "cat")
    assert {name.split(".")[0] for name in report.skipped} == {"layer4", "fc"}
    assert {name.split(".")[0] for name in report.missing} == {
        *("additional_blocks", "loc", "conf")
    }
    norm = model.network.get_layer("layer3_0_downsample_bn")
    np.testing.assert_array_equal(
        norm.moving_mean, tensors["layer3.0.downsample.1.running_mean"]
    )
    with pytest.raises(ValueError, match=r"depth 50 .*, but of depth 18"):
        build_from_weights("ssd300_resnet50", path, strict=False)


def test_wrong_weights_are_named_and_change_nothing(model: SSD) -> None:
    before = [weight.numpy() for weight in model.network.weights]
    tensors = nvidia()
    name = "additional_blocks.2.3.weight"
    for changed, message in (
        (tensors[name][:, :-1], r"2\.3\.weight must have shape \[256, 128, 3, 3\]"),
        (np.full_like(tensors[name], np.nan), "must hold finite numbers"),
        (None, r"1 missing \(additional_blocks\.2\.3\.weight"),
    ):
        wrong = {**tensors, name: changed}
        if changed is None:
            del wrong[name]
        with pytest.raises(ValueError, match=message):
            load_nvidia_arrays(model, wrong)
    with pytest.raises(ValueError, match=r"1 unknown \(what \[3\]\)"):
        load_nvidia_arrays(model, {**tensors, "what": np.zeros(3)})
    for ours, expected in zip(model.network.weights, before, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_weights_that_do_not_tell_the_classes() -> None:
    tensors = nvidia()
    for change in (
        {"conf.0.bias": np.zeros(())},
        {"loc.0.bias": np.zeros(0)},
        {"loc.0.bias": np.zeros(7)},
    ):
        with pytest.raises(ValueError, match="no fitting pair of tensors"):
            inferred_options(18, {**tensors, **change})
    with pytest.raises(ValueError, match="not those of a ResNet of depth 34"):
        inferred_options(34, {"conv1_1|0": np.zeros(3)})


@pytest.mark.parametrize(
    ("depth", "first", "parameters"),
    # Of the network of NVIDIA's in PyTorch, without the statistics of its training.
    [(18, 256, 14_048_310), (34, 256, 19_975_222), (50, 1024, 22_894_902)],
)
def test_shapes_and_parameter_count(depth: int, first: int, parameters: int) -> None:
    model = build_model(f"ssd300_resnet{depth}")
    assert model.spec.num_classes == 81
    trained = sum(np.prod(w.shape) for w in model.network.trainable_weights)
    sizes = [
        model.network.get_layer(f"{name}_relu").output.shape[1:]
        for name in (
            f"layer3_{1 if depth == 18 else 5}",
            *(f"extra{group}_2" for group in range(1, 6)),
        )
    ]
    assert [size[0] for size in sizes] == [38, 19, 10, 5, 3, 1]
    assert sizes[0][2] == first
    assert trained == parameters


def test_preprocessing_is_that_of_torchvision() -> None:
    preprocessing = build_model("ssd300_resnet18").spec.preprocessing
    pixels = np.arange(0, 255, dtype=np.uint8)[:, None].repeat(3, 1)[None, None]
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(preprocessing(pixels), expected, atol=1e-5)


def test_anchors_are_those_of_coco_within_the_image() -> None:
    """Its last boxes are no longer than the image, its centres are inside."""
    model = build_model("ssd300_resnet18")
    coco = yxyx_to_cyxhw(ssd300_coco().boxes())
    assert (coco > 1).any(axis=1).sum() == 6 * 19 + 2
    expected = np.minimum(coco, 1)
    np.testing.assert_allclose(yxyx_to_cyxhw(model.anchors), expected, atol=1e-6)


def test_saved_and_of_other_classes(model: SSD, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    again = load_model(model.save(tmp_path))
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    _, report = change_classes(model, ["background", "class 2"])
    assert not report.missing


def test_the_counter_of_a_schedule_is_no_weight(path: Path) -> None:
    assert set(read_torch(path)) == set(nvidia())
