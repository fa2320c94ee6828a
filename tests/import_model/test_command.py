# SPDX-License-Identifier: Apache-2.0
"""`ssdops import`: models, reports, classes, settings, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.caffe_parity import weight_generator
from support.caffemodel import caffemodel
from support.data import data_path
from typer.testing import CliRunner

import ssdops
from ssdops.anchors import ssd300_coco
from ssdops.cli import app
from ssdops.models import build_model
from ssdops.models.class_names import VOC_CLASS_NAMES

COCO = "weights/coco_ssd_mobilenet_v1_quant"
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `ssdops import` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    # Rich breaks lines at the width of the terminal.
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    runner = CliRunner()

    def call(*arguments: object) -> Any:
        return runner.invoke(app, ["import", *(str(item) for item in arguments)])

    return call


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    names = ["background", "cat", "dog", "tv"]
    model = build_model("ssd_small", class_names=names, image_size=(64, 64), width=0.25)
    return model.save(tmp_path_factory.mktemp("models") / "small")


def states(folder: Path) -> dict[str, list[str]]:
    """Names of tensors by state in the report of an import."""
    report = json.loads((folder / "import.json").read_text())
    found: dict[str, list[str]] = {"loaded": [], "skipped": [], "missing": []}
    for tensor in report["tensors"]:
        found[tensor["state"]].append(tensor["name"])
    return found


def test_the_coco_model_with_the_classes_of_voc(run: Run, tmp_path: Path) -> None:
    result = run(
        data_path(f"{COCO}/detect.tflite"),
        *("--labels", data_path(f"{COCO}/labelmap.txt"), "--classes", "voc"),
        *("--to", "voc", "--photo", data_path("photos/004545.jpg"), "--safetensors"),
        *("--post-processing", "score_threshold=0.25"),
    )
    assert result.exit_code == 0, result.output
    assert "ssd300_mobilenet_v1, 91 classes" in result.output
    assert "ssd300_mobilenet_v1, 21 classes" in result.output
    assert "horse" in result.output
    assert (tmp_path / "voc/detections/004545_detections.jpg").is_file()
    folder = ssdops.load(tmp_path / "voc")
    file = ssdops.load(tmp_path / "voc/model.safetensors")
    assert folder.class_names == file.class_names == VOC_CLASS_NAMES
    assert folder.spec == file.spec
    assert folder.spec.post_processing.score_threshold == 0.25
    assert len(states(tmp_path / "voc")["loaded"]) == 94


def test_a_caffemodel_is_recognised(run: Run, tmp_path: Path) -> None:
    prototxt = data_path("parity/random_weights/mobilenet_ssd_deploy.prototxt")
    blobs = weight_generator().weights(str(prototxt))
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    result = run("net.caffemodel", "--to", "new/deep")
    assert result.exit_code == 0, result.output
    assert "mobilenet_ssd, 21 classes" in result.output
    model = ssdops.load(tmp_path / "new/deep")
    assert model.spec.name == "mobilenet_ssd"
    kernel = model.network.get_layer("conv0").kernel.numpy()
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), blobs["conv0"][0])


def test_a_prototxt_is_a_model(run: Run, tmp_path: Path) -> None:
    prototxt = data_path("parity/random_weights/mobilenet_ssd_deploy.prototxt")
    blobs = weight_generator().weights(str(prototxt))
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    described = ("net.caffemodel", "--prototxt", prototxt, "--to", "out")
    result = run(*described, "--mean", "127.5,127.5,127.5", "--scale", "0.007843")
    assert result.exit_code == 0, result.output
    assert "caffe_network, 21 classes" in result.output
    assert "classes: without names; --labels voc has as many" in result.output
    spec = ssdops.load(tmp_path / "out").spec
    named = build_model("mobilenet_ssd").spec
    assert spec.anchors == named.anchors
    assert spec.preprocessing == named.preprocessing
    assert spec.post_processing == named.post_processing
    for wrong, message in (
        (("--mean", "1,x,3"), "must be like 104,117,123, got '1,x,3'"),
        (("--mean", "1,2"), "must be three numbers"),
        (("--model", "mobilenet_ssd"), "is a model: leave out --model"),
    ):
        result = run(*described[:-1], "new", *wrong)
        assert result.exit_code == 1
        assert message in result.output
    result = run("net.caffemodel", "--to", "new", "--scale", "2")
    assert "--mean and --scale go with --prototxt" in result.output


def test_a_backbone_and_the_rest_at_random(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "conv1_1|0": rng.normal(size=(64, 3, 3, 3)),
        "conv1_1|1": rng.normal(size=64),
        "fc8|0": rng.normal(size=(1000, 16)),
    }
    np.savez(tmp_path / "vgg.npz", **arrays)
    failed = run("vgg.npz", "--to", "vgg")
    assert failed.exit_code == 1
    assert "it fits no model as a whole" in failed.output
    assert not (tmp_path / "vgg").exists()
    unnamed = run("vgg.npz", "--to", "vgg", "--partial")
    assert unnamed.exit_code == 1
    assert "--partial needs the name of the model" in unnamed.output
    result = run("vgg.npz", "--to", "vgg", "--partial", "--model", "ssd300_vgg16")
    assert result.exit_code == 0, result.output
    assert "skipped: fc8|0 [1000, 16]: the model has no place for it" in result.output
    assert "missing: conv1_2|0 [64, 64, 3, 3]: it is not in the file" in result.output
    assert "and 50 more" in result.output
    found = states(tmp_path / "vgg")
    assert "anchors: ssd300_voc, 8732\n" in result.output
    assert "without names" not in result.output
    assert found["loaded"] == ["conv1_1|0", "conv1_1|1"]
    assert found["skipped"] == ["fc8|0"]
    assert len(found["missing"]) == 69
    assert f"{len(found['missing'])} " in result.output


def test_what_anchors_weights_have_is_said(run: Run, tmp_path: Path) -> None:
    """Weights do not tell whether they were trained on COCO before."""
    head = "conv4_3_norm_mbox"
    for classes in (21, 81):
        arrays = {
            f"{head}_loc|0": np.zeros((16, 512, 3, 3)),
            f"{head}_conf|0": np.zeros((4 * classes, 512, 3, 3)),
        }
        np.savez(tmp_path / f"{classes}.npz", **arrays)
    call = ("--model", "ssd300_vgg16", "--partial", "--to")
    result = run("21.npz", *call, "voc")
    assert "anchors: ssd300_voc, 8732; weights do not tell which" in result.output
    option = 'anchors="ssd300_coco"'
    assert f"--model-options '{option}'" in result.output
    for source, changes in (("21", ("--model-options", option)), ("81", ())):
        result = run(f"{source}.npz", *call, f"model{source}", *changes)
        assert "anchors: ssd300_coco, 8732\n" in result.output
        model = ssdops.load(tmp_path / f"model{source}")
        assert model.spec.anchors == ssd300_coco()


def test_a_saved_model_with_other_classes(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("background\ndog\nfox\n")
    result = run(saved, "--to", "out", "--classes", "names.txt")
    assert result.exit_code == 0, result.output
    assert "2 of 3 classes are known" in result.output
    assert ssdops.load(tmp_path / "out").class_names == ("background", "dog", "fox")


def test_a_model_is_not_replaced_unasked(run: Run, saved: Path, tmp_path: Path) -> None:
    assert run(saved, "--to", "out").exit_code == 0
    again = run(saved, "--to", "out", "--labels", "names.txt")
    assert again.exit_code == 1
    assert "out has a model already; --overwrite replaces it" in again.output
    (tmp_path / "names.txt").write_text("background\na\nb\nc\n")
    names = ("--labels", "names.txt", "--overwrite")
    assert run(saved, "--to", "out", *names).exit_code == 0
    assert ssdops.load(tmp_path / "out").class_names == ("background", "a", "b", "c")


def test_labels_of_coco_by_its_numbers(run: Run, tmp_path: Path) -> None:
    weights = data_path(f"{COCO}/detect.tflite")
    result = run(weights, "--to", "out")
    assert "classes: without names; --labels coco91 has as many" in result.output
    result = run(weights, "--to", "named", "--labels", "coco91")
    assert "without names" not in result.output
    names = ssdops.load(tmp_path / "named").class_names
    lines = data_path(f"{COCO}/labelmap.txt").read_text().split("\n")
    assert names[1:] == tuple(lines[1:91])
    result = run(weights, "--to", "new", "--labels", "coco")
    assert "predict 91 classes including the background, got 81 names" in result.output
    result = run(weights, "--to", "new", "--labels", "coco80")
    assert "coco80 does not exist; there are the lists voc, coco" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.tflite",), "none.tflite does not exist"),
        (("none",), "weights none do not exist"),
        (("folder",), "folder"),
        (("model.zip",), "must end in one of"),
        (("{saved}", "--model", "ssd_small"), "is a saved model: leave out --model"),
        (("{saved}", "--preprocessing", "size=3"), "preprocessing has the settings"),
        (("{saved}", "--preprocessing", 'resize="crop"'), "resize must be"),
        (("{saved}", "--preprocessing", "image_size=[32, 32]"), "must equal anchors"),
        (("{saved}", "--post-processing", "score_threshold=2"), "must lie in"),
        (("{saved}", "--classes", "none.txt"), "none.txt does not exist"),
        (("{saved}", "--labels", "names.txt"), "must name all 4 classes"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    arguments: tuple[str, ...], message: str, run: Run, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "names.txt").write_text("background\na\n")
    result = run(*(text.format(saved=saved) for text in arguments), "--to", "out")
    assert result.exit_code == 1
    assert message in result.output
    assert "error: " in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
