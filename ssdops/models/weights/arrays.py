# SPDX-License-Identifier: Apache-2.0
"""Shared parts of weight import: reading files safely, and the report."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LoadReport",
    "WeightLoader",
    "assign_all",
    "checked_tensor",
    "numbers_from_bytes",
    "read_file",
    "read_npz",
]

MAX_WEIGHTS_BYTES = 4 * 2**30

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What an import did, tensor by tensor.

    Attributes:
        loaded: Tensors of the file that were put into the model, with their shapes.
        skipped: Tensors of the file that the model has no place for.
        missing: Tensors of the model that the file does not have, in the shapes of the
            file format; they keep their values.
        reasons: Why a tensor was not put into the model, or only in part, by its name.
    """

    loaded: Mapping[str, Shape] = field(default_factory=dict)
    skipped: Mapping[str, Shape] = field(default_factory=dict)
    missing: Mapping[str, Shape] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def entries(self) -> list[tuple[str, str, Shape, str]]:
        """Returns state, name, shape and reason of every tensor.

        The state is the name of the attribute that holds the tensor, "skipped" before
        "missing" before "loaded"; the reason is empty for what was loaded whole.
        """
        usual = {
            "skipped": "the model has no place for it",
            "missing": "it is not in the file",
            "loaded": "",
        }
        return [
            (state, name, shape, self.reasons.get(name, reason))
            for state, reason in usual.items()
            for name, shape in getattr(self, state).items()
        ]

    def __str__(self) -> str:
        """Returns the three numbers as a sentence."""
        return (
            f"{len(self.loaded)} tensors loaded, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing"
        )


def _check_header(path: Path, name: str, member: IO[bytes], size: int) -> None:
    """Refuses an array whose header claims other bytes than the archive holds.

    NumPy allocates what the header claims before it reads, so that a small file could
    ask for any amount of memory.
    """
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    claimed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or claimed != size - member.tell():
        raise ValueError(
            f"{path} is damaged: array {name} of shape {list(shape)} and dtype {dtype} "
            f"does not match its {size} stored bytes"
        )


