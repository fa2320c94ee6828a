# SPDX-License-Identifier: Apache-2.0
"""One way to read any data set: by its place and format."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ssdops.data.records import Dataset
from ssdops.data.voc import read_voc


def _looks_like_voc(path: Path) -> bool:
    return (path / "Annotations").is_dir()


_Reader = Callable[[Path, "str | None", "Sequence[str] | None"], Dataset]
# By format: whether a path looks like it, and how it is read.
_FORMATS: Final[dict[str, tuple[Callable[[Path], bool], _Reader]]] = {
    "voc": (_looks_like_voc, read_voc),
}
DATA_FORMATS: Final = tuple(_FORMATS)


def read_dataset(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_format: str = "auto",
) -> Dataset:
    """The data set at a place, whatever its format.

    Args:
        path: for `"voc"` the folder with `Annotations`, `JPEGImages` and `ImageSets`.
        split: for `"voc"` a list in `ImageSets/Main`; None for all annotations.
        class_names: names of all classes, with or without `"background"` in front;
            None for those that the data set names or that occur in it.
        data_format: one of `DATA_FORMATS`, or `"auto"` to look at the path.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: if something is not there.
        ValueError: if the format is not known or a file cannot be understood.
    """
    place = Path(path)
    if data_format != "auto":
        if data_format not in _FORMATS:
            raise ValueError(
                f"data_format must be auto or one of {', '.join(DATA_FORMATS)},"
                f" got {data_format!r}"
            )
        return _FORMATS[data_format][1](place, split, class_names)
    if not place.exists():
        raise FileNotFoundError(f"{place}: no such file or folder")
    for looks_like, read in _FORMATS.values():
        if looks_like(place):
            return read(place, split, class_names)
    raise ValueError(
        f"{place}: not a data set in a known format ({', '.join(DATA_FORMATS)})"
    )
