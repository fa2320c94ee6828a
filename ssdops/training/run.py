# SPDX-License-Identifier: Apache-2.0
"""A whole run from settings: data, model, first weights, training."""

from __future__ import annotations

import contextlib
import io
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf
from rich.console import Console

from ssdops.data import Dataset, make_augmentation, read_class_names, read_dataset
from ssdops.files import write_json
from ssdops.models import (
    SSD,
    ModelSpec,
    build_from_spec,
    build_from_weights,
    build_model,
    load_model,
    model_spec,
    transfer_weights,
)
from ssdops.models.saving import find_model
from ssdops.training.config import TrainingConfig, keep_settings
from ssdops.training.distribution import make_strategy, worker_index
from ssdops.training.loop import TrainingResult, train

DEFAULT_MODEL: Final = "ssd300_vgg16"
RUN_FILE: Final = "run.json"
VERSIONS_FILE: Final = "versions.json"


@dataclass(frozen=True)
class DataConfig:
    """Where a data set is; as the arguments of `read_dataset`.

    Attributes:
        path: file or folder.
        split: part of it, or empty for all.
        data_format: or `"auto"`.
    """

    path: str
    split: str = ""
    data_format: str = "auto"

    def read(self, class_names: tuple[str, ...] | None = None) -> Dataset:
        """The data set."""
        return read_dataset(
            self.path,
            split=self.split or None,
            class_names=class_names,
            data_format=self.data_format,
        )


