# SPDX-License-Identifier: Apache-2.0
"""Building, detecting with, saving and loading detectors; the small one as example."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ssdops.anchors import AnchorGrid, AnchorLevel, ssd300_coco, ssd_small
from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models import (
    SSD,
    ModelSpec,
    Preprocessing,
    available_models,
    build_from_spec,
    build_from_weights,
    build_model,
    load_model,
)
from ssdops.models.layers import L2Normalization

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model() -> SSD:
    keras.utils.set_random_seed(1)
    return build_model("ssd_small", num_classes=4, image_size=SIZE, width=0.25)


@pytest.fixture(scope="module")
def images() -> Any:
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


def test_every_model_is_in_the_table() -> None:
    assert available_models() == (
        "ssd300_vgg16",
        "ssd512_vgg16",
        "ssd300_vgg16_bn",
        "ssd512_vgg16_bn",
        "ssd300_mobilenet_v1",
        "ssd300_mobilenet_v2",
        "mobilenet_ssd",
        "ssd300_resnet10_face",
        "ssdlite320_mobilenet_v3_large",
        "ssd300_resnet18",
        "ssd300_resnet34",
        "ssd300_resnet50",
        "ssd_small",
        "keras_backbone",
        "caffe_network",
    )


def test_small_model_has_its_documented_shapes() -> None:
    model = build_model("ssd_small")
    assert model.network.input.shape == (None, 128, 128, 3)
    assert model.network.output["offsets"].shape == (None, 1344, 4)
    assert model.network.output["logits"].shape == (None, 1344, 2)
    np.testing.assert_array_equal(model.anchors, ssd_small().boxes())
    assert model.class_names == ("background", "class 1")


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (256, 128)])
def test_small_model_takes_any_multiple_of_32(size: tuple[int, int]) -> None:
    model = build_model("ssd_small", image_size=size, width=0.125)
    outputs = model.network(tf.zeros([1, *size, 3]))
    assert outputs["offsets"].shape[1] == model.spec.anchors.num_anchors
    assert outputs["offsets"].dtype == tf.float32


def test_outputs_stay_float32_under_mixed_precision() -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build_model("ssd_small", image_size=(32, 32), width=0.125)
        outputs = model.network(tf.zeros([1, 32, 32, 3]))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {value.dtype for value in outputs.values()} == {tf.float32}


def test_predictions_are_in_the_order_of_the_anchors() -> None:
    """Only the box in row 1, column 0, shape 2 of level 0 is given an offset."""
    model = build_model("ssd_small", image_size=SIZE, width=0.125)
    level = model.spec.anchors.levels[0]
    head = model.network.get_layer("stride8_mbox_loc")
    features = keras.Model(model.network.input, head.input)
    images = tf.random.stateless_uniform([1, *SIZE, 3], [1, 2])
    head.kernel.assign(tf.zeros_like(head.kernel))
    bias = np.zeros(4 * level.boxes_per_cell)
    bias[2 * 4 + 1] = 1.0
    head.bias.assign(bias)
    assert features(images).shape[1:3] == level.feature_size
    offsets = model.network(images)["offsets"][0].numpy()
    rows, columns = level.feature_size
    count = rows * columns * level.boxes_per_cell
    cells = offsets[:count].reshape(rows, columns, level.boxes_per_cell, 4)
    expected = np.zeros_like(cells)
    expected[:, :, 2, 1] = 1.0
    np.testing.assert_array_equal(cells, expected)


def test_detect_finds_the_strongest_anchor(images: Any) -> None:
    """With heads of zero and one bias, all boxes of that shape are the anchors."""
    model = build_model("ssd_small", num_classes=3, image_size=SIZE, width=0.125)
    for level in range(len(model.spec.anchors.levels)):
        for kind in ("loc", "conf"):
            head = model.network.get_layer(f"stride{8 << level}_mbox_{kind}")
            head.kernel.assign(tf.zeros_like(head.kernel))
            head.bias.assign(tf.zeros_like(head.bias))
    head = model.network.get_layer("stride16_mbox_conf")
    bias = np.zeros(head.bias.shape)
    bias[1 * 3 + 2] = 3.0
    head.bias.assign(bias)
    found = model.detect(images, score_threshold=0.5, iou_threshold=1.0)
    expected = model.spec.anchors.level_boxes(1)[:, :, 1].reshape(-1, 4)
    count = len(expected)
    np.testing.assert_array_equal(found.num_detections, [count] * 3)
    assert set(found.classes[0, :count].numpy()) == {2}
    score = np.exp(3) / (np.exp(3) + 2)
    np.testing.assert_allclose(found.scores[0, :count], score, rtol=1e-5)
    np.testing.assert_allclose(found.boxes[0, :count], expected, atol=1e-6)
    assert not found.boxes[:, count:].numpy().any()


def test_detect_gives_sorted_padded_rows(model: SSD, images: Any) -> None:
    found = model.detect(images, score_threshold=0.05, max_detections=7)
    assert found.boxes.shape == (3, 7, 4)
    assert found.classes.dtype == tf.int32
    assert (np.diff(found.scores.numpy(), axis=1) <= 0).all()
    for row in model.detect(images, score_threshold=1.0):
        assert not row.numpy().any()


def test_detect_takes_images_one_by_one_or_together(model: SSD, images: Any) -> None:
    together = model.detect(images)
    for index in range(len(images)):
        alone = model.detect(images[index : index + 1])
        np.testing.assert_allclose(alone.scores[0], together.scores[index], rtol=1e-4)


def test_detect_takes_float_images(model: SSD, images: Any) -> None:
    found = model.detect(images.astype(np.float32))
    np.testing.assert_allclose(found.scores, model.detect(images).scores, rtol=1e-6)


def test_detect_uses_the_weights_of_the_moment(images: Any) -> None:
    """Graphs are kept between calls, values of weights are not."""
    model = build_model("ssd_small", num_classes=2, image_size=SIZE, width=0.125)
    before = model.detect(images[:1], score_threshold=0.2)
    for layer in model.network.layers:
        if layer.name.endswith("_mbox_conf"):
            layer.bias.assign(tf.tile([9.0, -9.0], [layer.bias.shape[0] // 2]))
    after = model.detect(images[:1], score_threshold=0.2)
    assert before.num_detections[0] > after.num_detections[0]


def test_detect_does_not_update_batch_statistics(model: SSD, images: Any) -> None:
    before = [value.numpy() for value in model.network.non_trainable_variables]
    model.detect(images)
    for old, new in zip(before, model.network.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


@pytest.mark.parametrize("shape", [(64, 96, 3), (1, 96, 64, 3), (0, 64, 96, 3)])
def test_other_image_shapes_are_refused(model: SSD, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must have shape \[B, 64, 96, 3\]"):
        model.detect(np.zeros(shape, np.uint8))


def test_preprocessing() -> None:
    pixels = np.array([[[[10, 20, 30]]]], np.uint8)
    rgb = Preprocessing((1, 1), "rgb", (1.0, 2.0, 3.0), 0.5)
    np.testing.assert_allclose(rgb(pixels), [[[[4.5, 9, 13.5]]]])
    bgr = Preprocessing((1, 1), "bgr", (104.0, 117.0, 123.0))
    np.testing.assert_allclose(bgr(pixels), [[[[30 - 104, 20 - 117, 10 - 123]]]])
    assert bgr(pixels).dtype == tf.float32
    with pytest.raises(ValueError, match="channel_order"):
        Preprocessing((1, 1), "gbr")


def test_published_preprocessing() -> None:
    vgg = build_model("ssd300_vgg16").spec
    assert vgg.preprocessing.channel_order == "bgr"
    assert vgg.preprocessing.mean == (104.0, 117.0, 123.0)
    assert (vgg.preprocessing.scale, vgg.score_activation) == ((1.0,) * 3, "softmax")
    assert vgg.variances == (0.1, 0.1, 0.2, 0.2)


def test_grid_can_be_chosen_by_name_or_value() -> None:
    for grid in ("ssd300_coco", ssd300_coco()):
        model = build_model("ssd300_vgg16", anchors=grid)
        assert model.spec.anchors == ssd300_coco()


def test_normalization_layer() -> None:
    layer = L2Normalization(initial_scale=3.0)
    features = tf.constant([[[[3.0, 4.0], [0.0, 0.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        values = layer(features)
    np.testing.assert_allclose(values, [[[[1.8, 2.4], [0, 0]]]], rtol=1e-6)
    assert np.isfinite(tape.gradient(values, features)).all()
    half = L2Normalization(dtype="float16")(tf.fill([1, 1, 1, 2], 300.0))
    np.testing.assert_allclose(half, np.full((1, 1, 1, 2), 14.14), rtol=1e-3)
    again = L2Normalization.from_config(layer.get_config())
    assert (again.initial_scale, again.epsilon) == (3.0, layer.epsilon)


def test_new_model_predicts_boxes_near_its_anchors(model: SSD, images: Any) -> None:
    """Fresh weights are small enough for boxes to be of the anchors' size."""
    from ssdops import decode_boxes

    inputs = model.spec.preprocessing(images)
    offsets = model.network(inputs, training=False)["offsets"]
    boxes = yxyx_to_cyxhw(decode_boxes(offsets, model.anchors).numpy())
    ratio = boxes[..., 2:] / yxyx_to_cyxhw(model.anchors.numpy())[:, 2:]
    assert ratio.min() > 0.2
    assert ratio.max() < 5


