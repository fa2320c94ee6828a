# SPDX-License-Identifier: Apache-2.0
"""Reading of weights that Keras saved: `.h5`, `.weights.h5` and `.keras` files."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from ssdops.models.weights.arrays import (
    MAX_WEIGHTS_BYTES,
    Array,
    numbers_from_bytes,
    read_file,
)
from ssdops.models.weights.hdf5_check import check_hdf5
from ssdops.models.weights.hdf5_visitor import check_dataset

__all__ = ["read_keras"]

_MEMBER: Final = "model.weights.h5"
# What the weights of a layer are called, in the order that Keras saves them in.
_WORDS: Final = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read_keras(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The weights of a file that Keras saved, by layer.

    Read are weights alone: no layer is made and no code of the file is run. Links to
    other files, and data in them, are refused.

    Args:
        path: `.h5` file of weights or of a whole model, of Keras 2 or 3, or `.keras`
            file.

    Returns:
        Arrays `<layer>/<weight>`. A layer with one weight or two has `kernel` and
        `bias`, one with four `gamma`, `beta`, `moving_mean` and `moving_variance`;
        another has the names or numbers that the file gives. bfloat16 ones become
        float32. The state of an optimizer is left out.

    Raises:
        ValueError: If the file is absent, larger than 4 GiB, damaged, has links to
            others or no weights; one sentence that names it.
    """
    path = Path(path)
    data = read_file(path)
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            data = memoryview(_member(data))
        check_hdf5(data)
        with h5py.File(io.BytesIO(data), "r") as file:
            arrays = _weights(file)
    # Damage shows in h5py as nearly every kind of error.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} is not a readable file of Keras's weights: {reason}"
        ) from None
    if not arrays:
        raise ValueError(f"{path} has no weights of layers")
    return arrays


def _member(data: memoryview) -> bytes:
    """Returns the file of weights that a `.keras` archive holds."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo(_MEMBER).file_size
        if size > MAX_WEIGHTS_BYTES:
            raise ValueError(
                f"{_MEMBER} unpacks to {size} bytes, more than the "
                f"{MAX_WEIGHTS_BYTES} bytes that weights may have"
            )
        return archive.read(_MEMBER)


def _weights(file: h5py.File) -> dict[str, Array]:
    """Returns the weights of a file in either of the two layouts."""
    places: dict[str, Any] = {}
    # Hard links only, and each object once, so that circles end.
    file.visititems(places.__setitem__)
    root = "model_weights" if "model_weights" in places else ""
    group = places.get(root, file)
    layers = _names(group, "layer_names")
    stored = (
        _numbered(places)
        if layers is None
        else _listed(places, f"{root}/" if root else "", layers)
    )
    arrays: dict[str, Array] = {}
    total = 0
    for layer, datasets in stored:
        words: Sequence[str] = _WORDS.get(len(datasets), ())
        # Weights of a model inside a layer have names of their own.
        if any(dataset.ndim != 1 for _, dataset in datasets[1:]):
            words = ()
        for index, (name, dataset) in enumerate(datasets):
            full = f"{layer}/{words[index]}" if words else name
            if full in arrays:
                raise ValueError(f"there are two weights {full}")
            total += _checked_size(full, dataset)
            if total > MAX_WEIGHTS_BYTES:
                raise ValueError(f"it has more than {MAX_WEIGHTS_BYTES} bytes")
            arrays[full] = _numbers(dataset)
    return arrays


def _names(group: Any, attribute: str) -> list[str] | None:
    """Returns the texts of an attribute, which may be in pieces; None without it."""
    pieces = []
    if attribute in group.attrs:
        pieces = [group.attrs[attribute]]
    else:
        while f"{attribute}{len(pieces)}" in group.attrs:
            pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    if not pieces:
        return None
    return [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        for piece in pieces
        for name in np.ravel(piece)
    ]


def _listed(
    places: dict[str, Any], root: str, layers: Sequence[str]
) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Returns layers with their weights where attributes list both (Keras 2)."""
    found = []
    for layer in layers:
        group = places.get(f"{root}{layer}")
        if group is None:
            raise ValueError(f"layer {layer} is listed but not there")
        datasets = []
        for name in _names(group, "weight_names") or ():
            dataset = places.get(f"{root}{layer}/{name}")
            if not isinstance(dataset, h5py.Dataset):
                raise ValueError(f"weight {name} of layer {layer} is not there")
            datasets.append((name.removesuffix(":0"), dataset))
        found.append((layer, datasets))
    return found


def _numbered(
    places: dict[str, Any],
) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Returns layers with their weights in folders `vars` of numbers (Keras 3)."""
    found = []
    for place, group in places.items():
        folder, _, last = place.rpartition("/")
        if last != "vars" or not isinstance(group, h5py.Group):
            continue
        if place.startswith("optimizer/"):
            continue
        # Files of the first versions of Keras 3 do not have the name of the layer.
        name = str(group.attrs.get("name", folder))
        numbers = sorted((key for key in group if key.isdecimal()), key=int)
        datasets = [(f"{name}/{key}", places.get(f"{place}/{key}")) for key in numbers]
        for full, dataset in datasets:
            if not isinstance(dataset, h5py.Dataset):
                raise ValueError(f"weight {full} is not there")
        found.append((name, datasets))
    return found


def _is_bfloat16(dataset: h5py.Dataset) -> bool:
    """Whether Keras stored numbers that HDF5 has no type for."""
    stored: Any = dataset.attrs.get("dtype")
    return bool(dataset.dtype == np.dtype("V2") and stored == "bfloat16")


def _numbers(dataset: h5py.Dataset) -> Array:
    values: Array = np.asarray(dataset[()])
    if _is_bfloat16(dataset):
        return numbers_from_bytes(values.tobytes(), "bfloat16").reshape(values.shape)
    return values


def _checked_size(name: str, dataset: h5py.Dataset) -> int:
    """Returns the bytes of a dataset, checked to be numbers that the file holds."""
    size = check_dataset(name, dataset)
    is_number = dataset.dtype.kind in "fiub" or _is_bfloat16(dataset)
    if not is_number or dataset.shape is None:
        raise ValueError(f"{name} must hold numbers, got dtype {dataset.dtype}")
    return size
