# SPDX-License-Identifier: Apache-2.0
"""Variables of TensorFlow checkpoints (`model.ckpt.index` and its data)."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf

from ssdops.models.weights.arrays import MAX_WEIGHTS_BYTES, Array
from ssdops.models.weights.wire_format import BYTES, WireReader

__all__ = ["find_checkpoint", "read_checkpoint"]

_INDEX: Final = ".index"
_FILE: Final = re.compile(r"(?P<prefix>.+)\.(?:index|meta|data-\d+-of-\d+)")
# What names the latest of a folder, and what stands beside a folder `variables`.
_FILES_OF_FOLDERS: Final = ("checkpoint", "saved_model.pb")
_MAX_VARIABLES: Final = 100_000
# TensorFlow 2 stores variables by their place in a graph of objects, and that graph.
_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Where a SavedModel, and an export of the Object Detection API, keep a checkpoint.
_SUBFOLDERS: Final = ("variables", "checkpoint")
_OF_AN_OPTIMIZER: Final = "/.OPTIMIZER_SLOT/"
# Fields of trackable_object_graph.proto.
_NODES, _ATTRIBUTES, _FULL_NAME, _KEY = 1, 2, 2, 3


def find_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """Returns the prefix of the checkpoint that a path means, or None.

    Args:
        path: The prefix (`model.ckpt`), one of its files (`model.ckpt.index`), or a
            folder that has one checkpoint, or names the latest in its file
            `checkpoint`, itself or in its folder `variables` or `checkpoint`; or that
            file, or `saved_model.pb` in such a folder.
    """
    path = Path(path)
    match = _FILE.fullmatch(path.name)
    if match is not None and path.is_file():
        path = path.with_name(match["prefix"])
    if Path(f"{path}{_INDEX}").is_file():
        return path
    if path.name in _FILES_OF_FOLDERS and path.is_file():
        path = path.parent
    folders = (path, *(path / name for name in _SUBFOLDERS))
    places = (_in_folder(folder) for folder in folders if folder.is_dir())
    return next((prefix for prefix in places if prefix is not None), None)


def _in_folder(path: Path) -> Path | None:
    """Returns the only checkpoint of a folder, or the latest by its own word."""
    found = sorted(path.glob(f"*{_INDEX}"))
    if len(found) == 1:
        return found[0].with_suffix("")
    latest = tf.train.latest_checkpoint(str(path))
    # A file `checkpoint` can name any place.
    if latest is None or Path(latest).resolve().parent != path.resolve():
        return None
    return Path(latest)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The variables of a checkpoint by name; strings are left out.

    Those of TensorFlow 2 have the names that they were made with (`conv1/kernel`) where
    that is the name of one only, else that of their place in the graph of objects.

    Args:
        path: As for `find_checkpoint`.

    Raises:
        ValueError: If there is no checkpoint, it is damaged, or has more than 4 GiB;
            one sentence that names it.
    """
    prefix = find_checkpoint(path)
    if prefix is None:
        raise ValueError(f"{os.fspath(path)} has no checkpoint, or several")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
        if len(shapes) > _MAX_VARIABLES:
            raise ValueError(f"it has {len(shapes)} variables")
        numbers = [name for name in shapes if dtypes[name].is_numpy_compatible]
        numbers = [name for name in numbers if dtypes[name] != tf.string]
        total = sum(math.prod(shapes[name]) * dtypes[name].size for name in numbers)
        if total > MAX_WEIGHTS_BYTES:
            raise ValueError(f"its variables have {total} bytes")
        names = _names(reader.get_tensor(_GRAPH), shapes) if _GRAPH in shapes else {}
        return {
            names.get(key, key): np.asarray(reader.get_tensor(key))
            for key in sorted(numbers)
        }
    # Damaged files give errors of many kinds from TensorFlow, IndexError among them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{prefix} is not a readable checkpoint: {reason}") from None


def _names(graph: bytes, stored: Container[str]) -> dict[str, str]:
    """Returns names of variables by the keys that a checkpoint has them under.

    Args:
        graph: Of the objects of the checkpoint.
        stored: All keys.
    """
    pairs = [
        (key, name)
        for key, name in _named_keys(memoryview(graph))
        if name and _OF_AN_OPTIMIZER not in key
    ]
    counts = Counter(name for _, name in pairs)
    return {
        key: name for key, name in pairs if counts[name] == 1 and name not in stored
    }


def _named_keys(graph: memoryview) -> Iterator[tuple[str, str]]:
    """Yields key and name of every variable of a graph of objects."""
    reader = WireReader()

    def parts(message: memoryview, field: int) -> Iterator[memoryview]:
        for number, wire_type, value in reader.fields(message):
            if number == field and wire_type == BYTES:
                assert isinstance(value, memoryview)
                yield value

    for node in parts(graph, _NODES):
        for attribute in parts(node, _ATTRIBUTES):
            texts = {
                number: bytes(value).decode()
                for number, _, value in reader.fields(attribute)
                if number in (_FULL_NAME, _KEY) and isinstance(value, memoryview)
            }
            yield texts.get(_KEY, ""), texts.get(_FULL_NAME, "")