OTHER_GRID = AnchorGrid((32, 32), (AnchorLevel((4, 4), (16,)),))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssd", {}, "unknown model 'ssd'; known are ssd300_vgg16"),
        ("ssd_small", {"num_classes": 1}, "counts the background, must be .* got 1"),
        ("ssd_small", {"num_classes": True}, "num_classes, .*, must be an integer"),
        ("ssd_small", {"class_names": ["a", "b"], "num_classes": 3}, "all 3 classes"),
        ("ssd_small", {"image_size": (100, 100)}, "multiples of 32"),
        ("ssd_small", {"image_size": 128}, "cannot take|must be a list"),
        ("ssd_small", {"width": 100}, r"width must lie in \[0.125, 8\]"),
        ("ssd_small", {"depth": 3}, "cannot take these options: .*depth"),
        (
            "ssd_small",
            {"image_size": (64, 64), "anchors": OTHER_GRID},
            "must equal that of the anchors",
        ),
        ("ssd_small", {"anchors": "no such grid"}, "unknown anchor grid"),
        ("ssd300_vgg16", {"image_size": (300, 300)}, "cannot take these options"),
        ("ssd300_vgg16", {"anchors": "ssd512_voc"}, "7 levels|feature_size"),
        ("ssd300_vgg16", {"anchors": OTHER_GRID}, "1 levels|has size|output size"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(name, **options)


def test_network_must_fit_its_specification(model: SSD) -> None:
    other = replace(model.spec, num_classes=5)
    with pytest.raises(ValueError, match="'logits' must have shape"):
        SSD(other, model.network)


def test_model_without_published_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ssd_small has no published weights"):
        build_from_weights("ssd_small", tmp_path / "weights.npz")


@pytest.fixture(scope="module")
def saved(model: SSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("models") / "deep" / "small")


def test_loading_gives_the_same_detector(model: SSD, saved: Path, images: Any) -> None:
    assert {file.name for file in saved.iterdir()} == {
        "model.json",
        "model.weights.h5",
    }
    again = load_model(str(saved))
    assert again.spec == model.spec
    assert again.class_names == model.class_names
    np.testing.assert_array_equal(again.anchors, model.anchors)
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saving_twice_replaces_and_leaves_other_files(
    model: SSD, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    names = ["background", "cat", "dog", "Füchse & co"]
    SSD(model.spec, model.network, names).save(tmp_path)
    SSD(model.spec, model.network, names).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert load_model(tmp_path).class_names == tuple(names)


# The last are made of other things, see `test_keras_backbone` and `test_prototxt`.
@pytest.mark.parametrize("name", available_models()[:-2])
def test_specifications_survive_json(name: str) -> None:
    spec = build_model(name, num_classes=3).spec
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec


def changed(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts `value` at a place of a description."""

    def change(description: dict[str, Any]) -> None:
        place: Any = description
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("format", value="zip"), 'no entry "format": "ssdops-model"'),
        (changed("format_version", value=2), "format_version 2, this version reads 1"),
        (changed("class_names", value="abc"), "class_names must be a list of strings"),
        (changed("class_names", value=["a"]), "must name all 4 classes"),
        (changed("spec", value=None), "spec must be an object"),
        (changed("spec", "name", value="os.system"), "unknown model 'os.system'"),
        (changed("spec", "name", value=["a"]), "name must be a string"),
        (changed("spec", "colour", value=1), r"unknown \['colour'\]"),
        (
            changed("spec", "num_classes", value="4"),
            "num_classes, .*, must be an integer",
        ),
        (
            changed("spec", "num_classes", value=10**9),
            "num_classes, .*, must be an integer",
        ),
        (changed("spec", "options", value=[1]), "options must be an object"),
        (
            changed("spec", "options", "width", value="1"),
            "width must be a finite number",
        ),
        (changed("spec", "options", "width", value=1e9), "width must lie in"),
        (changed("spec", "options", "height", value=1), "cannot take these options"),
        (changed("spec", "score_activation", value=[]), "score_activation must be"),
        (changed("spec", "preprocessing", value=3), "preprocessing must be an object"),
        (changed("spec", "preprocessing", "mean", value="abc"), "mean must be three"),
        (changed("spec", "preprocessing", "scale", value=None), "scale must be a fin"),
        (
            changed("spec", "preprocessing", "image_size", value=[64, 64]),
            "must equal anchors.image_size",
        ),
        (changed("spec", "anchors", "levels", value=[]), "at least one level"),
        (changed("spec", "anchors", "levels", 0, value=7), r"levels\[0\] must be an"),
        (
            changed("spec", "anchors", "levels", 0, "feature_size", value=[8, 8]),
            "has size .* feature_size",
        ),
        (changed("spec", "anchors", "image_size", value=[64, 65]), "must equal anch"),
    ],
)
def test_malformed_descriptions_are_refused(
    saved: Path, tmp_path: Path, change: Any, message: str
) -> None:
    description = json.loads((saved / "model.json").read_text("utf-8"))
    change(description)
    (tmp_path / "model.json").write_text(json.dumps(description), "utf-8")
    (tmp_path / "model.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=message) as caught:
        load_model(tmp_path)
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "\ud800", "[" * 100_000])
def test_other_texts_are_refused(saved: Path, tmp_path: Path, text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    (tmp_path / "model.json").write_bytes(content)
    (tmp_path / "model.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.json"):
        load_model(tmp_path)


def test_damaged_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = (saved / "model.weights.h5").read_bytes()
    (tmp_path / "model.json").write_bytes((saved / "model.json").read_bytes())
    with pytest.raises(ValueError, match=r"model\.weights\.h5 is missing"):
        load_model(tmp_path)
    for content in (b"", b"no HDF5", whole[: len(whole) // 2], whole[:-100]):
        (tmp_path / "model.weights.h5").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.weights\.h5 does not hold"):
            load_model(tmp_path)


def test_weights_of_another_width_are_refused(saved: Path, tmp_path: Path) -> None:
    build_model("ssd_small", 4, image_size=SIZE, width=0.5).save(tmp_path)
    (tmp_path / "model.json").write_bytes((saved / "model.json").read_bytes())
    with pytest.raises(ValueError, match="does not hold the weights of model ssd_sma"):
        load_model(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a saved model: model\.json is miss"):
        load_model(tmp_path / "nothing")


def test_built_from_its_own_specification(model: SSD) -> None:
    again = build_from_spec(model.spec, model.class_names)
    assert again.network.count_params() == model.network.count_params()
