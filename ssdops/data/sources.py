# SPDX-License-Identifier: Apache-2.0
"""One way to read any data set: by its place and format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ssdops.data.coco import read_coco
from ssdops.data.csv_table import read_csv
from ssdops.data.records import Dataset
from ssdops.data.tfds import TFDS_PREFIX, read_tfds
from ssdops.data.tfrecord import check_shards, is_record_file, read_tfrecord
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


def _read_voc(
    path: Path,
    split: str | None,
    class_names: Sequence[str] | None,
    check_images: bool,
) -> Dataset:
    return read_voc(path, split, class_names, check_images=check_images)


def _read_coco(
    path: Path,
    split: str | None,
    class_names: Sequence[str] | None,
    check_images: bool,
) -> Dataset:
    if not path.is_dir():
        _refuse_split(split)
        return read_coco(path, class_names=class_names, check_images=check_images)
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
    return read_coco(files[split], class_names=class_names, check_images=check_images)


def _looks_like_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _read_csv(
    path: Path, split: str | None, class_names: Sequence[str] | None, _: bool
) -> Dataset:
    _refuse_split(split)
    return read_csv(path, class_names=class_names)


def _looks_like_tfrecord(path: Path) -> bool:
    if path.is_dir():
        return any(is_record_file(file) for file in path.iterdir())
    return is_record_file(path)


def _read_tfrecord(
    path: Path, split: str | None, class_names: Sequence[str] | None, _: bool
) -> Dataset:
    if not path.is_dir():
        _refuse_split(split)
        return read_tfrecord(path, class_names)
    known = sorted(file for file in path.iterdir() if is_record_file(file))
    files = known
    if split is not None:
        # One after the other, as the splits are named.
        parts = [_words(part) for part in split.split("+")]
        found = [f for part in parts for f in known if part in _words(f.name)]
        files = list(dict.fromkeys(found))
    if not files:
        raise FileNotFoundError(
            f"{path}: no record files of split {split!r}; there are"
            f" {', '.join(file.name for file in known[:20]) or 'none'}"
        )
    check_shards(files)
    return read_tfrecord(files, class_names)


def _looks_like_tfds(path: Path) -> bool:
    return str(path).startswith(TFDS_PREFIX)


def _read_tfds(
    path: Path, split: str | None, class_names: Sequence[str] | None, _: bool
) -> Dataset:
    name = str(path).removeprefix(TFDS_PREFIX)
    return read_tfds(name, "train" if split is None else split, class_names)


def _words(name: str) -> str:
    """The words of a name between underscores, for whole words to be found in it."""
    return re.sub(r"[\W_]+", "_", f"_{name}_")


def _refuse_split(split: str | None) -> None:
    if split is not None:
        raise ValueError(f"split must be None for a file, got {split!r}")


_Reader = Callable[[Path, "str | None", "Sequence[str] | None", bool], Dataset]
# By format: whether a path looks like it, and how it is read.
_FORMATS: Final[dict[str, tuple[Callable[[Path], bool], _Reader]]] = {
    "voc": (_looks_like_voc, _read_voc),
    "coco": (_looks_like_coco, _read_coco),
    "csv": (_looks_like_csv, _read_csv),
    "tfrecord": (_looks_like_tfrecord, _read_tfrecord),
    "tfds": (_looks_like_tfds, _read_tfds),
}
DATA_FORMATS: Final = tuple(_FORMATS)


def read_dataset(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_format: str = "auto",
    check_images: bool = True,
) -> Dataset:
    """The data set at a place, whatever its format.

    Args:
        path: for `"voc"` the folder with `Annotations`, `JPEGImages` and `ImageSets`;
            for `"coco"` a JSON file, or the folder above `annotations`; for `"csv"` a
            table as `read_csv` reads it; for `"tfrecord"` a file or pattern as
            `read_tfrecord` takes it, or a folder of such files; for
            `"tfds"` the name of a data set of `tensorflow_datasets`, with `tfds:` in
            front, as in `"tfds:voc/2007"`.
        split: for `"voc"` a list in `ImageSets/Main`, or several as in `"train+val"`;
            None for all annotations. For a `"coco"` folder the end of the name of
            `annotations/instances_<split>.json`, or the folder of
            `<split>/_annotations.coco.json`; None if there is only one. For a
            `"tfrecord"` folder a word in the names of the files, or several as in
            `"train+val"`; None for all files. For `"tfds"` as
            there, None for `"train"`. None for a file.
        class_names: names of all classes, with or without `"background"` in front;
            None for those that the data set names or that occur in it.
        data_format: one of `DATA_FORMATS`, or `"auto"` to look at the path.
        check_images: whether the image files of `"voc"` and `"coco"` must be there.
            False where only the annotations matter; those that lack the size of an
            image, as every `"csv"` table does, need it still.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: if something is not there.
        ImportError: if `tensorflow_datasets` is needed and cannot be imported.
        ValueError: if the format is not known or a file cannot be understood.
    """
    place = Path(path)
    if data_format != "auto":
        if data_format not in _FORMATS:
            raise ValueError(
                f"data_format must be auto or one of {', '.join(DATA_FORMATS)},"
                f" got {data_format!r}"
            )
        read = _FORMATS[data_format][1]
        return read(place, split, class_names, check_images)
    for looks_like, read in _FORMATS.values():
        if looks_like(place):
            return read(place, split, class_names, check_images)
    if not place.exists():
        raise FileNotFoundError(f"{place}: no such file or folder")
    raise ValueError(
        f"{place}: not a data set in a known format ({', '.join(DATA_FORMATS)})"
    )
