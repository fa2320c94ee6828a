# SPDX-License-Identifier: Apache-2.0
"""Detectors on Keras models: any size and number of classes, saved as plain values."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.squares import NAMES, make_dataset

from ssdops.anchors import recipe_grid, ssd300_voc
from ssdops.evaluation import evaluate
from ssdops.models import (
    SSD,
    ModelSpec,
    Preprocessing,
    build_from_backbone,
    build_from_spec,
    build_model,
    change_classes,
    load_model,
    save_safetensors,
)
from ssdops.models.keras_config import config_of, layer_sizes
from ssdops.training import TrainingConfig, train

LAYERS = keras.layers


def small(size: tuple[int, int] = (64, 96), channels: int = 8) -> keras.Model:
    """Sources of strides 8 and 16, and a layer after them."""
    inputs = keras.Input((*size, 3), name="pixels")
    x = LAYERS.Conv2D(channels, 3, strides=4, padding="same", name="stem")(inputs)
    x = LAYERS.BatchNormalization(name="stem_bn")(x)
    x = LAYERS.ReLU(6.0, name="stem_relu")(x)
    x = LAYERS.SeparableConv2D(2 * channels, 3, strides=2, padding="same")(x)
    fine = LAYERS.Activation("relu", name="fine")(x)
    x = LAYERS.DepthwiseConv2D(3, strides=2, padding="same")(fine)
    x = LAYERS.Conv2D(
        2 * channels, 1, kernel_regularizer="l2", kernel_initializer="he_normal"
    )(x)
    beside = LAYERS.MaxPooling2D(2, padding="same")(fine)
    coarse = LAYERS.Add(name="coarse")([x * 0.5 + beside, beside])
    return keras.Model(inputs, LAYERS.GlobalAveragePooling2D()(coarse), name="tiny")


def detector(**options: Any) -> SSD:
    keras.utils.set_random_seed(0)
    return build_from_backbone(small(), ("fine", "coarse"), **options)


@pytest.fixture(scope="module")
def model() -> SSD:
    return detector(num_classes=4)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)


def assert_same_outputs(model: SSD, other: SSD) -> None:
    inputs = model.spec.preprocessing(IMAGES)
    ours, theirs = (each.network(inputs, training=False) for each in (model, other))
    for name in ("offsets", "logits"):
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_levels_and_heads(model: SSD) -> None:
    levels = model.spec.anchors.levels
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2)]
    assert [level.feature_size for level in levels] == sizes
    assert [level.boxes_per_cell for level in levels] == [4, 6, 4, 4]
    assert model.network.output["logits"].shape == (None, 560, 4)
    assert model.network.get_layer("coarse_mbox_conf").filters == 24
    assert model.network.get_layer("extra2_mbox_loc").filters == 16
    found = model.detect(IMAGES)
    assert found.boxes.shape == (2, 200, 4)


def test_the_weights_of_the_backbone_are_taken_over() -> None:
    backbone = small()
    statistics = backbone.get_layer("stem_bn")
    statistics.moving_mean.assign(np.arange(8.0))
    model = build_from_backbone(backbone, ["fine", "coarse"], num_classes=2)
    sources = keras.Model(
        backbone.input, [backbone.get_layer(name).output for name in ("fine", "coarse")]
    )
    ours = keras.Model(
        model.network.input,
        [model.network.get_layer(name).output for name in ("fine", "coarse")],
    )
    inputs = model.spec.preprocessing(IMAGES)
    for actual, expected in zip(ours(inputs), sources(inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)
    # Training the detector does not change the model that it was made of.
    model.network.get_layer("stem_bn").moving_mean.assign(np.zeros(8))
    np.testing.assert_array_equal(statistics.moving_mean, np.arange(8.0))


def test_saved_and_loaded(model: SSD, tmp_path: Path) -> None:
    assert_same_outputs(model, load_model(model.save(tmp_path / "folder")))
    path = save_safetensors(model, tmp_path / "net.safetensors")
    again = load_model(path)
    assert_same_outputs(model, again)
    assert again.spec == model.spec


def test_other_classes(model: SSD) -> None:
    changed, report = change_classes(model, ["background", "class 3", "new"])
    assert not report.missing
    inputs = model.spec.preprocessing(IMAGES)
    logits = [
        each.network(inputs, training=False)["logits"] for each in (model, changed)
    ]
    np.testing.assert_allclose(logits[0][..., 3], logits[1][..., 1], atol=1e-5)


@pytest.mark.parametrize("count", [2, 1000])
def test_numbers_of_classes(count: int) -> None:
    model = detector(num_classes=count)
    found = model.detect(IMAGES)
    assert model.network.output["logits"].shape[-1] == count
    assert int(np.max(found.classes)) < count


@pytest.mark.parametrize(
    ("name", "source"),
    # Operators between tensors, squeeze and excitation; the last layer has no fixed
    # name. Padding and blocks that begin with normalisation.
    [("MobileNetV3Small", None), ("ResNet50V2", "conv4_block3_out")],
)
def test_models_of_keras(name: str, source: str | None) -> None:
    backbone = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(160, 288, 3)
    )
    source = source or backbone.layers[-1].name
    model = build_from_backbone(backbone, [source], num_classes=3)
    heights = [level.feature_size[0] for level in model.spec.anchors.levels]
    assert heights[-1] == 1
    assert heights == sorted(heights, reverse=True)
    again = build_from_spec(
        ModelSpec.from_dict(json.loads(json.dumps(model.spec.to_dict())))
    )
    again.network.set_weights(model.network.get_weights())
    images = np.random.default_rng(1).random((1, 160, 288, 3), np.float32)
    inputs = model.spec.preprocessing(255 * images)
    for key in ("offsets", "logits"):
        ours, theirs = (
            each.network(inputs, training=False)[key] for each in (model, again)
        )
        np.testing.assert_array_equal(ours, theirs)
        assert np.std(ours) > 0


def test_training_and_evaluation(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = build_from_backbone(
        small((64, 64), 16), ("fine", "coarse"), NAMES, extra_levels=1
    )
    config = TrainingConfig(
        steps=100, batch_size=4, warmup_steps=10, learning_rate=5e-3, seed=3
    )
    result = train(model, make_dataset(), config, tmp_path)
    assert result.steps == 100
    assert evaluate(model, make_dataset()).mean > 0.5


def test_recipe_is_that_of_ssd300() -> None:
    maps = [level.feature_size for level in ssd300_voc().levels]
    grid = recipe_grid((300, 300), maps)
    for ours, official in zip(grid.levels, ssd300_voc().levels, strict=True):
        np.testing.assert_array_equal(ours.cell_shapes(), official.cell_shapes())
    assert grid.num_anchors == 8732


@pytest.mark.parametrize("count", range(3, 65))
def test_recipe_for_any_number_of_maps(count: int) -> None:
    grid = recipe_grid((320, 576), [(2, 3)] * count)
    shortest = [level.min_sizes[0] for level in grid.levels]
    assert len(shortest) == count
    assert shortest == sorted(shortest)
    assert shortest[:2] == [32, 64]
    assert shortest[-1] <= 0.9 * 320
    boxes = grid.level_boxes(0)[0, 0, 0]
    # A square in pixels.
    np.testing.assert_allclose(boxes[2:] - boxes[:2], [0.1, 32 / 576], atol=1e-6)


def test_recipe_for_too_few_maps() -> None:
    with pytest.raises(ValueError, match="3 to 64 maps, got 2"):
        recipe_grid((64, 64), [(2, 2)] * 2)
    with pytest.raises(ValueError, match="3 to 64 maps, got 1"):
        build_from_backbone(small(), ["fine"], num_classes=2, extra_levels=0)


def test_choices_are_kept(tmp_path: Path) -> None:
    anchors = recipe_grid((64, 96), [(8, 12), (4, 6), (2, 3)])
    preprocessing = Preprocessing((64, 96), "bgr", (104.0, 117.0, 123.0))
    model = detector(
        class_names=["background", "cat"],
        anchors=anchors,
        extra_levels=1,
        preprocessing=preprocessing,
    )
    again = load_model(model.save(tmp_path))
    assert again.spec.anchors == anchors
    assert again.spec.preprocessing == preprocessing
    assert again.class_names == ("background", "cat")


def nested() -> keras.Model:
    inputs = keras.Input((64, 96, 3))
    inner = keras.Sequential([LAYERS.Conv2D(4, 3)], name="inner")
    return keras.Model(inputs, inner(inputs))


def with_lambda() -> keras.Model:
    inputs = keras.Input((64, 96, 3))
    return keras.Model(inputs, LAYERS.Lambda(lambda x: x, name="inner")(inputs))


@pytest.mark.parametrize(
    ("backbone", "sources", "message"),
    [
        (small, ("what",), r"sources must be names of layers .*'what'"),
        (small, (), "sources must be names of layers"),
        (small, "fine", "sources must be names of layers"),
        (small, ("coarse", "fine"), "from fine to coarse, got 'fine'"),
        (small, ("global_average_pooling2d",), "with an output of"),
        (nested, ("inner",), r"inner of type Sequential: .* not among the plain"),
        (with_lambda, ("inner",), r"inner of type Lambda: .* not among the plain"),
        (lambda: small((None, 96)), ("fine",), "must have a height and width in"),
        (lambda: small(channels=1), ("fine", "fine"), "sources must be different"),
        (lambda: LAYERS.Dense(3), ("fine",), "backbone must be a Keras model"),
    ],
)
def test_what_cannot_be_a_backbone(
    backbone: Callable[[], Any], sources: Any, message: str
) -> None:
    made = backbone()
    if sources == ("global_average_pooling2d",):
        sources = (made.layers[-1].name,)
    with pytest.raises(ValueError, match=message):
        build_from_backbone(made, sources, num_classes=2)


def test_a_layer_that_is_used_twice(tmp_path: Path) -> None:
    """Its first use is the source."""
    inputs = keras.Input((64, 96, 3))
    half = LAYERS.AveragePooling2D(2, name="half")
    pooled = half(inputs)
    top = LAYERS.Conv2D(4, 1, strides=2, name="top")(half(pooled))
    model = build_from_backbone(
        keras.Model(inputs, top), ("half", "top"), num_classes=2
    )
    sizes = [level.feature_size for level in model.spec.anchors.levels]
    assert sizes[:2] == [(32, 48), (8, 12)]
    assert_same_outputs(model, load_model(model.save(tmp_path)))


def test_it_is_not_made_by_name_alone() -> None:
    with pytest.raises(ValueError, match="made of a Keras model, by `build_from_back"):
        build_model("keras_backbone")


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a description at a place, by keys, numbers and names of layers."""

    def change(config: dict[str, Any]) -> None:
        place: Any = config["layers"]
        for key in path[:-1]:
            if isinstance(place, list) and isinstance(key, str):
                [place] = [layer for layer in place if layer["name"] == key]
            else:
                place = place[key]
        place[path[-1]] = value

    return change


