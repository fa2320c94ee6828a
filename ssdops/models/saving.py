# SPDX-License-Identifier: Apache-2.0
"""Reading a saved detector; `SSD.save` writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ssdops.models.registry import build_from_spec
from ssdops.models.spec import ModelSpec
from ssdops.models.ssd import FORMAT, FORMAT_VERSION, MODEL_FILE, SSD, WEIGHTS_FILE

__all__ = ["load_model"]

MAX_DESCRIPTION_BYTES = 16 * 2**20


def load_model(folder: str | os.PathLike[str]) -> SSD:
    """Reads a detector that `SSD.save` wrote.

    The description is plain JSON that selects an entry of the model table; nothing in
    the folder is executed.

    Args:
        folder: Folder with `model.json` and `model.weights.h5`.

    Raises:
        ValueError: If a file is absent, damaged, or does not describe a model of this
            version; the message names the file.
    """
    path = Path(folder)
    description_path, weights_path = path / MODEL_FILE, path / WEIGHTS_FILE
    for required in (description_path, weights_path):
        if not required.is_file():
            raise ValueError(f"{path} is not a saved model: {required.name} is missing")
    if description_path.stat().st_size > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{description_path} is larger than any model description")
    try:
        description = json.loads(description_path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{description_path} is not valid JSON: {error}") from None
    if not isinstance(description, Mapping) or description.get("format") != FORMAT:
        raise ValueError(f'{description_path} has no entry "format": "{FORMAT}"')
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{description_path} has format_version "
            f"{description.get('format_version')!r}, this version reads "
            f"{FORMAT_VERSION}"
        )
    names = description.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{description_path}: class_names must be a list of strings")
    try:
        model = build_from_spec(ModelSpec.from_dict(description.get("spec")), names)
    except ValueError as error:
        raise ValueError(f"{description_path}: {error}") from None
    try:
        model.network.load_weights(weights_path)
    # Keras and h5py raise OSError, KeyError, ValueError and others for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{weights_path} does not hold the weights of model "
            f"{model.spec.name}: {reason[:300]}"
        ) from None
    return model
