# SPDX-License-Identifier: Apache-2.0
"""Variables of TensorFlow checkpoints (`model.ckpt.index` and its data)."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf

from ssdops.models.weights.arrays import MAX_WEIGHTS_BYTES, Array

__all__ = ["find_checkpoint", "read_checkpoint"]

_INDEX: Final = ".index"
_MAX_VARIABLES: Final = 100_000


def find_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """Returns the prefix of the checkpoint that a path means, or None.

    Args:
        path: The prefix (`model.ckpt`), its file `model.ckpt.index`, or a folder that
            has one checkpoint, or names the latest in its file `checkpoint`.
    """
    path = Path(path)
    if path.suffix == _INDEX and path.is_file():
        return path.with_suffix("")
    if Path(f"{path}{_INDEX}").is_file():
        return path
    if not path.is_dir():
        return None
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
        return {name: np.asarray(reader.get_tensor(name)) for name in sorted(numbers)}
    # Damaged files give errors of many kinds from TensorFlow, IndexError among them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{prefix} is not a readable checkpoint: {reason}") from None
