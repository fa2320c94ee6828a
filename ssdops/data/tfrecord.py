# SPDX-License-Identifier: Apache-2.0
"""Reader and writer of record files as the TensorFlow Object Detection API has them.

A record is a `tf.train.Example` with `image/encoded`, `image/height`, `image/width`,
`image/filename`, `image/source_id`, `image/format`, relative corners in
`image/object/bbox/{xmin,ymin,xmax,ymax}`, and for each of them
`image/object/class/{text,label}` and `image/object/{difficult,is_crowd,area}`.

Reading goes through the files once, checksums included, and keeps only where the
encoded images are: each is read from its file when it is needed.
"""

from __future__ import annotations

import glob
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from google.protobuf.message import DecodeError

from ssdops.data.collection import (
    BACKGROUND,
    AnnotatedImage,
    AnnotatedObject,
    collect_dataset,
)
from ssdops.data.image_files import MAX_SIDE, encoded_image, image_format
from ssdops.data.label_map import read_label_map
from ssdops.data.records import Dataset, EncodedImage, Record
from ssdops.files import write_atomically
from ssdops.image_io import ImageError, read_image_size

# A record: its length and a checksum of that, the data and its checksum.
_HEADER: Final = struct.Struct("<QI")
_FOOTER_BYTES: Final = 4
_SHARD: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def read_tfrecord(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    class_names: Sequence[str] | None = None,
    *,
    label_map: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The images of record files with their objects.

    Objects whose box is degenerate, not finite or outside the image are left out,
    counted by cause in `Dataset.dropped` and reported in one warning. A box that
    reaches over the border is clipped to the image.

    Args:
        files: a file; `x.tfrecord` for all of `x.tfrecord-00000-of-00008`; a pattern
            with `*`, `?` or `[]`; or several files. They must stay where they are while
            the data set is used.
        class_names: names of all classes, with or without `"background"` in front;
            None for the names that occur, sorted.
        label_map: `.pbtxt` file with the names of `class/label`, for records without
            `class/text`; None for the order of `class_names`, else for the one such
            file beside the first record file. Where a label map is used and there are
            no `class_names`, its names in the order of their ids are taken.

    Returns:
        A data set with one record per example, in their order. `image_id` is
        `image/source_id`, else `image/filename`, else made of file and number.

    Raises:
        FileNotFoundError: if there is no such file, or one of several shards is
            missing.
        ValueError: if a file is truncated, damaged or compressed, or an example cannot
            be understood; the message has the file and the number of the record.
    """
    paths = _files(files)
    labels = _LabelNames(label_map, class_names, paths[0].parent)
    images = []
    for path in paths:
        for number, offset, data in _records(path):
            where = f"{path}: record {number}"
            try:
                example = tf.train.Example.FromString(data)
            except DecodeError as error:
                raise ValueError(f"{where}: no tf.train.Example: {error}") from None
            features = _Features(example.features.feature, where)
            images.append(_image(features, path, number, offset, data, labels))
    if not images:
        raise ValueError(f"{paths[0]}: there are no records in it")
    if class_names is None and labels.mapped is not None:
        class_names = list(labels.mapped.values())
    source = paths[0] if len(paths) == 1 else paths[0].parent
    return collect_dataset(images, class_names, source)


def write_tfrecord(
    path: str | os.PathLike[str], dataset: Dataset, shards: int = 1
) -> None:
    """Writes record files, which `read_tfrecord` reads back equal.

    Args:
        path: file to write; an old one is replaced.
        dataset: what to write. Image files are taken byte for byte, images in memory
            are stored as PNG.
        shards: number of files, at most one per image. More than one are named
            `x.tfrecord-00000-of-00008` and so on, each with a run of the images.

    Raises:
        ImageError: if an image cannot be read.
        OSError: if a file cannot be written.
        ValueError: if `shards` is out of range.
    """
    count = len(dataset)
    if not 1 <= shards <= max(1, count):
        raise ValueError(
            f"shards must be from 1 to the number of images, {count}, got {shards}"
        )
    path = Path(path)
    for shard in range(shards):
        chosen = dataset.records[
            count * shard // shards : count * (shard + 1) // shards
        ]
        place = path
        if shards > 1:
            place = path.with_name(f"{path.name}-{shard:05d}-of-{shards:05d}")
        write_atomically(place, _writer(chosen, dataset.class_names))


def is_record_file(path: Path) -> bool:
    """Whether a file or a pattern is named like record files."""
    name = path.name.lower()
    return not name.startswith(".") and bool(re.search(r"\.(tf)?records?\b", name))


class _LabelNames:
    """Names of numeric labels, looked for when the first one is met."""

    def __init__(
        self,
        label_map: str | os.PathLike[str] | None,
        class_names: Sequence[str] | None,
        folder: Path,
    ) -> None:
        self.mapped: dict[int, str] | None = None
        self._label_map = label_map
        self._class_names = class_names
        self._folder = folder
        self._names: dict[int, str] | None = None

    def name(self, label: int, where: str) -> str:
        if self._names is None:
            self._names = self._look(where)
        if label not in self._names:
            raise ValueError(
                f"{where}: class/label {label} has no name; there are names of"
                f" {min(self._names)} to {max(self._names)}"
            )
        return self._names[label]

    def _look(self, where: str) -> dict[int, str]:
        label_map = self._label_map
        if label_map is None and self._class_names:
            names = list(self._class_names)
            names = names[names[0] == BACKGROUND :]
            return dict(enumerate(names, start=1))
        if label_map is None:
            found = sorted(self._folder.glob("*.pbtxt"))
            if len(found) != 1:
                raise ValueError(
                    f"{where}: there is no class/text for its objects, and"
                    f" {len(found)} .pbtxt files beside the records; give class_names"
                    " or label_map"
                )
            [label_map] = found
        self.mapped = read_label_map(label_map)
        return self.mapped


class _Features:
    """Values of an example by name, types and lengths checked."""

    def __init__(self, features: Any, where: str) -> None:
        self._features = features
        self.where = where

    def values(self, key: str, *kinds: str) -> list[Any]:
        """The values, none if there is no such feature."""
        # Looking up what is not there would make it.
        if key not in self._features:
            return []
        feature = self._features[key]
        kind = feature.WhichOneof("kind")
        if kind is None:
            return []
        if kind not in kinds:
            raise ValueError(
                f"{self.where}: {key} must be a {' or '.join(kinds)}, got a {kind}"
            )
        return list(getattr(feature, kind).value)

    def column(self, key: str, count: int, default: Any, *kinds: str) -> list[Any]:
        """One value for each of the boxes."""
        key = f"image/object/{key}"
        values = self.values(key, *kinds) or [default] * count
        if len(values) != count:
            raise ValueError(
                f"{self.where}: {key} must have one value for each of the {count}"
                f" boxes, got {len(values)}"
            )
        return values

    def text(self, key: str) -> str:
        """The text, empty if there is none."""
        return self.decode(key, (self.values(key, "bytes_list") or [b""])[0])

    def decode(self, key: str, value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.where}: {key} is not UTF-8: {error}") from None


def _image(
    features: _Features,
    path: Path,
    number: int,
    offset: int,
    data: bytes,
    labels: _LabelNames,
) -> AnnotatedImage:
    encoded = features.values("image/encoded", "bytes_list")
    if len(encoded) != 1 or not encoded[0]:
        raise ValueError(
            f"{features.where}: image/encoded must have one image, got {len(encoded)}"
        )
    image = EncodedImage(path, offset + data.index(encoded[0]), len(encoded[0]))
    size = [
        (features.values(f"image/{side}", "int64_list") or [0])[0]
        for side in ("height", "width")
    ]
    if not all(0 <= side <= MAX_SIDE for side in size):
        raise ValueError(
            f"{features.where}: height and width must be positive integers, got {size}"
        )
    if 0 in size:
        try:
            size = list(read_image_size(encoded[0]))
        except ImageError as error:
            raise ValueError(f"{features.where}: {error}") from None
    name = features.text("image/source_id") or features.text("image/filename")
    return AnnotatedImage(
        image,
        name or f"{path.name}:{number}",
        _objects(features, labels),
        path,
        (size[0], size[1]),
    )


def _objects(features: _Features, labels: _LabelNames) -> list[AnnotatedObject]:
    count = len(features.values("image/object/bbox/ymin", "float_list"))
    corners = [
        features.column(f"bbox/{corner}", count, None, "float_list")
        for corner in ("ymin", "xmin", "ymax", "xmax")
    ]
    if any(None in column for column in corners):
        raise ValueError(f"{features.where}: a box must have four corners")
    texts = features.column("class/text", count, b"", "bytes_list")
    numbers = features.column("class/label", count, 0, "int64_list")
    names = [
        features.decode("image/object/class/text", text)
        or labels.name(number, features.where)
        for text, number in zip(texts, numbers, strict=True)
    ]
    difficult = features.column("difficult", count, 0, "int64_list")
    crowd = features.column("is_crowd", count, 0, "int64_list")
    areas = features.column("area", count, None, "float_list", "int64_list")
    return [
        AnnotatedObject(
            names[i],
            (corners[0][i], corners[1][i], corners[2][i], corners[3][i]),
            bool(difficult[i]),
            bool(crowd[i]),
            areas[i],
        )
        for i in range(count)
    ]


def _records(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, place in the file and data of each record."""
    size = path.stat().st_size
    checked = tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator()
    offset, number = 0, 0
    with path.open("rb") as opened:
        while offset < size:
            number += 1
            opened.seek(offset)
            header = opened.read(_HEADER.size)
            offset += _HEADER.size
            # Before TensorFlow sees it: it would ask for any amount of memory, and
            # takes a header that is cut off for the end of the file.
            if len(header) < _HEADER.size:
                raise ValueError(
                    f"{path}: record {number} is truncated: its header must have"
                    f" {_HEADER.size} bytes, got {len(header)}{_hint(number)}"
                )
            length = _HEADER.unpack(header)[0]
            left = size - offset - _FOOTER_BYTES
            if length > left:
                raise ValueError(
                    f"{path}: record {number} is truncated or damaged: it must have"
                    f" {length} bytes, {max(left, 0)} are left{_hint(number)}"
                )
            try:
                data = next(checked)
            except (tf.errors.OpError, StopIteration) as error:
                text = str(error).split("}} ")[-1].split(" [Op:")[0]
                raise ValueError(
                    f"{path}: record {number} is damaged: {text}{_hint(number)}"
                ) from None
            yield number, offset, data
            offset += length + _FOOTER_BYTES


def _hint(number: int) -> str:
    if number > 1:
        return ""
    return "; compressed files and files of other kinds cannot be read"


def _files(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[Path]:
    if not isinstance(files, str | os.PathLike):
        paths = [Path(file) for file in files]
        if not paths:
            raise ValueError("files must have at least one file, got none")
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]}: no such file")
        return paths
    path = Path(files)
    if path.is_file():
        return [path]
    patterns = [str(path), f"{glob.escape(str(path))}-?????-of-?????"]
    names = sorted({name for pattern in patterns for name in glob.glob(pattern)})
    paths = [Path(name) for name in names if Path(name).is_file()]
    if not paths:
        raise FileNotFoundError(f"{path}: no such file")
    check_shards(paths)
    return paths


