# SPDX-License-Identifier: Apache-2.0
"""Results as plain values and as pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.evaluation import NAMES, found, make_record, random_dataset

from ssdops.data import Dataset
from ssdops.evaluation import (
    CocoEvaluator,
    ErrorEvaluator,
    VocEvaluator,
    feed_evaluators,
    save_error_breakdown,
    save_precision_recall,
    summarize,
)

BOX = [0.0, 0.0, 0.5, 0.5]


def results(dataset, detections, num_classes=4):
    kinds = (VocEvaluator, CocoEvaluator, ErrorEvaluator)
    evaluators = [kind(num_classes) for kind in kinds]
    feed_evaluators(dataset, detections, evaluators)
    voc, coco, errors = (evaluator.result() for evaluator in evaluators)
    return {"voc": voc, "coco": coco, "errors": errors}


@pytest.fixture
def small():
    dataset = Dataset([make_record("a", [BOX, BOX], [1, 2])], NAMES)
    return results(dataset, [found("a", (BOX, 0.9, 1), (BOX, 0.8, 3))])


def test_numbers(small) -> None:
    summary = summarize(NAMES, **small)
    # Plain values: NaN would be refused.
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["voc"]["mean"] == 0.5
    cat, dog, fox = (summary["voc"]["classes"][name] for name in NAMES[1:])
    assert cat == {
        "average_precision": 1.0,
        "num_ground_truth": 1,
        "num_detections": 1,
        "precision": [1.0] * 101,
    }
    assert dog["average_precision"] == 0.0
    assert fox["average_precision"] is None
    assert (fox["num_ground_truth"], fox["num_detections"]) == (0, 1)
    assert summary["coco"]["metrics"]["AP"] == pytest.approx(0.5)
    assert summary["coco"]["metrics"]["AP_large"] is None
    assert summary["coco"]["classes"]["fox"]["average_precision"] is None
    assert summary["coco"]["classes"]["cat"]["average_precision"] == pytest.approx(1)
    assert summary["errors"]["in_all"] == {
        "correct": 1,
        "localization": 0,
        "confusion": 1,
        "duplicate": 0,
        "background": 0,
        "confusion_and_localization": 0,
        "missed": 1,
        "num_ground_truth": 2,
    }
    assert summary["errors"]["classes"]["fox"]["confusion"] == 1
    assert summary["errors"]["classes"]["dog"]["missed"] == 1


def test_only_what_is_given(small) -> None:
    assert summarize(NAMES) == {}
    assert list(summarize(NAMES, coco=small["coco"])) == ["coco"]


@pytest.mark.parametrize("kind", ["voc", "coco", "errors"])
def test_names_of_other_classes(kind: str, small) -> None:
    with pytest.raises(ValueError, match="must name 4 classes, got 3 names"):
        summarize(NAMES[:3], **{kind: small[kind]})


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures(suffix: str, tmp_path: Path) -> None:
    found_all = results(*random_dataset(np.random.default_rng(0), 20))
    for draw, kind in (
        (save_precision_recall, "voc"),
        (save_error_breakdown, "errors"),
    ):
        path = tmp_path / f"deep/{kind}.{suffix}"
        draw(found_all[kind], NAMES, path)
        if suffix == "png":
            with Image.open(path) as picture:
                assert min(picture.size) > 200
                assert len(np.unique(np.asarray(picture))) > 20
        else:
            text = path.read_text("utf-8")
            assert all(f"<!-- {name}" in text for name in NAMES[1:])
            assert "background (" in text or kind == "voc"
        with pytest.raises(ValueError, match="must name 4 classes, got 3 names"):
            draw(found_all[kind], NAMES[:3], tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_pictures_of_nothing_and_of_odd_names(tmp_path: Path) -> None:
    for number, dataset in enumerate(
        (Dataset([], NAMES), Dataset([make_record("a", [BOX], [2])], NAMES))
    ):
        nothing = results(dataset, [])
        names = ("background", "$x", "$y_{$", "n" * 300)
        save_precision_recall(nothing["voc"], names, tmp_path / f"{number}.png")
        save_error_breakdown(nothing["errors"], names, tmp_path / f"{number}e.png")
    assert len(list(tmp_path.iterdir())) == 4


def test_pictures_show_the_classes_with_most_objects(tmp_path: Path) -> None:
    count = 120
    names = ("background", *(f"class{i}." for i in range(1, count + 1)))
    boxes = [BOX] * (count + 20)
    labels = [*range(1, count + 1), *range(101, 121)]
    dataset = Dataset([make_record("a", boxes, labels)], names)
    everything = results(dataset, [], count + 1)
    save_precision_recall(everything["voc"], names, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert "100 of 120 classes" in text
    assert all(f"class{label}." in text for label in (1, 80, 101, 120))
    assert not any(f"class{label}." in text for label in (81, 100))