@dataclass(frozen=True)
class ModelConfig:
    """Which detector is trained, and from which weights.

    Attributes:
        name: one of `ssdops.models.available_models()`; empty for the model of the
            weights, or "ssd300_vgg16" without any.
        weights: first weights: a folder that `SSD.save` wrote, or published weights of
            the model (a file); what does not fit, as the layers that predict other
            classes, begins at random. Empty for random weights.
        class_names_file: text file with the names of the classes, one a line; empty for
            those of the training data.
        options: of the model, for `build_model`.
    """

    name: str = ""
    weights: str = ""
    class_names_file: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on.

    Attributes:
        train_data: images to train on.
        training: settings of the training.
        model: the detector.
        evaluation_data: images for the evaluations; None for none.
    """

    train_data: DataConfig
    training: TrainingConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    evaluation_data: DataConfig | None = None


def run_config(settings: Mapping[str, Any]) -> RunConfig:
    """The checked configuration of a run.

    Args:
        settings: sections `train_data`, `training` and perhaps `model` and
            `evaluation_data`, with the attributes of their classes as keys.

    Raises:
        ValueError: if a section or key is missing, unknown, or of the wrong type.
    """
    sections = {
        "train_data": DataConfig,
        "training": TrainingConfig,
        "model": ModelConfig,
        "evaluation_data": DataConfig,
    }
    for name, given in settings.items():
        if name not in sections:
            raise ValueError(
                f"unknown section [{name}]; known are {', '.join(sections)}"
            )
        if not isinstance(given, Mapping):
            raise ValueError(f"[{name}] must be a section, got {given!r}")
    made = {
        name: _section(name, kind, settings[name])
        for name, kind in sections.items()
        if name in settings
    }
    for name, key in (("train_data", "path"), ("training", "steps")):
        if name not in made:
            raise ValueError(f"section [{name}] is missing, at least its {key}")
    training = made["training"]
    # Mistakes in it shall be known before the data are read.
    make_augmentation(training.augmentation, training.augmentation_options)
    return RunConfig(**made)


def _section(name: str, kind: type, given: Mapping[str, Any]) -> Any:
    known = {entry.name: entry for entry in fields(kind)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"[{name}] has no setting {key!r}; there are {', '.join(known)}"
            )
        # TrainingConfig checks itself.
        expected = Mapping if key == "options" else str
        if kind is not TrainingConfig and not isinstance(value, expected):
            raise ValueError(
                f"[{name}] {key} must be a {expected.__name__}, got {value!r}"
            )
    try:
        return kind(**given)
    except TypeError:
        missing = [
            key for key in ("path", "steps") if key in known and key not in given
        ]
        raise ValueError(f"[{name}] needs {', '.join(missing)}") from None


def execute_run(
    config: RunConfig,
    folder: str | Path,
    *,
    restart: bool = False,
    console: Console | None = None,
    strategy: str = "auto",
) -> tuple[SSD, TrainingResult, Dataset | None]:
    """Reads the data, makes the model, and trains it.

    On several machines each runs this with the same arguments and its own `TF_CONFIG`;
    all of them need the data and the run folder at the same place.

    The run folder gets `run.json` (data and model), `versions.json` and what `train`
    writes.

    Args:
        config: what to do.
        folder: run folder, made if it is not there; a run in it is gone on with.
        restart: begin anew, even if the folder has a run.
        console: where progress is shown; None for the standard output.
        strategy: as in `ssdops.training.distribution.make_strategy`.

    Returns:
        The trained model, the result of `train`, and the data set of the evaluations.

    Raises:
        OSError: if a file is not there.
        ValueError: if data, model and settings do not fit.
        ConfigMismatchError: if the folder's run has other settings.
    """
    # Before TensorFlow computes anything.
    replicas = make_strategy(strategy)
    is_first = worker_index(replicas) == 0
    if not is_first:
        console = Console(file=io.StringIO())
    console = console or Console()
    folder = Path(folder)
    names_file = config.model.class_names_file
    names = read_class_names(names_file) if names_file else None
    train_data = config.train_data.read(names)
    evaluation_data = None
    if config.evaluation_data is not None:
        evaluation_data = config.evaluation_data.read(train_data.class_names)
    # The first weights depend on the seed, too.
    keras.utils.set_random_seed(config.training.seed)
    with contextlib.nullcontext() if replicas is None else replicas.scope():
        model = _make_model(config.model, train_data, console)
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        if restart:
            (folder / RUN_FILE).unlink(missing_ok=True)
        described = asdict(config)
        del described["training"]
        keep_settings(folder / RUN_FILE, described)
        write_json(folder / VERSIONS_FILE, _versions())
    console.print(
        f"training {model.spec.name} ({model.network.count_params():,} weights,"
        f" {model.spec.anchors.num_anchors} anchors) on {len(train_data)} images with"
        f" {train_data.num_objects} objects of {train_data.num_classes - 1} classes",
        highlight=False,
    )
    result = train(
        model,
        train_data,
        config.training,
        folder,
        evaluation_data=evaluation_data,
        restart=restart,
        console=console,
        strategy=replicas,
    )
    return model, result, evaluation_data


def _make_model(config: ModelConfig, data: Dataset, console: Console) -> SSD:
    names = data.class_names
    options = dict(config.options)
    if not config.weights:
        return build_model(config.name or DEFAULT_MODEL, class_names=names, **options)
    source = Path(config.weights)
    absent: list[str] = []
    # A folder of the Object Detection API's checkpoints is none of a saved model.
    if source.is_dir() and find_model(source) is not None:
        given = load_model(source)
    else:
        given, report = build_from_weights(
            config.name or None, source, strict=not config.name, **options
        )
        absent += report.missing
        console.print(f"{source}: {report}", highlight=False)
    if config.name not in ("", given.spec.name):
        raise ValueError(
            f"{source} has the weights of {given.spec.name}, not of {config.name}"
        )
    model = build_from_spec(_for_other_classes(given.spec, len(names), options), names)
    report = transfer_weights(given, model)
    console.print(f"first weights from {source}: {report}", highlight=False)
    for path in (*absent, *report.missing):
        console.print(f"  at random: {path}", highlight=False)
    return model


def _for_other_classes(
    given: ModelSpec, num_classes: int, options: Mapping[str, Any]
) -> ModelSpec:
    """Returns what a model is for other classes, with changes of its options."""
    if not options:
        return replace(given, num_classes=num_classes)
    merged = {"anchors": given.anchors, **given.options, **options}
    spec = model_spec(given.name, num_classes=num_classes, **merged)
    return replace(
        spec,
        preprocessing=replace(given.preprocessing, image_size=spec.image_size),
        post_processing=given.post_processing,
    )


def _versions() -> dict[str, str]:
    return {
        "ssdops": metadata.version("ssdops"),
        "tensorflow": tf.version.VERSION,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
