# SPDX-License-Identifier: Apache-2.0
"""Files of detections: Pascal VOC's text per class and COCO's JSON.

Boxes are written as they are, not clipped to the image, with nine digits: what is read
back has the same float32 numbers, except that COCO's width and height may lose the last
bit of a corner.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from ssdops.boxes import (
    pixels_to_relative,
    relative_to_pixels,
    xywh_to_yxyx,
    xyxy_to_yxyx,
    yxyx_to_xywh,
    yxyx_to_xyxy,
)
from ssdops.data import Dataset
from ssdops.evaluation.detections import ImageDetections, pixel_size
from ssdops.files import write_atomically

VOC_RESULT_PREFIX: Final = "comp4_det_test_"
MAX_FILE_BYTES: Final = 2**30
"""Larger result files are refused before they are read."""

# A corner plus a size must be finite in float32, in which detections are kept.
_LARGEST: Final = 1e38
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COCO_KEYS: Final = ("image_id", "category_id", "bbox", "score")


class _Rows:
    """Rows of a file, collected by image; boxes are `yxyx` corners in pixels."""

    def __init__(self, dataset: Dataset) -> None:
        self._records = {record.image_id: record for record in dataset.records}
        self._rows: dict[str, list[tuple[list[float], float, int]]] = defaultdict(list)

    def add(
        self, place: str, image_id: str, box: list[float], score: float, label: int
    ) -> None:
        """Add one detection; `place` is the file and line, for the error."""
        if image_id not in self._records:
            raise ValueError(
                f"{place}: image {_short(image_id)} is not in the data set"
            )
        self._rows[image_id].append((box, score, label))

    def detections(self) -> list[ImageDetections]:
        """All images in the order of the data set, best detections first."""
        results = []
        for image_id, record in self._records.items():
            rows = sorted(self._rows[image_id], key=lambda row: -row[1])
            if not rows:
                results.append(ImageDetections.from_lists(image_id))
                continue
            boxes, scores, labels = zip(*rows, strict=True)
            relative = pixels_to_relative(
                np.array(boxes, np.float64), pixel_size(record)
            )
            results.append(
                ImageDetections.from_lists(image_id, relative, scores, labels)
            )
        return results


def write_voc_results(
    folder: str | os.PathLike[str],
    dataset: Dataset,
    detections: Iterable[ImageDetections],
) -> None:
    """Writes `comp4_det_test_<class>.txt` for every class, as VOC's tools read them.

    A line is `image_id score xmin ymin xmax ymax`, corners in pixels. Every file is
    written, also without a line in it, and replaces an older one.

    Args:
        folder: made if it is not there.
        dataset: has the images and names the classes.
        detections: of images of the data set.

    Raises:
        OSError: if the place cannot be written.
        ValueError: if an image is not in the data set, an image id has white space in
            it, or a class name cannot be part of a file name.
    """
    place = Path(folder)
    paths = _voc_paths(place, dataset)
    records = {record.image_id: record for record in dataset.records}
    lines: dict[int, list[str]] = {label: [] for label in paths}
    for found in detections:
        if found.image_id not in records:
            raise ValueError(f"image {found.image_id!r} is not in the data set")
        if len(found.image_id.split()) != 1:
            raise ValueError(
                f"image id {found.image_id!r} has white space in it: VOC's result"
                " files cannot hold it"
            )
        size = pixel_size(records[found.image_id])
        pixels = relative_to_pixels(found.boxes.astype(np.float64), size)
        for label, score, box in zip(
            found.classes.tolist(),
            found.scores.tolist(),
            yxyx_to_xyxy(pixels).tolist(),
            strict=True,
        ):
            corners = " ".join(f"{value:.9g}" for value in box)
            lines[label].append(f"{found.image_id} {score:.9g} {corners}\n")
    for label, path in paths.items():
        text = "".join(lines[label])
        write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))


def read_voc_results(
    folder: str | os.PathLike[str], dataset: Dataset
) -> list[ImageDetections]:
    """Reads the files of `write_voc_results`.

    Args:
        folder: has a file for every class of the data set.
        dataset: has the images and names the classes.

    Returns:
        One element per record, in their order.

    Raises:
        FileNotFoundError: if the file of a class is not there.
        ValueError: if a file is for a class that the data set does not have, or a line
            cannot be understood; the message begins with the file and the line.
    """
    place = Path(folder)
    paths = _voc_paths(place, dataset)
    for path in sorted(place.glob(f"{VOC_RESULT_PREFIX}*.txt")):
        if path not in paths.values():
            name = path.stem.removeprefix(VOC_RESULT_PREFIX)
            raise ValueError(
                f"{path}: class {name!r} is not one of"
                f" {', '.join(dataset.class_names[1:])}"
            )
    rows = _Rows(dataset)
    for label, path in paths.items():
        for number, line in enumerate(_read_text(path).split("\n"), start=1):
            words = line.split()
            if not words:
                continue
            at = f"{path}, line {number}"
            if len(words) != 6:
                raise ValueError(
                    f"{at}: expected an image id and 5 numbers, got {len(words)} words"
                )
            score, *corners = (_text_number(at, word) for word in words[1:])
            xmin, ymin, xmax, ymax = corners
            if xmax < xmin or ymax < ymin:
                raise ValueError(
                    f"{at}: xmin ymin xmax ymax must be in order, got {corners}"
                )
            box = xyxy_to_yxyx(np.array(corners)).tolist()
            rows.add(at, words[0], box, score, label)
    return rows.detections()


def write_coco_results(
    file: str | os.PathLike[str],
    dataset: Dataset,
    detections: Iterable[ImageDetections],
) -> None:
    """Writes detections as COCO's results: a JSON list with one object each.

    An object is `{"image_id", "category_id", "bbox": [x, y, width, height] in pixels,
    "score"}`. An image id that is a decimal number without leading zeros is written as
    a number, any other one as a string.

    Args:
        file: an old one is replaced.
        dataset: has the images, and the `category_ids`; without them, those are the
            class ids.
        detections: of images of the data set.

    Raises:
        OSError: if the place cannot be written.
        ValueError: if an image is not in the data set.
    """
    records = {record.image_id: record for record in dataset.records}
    ids = _category_ids(dataset)
    entries: list[dict[str, Any]] = []
    for found in detections:
        if found.image_id not in records:
            raise ValueError(f"image {found.image_id!r} is not in the data set")
        pixels = relative_to_pixels(
            found.boxes.astype(np.float64), pixel_size(records[found.image_id])
        )
        categories = [ids[label] for label in found.classes.tolist()]
        entries += coco_entries(found.image_id, pixels, found.scores, categories)
    write_coco_entries(file, entries)


def coco_entries(
    image_id: str,
    pixels: npt.NDArray[np.float64],
    scores: npt.NDArray[np.floating],
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """The detections of an image as COCO has them, see `write_coco_results`.

    Args:
        image_id: name of the image.
        pixels: `yxyx` corners in pixels, `[N, 4]`.
        scores: `[N]`.
        category_ids: N numbers.
    """
    is_number = image_id.isdecimal() and str(int(image_id)) == image_id
    return [
        {
            "image_id": int(image_id) if is_number else image_id,
            "category_id": category,
            "bbox": [float(f"{value:.9g}") for value in box],
            "score": float(f"{score:.9g}"),
        }
        for category, score, box in zip(
            category_ids, scores.tolist(), yxyx_to_xywh(pixels).tolist(), strict=True
        )
    ]


def write_coco_entries(
    file: str | os.PathLike[str], entries: Iterable[dict[str, Any]]
) -> None:
    """Writes the objects of `coco_entries` as one list, a line each.

    Raises:
        OSError: if the place cannot be written.
    """
    lines = [
        json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries
    ]
    text = "[" + ",\n".join(lines) + "]\n"
    write_atomically(Path(file), lambda partial: partial.write_text(text, "utf-8"))


def read_coco_results(
    file: str | os.PathLike[str],
    dataset: Dataset,
) -> list[ImageDetections]:
    """Reads COCO's results; further keys of an entry, such as masks, do not count.

    Args:
        file: JSON as `write_coco_results` writes it.
        dataset: has the images, and the `category_ids` as in `write_coco_results`.

    Returns:
        One element per record, in their order.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it cannot be understood; the message begins with the file and
            the number of the entry, from 0.
    """
    path = Path(file)
    try:
        entries = json.loads(_read_text(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not valid JSON: {reason}") from None
    if not isinstance(entries, list):
        raise ValueError(
            f"{path}: expected a list of detections, got {type(entries).__name__}"
        )
    labels = {
        category: label
        for label, category in enumerate(_category_ids(dataset))
        if label > 0
    }
    rows = _Rows(dataset)
    for number, entry in enumerate(entries):
        at = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{at}: expected an object, got {type(entry).__name__}")
        missing = [key for key in _COCO_KEYS if key not in entry]
        if missing:
            raise ValueError(f"{at}: {missing[0]} is missing")
        image_id, category, bbox, score = (entry[key] for key in _COCO_KEYS)
        if type(image_id) not in (int, str):
            raise ValueError(
                f"{at}: image_id must be a number or a string, got {_short(image_id)}"
            )
        if type(category) is not int or category not in labels:
            raise ValueError(
                f"{at}: category_id must be one of the {len(labels)} ids from"
                f" {min(labels)} to {max(labels)}, got {_short(category)}"
            )
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise ValueError(
                f"{at}: bbox must be [x, y, width, height], got {_short(bbox)}"
            )
        box = [_json_number(at, "bbox", value) for value in bbox]
        if box[2] < 0 or box[3] < 0:
            raise ValueError(f"{at}: bbox must have a size of 0 or more, got {box}")
        rows.add(
            at,
            str(image_id),
            xywh_to_yxyx(np.array(box)).tolist(),
            _json_number(at, "score", score),
            labels[category],
        )
    return rows.detections()


def read_results(
    path: str | os.PathLike[str], dataset: Dataset
) -> list[ImageDetections]:
    """Detections from a folder of VOC's files or from a file of COCO's JSON.

    Raises:
        OSError, ValueError: as `read_voc_results` and `read_coco_results`.
    """
    if Path(path).is_dir():
        return read_voc_results(path, dataset)
    return read_coco_results(path, dataset)


def write_results(
    path: str | os.PathLike[str],
    dataset: Dataset,
    detections: Iterable[ImageDetections],
) -> None:
    """Detections to COCO's JSON if the path ends in `.json`, else to a VOC folder.

    Raises:
        OSError, ValueError: as `write_voc_results` and `write_coco_results`.
    """
    if Path(path).suffix == ".json":
        write_coco_results(path, dataset, detections)
    else:
        write_voc_results(path, dataset, detections)


def _voc_paths(folder: Path, dataset: Dataset) -> dict[int, Path]:
    """The file of every class id."""
    for name in dataset.class_names[1:]:
        if not name or any(part in name for part in ("/", "\\", "\0")):
            raise ValueError(f"class name {name!r} cannot be part of a file name")
    return {
        label: folder / f"{VOC_RESULT_PREFIX}{name}.txt"
        for label, name in enumerate(dataset.class_names)
        if label > 0
    }


def _category_ids(dataset: Dataset) -> Sequence[int]:
    return dataset.category_ids or range(dataset.num_classes)


def _read_text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from None


def _text_number(at: str, word: str) -> float:
    # float() takes more: "nan", "1_000", digits of other scripts.
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{at}: {_short(word)} is no number")
    return _finite(at, "every number", float(word))


def _json_number(at: str, name: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{at}: {name} must be a number, got {_short(value)}")
    try:
        return _finite(at, name, float(value))
    except OverflowError:
        raise ValueError(f"{at}: {name} must be finite, got a larger number") from None


def _finite(at: str, name: str, value: float) -> float:
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{at}: {name} must be finite, got {value}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
