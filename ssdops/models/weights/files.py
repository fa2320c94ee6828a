# SPDX-License-Identifier: Apache-2.0
"""Files of published weights, by their suffix."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ssdops.models.weights.arrays import Array, read_npz
from ssdops.models.weights.caffemodel import read_caffemodel
from ssdops.models.weights.checkpoint import find_checkpoint, read_checkpoint
from ssdops.models.weights.frozen_graph import SAVED_MODEL, read_frozen_graph
from ssdops.models.weights.keras_file import read_keras
from ssdops.models.weights.safetensors_file import read_safetensors
from ssdops.models.weights.tflite import read_tflite
from ssdops.models.weights.torch_file import read_torch

__all__ = ["read_weights"]

_READERS: Final[dict[str, Callable[[Path], dict[str, Array]]]] = {
    ".npz": read_npz,
    ".caffemodel": read_caffemodel,
    ".tflite": read_tflite,
    ".pth": read_torch,
    ".pt": read_torch,
    ".pb": read_frozen_graph,
    ".safetensors": read_safetensors,
    ".h5": read_keras,
    ".hdf5": read_keras,
    ".keras": read_keras,
}


def read_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a file of weights, by the names that its format has.

    Args:
        path: file whose name ends in `.npz`, `.caffemodel`, `.tflite`, `.pb`, `.pth`,
            `.pt`, `.safetensors`, `.h5`, `.hdf5` or `.keras`; prefix, file or folder
            of a checkpoint; folder of a SavedModel.

    Raises:
        ValueError: for another suffix, and as the reader of the format.
    """
    path = Path(path)
    if find_checkpoint(path) is not None:
        return read_checkpoint(path)
    if (path / SAVED_MODEL).is_file():
        path = path / SAVED_MODEL
    reader = _READERS.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise ValueError(
            f"weights {path} do not exist; the name of a file must end in one of "
            f"{', '.join(_READERS)}"
        )
    if reader is None:
        raise ValueError(
            f"the name of weights file {path} must end in one of {', '.join(_READERS)}"
        )
    return reader(path)
