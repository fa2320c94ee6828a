# SPDX-License-Identifier: Apache-2.0
"""One way to read any data set: by its place and format."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ssdops.data.coco import read_coco
from ssdops.data.csv_table import read_csv
from ssdops.data.records import Dataset
from ssdops.data.voc import read_voc


def _looks_like_voc(path: Path) -> bool:
    return (path / "Annotations").is_dir()


def _looks_like_coco(path: Path) -> bool:
    return path.suffix.lower() == ".json" or bool(_coco_files(path))


def _coco_files(folder: Path) -> dict[str, Path]:
    """Annotation files in a folder by split."""
    usual = {
        path.stem.removeprefix("instances_"): path
        for path in sorted(folder.glob("annotations/instances_*.json"))
    }
    exported = sorted(folder.glob("*/_annotations.coco.json"))
    return {**{path.parent.name: path for path in exported}, **usual}


def _read_coco(
    path: Path, split: str | None, class_names: Sequence[str] | None
) -> Dataset:
    if not path.is_dir():
        _refuse_split(split)
        return read_coco(path, class_names=class_names)
    files = _coco_files(path)
    if split is None and len(files) == 1:
        [split] = files
    if split is None:
        raise ValueError(
            f"{path}: split must be one of {', '.join(files) or 'no splits'}, got None"
        )
    if split not in files:
        raise FileNotFoundError(
            f"{path / 'annotations' / f'instances_{split}.json'}: no such file; there"
            f" are {', '.join(files) or 'no splits'}"
        )
    return read_coco(files[split], class_names=class_names)


def _looks_like_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _read_csv(
    path: Path, split: str | None, class_names: Sequence[str] | None
) -> Dataset:
    _refuse_split(split)
    return read_csv(path, class_names=class_names)


def _refuse_split(split: str | None) -> None:
    if split is not None:
        raise ValueError(f"split must be None for a file, got {split!r}")


_Reader = Callable[[Path, "str | None", "Sequence[str] | None"], Dataset]
# By format: whether a path looks like it, and how it is read.
_FORMATS: Final[dict[str, tuple[Callable[[Path], bool], _Reader]]] = {
    "voc": (_looks_like_voc, read_voc),
    "coco": (_looks_like_coco, _read_coco),
    "csv": (_looks_like_csv, _read_csv),
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
        path: for `"voc"` the folder with `Annotations`, `JPEGImages` and `ImageSets`;
            for `"coco"` a JSON file, or the folder above `annotations`; for `"csv"` a
            table as `read_csv` reads it.
        split: for `"voc"` a list in `ImageSets/Main`, or several as in `"train+val"`;
            None for all annotations. For a `"coco"` folder the end of the name of
            `annotations/instances_<split>.json`, or the folder of
            `<split>/_annotations.coco.json`; None if there is only one. None for a
            file.
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
