# SPDX-License-Identifier: Apache-2.0
"""A run from its settings: recipes, files, flags, first weights."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console
from support.squares import NAMES, make_dataset
from typer.testing import CliRunner

from ssdops.cli import app
from ssdops.data import write_voc
from ssdops.models import SSD, PostProcessing, build_model, load_model
from ssdops.training import (
    ConfigMismatchError,
    TrainingConfig,
    execute_run,
    merged,
    read_log,
    read_recipe,
    read_run_file,
    recipes,
    run_config,
)

DATA = make_dataset()
SMALL = {"name": "ssd_small", "options": {"image_size": [64, 64], "width": 0.25}}
TRAINING = {
    "steps": 4,
    "batch_size": 2,
    "warmup_steps": 1,
    "evaluate_every": 2,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Pascal VOC folder."""
    folder = tmp_path_factory.mktemp("data")
    write_voc(folder, DATA.records[:4], "train", NAMES)
    write_voc(folder, DATA.records[4:], "test", NAMES)
    return folder


def settings(folder, **changes):
    return merged(
        {
            "train_data": {"path": str(folder), "split": "train"},
            "evaluation_data": {"path": str(folder), "split": "test"},
            "model": SMALL,
            "training": TRAINING,
        },
        changes,
    )


def execute(config, output, **options):
    console = Console(file=io.StringIO(), width=200)
    result = execute_run(run_config(config), output, console=console, **options)
    return (*result, console.file.getvalue())


def weights(model):
    return {v.path: v.numpy() for v in model.network.weights}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_configuration(name):
    config = run_config(merged(read_recipe(name), {"train_data": {"path": "x"}}))
    if config.model.name:
        build_model(config.model.name, num_classes=3, **config.model.options)
    else:
        assert name == "finetune"  # the model is that of the weights
    assert config.training.augmentation == "ssd"
    if name.startswith(("voc", "coco")):
        training = config.training
        assert (training.optimizer, training.batch_size) == ("sgd", 32)
        assert training.bias_learning_rate_factor == 2
        assert training.use_difficult == name.startswith("voc")


def test_a_run_writes_what_it_depends_on(tmp_path, folder):
    model, result, evaluation, _ = execute(settings(folder), tmp_path)
    assert (result.steps, len(evaluation)) == (4, 2)
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["train_data"]["path"] == str(folder)
    assert saved["model"]["options"]["width"] == 0.25
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert set(versions) >= {"ssdops", "tensorflow", "keras", "python"}
    assert model.class_names == ("background", "blue", "red")
    # The same again is resumed, other data are not.
    _, result, _, _ = execute(settings(folder), tmp_path)
    assert result.first_step == 4
    other = settings(folder, evaluation_data={"split": "train"})
    with pytest.raises(ConfigMismatchError, match="evaluation_data was"):
        execute(other, tmp_path)
    _, result, _, _ = execute(other, tmp_path, restart=True)
    assert result.first_step == 0


def test_first_weights_are_those_of_another_detector(tmp_path, folder):
    keras.utils.set_random_seed(5)
    source = build_model("ssd_small", num_classes=7, image_size=(64, 64), width=0.25)
    source.save(tmp_path / "source")
    changes = {
        "model": {"weights": str(tmp_path / "source"), "options": {}},
        "training": {"learning_rate": 1e-30},
    }
    model, _, _, text = execute(settings(folder, **changes), tmp_path / "run")
    assert model.spec.image_size == (64, 64)
    assert "at random" in text
    given, taken = weights(source), weights(model)
    for path, value in taken.items():
        if "moving" in path:
            continue
        if given[path].shape != value.shape:
            assert "class" in path or "conf" in path or "logits" in path, path
        else:
            np.testing.assert_allclose(value, given[path], atol=1e-6, err_msg=path)


def test_a_model_stays_what_it_is_but_for_its_classes(tmp_path, folder):
    """Without a name it is that of the weights, with everything before and after."""
    source = build_model(
        "ssd_small",
        class_names=("background", "red", "green"),
        image_size=(64, 64),
        width=0.25,
    )
    spec = replace(
        source.spec,
        preprocessing=replace(source.spec.preprocessing, mean=(1, 2, 3)),
        post_processing=PostProcessing(score_threshold=0.3),
    )
    SSD(spec, source.network, source.class_names).save(tmp_path / "source")
    config = settings(folder, training={"learning_rate": 1e-30})
    config["model"] = {"weights": str(tmp_path / "source")}
    model, _, _, text = execute(config, tmp_path / "run")
    assert model.spec == replace(spec, num_classes=3)
    assert "training ssd_small" in text
    # Of the classes "blue" and "red" the second is known.
    kernel = source.network.get_layer("stride8_mbox_conf").kernel.numpy()
    taken = model.network.get_layer("stride8_mbox_conf").kernel.numpy()
    np.testing.assert_allclose(taken[..., 2::3], kernel[..., 1::3], atol=1e-6)
    assert np.abs(taken[..., 1::3] - kernel[..., 2::3]).max() > 0.01
    config["model"]["options"] = {"width": 0.5}
    model, _, _, _ = execute(config, tmp_path / "wide")
    assert model.spec == replace(spec, num_classes=3, options={"width": 0.5})


