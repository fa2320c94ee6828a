# SPDX-License-Identifier: Apache-2.0
"""Reading of prototxt files: the format, what they say, hostile descriptions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.caffemodel import caffemodel
from support.damaged_files import is_readable
from support.data import data_path

from ssdops.anchors import AnchorLevel
from ssdops.models import (
    build_from_prototxt,
    build_from_spec,
    build_model,
    load_model,
)
from ssdops.models.caffe.network import keras_names
from ssdops.models.caffe.prototxt import read_prototxt
from ssdops.models.spec import ModelSpec
from ssdops.protobuf_text import parse_text

RNG = np.random.default_rng(7)
DEPLOY = "parity/random_weights/mobilenet_ssd_deploy.prototxt"
# A whole detector of one level, in the ways that the format allows.
SMALL = """
name: 'small'  # a comment; with { braces
layer { name: "data" type: "Input" top: "data"
  input_param { shape: { dim: [1, 3, 16, 24] } } transform_param { mean_value: 1 } }
layer { name: "loss", type: "MultiBoxLoss"; bottom: "x" include { phase: TRAIN } }
layer < name: "c/1" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 pad: 0x1 stride_h: 2 stride_w: 2 } >
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "loc" type: "Convolution" bottom: "c" top: "loc"
  convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "conf" type: "Convolution" bottom: "c" top: "conf"
  convolution_param { num_output: 6 kernel_h: 1 kernel_w: 1 } }
layer { name: "lp" type: "Permute" bottom: "loc" top: "lp"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "lf" type: "Flatten" bottom: "lp" top: "lf" }
layer { name: "cp" type: "Permute" bottom: "conf" top: "cp"
  permute_param { order: [0, 2, 3, 1] } }
layer { name: "cf" type: "Flatten" bottom: "cp" top: "cf" }
layer { name: "cr" type: "Reshape" bottom: "cf" top: "cr" }
layer { name: "cs" type: "Softmax" bottom: "cr" top: "cs" softmax_param { axis: 2 } }
layer { name: "csf" type: "Flatten" bottom: "cs" top: "csf" }
layer { name: "prior" type: "PriorBox" bottom: "c" bottom: "data" top: "prior"
  prior_box_param { min_size: 4.f aspect_ratio: 2 variance: .1 variance: .2
    variance: 3e-1 variance: 0.4 step_h: 2 step_w: 3 clip: true offset: 0.25 } }
layer { name: "out" type: "DetectionOutput" bottom: "lf" bottom: "csf" bottom: "prior"
  top: "out" detection_output_param { num_classes: 2 code_type: CENTER_SIZE
    nms_param { nms_threshold: 0.5 } confidence_threshold: 0.125 keep_top_k: 7 } }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text(text)
    return path


def test_a_whole_detector(tmp_path: Path) -> None:
    spec = read_prototxt(written(tmp_path, SMALL))
    assert spec.num_classes == 2
    assert spec.anchors.image_size == (16, 24)
    assert spec.anchors.levels == (
        AnchorLevel((8, 12), (4.0,), aspect_ratios=(2.0,), step=(2.0, 3.0)),
    )
    assert (spec.anchors.clip, spec.anchors.offset) == (True, 0.25)
    assert spec.anchors.variances == (0.2, 0.1, 0.4, 0.3)
    assert spec.preprocessing.mean == (1.0, 1.0, 1.0)
    assert spec.post_processing.score_threshold == 0.125
    assert spec.post_processing.iou_threshold == 0.5
    assert spec.post_processing.max_detections == 7
    model, report = build_from_prototxt(tmp_path / "net.prototxt", None, ["-", "cat"])
    assert len(report.missing) == 6
    assert model.detect(np.zeros((1, 16, 24, 3), np.uint8)).boxes.shape == (1, 7, 4)


def test_sigmoid_scores_and_a_mean_of_the_caller(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace('"Softmax"', '"Sigmoid"'))
    spec = read_prototxt(path, mean=(1, 2, 3), scale=0.5)
    assert spec.score_activation == "sigmoid"
    assert spec.preprocessing.mean == (1, 2, 3)
    assert spec.preprocessing.scale == (0.5,) * 3


def test_a_file_for_training_and_testing(tmp_path: Path) -> None:
    """Its data come from a database; size and mean are those of the test."""
    first = SMALL[
        SMALL.index('layer { name: "data"') : SMALL.index('layer { name: "los')
    ]
    data = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  include { phase: PHASE } transform_param { mean_value: 104 mean_value: 117
  mean_value: MEAN scale: 0.5 resize_param { height: HEIGHT width: 24 } } }"""
    train = data.replace("PHASE", "TRAIN").replace("HEIGHT", "99")
    test = data.replace("PHASE", "TEST").replace("HEIGHT", "16")
    more = """
