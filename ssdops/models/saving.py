# SPDX-License-Identifier: Apache-2.0
"""Reading a saved detector, which `SSD.save` writes; saving it as one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ssdops.models.registry import build_from_spec
from ssdops.models.spec import ModelSpec
from ssdops.models.ssd import FORMAT, FORMAT_VERSION, MODEL_FILE, SSD, WEIGHTS_FILE
from ssdops.models.weights.arrays import assign_all, checked_tensor, read_file
from ssdops.models.weights.hdf5_check import check_hdf5
from ssdops.models.weights.safetensors_file import (
    read_safetensors,
    read_safetensors_metadata,
    write_safetensors,
)

__all__ = ["find_model", "load_model", "save_safetensors"]

MAX_DESCRIPTION_BYTES = 16 * 2**20
# Of a run folder: its best model, else its last.
_MODELS_OF_A_RUN: Final = ("best", "model")


def load_model(path: str | os.PathLike[str]) -> SSD:
    """Reads a detector that was saved or trained; nothing else is needed.

    The description is plain JSON that selects an entry of the model table; nothing in
    the files is executed.

    Args:
        path: Folder that `SSD.save` wrote, run folder of a training (its best model is
            taken, or its last if it was never evaluated), or file that
            `save_safetensors` wrote.

    Raises:
        ValueError: If a file is absent, damaged, or does not describe a model of this
            version; the message names the file.
    """
    path = Path(path)
    if path.is_file():
        return _load_safetensors(path)
    folder = find_model(path)
    if folder is None:
        raise ValueError(
            f"{path} is not a saved model: {MODEL_FILE} is missing, and there is no "
            f"model in {' or '.join(_MODELS_OF_A_RUN)}"
        )
    return _load_folder(folder)


def save_safetensors(model: SSD, path: str | os.PathLike[str]) -> Path:
    """Writes a detector to one `.safetensors` file, complete or not at all.

    The weights are called as in the network, such as `conv1_1/kernel`, in the layouts
    of Keras. All else, as in `model.json`, is the text `ssdops-model` in the metadata.

    Args:
        model: Detector.
        path: File whose name ends in `.safetensors`; an old one is replaced.

    Returns:
        The path.

    Raises:
        ValueError: If the name of the file ends otherwise.
        OSError: If the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"the name of file {path} must end in .safetensors")
    arrays = {weight.path: weight.numpy() for weight in model.network.weights}
    description = json.dumps(model.description(), allow_nan=False)
    write_safetensors(path, arrays, {FORMAT: description})
    return path


def find_model(folder: str | os.PathLike[str]) -> Path | None:
    """Returns the folder that holds the model of a saved model or a run, or None."""
    folder = Path(folder)
    for place in (folder, *(folder / name for name in _MODELS_OF_A_RUN)):
        if (place / MODEL_FILE).is_file():
            return place
    return None


def _load_folder(folder: Path) -> SSD:
    description_path, weights_path = folder / MODEL_FILE, folder / WEIGHTS_FILE
    if not weights_path.is_file():
        raise ValueError(f"{folder} is not a saved model: {WEIGHTS_FILE} is missing")
    if description_path.stat().st_size > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{description_path} is larger than any model description")
    model = _described(description_path, description_path.read_bytes())
    try:
        check_hdf5(read_file(weights_path))
        model.network.load_weights(weights_path)
    # Keras and h5py raise OSError, KeyError, ValueError and others for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{weights_path} does not hold the weights of model "
            f"{model.spec.name}: {reason[:300]}"
        ) from None
    return model


def _load_safetensors(path: Path) -> SSD:
    description = read_safetensors_metadata(path).get(FORMAT)
    if description is None:
        raise ValueError(
            f"{path} has weights but no description of a model; give the name of the "
            f"model that they belong to (`build_from_weights`)"
        )
    model = _described(path, description)
    arrays = read_safetensors(path)
    weights = {weight.path: weight for weight in model.network.weights}
    if arrays.keys() != weights.keys():
        raise ValueError(
            f"{path} does not hold the weights of model {model.spec.name}: missing "
            f"{sorted(weights.keys() - arrays.keys())[:3]}, unknown "
            f"{sorted(arrays.keys() - weights.keys())[:3]}"
        )
    try:
        assign_all(
            [
                (weight, checked_tensor(name, arrays[name], tuple(weight.shape), "own"))
                for name, weight in weights.items()
            ]
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return model


def _described(source: Path, text: str | bytes) -> SSD:
    """Returns the model of a description, weights initialised."""
    try:
        description: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not valid JSON: {error}") from None
    if not isinstance(description, Mapping) or description.get("format") != FORMAT:
        raise ValueError(f'{source} has no entry "format": "{FORMAT}"')
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{source} has format_version {description.get('format_version')!r}, this "
            f"version reads {FORMAT_VERSION}"
        )
    names = description.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{source}: class_names must be a list of strings")
    try:
        return build_from_spec(ModelSpec.from_dict(description.get("spec")), names)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