def read_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Returns the arrays of a NumPy `.npz` archive by name.

    Arrays of Python objects are refused, so that nothing in the file is executed; so
    are archives that unpack to more than 4 GiB and headers that claim other sizes than
    the archive holds.

    Args:
        path: File.

    Raises:
        ValueError: If the file is absent, not such an archive, truncated or damaged;
            one sentence that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MAX_WEIGHTS_BYTES:
                raise ValueError(
                    f"{path} unpacks to {total} bytes, more than the "
                    f"{MAX_WEIGHTS_BYTES} bytes that weights may have"
                )
            for member in members:
                with archive.open(member) as stream:
                    _check_header(path, member.filename, stream, member.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    # NumPy and zipfile raise nearly anything on damaged files, even TokenError.
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise ValueError(f"{path} is not a readable .npz file of arrays: {reason}")


def read_file(path: Path) -> memoryview:
    """Returns the bytes of a file of weights.

    Raises:
        ValueError: If the file is absent, larger than 4 GiB or cannot be read; one
            sentence that names it.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, more than the {MAX_WEIGHTS_BYTES} bytes that "
            "weights may have"
        )
    try:
        return memoryview(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def numbers_from_bytes(raw: bytes | bytearray | memoryview, dtype: str) -> Array:
    """Returns the numbers that bytes stand for, `[N]`.

    Args:
        raw: Little-endian numbers.
        dtype: As NumPy writes it, or "bfloat16", whose numbers become float32.
    """
    if dtype != "bfloat16":
        return np.frombuffer(raw, dtype)
    # They are the upper halves of float32.
    halves = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
    return halves.view(np.float32)


def checked_tensor(name: str, value: Any, shape: Shape, layout: str) -> Array:
    """Returns `value` as float32, checked to have a shape and finite values.

    Args:
        name: Name of the tensor, for messages.
        value: Array-like.
        shape: Shape that the model needs.
        layout: What the dimensions mean, for messages.

    Raises:
        ValueError: For another shape, a dtype that is not a number, NaN or infinity.
    """
    array = np.asarray(value)
    if tuple(array.shape) != tuple(shape):
        raise ValueError(
            f"{name} must have shape {list(shape)} ({layout}) for this model, got "
            f"{list(array.shape)}"
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity")
    return array


class WeightLoader:
    """Collects what of a file goes where in a model, then assigns all of it at once.

    Nothing is changed before `finish`, so that an error leaves the model as it was.
    """

    def __init__(self, strict: bool) -> None:
        """Begins with nothing collected.

        Args:
            strict: Whether a tensor that has no place, or is missing, is an error; and
                whether one of another shape is.
        """
        self._strict = strict
        self._tensors: dict[str, dict[str, Shape]] = {
            "loaded": {},
            "skipped": {},
            "missing": {},
        }
        self._reasons: dict[str, str] = {}
        self._pairs: list[tuple[Any, Array]] = []

    def take(
        self,
        name: str,
        value: Any,
        variable: Any,
        shape: Shape,
        layout: str,
        convert: Callable[[Array], Array] = np.asarray,
    ) -> None:
        """Notes a tensor of the file for a variable of the model.

        Args:
            name: Of the tensor.
            value: The tensor.
            variable: Keras variable, or None if the tensor is only looked at.
            shape: What the tensor must have.
            layout: What the dimensions mean, for messages.
            convert: Makes the layout of the variable of that of the file.

        Raises:
            ValueError: For another shape if that is an error, values that are no
                numbers or not finite.
        """
        found = tuple(np.shape(value))
        if not self._strict and found != tuple(shape):
            reason = f"must have shape {list(shape)} ({layout}), got {list(found)}"
            self.skip(name, found, reason)
            self.miss(name, shape, reason)
            return
        checked = checked_tensor(name, value, shape, layout)
        self._tensors["loaded"][name] = tuple(shape)
        if variable is not None:
            self._pairs.append((variable, convert(checked)))

    def set(self, variable: Any, value: Array) -> None:
        """Notes a value for a variable that the file says nothing about."""
        self._pairs.append((variable, value))

    def skip(self, name: str, shape: Shape, reason: str = "") -> None:
        """Notes a tensor of the file that has no place."""
        self._put("skipped", name, shape, reason)

    def miss(self, name: str, shape: Shape, reason: str = "") -> None:
        """Notes a tensor of the model that keeps its values."""
        self._put("missing", name, shape, reason)

    def _put(self, state: str, name: str, shape: Shape, reason: str) -> None:
        self._tensors[state][name] = tuple(shape)
        if reason:
            self._reasons[name] = reason

    def finish(self, model_name: str) -> LoadReport:
        """Assigns what was taken.

        Args:
            model_name: What messages call the model.

        Returns:
            What was done.

        Raises:
            ValueError: If tensors are skipped or missing, and that is an error.
        """
        report = LoadReport(**self._tensors, reasons=self._reasons)
        if self._strict and (report.missing or report.skipped):
            raise ValueError(
                f"the weights do not fit model {model_name}: "
                f"{_listed('missing', report.missing)}, "
                f"{_listed('unknown', report.skipped)}"
            )
        assign_all(self._pairs)
        return report


def _listed(word: str, tensors: Mapping[str, Shape]) -> str:
    """Returns the number of tensors and the first three with shapes."""
    if not tensors:
        return f"0 {word}"
    names = [f"{name} {list(shape)}" for name, shape in list(tensors.items())[:3]]
    rest = ", ..." if len(tensors) > len(names) else ""
    return f"{len(tensors)} {word} ({', '.join(names)}{rest})"


def assign_all(pairs: Sequence[tuple[Any, Array]]) -> None:
    """Puts values into Keras variables, after all of them were checked."""
    for variable, value in pairs:
        variable.assign(value)
