# SPDX-License-Identifier: Apache-2.0
"""`ssdops evaluate`: tables, files, messages and exit statuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.data import data_path
from support.programs import run_program
from typer.testing import CliRunner

from ssdops.cli import app
from ssdops.data import Dataset, Record, read_voc, write_voc
from ssdops.evaluation import (
    CocoEvaluator,
    ImageDetections,
    evaluate,
    write_coco_results,
    write_voc_results,
)
from ssdops.models import SSD, build_model, change_classes, load_model

# Not in the order of the alphabet, in which a VOC folder is read by itself.
NAMES = ("background", "fox", "cat", "dog")
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    runner = CliRunner()

    def call(*arguments: object) -> Any:
        return runner.invoke(app, ["evaluate", *map(str, arguments)])

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder: 6 images in `test`, one of another size in `other`."""
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("data") / "voc"
    records = [
        Record(
            image=rng.integers(0, 256, (50, 80, 3), dtype=np.uint8),
            boxes=np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.5, 0.9, 0.8]], np.float32),
            labels=np.array([1 + i % 3, 1 + (i + 1) % 3], np.int32),
            difficult=np.array([False, i == 0]),
            image_id=f"{i:06}",
        )
        for i in range(7)
    ]
    write_voc(folder, records[:6], "test", NAMES)
    write_voc(folder, records[6:], "other", NAMES)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(3)
    model = build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)
    return model.save(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def perfect(data: Path, tmp_path: Path) -> Path:
    """VOC's files with the ground truth of `test` as detections."""
    dataset = read_voc(data, "test", NAMES)
    write_voc_results(tmp_path / "perfect", dataset, ground_truth(dataset))
    return tmp_path / "perfect"


def ground_truth(dataset: Dataset) -> list[ImageDetections]:
    return [
        ImageDetections.from_lists(
            record.image_id, record.boxes, [0.9] * len(record.labels), record.labels
        )
        for record in dataset.records
    ]


def numbers(file: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(file.read_text("utf-8"), parse_constant=refuse)


def test_model(run: Run, data: Path, saved: Path, tmp_path: Path) -> None:
    result = run(
        *(data, "--model", saved, "--split", "test", "--score-threshold", 0.2),
        *("--save-detections", "deep/found.json", "--output", "out/pictures"),
        *("--json", "out/n.json"),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for text in ("fox", "AP@0.5", "AR_large", "missed", "mAP@0.5", "out/n.json"):
        assert text in result.output
    for name in ("precision_recall.png", "errors.png"):
        assert (tmp_path / "out/pictures" / name).stat().st_size > 5000

    dataset = read_voc(data, "test", NAMES)
    coco = CocoEvaluator(len(NAMES))
    expected = evaluate(load_model(saved), dataset, also=[coco], score_threshold=0.2)
    written = numbers(tmp_path / "out/n.json")
    assert written["voc"]["mean"] == expected.mean
    assert written["class_names"] == list(NAMES[1:])
    assert written["num_images"] == 6
    assert written["settings"]["score_threshold"] == 0.2
    assert written["coco"]["metrics"]["AP"] == coco.result().metrics["AP"]
    assert written["coco"]["metrics"]["AP_large"] is None

    # The saved detections give the same numbers, with the model's order of classes.
    shown = tmp_path / "deep/found.classes.txt"
    assert shown.read_text() == "fox\ncat\ndog\n"
    assert min(entry["score"] for entry in numbers(tmp_path / "deep/found.json")) > 0.2
    result = run(
        *(data, "--detections", "deep/found.json", "--split", "test"),
        *("--json", "again.json", "--save-detections", "texts"),
    )
    assert result.exit_code == 0, result.output
    run(data, "--detections", "texts", "--split", "test", "--json", "third.json")
    for name in ("again.json", "third.json"):
        again = numbers(tmp_path / name)
        for part in ("voc", "coco", "errors"):
            assert again[part] == written[part], (name, part)
        assert again["settings"]["score_threshold"] is None


def test_perfect_detections(
    run: Run, data: Path, perfect: Path, tmp_path: Path
) -> None:
    result = run(data, "--detections", perfect, "--split", "test", "--json", "n.json")
    assert result.exit_code == 0, result.output
    written = numbers(tmp_path / "n.json")
    assert written["voc"]["mean"] == 1.0
    assert written["coco"]["metrics"]["AP"] == pytest.approx(1)
    counts = written["errors"]["in_all"]
    assert (counts["correct"], counts["missed"]) == (11, 0)
    # The difficult object is no object, and its detection is left out.
    assert counts["num_ground_truth"] == 11
    assert sum(counts.values()) == 22
    assert "mAP@0.5 1.0000" in result.output


def test_json_of_detections_with_class_names(
    run: Run, data: Path, tmp_path: Path
) -> None:
    dataset = read_voc(data, "test", NAMES)
    write_coco_results(tmp_path / "found.json", dataset, ground_truth(dataset))
    (tmp_path / "names.txt").write_text("fox\ncat\ndog\n")
    for options, mean in (((), 0.0), (("--classes", "names.txt"), 1.0)):
        result = run(
            *(data, "--detections", "found.json", "--split", "test", *options),
            *("--json", "n.json"),
        )
        assert result.exit_code == 0, result.output
        assert numbers(tmp_path / "n.json")["voc"]["mean"] == mean


@pytest.mark.parametrize(
    ("metric", "shown", "hidden"),
    [("voc", "AP@0.5", "AR_large"), ("coco", "AR_large", "AP@0.5")],
)
def test_one_metric(
    run: Run, data: Path, perfect: Path, tmp_path: Path, metric, shown, hidden
) -> None:
    result = run(
        *(data, "--detections", perfect, "--split", "test", "--metric", metric),
        *("--output", "out", "--json", "n.json"),
    )
    assert result.exit_code == 0, result.output
    assert shown in result.output
    assert hidden not in result.output
    assert ("precision_recall.png" in result.output) == (metric == "voc")
    assert (tmp_path / "out/precision_recall.png").exists() == (metric == "voc")
    assert ({"voc", "coco"} & set(numbers(tmp_path / "n.json"))) == {metric}


def test_options_of_the_metric(
    run: Run, data: Path, perfect: Path, tmp_path: Path
) -> None:
    # Every other detection of a cat shrinks to an IoU of 0.7, and scores less. The
    # first of four is of a difficult object.
    file = perfect / "comp4_det_test_cat.txt"
    lines = []
    for number, line in enumerate(file.read_text().splitlines()):
        name, _, xmin, *rest = line.split()
        ymin, xmax, ymax = rest
        if number % 2:
            xmax = str(float(xmin) + 0.7 * (float(xmax) - float(xmin)))
        lines.append(f"{name} {0.8 - 0.1 * (number % 2)} {xmin} {ymin} {xmax} {ymax}")
    file.write_text("\n".join(lines))

    def cats(*options: object) -> dict[str, Any]:
        result = run(
            *(data, "--detections", perfect, "--split", "test", "--metric", "voc"),
            *("--json", "n.json", *options),
        )
        assert result.exit_code == 0, result.output
        return numbers(tmp_path / "n.json")["voc"]["classes"]["cat"]

    assert cats("--iou-threshold", 0.69)["average_precision"] == 1.0
    strict = cats("--iou-threshold", 0.71)
    assert strict["average_precision"] == pytest.approx(1 / 3)
    eleven = cats("--iou-threshold", 0.71, "--interpolation", "11point")
    assert eleven["average_precision"] == pytest.approx(4 / 11)
    assert cats("--score-threshold", 0.75)["num_detections"] == 1
    assert cats()["num_detections"] == 3


def test_errors_above_a_score(
    run: Run, data: Path, perfect: Path, tmp_path: Path
) -> None:
    result = run(
        *(data, "--detections", perfect, "--split", "test", "--json", "n.json"),
        *("--error-score-threshold", 0.95),
    )
    assert result.exit_code == 0, result.output
    counts = numbers(tmp_path / "n.json")["errors"]["in_all"]
    assert (counts["correct"], counts["missed"]) == (0, 11)


def test_no_detections(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    result = run(data, "--detections", "none.json", "--json", "n", "--output", "out")
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "n")["voc"]["mean"] == 0.0
    assert numbers(tmp_path / "n")["num_images"] == 7


def test_names_with_markup_are_printed_as_they_are(
    run: Run, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "none.classes.txt").write_text("[red]x\n[/]\nfox\ncat\ndog\n")
    result = run(data, "--detections", "none.json", "--json", "[b]n")
    assert result.exit_code == 0, result.output
    for text in ("[red]x", "[/]", "numbers: [b]n"):
        assert text in result.output


def test_dropped_objects_are_one_line(run: Run, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "voc"
    shutil.copytree(data, copy)
    file = copy / "Annotations/000000.xml"
    text = file.read_text()
    file.write_text(re.sub("<xmin>.*</xmin>", "<xmin>99</xmin>", text, count=1))
    (tmp_path / "none.json").write_text("[]")
    result = run(copy, "--detections", "none.json")
    assert result.exit_code == 0, result.output
    [line] = result.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "1 objects left out" in line


def test_a_model_of_more_classes(
    run: Run, data: Path, saved: Path, tmp_path: Path
) -> None:
    """Sigmoid scores of a class do not depend on the other classes."""
    names = ("background", "???", "Fox", "bus", "ca-t", "???", "dog")
    few = load_model(saved)
    few = SSD(replace(few.spec, score_activation="sigmoid"), few.network, NAMES)
    few.save(tmp_path / "few")
    unique = [name.replace("???", f"new {i}") for i, name in enumerate(names)]
    many = change_classes(few, unique)[0]
    SSD(many.spec, many.network, names).save(tmp_path / "many")
    (tmp_path / "names.txt").write_text("background\nfox\ncat\ndog\n")
    refused = run(data, "--model", "many")
    assert refused.exit_code == 1
    assert "choose those to evaluate with --classes" in refused.stderr
    unknown = run(data, "--model", "many", "--classes", "voc")
    assert unknown.exit_code == 1
    assert "many does not know the classes aeroplane, bicycle" in unknown.stderr
    for model, classes in (("few", ()), ("many", ("--classes", "names.txt"))):
        result = run(data, "--model", model, *classes, "--json", f"{model}.json")
        assert result.exit_code == 0, result.output
    expected = {**numbers(tmp_path / "few.json"), "model": "many"}
    assert numbers(tmp_path / "many.json") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --model or --detections"),
        (("--model", "SAVED", "--detections", "x"), "give either --model or --detec"),
        (("--model", "SAVED", "--format", "x"), "--format must be one of auto, voc"),
    ],
)
def test_wrong_usage_is_one_sentence(
    run: Run, data: Path, saved: Path, options: tuple[str, ...], message: str
) -> None:
    result = run(data, *(saved if option == "SAVED" else option for option in options))
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "options",
    [
        ("--metric", "pascal"),
        ("--interpolation", "12point"),
        ("--iou-threshold", "0"),
        ("--score-threshold", "nan"),
        ("--batch-size", "0"),
    ],
)
def test_values_out_of_range(run: Run, data: Path, options: tuple[str, ...]) -> None:
    assert run(data, "--detections", "x", *options).exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--detections", "no.json"), "no.json: no such file"),
        (("--detections", "bad.json"), "bad.json: not valid JSON"),
        (("--detections", "nan.json"), "NaN is no number"),
        (("--detections", "."), "comp4_det_test_cat.txt: no such file"),
        (("--detections", "good.json", "--split", "no"), "no.txt"),
        (("--detections", "good.json", "--classes", "few.txt"), "is not one of dog"),
        (("--detections", "good.json", "--classes", "no.txt"), "no.txt"),
        (("--detections", "good.json", "--json", "."), "is a folder"),
        (("--detections", "good.json", "--output", "good.json"), "good.json"),
        (("--detections", "good.json", "--save-detections", "few.txt"), "few.txt"),
        (("--model", "."), "is not a saved model: model.json is missing"),
    ],
)
def test_problems_are_one_clear_line(
    run: Run, data: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "good.json").write_text("[]")
    (tmp_path / "bad.json").write_text("[" * 100_000)
    (tmp_path / "nan.json").write_text('[{"score": NaN}]')
    (tmp_path / "few.txt").write_text("dog\n")
    before = {path.name for path in tmp_path.iterdir()}
    result = run(data, *options)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {path.name for path in tmp_path.iterdir()} == before


