# SPDX-License-Identifier: Apache-2.0
"""`ssdops detect` and `ssdops anchors`: files, messages and exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from support.data import data_path
from support.programs import run_program
from typer.testing import CliRunner

from ssdops.anchors import AnchorGrid, anchor_grid, anchor_grid_names
from ssdops.cli import app
from ssdops.cli.classes import read_labels
from ssdops.cli.detect import output_name
from ssdops.models import build_model

COCO = "weights/coco_ssd_mobilenet_v1_quant"
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own; results have `exit_code`, `output`."""
    monkeypatch.chdir(tmp_path)
    # Rich breaks lines at the width of the terminal.
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    runner = CliRunner()

    def call(*arguments: object) -> Any:
        return runner.invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model; class 2 is marked as unused."""
    keras.utils.set_random_seed(0)
    names = ["background", "cat", "???", "dog"]
    model = build_model("ssd_small", class_names=names, image_size=(64, 64), width=0.25)
    return model.save(tmp_path_factory.mktemp("models") / "small")


def photo(path: Path, size: tuple[int, int] = (80, 60)) -> Path:
    """A picture of noise, (width, height)."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def coco_options() -> tuple[object, ...]:
    weights = data_path(f"{COCO}/weights_dequant_float32.npz")
    labels = data_path(f"{COCO}/labelmap.txt")
    return ("--model", "ssd300_mobilenet_v1", "--weights", weights, "--labels", labels)


def test_objects_on_photos(run: Run, tmp_path: Path) -> None:
    photos = [data_path(f"photos/{name}.jpg") for name in ("000001", "004545")]
    result = run("detect", *photos, *coco_options(), "--json", "out/found.json")
    assert result.exit_code == 0, result.output
    for line in ("000001.jpg: 2 objects", "person", "horse", "out/found.json"):
        assert line in result.output

    found = json.loads((tmp_path / "out/found.json").read_text("utf-8"))
    assert [set(entry) for entry in found] == [
        {"image", "width", "height", "detections"}
    ] * 2
    assert [entry["image"] for entry in found] == [str(photo) for photo in photos]
    assert (found[0]["width"], found[0]["height"]) == (353, 500)
    assert [d["name"] for d in found[0]["detections"]] == ["person", "dog"]
    for entry in found:
        scores = [d["score"] for d in entry["detections"]]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) > 0.5
        for detection in entry["detections"]:
            assert set(detection) == {"label", "name", "score", "box"}
            ymin, xmin, ymax, xmax = detection["box"]
            assert 0 <= ymin < ymax <= entry["height"]
            assert 0 <= xmin < xmax <= entry["width"]
    # The annotated box of the dog in 000001.xml, (ymin, xmin, ymax, xmax).
    dog = found[0]["detections"][1]
    np.testing.assert_allclose(dog["box"], [240, 48, 371, 195], atol=12)

    for name, size in (("000001", (353, 500)), ("004545", (500, 375))):
        with Image.open(tmp_path / f"detections/{name}_detections.jpg") as picture:
            assert picture.size == size


def test_saved_model(run: Run, saved: Path, tmp_path: Path) -> None:
    path = photo(tmp_path / "a b.png")
    result = run(
        *("detect", path, "--model", saved, "--score-threshold", 0.1),
        *("--max-detections", 60, "--json", "found.json", "--output", "deep/er"),
    )
    assert result.exit_code == 0, result.output
    [entry] = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert 1 <= len(entry["detections"]) <= 60
    assert {d["name"] for d in entry["detections"]} <= {"cat", "dog"}
    assert {d["label"] for d in entry["detections"]} <= {1, 3}
    assert (tmp_path / "deep/er/a b_detections.jpg").is_file()
    assert sorted(file.name for file in (tmp_path / "deep/er").iterdir()) == [
        "a b_detections.jpg"
    ]