layer { name: "eval" type: "DetectionEvaluate" bottom: "out" bottom: "label" top: "eval"
  include { phase: TEST } }"""
    text = SMALL.replace(
        first, train.replace("MEAN", "9") + test.replace("MEAN", "123")
    )
    preprocessing = read_prototxt(written(tmp_path, text + more)).preprocessing
    assert preprocessing.image_size == (16, 24)
    assert preprocessing.mean == (104.0, 117.0, 123.0)
    assert preprocessing.scale == (0.5,) * 3
    assert preprocessing.channel_order == "bgr"


@pytest.mark.parametrize(
    "head",
    [
        "input: 'data' input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 24",
        "input: 'data' input_shape { dim: 1 dim: 3 dim: 16 dim: 24 }",
    ],
)
def test_inputs_without_a_layer(head: str, tmp_path: Path) -> None:
    first = SMALL[
        SMALL.index('layer { name: "data"') : SMALL.index('layer { name: "los')
    ]
    spec = read_prototxt(written(tmp_path, SMALL.replace(first, head + "\n")))
    assert spec.image_size == (16, 24)
    assert spec.preprocessing.mean == (0.0,) * 3


def test_a_mean_in_place_of_that_of_another_file(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace("mean_value: 1", "mean_file: 'mean'"))
    assert read_prototxt(path, mean=(1, 2, 3)).preprocessing.mean == (1, 2, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ReLU"', '"Reorg"', "types Reorg are not known; known are"),
        ('"Convolution" bottom: "data"', '"LSTM" bottom: "data"', "types LSTM are not"),
        ('bottom: "data" top: "c"', 'bottom: "c" top: "c"', "come from nowhere"),
        ('bottom: "lf"', 'bottom: "nothing"', "'nothing' is an input of a layer"),
        ('type: "Flatten" bottom: "lp"', 'type: "Flatten" bottom: "lf"', "one|head"),
        ("num_output: 12", "num_output: 16", r"layer loc gives .*16.*ask for .*12"),
        ("num_output: 6", "num_output: 8", "layer conf gives"),
        ("num_output: 4", "num_output: 1000000000", "num_output must be an integer in"),
        ("dim: [1, 3, 16, 24]", "dim: [1, 3, 99999, 99999]", "must be an integer|size"),
        ("dim: [1, 3, 16, 24]", "dim: [1, 1, 16, 24]", r"\[1, 3, h, w\]"),
        ("kernel_size: 3", "kernel_size: 99", "its output would have the size"),
        ("CENTER_SIZE", "CORNER", "code_type must be"),
        ("num_classes: 2", "num_classes: 1", "num_classes"),
        ("min_size: 4.f", "min_size: -4", "line .*PriorBox: min_sizes"),
        ("min_size: 4.f", "min_size: nan", "must be a finite number, got 'nan'"),
        ("keep_top_k: 7", "keep_top_k: 7.5", "keep_top_k must be an integer, got 7.5"),
        ("keep_top_k: 7", "keep_top_k { a: 1 }", "must be a value, not a message"),
        ('"DetectionOutput"', '"Output"', "one layer DetectionOutput, got 0"),
        ('bottom: "csf"', 'bottom: "cf"', "must come from a Softmax or Sigmoid"),
        ('"PriorBox"', '"Flatten"', "must be of type PriorBox"),
        ("layer < name", "layer { name", "braces do not match"),
        ("nms_threshold: 0.5", "nms_threshold: 0.5 eta: 0.9", "eta must be 1"),
        ('name: "conf"', 'name: "loc"', "two layers 'loc'"),
        ("order: [0, 2, 3, 1]", "order: 0", r"one Permute of order \[0, 2, 3, 1\]"),
        ('bottom: "cp" top: "cf"', 'bottom: "conf" top: "cf"', "one Permute .* must"),
        ("axis: 2", "axis: 1", "axis must be 2, the classes, got 1"),
        ('"Flatten" bottom: "lp"', '"Softmax" bottom: "lp"', "axis must be 2"),
        ('"Flatten" bottom: "lp"', '"Sigmoid" bottom: "lp"', "offsets come from a sig"),
        ('"Reshape" bottom: "cf"', '"Sigmoid" bottom: "cf"', "one activation, got two"),
        ("step_h: 2 step_w: 3", "step_h: 2", "step must be positive"),
        ('"PriorBox" bottom: "c"', '"PriorBox" bottom: "none"', "'none' is an input"),
        ("mean_value: 1", "mean_file: 'mean'", "mean_file is not read: give `mean`"),
        ("aspect_ratio: 2", "aspect_ratio: 2 " * 65, "aspect_ratios may hold at most"),
        ("min_size: 4.f", "min_size: 4.5 " * 65, "min_sizes may hold at most 64"),
        ('bottom: "c" top: "c"', 'bottom: "c" ' * 65, "bottom may be given 64 times"),
        ("layer < name", "layer { } " * 4096 + "layer < name", "at most 4096 layers"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in SMALL
    path = written(tmp_path, SMALL.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        read_prototxt(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_prototxt(tmp_path / "none.prototxt")


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    letters = "{}<>[]:\"'#0-.\n a"
    read = []
    for _ in range(400):
        text = list(SMALL)
        for place in rng.integers(0, len(text), rng.integers(1, 4)):
            text[place] = letters[rng.integers(len(letters))]
        cut = rng.integers(1, len(text)) if rng.random() < 0.3 else len(text)
        read.append(is_readable(read_prototxt, written(tmp_path, "".join(text[:cut]))))
    assert 0 < sum(read) < len(read)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1 " * 400_000,
        "a {" * 100_000,
        "a: [" * 1000,
        "]",
        "a: [1",
        ": 1",
        '"a": 1',
        "a: }",
        "{",
    ],
)
def test_texts_without_a_meaning(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|middle"):
        parse_text(text)


def test_text_format() -> None:
    message = parse_text(
        'a: 1, a: -2; b { c: "x\\n\\101" } b: < c: y > d: [3, 4.5] e: t'
    )
    assert message.integers("a") == [1, -2]
    assert [part.text("c") for part in message.messages("b")] == ["x\nA", "y"]
    assert message.numbers("d") == [3.0, 4.5]
    assert message.flag("e", False)
    assert message.integer("none", 9) == 9
    assert message.names() == ("a", "b", "d", "e")


def change(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(options: dict[str, Any]) -> None:
        target: Any = options
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value

    return apply


def drop(*place: Any) -> Callable[[dict[str, Any]], None]:
    def apply(options: dict[str, Any]) -> None:
        target: Any = options
        for key in place[:-1]:
            target = target[key]
        del target[place[-1]]

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change("layers", value=3), "layers must be a list|cannot take"),
        (change("layers", 0, value=3), "layer 0 must be an object"),
        (change("layers", 0, "type", value="os.system"), "unknown type 'os.system'"),
        (change("layers", 0, "values", "num_output", value=10**9), "num_output"),
        (change("layers", 0, "values", "kernel", value=[3]), "two integers"),
        (change("layers", 0, "values", "more", value=1), r"unknown \['more'\]"),
        (change("layers", 0, "bottom", value=["c"]), "'c' comes from nowhere"),
        (change("layers", 0, "bottom", value=[]), "must have 1 to 1 inputs"),
        (change("layers", 0, "bottom", value="image"), "must be texts"),
        (change("layers", 0, "name", value=None), "must be texts"),
        (drop("layers", 0, "values"), r"missing \['values'\]"),
        (drop("layers", 2, "values"), r"missing \['values'\]"),
        (change("layers", 2, "values", value=[]), "must be a Convolution"),
        (change("layers", 1, "values", "slope", value=10**400), "finite number"),
        (change("layers", 1, "values", "slope", value=math.nan), "finite number"),
        (change("layers", 1, "name", value=["loc"]), "cannot take|must be texts"),
        (drop("layers"), "build_from_prototxt"),
        (drop("input"), "'image' comes from nowhere"),
        (change("input", value=[]), "cannot take"),
        (change("offsets", value=["none"]), "no layer 'none', which is a head"),
        (change("offsets", value=["relu"]), "head relu must be a Convolution"),
        (change("offsets", value=[]), "offsets must name one layer for each"),
        (change("logits", value=[["conf"]]), "which is a head"),
    ],
)
def test_hostile_descriptions(
    apply: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    """What `model.json` may hold."""
    # Not the usual name of an input.
    spec = read_prototxt(written(tmp_path, SMALL.replace("data", "image"))).to_dict()
    apply(spec["options"])
    with pytest.raises(ValueError, match=message):
        build_from_spec(ModelSpec.from_dict(spec))


def test_a_network_that_would_be_too_large(tmp_path: Path) -> None:
    wide = SMALL.replace("num_output: 4", "num_output: 65536")
    middle = """layer { name: "w" type: "Convolution" bottom: "c" top: "c"
      convolution_param { num_output: 65536 kernel_size: 1 } } layer { name: "loc" """
    text = wide.replace('layer { name: "loc"', middle)
    with pytest.raises(ValueError, match="more than 536870912 weights"):
        read_prototxt(written(tmp_path, text))


def test_without_a_file_there_is_no_such_model() -> None:
    with pytest.raises(ValueError, match="build_from_prototxt"):
        build_model("caffe_network")


def test_layers_keep_their_names(tmp_path: Path) -> None:
    """Slashes are none in Keras, and two names may become one."""
    text = SMALL.replace('name: "relu"', 'name: "c_1"')
    model, _ = build_from_prototxt(written(tmp_path, text))
    names = {layer.name for layer in model.network.layers}
    assert {"c_1", "c_1_2"} <= names


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": 10**400}, r"offset must lie in \[0, 1\]"),
        ({"levels": [{"feature_size": [1, 1], "min_sizes": [10**400]}]}, "finite"),
        ({"levels": [{"feature_size": [1, 1], "min_sizes": [9]}] * 65}, "at most 64"),
        (
            {"levels": [{"feature_size": [1, 1], "min_sizes": [9] * 100_000}]},
            "min_sizes may hold at most 64 values, got 100000",
        ),
        (
            {
                "levels": [
                    {
                        "feature_size": [1, 1],
                        "min_sizes": [9],
                        "aspect_ratios": list(range(2, 100_000)),
                    }
                ]
            },
            "aspect_ratios may hold at most 64",
        ),
    ],
)
def test_hostile_anchors(entries: dict[str, Any], message: str, tmp_path: Path) -> None:
    spec = read_prototxt(written(tmp_path, SMALL)).to_dict()
    spec["anchors"].update(entries)
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_dict(spec)


def test_many_layers_of_nearly_one_name() -> None:
    """All become `---`; to try every number for each would take hours."""
    signs = "!$%&*+,;=?@^`|~<>()[]"
    names = [a + b + c for a in signs for b in signs for c in signs][:4096]
    found = keras_names([{"name": name} for name in names])
    assert len(set(found.values())) == len(names)
    assert list(found.values())[:2] == ["___", "____2"]


def test_names_that_others_need(tmp_path: Path) -> None:
    """`c_pad` is what pads for `c`, `loc_flat` shapes `loc`, `images` is the input."""
    text = SMALL.replace('"relu"', '"c_pad"').replace('"c/1"', '"c"')
    text = text.replace("pad: 0x1", "pad: 1").replace('name: "conf"', 'name: "images"')
    tanh = 'layer { name: "loc_flat" type: "TanH" bottom: "c" top: "c" }'
    text = text.replace('layer { name: "loc" ', f'{tanh} layer {{ name: "loc" ')
    model, _ = build_from_prototxt(written(tmp_path, text))
    again = load_model(model.save(tmp_path / "saved"))
    images = RNG.integers(0, 255, (1, 16, 24, 3), np.uint8)
    for ours, theirs in zip(model.detect(images), again.detect(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Layers one by one


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        (
            'type: "Normalize" norm_param { across_spatial: false '
            "channel_shared: true }",
            "scale",
        ),
        ('type: "PReLU" prelu_param { channel_shared: true }', "alpha"),
    ],
)
def test_one_number_for_all_channels(text: str, variable: str, tmp_path: Path) -> None:
    """Caffe stores it without a dimension."""
    layer = f'layer {{ name: "one" bottom: "c" top: "c" {text} }}\nlayer'
    text = SMALL.replace('layer { name: "loc" type', f'{layer} {{ name: "loc" type')
    model, _ = build_from_prototxt(written(tmp_path, text))
    blobs = {"one": [np.array(0.625, np.float32)]}
    path = tmp_path / "one.caffemodel"
    path.write_bytes(caffemodel(blobs))
    model, report = build_from_prototxt(tmp_path / "net.prototxt", path, strict=False)
    assert list(report.loaded) == ["one|0"]
    value = np.ravel(getattr(model.network.get_layer("one"), variable))
    np.testing.assert_array_equal(value, [0.625])


def test_sizes_are_cut_to_whole_pixels(tmp_path: Path) -> None:
    """As the original does; those of SSD512 are fractions."""
    text = SMALL.replace("min_size: 4.f", "flip: false min_size: 4.75 max_size: 9.5")
    anchors = read_prototxt(written(tmp_path, text)).anchors
    sides = anchors.level_boxes(0)[4, 4] @ [[-16, 0], [0, -24], [16, 0], [0, 24]]
    root = math.sqrt(2)
    expected = [(4, 4), (6, 6), (4 / root, 4 * root)]
    np.testing.assert_allclose(sides, expected, rtol=1e-5)


def test_no_limits_are_as_many_as_anchors(tmp_path: Path) -> None:
    text = SMALL.replace("[1, 3, 16, 24]", "[1, 3, 160, 240]")
    limits = read_prototxt(
        written(tmp_path, text.replace("keep_top_k: 7", ""))
    ).post_processing
    assert limits.pre_nms_top_k == limits.max_detections == 80 * 120 * 3


def test_the_deploy_file_of_mobilenet_reads_itself_again() -> None:
    spec = read_prototxt(data_path(DEPLOY))
    assert ModelSpec.from_dict(spec.to_dict()) == spec