def check_shards(paths: Sequence[Path]) -> None:
    """Checks that no shard is missing.

    Raises:
        FileNotFoundError: with the name of the first that is.
    """
    for path in paths:
        found = _SHARD.fullmatch(path.name)
        if not found:
            continue
        stem, count = found[1], int(found[3])
        for shard in range(count):
            other = path.with_name(f"{stem}-{shard:05d}-of-{count:05d}")
            if other not in paths:
                raise FileNotFoundError(f"{other}: this shard is missing")


def _writer(
    records: Sequence[Record], class_names: Sequence[str]
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tf.io.TFRecordWriter(os.fspath(path)) as writer:
            for record in records:
                writer.write(_example(record, class_names).SerializeToString())

    return write


def _example(record: Record, class_names: Sequence[str]) -> Any:
    encoded, suffix = encoded_image(record, "PNG")
    name = record.image_id
    height, width = record.image_size or read_image_size(encoded)
    features: dict[str, Any] = {
        "image/encoded": _bytes([encoded]),
        "image/format": _bytes([image_format(encoded, name).lower().encode()]),
        "image/filename": _bytes([f"{name.removesuffix(suffix)}{suffix}".encode()]),
        "image/source_id": _bytes([name.encode()]),
        "image/height": _integers([height]),
        "image/width": _integers([width]),
        "image/object/class/text": _bytes(
            [class_names[label].encode() for label in record.labels]
        ),
        "image/object/class/label": _integers(record.labels),
        "image/object/difficult": _integers(record.difficult),
    }
    corners = ("ymin", "xmin", "ymax", "xmax")
    for corner, column in zip(corners, record.boxes.T, strict=True):
        features[f"image/object/bbox/{corner}"] = _floats(column)
    if record.crowd is not None:
        features["image/object/is_crowd"] = _integers(record.crowd)
    if record.area is not None:
        features["image/object/area"] = _floats(record.area)
    return tf.train.Example(features=tf.train.Features(feature=features))


def _bytes(values: Sequence[bytes]) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _integers(values: Any) -> Any:
    return tf.train.Feature(
        int64_list=tf.train.Int64List(value=[int(value) for value in values])
    )


def _floats(values: Any) -> Any:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
