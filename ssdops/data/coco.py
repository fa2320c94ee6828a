# SPDX-License-Identifier: Apache-2.0
"""Reader and writer of COCO's ground truth, one JSON file for all images.

`images` has the file names and sizes, `categories` the classes, `annotations` the
objects with boxes `[x, y, width, height]` in pixels. A record's `image_id` is the
integer id of its image as text, so that results can be written with the ids of the
file. Masks and keypoints are not read.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssdops.boxes import relative_to_pixels, yxyx_to_xywh
from ssdops.data.collection import (
    BACKGROUND,
    AnnotatedImage,
    AnnotatedObject,
    RelativeBox,
    collect_dataset,
)
from ssdops.data.image_files import (
    MAX_SIDE,
    ImageFolder,
    encoded_image,
    find_image_folder,
    refuse_outside,
)
from ssdops.data.records import Dataset, Record
from ssdops.files import write_atomically
from ssdops.image_io import read_image_size

_NUMBERS = frozenset((int, float))


def read_coco(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    *,
    check_images: bool = True,
) -> Dataset:
    """The images of a COCO ground truth file with their objects.

    Objects whose box is degenerate, not finite or outside the image are left out,
    counted by cause in `Dataset.dropped` and reported in one warning. A box that
    reaches over the border is clipped to the image.

    Args:
        annotations: JSON file, such as `annotations/instances_train2017.json`.
        images: folder that the file names are relative to; None to look where the data
            sets have it: beside the JSON file, in `images` there, in `../train2017`
            (the end of the JSON's name), `../images/train2017`, `../images` and `..`.
        class_names: names of all classes, with or without `"background"` in front;
            None for all `categories` in the order of their ids, whether they occur or
            not. Class ids are contiguous where category ids have gaps.
        check_images: whether image files must be there. False where only the
            annotations matter.

    Returns:
        A data set with one record per entry of `images`, in its order, without objects
        too. Objects are in the order of `annotations`; `iscrowd` gives `crowd`,
        `ignore` gives `difficult`. Images are not opened, except for the size of one
        whose entry lacks it. `category_ids` are those of the file; of `class_names`
        that it lacks, the numbers after its largest.

    Raises:
        FileNotFoundError: if the file, the folder or an image is not there.
        ValueError: if the file cannot be understood, an annotation is of an unknown
            image or category, or an image is named outside the folder; the message has
            the file and the id.
    """
    path = Path(annotations)
    content = _load(path)
    categories = _categories(path, content)
    entries = _entries(path, content, "images")
    if not entries:
        raise ValueError(f"{path}: there are no images in it")
    folder = ImageFolder(_folder(path, entries, images, check_images), check_images)

    objects: dict[int, list[AnnotatedObject]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    found = []
    for index, entry in enumerate(entries):
        where = _where(path, "image", index, entry)
        number = _integer(entry, "id", where)
        if number in objects:
            raise ValueError(f"{where}: there are two images with this id")
        image = folder.path(_text(entry, "file_name", where), where)
        sizes[number] = _size(entry, image, where)
        objects[number] = []
        found.append(
            AnnotatedImage(image, str(number), objects[number], path, sizes[number])
        )
    for index, entry in enumerate(_entries(path, content, "annotations")):
        image_id, category = entry.get("image_id"), entry.get("category_id")
        # Only what has the type of an id can be one: true would pass for 1.
        if type(image_id) is not int or image_id not in objects:
            where = _where(path, "annotation", index, entry)
            raise ValueError(f"{where}: there is no image {_short(image_id)}")
        if type(category) is not int or category not in categories:
            where = _where(path, "annotation", index, entry)
            raise ValueError(f"{where}: there is no category {_short(category)}")
        try:
            item = _object(entry, categories[category], sizes[image_id])
        except (ValueError, OverflowError) as error:
            where = _where(path, "annotation", index, entry)
            raise ValueError(f"{where}: {error}") from None
        objects[image_id].append(item)
    if class_names is None:
        class_names = [name for name in categories.values() if name != BACKGROUND]
    dataset = collect_dataset(found, class_names, path)
    return replace(dataset, category_ids=_category_ids(dataset.class_names, categories))


def write_coco(
    path: str | os.PathLike[str],
    dataset: Dataset,
    images: str | os.PathLike[str] | None = None,
) -> None:
    """Writes a COCO ground truth file, which `read_coco` reads back equal.

    Args:
        path: JSON file to write; an old one is replaced.
        dataset: what to write. Image ids are the numbers in `image_id` if all are
            numbers, else they count from 1; category ids are the class ids.
        images: folder to write the images to as well: files are copied byte for byte,
            images in memory are written as PNG. None to write no images; file names
            are then relative to the folder that all image files are in, and images
            that are no files get the name that they would have.

    `ignore` says that an object is difficult. Objects without a known area get that of
    their box. Coordinates have as many decimals as a float32 needs.

    Raises:
        ImageError: if an image has to be read and cannot be.
        OSError: if a file cannot be written.
        ValueError: if an image id cannot be the name of a file, or two would be the
            same.
    """
    if images is None:
        names = _names(dataset.records)
    else:
        names = _write_images(Path(images), dataset.records)
    ids = _numbers(dataset.records)
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "categories": [
            {"id": number, "name": name}
            for number, name in enumerate(dataset.class_names)
            if number > 0
        ],
        "annotations": [],
    }
    for record, number, name in zip(dataset.records, ids, names, strict=True):
        height, width = _known_size(record)
        content["images"].append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
        boxes = relative_to_pixels(record.boxes.astype(np.float64), (height, width))
        boxes = yxyx_to_xywh(boxes)
        areas = boxes[:, 2] * boxes[:, 3] if record.area is None else record.area
        crowd = np.zeros(len(boxes), bool) if record.crowd is None else record.crowd
        for i, box in enumerate(boxes.tolist()):
            annotation = {
                "id": len(content["annotations"]) + 1,
                "image_id": number,
                "category_id": int(record.labels[i]),
                "bbox": box,
                "area": float(areas[i]),
                "iscrowd": int(crowd[i]),
            }
            if record.difficult[i]:
                annotation["ignore"] = 1
            content["annotations"].append(annotation)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    write_atomically(Path(path), lambda partial: partial.write_text(text, "utf-8"))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = json.loads(path.read_bytes(), object_hook=_without_masks)
    # Digits without end are a ValueError too.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON that can be read: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected an object with images, annotations and categories,"
            f" found {_kind(content)}"
        )
    return content


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    # Nine tenths of a large file: dropped while it is parsed, they cost no memory.
    entry.pop("segmentation", None)
    return entry


def _entries(path: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    if key not in content:
        raise ValueError(f"{path}: there is no {key!r} in it")
    entries = content[key]
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {key} must be a list, got {_kind(entries)}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(
                f"{path}: {key}: number {index} must be an object, got {_kind(entry)}"
            )
    return entries


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    categories: dict[int, str] = {}
    for index, entry in enumerate(_entries(path, content, "categories")):
        where = _where(path, "category", index, entry)
        number, name = _integer(entry, "id", where), _text(entry, "name", where)
        if number in categories:
            raise ValueError(f"{where}: there are two categories with this id")
        if name in categories.values():
            raise ValueError(f"{where}: there are two categories named {name!r}")
        categories[number] = name
    return dict(sorted(categories.items()))


def _category_ids(
    class_names: Sequence[str], categories: Mapping[int, str]
) -> tuple[int, ...]:
    """The id of every class; the file may lack some."""
    ids = {name: number for number, name in categories.items()}
    unused = itertools.count(max(categories, default=0) + 1)
    foreground = [
        ids[name] if name in ids else next(unused) for name in class_names[1:]
    ]
    return (0, *foreground)


def _object(
    entry: dict[str, Any], name: str, image_size: tuple[int, int]
) -> AnnotatedObject:
    """The object of an annotation; errors say nothing of the place."""
    height, width = image_size
    area = entry.get("area")
    if area is not None and not (type(area) in _NUMBERS and 0 <= area < math.inf):
        raise ValueError(f"area must be a number from 0, got {_short(area)}")
    return AnnotatedObject(
        name,
        _relative(entry.get("bbox"), height, width),
        difficult=_flag(entry, "ignore"),
        crowd=_flag(entry, "iscrowd"),
        area=None if area is None else float(area),
    )


def _relative(bbox: Any, height: int, width: int) -> RelativeBox:
    if (
        type(bbox) is not list
        or len(bbox) != 4
        or not _NUMBERS.issuperset(map(type, bbox))
    ):
        raise ValueError(f"bbox must be 4 numbers, got {_short(bbox)}")
    x, y, w, h = bbox
    return y / height, x / width, (y + h) / height, (x + w) / width


def _flag(entry: dict[str, Any], key: str) -> bool:
    value = entry.get(key, 0)
    # 1 and true are equal, as hashes too.
    if value not in (0, 1):
        raise ValueError(f"{key} must be 0 or 1, got {_short(value)}")
    return bool(value)


def _size(entry: dict[str, Any], image: Path, where: str) -> tuple[int, int]:
    """Height and width that an image's entry tells, else those of the file."""
    size = entry.get("height"), entry.get("width")
    if size[0] in (None, 0) or size[1] in (None, 0):
        return read_image_size(image)
    if not all(type(value) is int and 0 < value <= MAX_SIDE for value in size):
        raise ValueError(
            f"{where}: height and width must be positive integers, got {_short(size)}"
        )
    return size[0], size[1]


def _integer(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise ValueError(f"{where}: {key} must be an integer, got {_short(value)}")
    return value


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {key} must be a text, got {_short(value)}")
    return value


def _kind(value: Any) -> str:
    return type(value).__name__


def _short(value: Any) -> str:
    """What a file says, for a message; a hostile file may say a lot."""
    return repr(value)[:80]


def _where(path: Path, what: str, index: int, entry: dict[str, Any]) -> str:
    number = _short(entry["id"]) if "id" in entry else f"number {index}"
    return f"{path}: {what} {number}"


def _folder(
    path: Path,
    entries: list[dict[str, Any]],
    images: str | os.PathLike[str] | None,
    check_images: bool,
) -> Path:
    beside, above = path.parent, path.parent.parent
    split = path.stem.split("_")[-1]
    candidates = (
        beside,
        beside / "images",
        above / split,
        above / "images" / split,
        above / "images",
        above,
    )
    if images is None and not check_images:
        return next((place for place in candidates[1:4] if place.is_dir()), beside)
    first = _text(entries[0], "file_name", f"{path}: image number 0")
    return find_image_folder(images, candidates, first, path)


def _numbers(records: Sequence[Record]) -> list[int]:
    """Integer ids of the images."""
    ids = [record.image_id for record in records]
    # Not 007: it would be read back as 7.
    if all(name.isdecimal() and name == str(int(name)) for name in ids):
        return [int(name) for name in ids]
    return list(range(1, len(ids) + 1))


def _names(records: Sequence[Record]) -> list[str]:
    """Names of image files, relative to the folder that all of them are in."""
    files = [os.path.abspath(r.image) for r in records if isinstance(r.image, Path)]
    folder = os.path.commonpath([os.path.dirname(file) for file in files] or ["."])
    return [
        Path(os.path.relpath(record.image, folder)).as_posix()
        if isinstance(record.image, Path)
        else f"{record.image_id}.png"
        for record in records
    ]


def _write_images(folder: Path, records: Sequence[Record]) -> list[str]:
    """Names of the files, relative to the folder."""
    names: dict[str, None] = {}
    for record in records:
        name = record.image_id
        refuse_outside(name, f"image_id {name!r}")
        data, suffix = encoded_image(record, "PNG")
        # Ids of some formats are file names.
        if not name.lower().endswith(suffix.lower()):
            name += suffix
        if name in names:
            raise ValueError(f"two images would be written to {folder / name}")
        names[name] = None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return list(names)


def _known_size(record: Record) -> tuple[int, int]:
    if record.image_size is not None:
        return record.image_size
    return read_image_size(encoded_image(record, "PNG")[0])