def test_data_that_is_not_there(run: Run, saved: Path) -> None:
    result = run("nowhere", "--model", saved)
    assert result.exit_code == 1
    assert result.stderr == "error: nowhere: no such file or folder\n"


def test_a_bad_image_is_one_clear_line(
    run: Run, data: Path, saved: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "voc"
    shutil.copytree(data, copy)
    (copy / "JPEGImages/000003.jpg").write_bytes(b"no picture")
    result = run(copy, "--model", saved, "--json", "n.json")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "000003.jpg" in line
    assert not (tmp_path / "n.json").exists()


def test_a_model_of_other_classes(run: Run, data: Path, tmp_path: Path) -> None:
    names = ("background", "cat", "cow")
    model = build_model("ssd_small", class_names=names, image_size=(64, 64), width=0.25)
    model.save(tmp_path / "other")
    result = run(data, "--model", "other")
    assert result.exit_code == 1
    assert "is not one of cat, cow" in result.stderr


def test_the_model_is_given_as_its_own_names_only(
    run: Run, data: Path, saved: Path, tmp_path: Path
) -> None:
    """Names beside a file of detections are of no concern to a model."""
    (tmp_path / "found.classes.txt").write_text("dog\n")
    result = run(data, "--model", saved, "--save-detections", "found.json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "found.classes.txt").read_text() == "fox\ncat\ndog\n"


def test_commands_start_without_tensorflow() -> None:
    run_program(
        "import ssdops.cli.evaluate, sys; assert 'tensorflow' not in sys.modules"
    )


def test_published_answer_from_two_files(run: Run, tmp_path: Path) -> None:
    # There are no images, and category ids have gaps.
    folder = data_path("eval_oracle/cocoapi_bbox100")
    result = run(
        *(folder / "instances_val2014_100.json", "--json", "n.json"),
        *("--detections", folder / "instances_val2014_fakebbox100_results.json"),
        *("--save-detections", "again.json"),
    )
    assert result.exit_code == 0, result.output
    expected = json.loads((folder / "expected.json").read_text())["pycocotools_2.0.11"]
    metrics = numbers(tmp_path / "n.json")["coco"]["metrics"]
    assert metrics == pytest.approx(expected, abs=1e-6)
    # What is written has the ids of the ground truth, as other programs expect.
    written = json.loads((tmp_path / "again.json").read_text())
    assert max(entry["category_id"] for entry in written) == 90