def test_other_names_for_a_saved_model(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("x\none\ntwo\nthree\n", "utf-8")
    result = run(
        *("detect", photo(tmp_path / "a.png"), "--model", saved, "--json", "j"),
        *("--labels", "names.txt", "--score-threshold", 0.1),
    )
    assert result.exit_code == 0, result.output
    [entry] = json.loads((tmp_path / "j").read_text())
    assert {d["name"] for d in entry["detections"]} <= {"one", "two", "three"}
    assert entry["detections"]


def test_nothing_found(run: Run, saved: Path, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    result = run(
        "detect", path, "--model", saved, "--score-threshold", 1, "--json", "j"
    )
    assert result.exit_code == 0
    assert "a.png: 0 objects" in result.output
    [entry] = json.loads((tmp_path / "j").read_text("utf-8"))
    assert entry["detections"] == []


def test_a_bad_photo_does_not_stop_the_others(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    first, last = photo(tmp_path / "a.png"), photo(tmp_path / "c.jpg")
    bad = tmp_path / "b.jpg"
    bad.write_bytes(last.read_bytes()[:500])
    missing = tmp_path / "no.jpg"
    result = run(
        *("detect", first, bad, missing, last, "--model", saved, "--json", "j"),
    )
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert errors[0].startswith(f"error: {bad} cannot be decoded")
    assert errors[1] == f"error: {missing} does not exist"
    assert errors[2] == "error: 2 of 4 photos could not be processed"
    found = json.loads((tmp_path / "j").read_text("utf-8"))
    assert [entry["image"] for entry in found] == [str(first), str(last)]
    assert (tmp_path / "detections/c_detections.jpg").is_file()


def test_an_unusable_json_place_is_told_before_the_photos(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    path = photo(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    result = run(
        *("detect", path, "--model", saved, "--json", "folder", "--output", "out")
    )
    assert result.exit_code == 1
    assert "folder" in result.output
    assert not list((tmp_path / "out").iterdir())


def test_photos_and_earlier_pictures_are_not_overwritten(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    """The output folder is that of the photos, and two photos share a name."""
    (tmp_path / "other").mkdir()
    photos = [
        photo(tmp_path / "a.png"),
        photo(tmp_path / "other/a.png"),
        photo(tmp_path / "a_detections.jpg"),
    ]
    before = [path.read_bytes() for path in photos]
    result = run("detect", *photos, "--model", saved, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert [path.read_bytes() for path in photos] == before
    assert {path.name for path in tmp_path.glob("*_detections.jpg")} == {
        "a_detections.jpg",
        "a_2_detections.jpg",
        "a_3_detections.jpg",
        "a_detections_detections.jpg",
    }


def test_output_names_are_numbered(tmp_path: Path) -> None:
    reserved: set[Path] = set()
    names = [output_name(tmp_path, Path("x.jpg"), reserved).name for _ in range(3)]
    assert names == [
        "x_detections.jpg",
        "x_2_detections.jpg",
        "x_3_detections.jpg",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--model", "ssd900"),
            "neither a saved model nor one of ssd300_vgg16, ssd512",
        ),
        (("--model", "ssd300_vgg16"), "ssd300_vgg16 needs weights"),
        (("--model", "ssd_small", "--weights", "w.npz"), "has no published weights"),
        (("--model", "ssd300_vgg16", "--weights", "w.npz"), "w.npz does not exist"),
        (("--model", "ssd300_vgg16", "--weights", "a.png"), "a.png must end in one of"),
        (("--model", "."), "is not a saved model: model.json is missing"),
        (("--model", "SAVED", "--weights", "w.npz"), "leave out weights"),
        (("--model", "SAVED", "--labels", "no.txt"), "no.txt does not exist"),
        (("--model", "SAVED", "--labels", "a.png"), "a.png is not UTF-8 text"),
        (("--model", "SAVED", "--labels", "short.txt"), "all 4 classes"),
        (("--model", "SAVED", "--labels", "one.txt"), "at least one class, got 1"),
        (("--model", "SAVED", "--output", "a.png"), "a.png"),
        (("--model", "SAVED", "--json", "a.png/found.json"), "a.png"),
    ],
)
def test_problems_are_one_clear_line(
    run: Run, saved: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "short.txt").write_text("background\ncat\n", "utf-8")
    (tmp_path / "one.txt").write_text("background\n", "utf-8")
    options = tuple(str(saved) if option == "SAVED" else option for option in options)
    result = run("detect", "a.png", *options)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--model", "x", "--score-threshold", "1.5"),
        ("--model", "x", "--iou-threshold", "-1"),
        ("--model", "x", "--max-detections", "0"),
    ],
)
def test_wrong_usage(run: Run, options: tuple[str, ...]) -> None:
    assert run("detect", "a.png", *options).exit_code == 2


def test_class_names_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeff???\r\nperson\r\n\r\nFüchse [rot]\r\n\r\n".encode())
    assert read_labels(path) == ["background", "person", "", "Füchse [rot]"]


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        (
            ".pbtxt",
            'item { name: "/m/01g317" id: 1 display_name: "person" }\n'
            'item { name: "car" id: 3 }',
            ["background", "person", "???", "car"],
        ),
        (
            ".prototxt",
            'item { name: "none_of_the_above" label: 0 display_name: "background" }\n'
            'item { name: "aeroplane" label: 1 display_name: "aeroplane" }',
            ["background", "aeroplane"],
        ),
    ],
)
def test_label_map(suffix: str, text: str, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"labels{suffix}"
    path.write_text(text)
    assert read_labels(path) == expected
    path.write_text(text.replace(": 1 ", ": 1001 "))
    with pytest.raises(ValueError, match="has class 1001, more than 1000"):
        read_labels(path)
    path.write_text(text.replace(": 1 ", ": -1 "))
    with pytest.raises(ValueError, match="id must be an integer from 1, got '-1'"):
        read_labels(path)


def test_names_with_markup_are_printed_as_they_are(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("b\n[red]cat\n[x]\n[/]\n", "utf-8")
    path = photo(tmp_path / "[bold]a.png")
    result = run(
        *("detect", path, "--model", saved, "--labels", "names.txt"),
        *("--score-threshold", 0.1, "--json", "[/x].json"),
    )
    assert result.exit_code == 0, result.output
    assert "[bold]a.png: " in result.output
    assert "[red]cat" in result.output
    assert "detections: [/x].json" in result.output


def test_list_of_grids(run: Run) -> None:
    result = run("anchors")
    assert result.exit_code == 0
    for name in anchor_grid_names():
        assert name in result.output
        assert str(anchor_grid(name).num_anchors) in result.output


@pytest.mark.parametrize("name", anchor_grid_names())
def test_table_of_a_grid(run: Run, name: str) -> None:
    result = run("anchors", name)
    assert result.exit_code == 0
    grid = anchor_grid(name)
    for count in (*grid.anchors_per_level, grid.num_anchors):
        assert str(count) in result.output


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_grid_as_picture_and_json(run: Run, tmp_path: Path, suffix: str) -> None:
    result = run(
        *("anchors", "ssd300_voc", "--plot", f"deep/a.{suffix}", "--json", "a.json")
    )
    assert result.exit_code == 0, result.output
    picture = tmp_path / f"deep/a.{suffix}"
    assert picture.stat().st_size > 5000
    if suffix == "png":
        with Image.open(picture) as image:
            assert min(image.size) > 600
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert AnchorGrid.from_dict(data) == anchor_grid("ssd300_voc")


def test_problems_of_the_anchors_command(run: Run, tmp_path: Path) -> None:
    result = run("anchors", "ssd900")
    assert result.exit_code == 2
    assert "unknown anchor grid" in result.stderr
    assert run("anchors", "--plot", "a.png").exit_code == 2
    result = run("anchors", "ssd300_voc", "--plot", "a.xyz")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_anchors_command_does_not_need_tensorflow() -> None:
    """It answers within a second; TensorFlow alone takes longer to import."""
    code = (
        "import sys; sys.argv = ['ssdops', 'anchors', 'ssd300_voc']\n"
        "from ssdops.cli import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    run_program(code)


def test_a_warning_is_one_line():
    code = (
        "import sys, warnings; sys.argv = ['ssdops', '--version']\n"
        "from ssdops import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(warnings.formatwarning(UserWarning('2 objects'), UserWarning, 'f', 1))"
    )
    assert "\nwarning: 2 objects\n" in run_program(code)


@pytest.mark.parametrize("command", ["detect", "import", "evaluate"])
def test_nothing_but_the_message_is_said(command: str) -> None:
    """TensorFlow's first lines go below `sys.stderr`, so a process of its own tells."""
    arguments = {
        "detect": ["no.jpg", "--model", "nothing"],
        "import": ["nothing.npz", "--to", "model"],
        "evaluate": ["nothing", "--model", "nothing"],
    }
    program = (
        "import subprocess, sys; done = subprocess.run([sys.executable, '-m', 'ssdops',"
        " *sys.argv[1:]], stderr=subprocess.PIPE, text=True); print(done.stderr)"
    )
    lines = run_program(program, command, *arguments[command]).split("\n")
    assert lines[0].startswith("error: ")
    assert not any(lines[1:])