def test_weights_of_another_model_are_refused(tmp_path, folder):
    build_model("ssd_small", num_classes=3).save(tmp_path / "source")
    changes = {
        "model": {"name": "ssd300_vgg16", "weights": str(tmp_path / "source")},
    }
    with pytest.raises(ValueError, match="the weights of ssd_small, not of ssd300"):
        execute(settings(folder, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other": {}}, r"unknown section \[other\]"),
        ({"training": 3}, r"\[training\] must be a section"),
        ({"training": {"stepz": 3}}, r"\[training\] has no setting 'stepz'"),
        ({"training": {"steps": "3"}}, r"steps must be of type int"),
        ({"training": {"decay_steps": [1.5]}}, r"decay_steps must be a list of int"),
        ({"train_data": {"path": 3}}, r"\[train_data\] path must be a str"),
        (
            {"training": {"augmentation_options": 3}},
            "augmentation_options must be values by name, got 3",
        ),
        (
            {
                "training": {
                    "augmentation": "ssd",
                    "augmentation_options": {"hue_delta": -1},
                }
            },
            r"augmentation 'ssd': hue_delta must be in \[0, 255\], got -1",
        ),
        ({"model": {"options": "x"}}, r"\[model\] options must be a Mapping"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        run_config(settings("x", **changes))


@pytest.mark.parametrize("section", ["train_data", "training"])
def test_missing_sections_and_keys_are_named(section):
    given = settings("x")
    given[section] = {}
    with pytest.raises(ValueError, match=rf"\[{section}\] needs (path|steps)"):
        run_config(given)
    del given[section]
    with pytest.raises(ValueError, match=rf"section \[{section}\] is missing"):
        run_config(given)


def test_a_file_that_is_no_toml(tmp_path):
    file = tmp_path / "a.toml"
    for text in ("[training", "a = " + "[" * 100_000, "a = 1\na = 2"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"a\.toml is not TOML"):
            read_run_file(file)
    file.write_text("#" * 2_000_000)
    with pytest.raises(ValueError, match="larger than any"):
        read_run_file(file)
    with pytest.raises(ValueError, match="no recipe 'x'; there are coco_ssd300"):
        read_recipe("x")


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(app, ["train", *map(str, arguments)])

    def test_a_file_and_flags(self, tmp_path, folder):
        file = tmp_path / "run.toml"
        file.write_text(
            f"""
[train_data]
path = "{folder}"
split = "train"
[model]
name = "ssd_small"
options = {{ image_size = [64, 64], width = 0.25 }}
[training]
steps = 9
batch_size = 2
warmup_steps = 1
"""
        )
        (tmp_path / "names.txt").write_text("red\nblue\n")
        output = tmp_path / "run"
        flags = (
            *("--evaluation-split", "test", "--steps", 3, "--augmentation", "mirror"),
            *("--evaluation-data", folder, "--freeze", "stem*", "--no-use-difficult"),
            *("--format", "voc", "--classes", tmp_path / "names.txt"),
            *("--augmentation-options", "mirror_probability = 0.25"),
            *("--augmentation-options", "interpolations=['area', 'nearest']"),
            *("--model-options", "width=0.5"),
        )
        result = self.run("--config", file, "--output", output, *flags)
        assert result.exit_code == 0, result.output
        kept = json.loads((output / "training.json").read_text())
        assert (kept["steps"], kept["augmentation"]) == (3, "mirror")
        assert (kept["freeze"], kept["use_difficult"]) == (["stem*"], False)
        assert kept["augmentation_options"] == {
            "mirror_probability": 0.25,
            "interpolations": ["area", "nearest"],
        }
        model = json.loads((output / "run.json").read_text())["model"]
        assert model["options"] == {"image_size": [64, 64], "width": 0.5}
        assert (output / "curves.png").stat().st_size > 1000
        assert len(read_log(output / "evaluation.csv")) == 1
        assert load_model(output / "best").class_names == NAMES

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--data", "nowhere", "--steps", 200), "nowhere: no such file or folder"),
            (("--data", "x"), "section [training] is missing"),
            (("--steps", "200"), "section [train_data] is missing"),
            (("--recipe", "x"), "no recipe 'x'"),
            (("--config", "nowhere.toml"), "nowhere.toml"),
            (
                ("--data", "x", "--steps", 200, "--optimizer", "adam"),
                "optimizer must be one of adamw, sgd",
            ),
            (
                ("--data", "x", "--steps", 200, "--augmentation-options", "hue"),
                "expected NAME=VALUE with a value in TOML, got 'hue'",
            ),
            (
                ("--data", "x", "--steps", 200, "--augmentation-options", "hue=1"),
                "augmentation 'none' has no option 'hue'",
            ),
        ],
    )
    def test_mistakes_are_one_sentence(self, tmp_path, arguments, message):
        result = self.run(*arguments, "--output", tmp_path / "run")
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert not (tmp_path / "run").exists()

    def test_every_setting_has_a_flag_with_its_words(self):
        result = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "400"})
        for entry in fields(TrainingConfig):
            assert f"--{entry.name.replace('_', '-')} " in result.output
        assert "Name of the model. (default: that of the weights, or" in result.output
        assert "over all replicas, at least 1. (default: 32)" in result.output
        assert "by name; * stands for any characters. (default: none)" in result.output

    def test_a_data_set_without_its_images(self, tmp_path, folder):
        broken = tmp_path / "data"
        write_voc(broken, DATA.records[:2], "train", NAMES)
        for file in (broken / "JPEGImages").iterdir():
            file.write_bytes(b"no image")
        flags = ("--model", "ssd_small", "--steps", 2, "--warmup-steps", 0)
        result = self.run("--data", broken, *flags, "--output", tmp_path / "run")
        assert result.exit_code == 1
        assert "is not an image in a known format" in result.stderr


def test_the_folder_of_the_package_has_the_recipes():
    import ssdops

    folder = Path(ssdops.__file__).parent / "training" / "recipes"
    assert {file.stem for file in folder.glob("*.toml")} == set(recipes())
    assert len(recipes()) >= 6