EVIL = {"module": "os", "class_name": "system", "config": {}, "registered_name": None}
FUNCTION = {
    "module": "builtins",
    "class_name": "function",
    "config": "print",
    "registered_name": "print",
}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}
STEM = ("stem", "config")
ARGUMENTS = ("stem", "inbound_nodes", 0, "args")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("stem", "module", value="os"), "os.Conv2D .* is not among"),
        (put("stem", "class_name", value="Lambda"), "keras.layers.Lambda .* not among"),
        (put("stem", "class_name", value="TFSMLayer"), "not among the plain layers"),
        (put("stem", "class_name", value=["Conv2D"]), "not among the plain layers"),
        (put("stem", "registered_name", value="ssdops>ChannelScale"), "not among"),
        (
            put("stem", "build_config", value={"input_shape": [1]}),
            "unknown .*build_con",
        ),
        (put(*STEM, "activation", value=EVIL), r"activation: os\.system .* not among"),
        (put(*STEM, "activation", value=FUNCTION), "builtins.function .* not among"),
        (put(*STEM, "activation", value=LAMBDA), "has the unknown form"),
        (put(*STEM, "activation", value="os.system"), "layer stem of type Conv2D: "),
        (put(*STEM, "kernel_initializer", value=EVIL), "not among the plain"),
        (put(*STEM, "kernel_initializer", "config", "x", value=[EVIL]), "not among"),
        (put(*STEM, "kernel_initializer", value="orthogonal"), "must be an object"),
        (put(*STEM, "name", value="fine"), "is called 'fine' in its config"),
        (put(*STEM, "kernel_constraint", value=LAMBDA), "has the unknown form"),
        (put(*STEM, "dtype", "config", "name", value="int8"), "unknown dtype policy"),
        (put(*STEM, "dtype", "class_name", value="Sequential"), "not among the plain"),
        (put(*STEM, "data_format", value="channels_first"), "must be .channels_last"),
        (put(*STEM, "strides", value=[0, 1]), "layer stem of type Conv2D: "),
        (put(*STEM, "what", value=1), "layer stem of type Conv2D: "),
        (put("stem", "config", value=None), "config must be an object"),
        (put(*STEM, "filters", value=10**12), "output would have the size"),
        (put(*STEM, "filters", value=-1), "layer stem of type Conv2D: "),
        (
            put(*STEM, "kernel_size", value=[10**5, 10**5]),
            "more than 536870912 weights",
        ),
        (put("pixels", "config", "batch_shape", value=[None, 10**9, 1, 3]), "16384"),
        (put("pixels", "config", "batch_shape", value=[1, 64, 96, 3]), "must be .None"),
        (put("pixels", "config", "batch_shape", value=[None, 64, 96, 4]), "3 channels"),
        (put("stem", "name", value="pixels"), "layer 1 must have a name of its own"),
        (put("stem", "inbound_nodes", value=[]), "must have an input"),
        (put("stem", "inbound_nodes", value=7), "must have an input"),
        (put(*ARGUMENTS, 0, value=EVIL), "an argument must not be"),
        (put(*ARGUMENTS, 0, value=LAMBDA), "an argument must not be"),
        (put(*ARGUMENTS, 0, "config", value=None), "an input must be"),
        (
            put(*ARGUMENTS, 0, "config", "keras_history", 0, value="no"),
            "'no' is not th",
        ),
        (put(*ARGUMENTS, 0, "config", "keras_history", 1, value=5), "is not there"),
        (put("stem", "inbound_nodes", 0, "kwargs", value={"mask": EVIL}), "argument"),
    ],
)
def test_hostile_descriptions(
    model: SSD, change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    """Refused before Keras sees them; a saved model with them as well."""
    model.save(tmp_path)
    path = tmp_path / "model.json"
    description = json.loads(path.read_text())
    change(description["spec"]["options"]["config"])
    with pytest.raises(ValueError, match=message):
        layer_sizes(description["spec"]["options"]["config"])
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": 3}, "backbone must be an object"),
        ({"config": {"layers": []}}, "missing"),
        ({"sources": "fine"}, "sources must be different names"),
        ({"sources": [["fine"]]}, "sources must be different names"),
        ({"sources": ["stem", "nothing"]}, "source 'nothing' must be a layer"),
        ({"extra_levels": 10**9}, r"extra_levels must be an integer in \[0, 16\]"),
        ({"extra_levels": 0}, "anchors must have the feature sizes"),
        ({"what": 0}, "cannot take these options"),
    ],
)
def test_hostile_options(model: SSD, options: Any, message: str) -> None:
    data = copy.deepcopy(model.spec.to_dict())
    data["options"].update(options)
    with pytest.raises(ValueError, match=message):
        build_from_spec(ModelSpec.from_dict(data))


@pytest.mark.parametrize("key", ["input_layers", "output_layers"])
@pytest.mark.parametrize("value", [None, 3, [["no", 0, 0]], [["stem", 9, 9]]])
def test_ends_that_keras_cannot_find(model: SSD, key: str, value: Any) -> None:
    data = copy.deepcopy(model.spec.to_dict())
    data["options"]["config"][key] = value
    with pytest.raises(ValueError, match="Keras cannot build the backbone"):
        build_from_spec(ModelSpec.from_dict(data))


def test_heads_of_a_size_that_cannot_be() -> None:
    data = build_from_backbone(small(), ["fine"], num_classes=2).spec.to_dict()
    data["num_classes"] = 20_000
    data["options"]["config"]["layers"][4]["config"]["filters"] = 2**17
    with pytest.raises(ValueError, match=r"extra levels on \[131072\] channels would"):
        build_from_spec(ModelSpec.from_dict(data))


def test_sizes_are_those_that_keras_finds() -> None:
    backbone = small()
    sizes = layer_sizes(config_of(backbone))
    expected = {layer.name: tuple(layer.output.shape[1:]) for layer in backbone.layers}
    assert {name: sizes[name] for name in expected} == expected
