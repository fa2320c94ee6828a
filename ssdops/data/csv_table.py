# SPDX-License-Identifier: Apache-2.0
"""Reader of CSV tables with a header, one object a line.

Columns are known by name, whatever their order; case, spaces and underscores do not
matter, and other columns are ignored:

| what | names |
| --- | --- |
| image | `image`, `filename`, `file`, `path` or `image_id` |
| class | `class`, `label` or `name` |
| box | `xmin`, `ymin`, `xmax`, `ymax`; or `x`, `y`, `width`, `height` |
| size of the image in pixels | `image_width`, `image_height`; `width`, `height` |
| evaluation leaves the object out | `difficult` |

`width` and `height` are the image's beside corners, as in the tables of the TensorFlow
Object Detection API tutorials, and the box's beside `x` and `y`. Where both `xmin` and
`x` are there, they say nothing.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ssdops.data.collection import (
    AnnotatedImage,
    AnnotatedObject,
    RelativeBox,
    collect_dataset,
)
from ssdops.data.image_files import (
    IMAGE_SUFFIXES,
    MAX_SIDE,
    ImageFolder,
    find_image_folder,
)
from ssdops.data.records import Dataset
from ssdops.image_io import read_image_size

_IMAGE: Final = ("image", "filename", "file", "path", "imageid")
_CLASS: Final = ("class", "label", "name")
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
_POINT_AND_SIZE: Final = ("x", "y", "width", "height")
_SUFFIXES: Final = ("", *IMAGE_SUFFIXES)
_YES: Final = ("1", "1.0", "true", "yes")
_NO: Final = ("", "0", "0.0", "false", "no")


@dataclass
class _Columns:
    """Numbers of the columns; None where a table has none."""

    image: int
    name: int
    box: tuple[int, ...]
    is_corners: bool
    size: tuple[int, int] | None
    difficult: int | None


@dataclass
class _Row:
    """An object; the box is `(xmin, ymin, xmax, ymax)` in the unit of the table."""

    line: int
    name: str
    box: tuple[float, ...]
    difficult: bool


@dataclass
class _Image:
    line: int
    size: tuple[int, int] | None
    rows: list[_Row] = field(default_factory=list)


def read_csv(
    file: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    *,
    coordinates: Literal["auto", "pixels", "relative"] = "auto",
) -> Dataset:
    """The images of a CSV table with their objects.

    A line without class and box is an image without objects. Objects whose box is
    degenerate, not finite or outside the image are left out, counted by cause in
    `Dataset.dropped` and reported in one warning. A box that reaches over the border
    is clipped to the image.

    Args:
        file: table in UTF-8, separated by commas, with the header that is described at
            the top of this module.
        images: folder that the image names are relative to; None for the folder of the
            table, or `images` in it. A name may lack the suffix.
        class_names: names of all classes, with or without `"background"` in front;
            None for the names that occur, sorted.
        coordinates: unit of the boxes. `"auto"` takes them as relative if no number in
            the table is above 1, and as pixels if one is above 2 and no box lies within
            the first pixel; anything else is an error.

    Returns:
        A data set with one record per image, in the order in which they first occur,
        each with its objects in the order of the lines. `image_id` is what the table
        says. Images are not opened, except for the size of one that the table lacks.

    Raises:
        FileNotFoundError: if the table, the folder or an image is not there.
        ValueError: if the table cannot be understood, or an image is named outside the
            folder; the message has the file and the line.
    """
    if coordinates not in ("auto", "pixels", "relative"):
        raise ValueError(
            f"coordinates must be auto, pixels or relative, got {coordinates!r}"
        )
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    found = _read(path)
    if not found:
        raise ValueError(f"{path}: there are no images in it")
    relative = coordinates == "relative"
    if coordinates == "auto":
        relative = _looks_relative(path, found)
    candidates = (path.parent, path.parent / "images")
    folder = ImageFolder(
        find_image_folder(images, candidates, next(iter(found)), path, _SUFFIXES)
    )
    annotated = []
    for name, image in found.items():
        where = f"{path}: line {image.line}"
        source = folder.path(_with_suffix(folder, name), where)
        height, width = image.size or read_image_size(source)
        scale = (1, 1) if relative else (height, width)
        objects = [
            AnnotatedObject(row.name, _relative(row.box, *scale), row.difficult)
            for row in image.rows
        ]
        annotated.append(AnnotatedImage(source, name, objects, path, (height, width)))
    return collect_dataset(annotated, class_names, path)


def _read(path: Path) -> dict[str, _Image]:
    """Images by name."""
    images: dict[str, _Image] = {}
    rows = _lines(path)
    header = next(rows, None)
    if header is None:
        raise ValueError(f"{path}: the table is empty, not even a header is there")
    names = header[1]
    columns = _columns(path, names)
    for line, cells in rows:
        where = f"{path}: line {line}"
        if len(cells) != len(names):
            raise ValueError(
                f"{where}: expected {len(names)} columns as in the header,"
                f" got {len(cells)}"
            )
        name = cells[columns.image]
        if not name:
            raise ValueError(f"{where}: the column {names[columns.image]!r} is empty")
        size = _size(columns, cells, where)
        image = images.setdefault(name, _Image(line, size))
        if image.size != size:
            raise ValueError(
                f"{where}: the image {name!r} has height and width {size}, but"
                f" {image.size} in line {image.line}"
            )
        row = _row(columns, cells, line, where)
        if row is not None:
            image.rows.append(row)
    return images


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text file in UTF-8: {error}") from None


def _columns(path: Path, header: list[str]) -> _Columns:
    known: dict[str, int] = {}
    for number, title in enumerate(header):
        key = "".join(title.lower().replace("_", " ").split())
        if key in known:
            raise ValueError(f"{path}: line 1: two columns are named {title!r}")
        known[key] = number

    def one_of(what: str, names: tuple[str, ...]) -> int:
        for name in names:
            if name in known:
                return known[name]
        raise ValueError(
            f"{path}: line 1: no column for the {what} ({', '.join(names)});"
            f" the columns are {', '.join(header)}"
        )

    is_corners = all(name in known for name in _CORNERS)
    if not is_corners and not all(name in known for name in _POINT_AND_SIZE):
        raise ValueError(
            f"{path}: line 1: no columns for the box ({', '.join(_CORNERS)} or"
            f" {', '.join(_POINT_AND_SIZE)}); the columns are {', '.join(header)}"
        )
    size = None
    if "imageheight" in known and "imagewidth" in known:
        size = known["imageheight"], known["imagewidth"]
    elif is_corners and "height" in known and "width" in known and "x" not in known:
        size = known["height"], known["width"]
    return _Columns(
        image=one_of("image", _IMAGE),
        name=one_of("class", _CLASS),
        box=tuple(known[n] for n in (_CORNERS if is_corners else _POINT_AND_SIZE)),
        is_corners=is_corners,
        size=size,
        difficult=known.get("difficult"),
    )


def _row(columns: _Columns, cells: list[str], line: int, where: str) -> _Row | None:
    """The object of a line; None if it has none."""
    name = cells[columns.name]
    texts = [cells[column] for column in columns.box]
    if not name and not any(texts):
        return None
    if not name:
        raise ValueError(f"{where}: a box without a class")
    if not all(texts):
        raise ValueError(f"{where}: a class without a whole box, got {texts}")
    numbers = [_number(text, where) for text in texts]
    if not columns.is_corners:
        x, y, width, height = numbers
        numbers = [x, y, x + width, y + height]
    difficult = False
    if columns.difficult is not None:
        text = cells[columns.difficult].lower()
        if text not in (*_YES, *_NO):
            raise ValueError(f"{where}: difficult must be 0 or 1, got {text[:80]!r}")
        difficult = text in _YES
    return _Row(line, name, tuple(numbers), difficult)


def _size(columns: _Columns, cells: list[str], where: str) -> tuple[int, int] | None:
    """Height and width of the image; None if the line does not tell."""
    if columns.size is None:
        return None
    texts = [cells[column] for column in columns.size]
    if not any(texts):
        return None
    height, width = (_number(text, where) for text in texts)
    if not all(1 <= side <= MAX_SIDE and side.is_integer() for side in (height, width)):
        raise ValueError(
            f"{where}: height and width of an image must be positive integers,"
            f" got {texts}"
        )
    return int(height), int(width)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text[:80]!r} is no number") from None


def _looks_relative(path: Path, images: dict[str, _Image]) -> bool:
    """Whether the boxes are relative to the image; see `read_csv`."""
    largest, within = 0.0, None
    for image in images.values():
        for row in image.rows:
            finite = [abs(value) for value in row.box if math.isfinite(value)]
            largest = max([largest, *finite])
            xmin, ymin, xmax, ymax = row.box
            if 0 <= xmin < xmax <= 1 and 0 <= ymin < ymax <= 1:
                within = within or row.line
    if largest <= 1:
        return True
    if largest > 2 and within is None:
        return False
    example = "" if within is None else f", but the box in line {within} is below 1"
    raise ValueError(
        f"{path}: boxes may be in pixels or relative: the largest coordinate is"
        f" {largest:g}{example}; say which (argument coordinates)"
    )


def _relative(box: tuple[float, ...], height: int, width: int) -> RelativeBox:
    xmin, ymin, xmax, ymax = box
    return ymin / height, xmin / width, ymax / height, xmax / width


def _with_suffix(folder: ImageFolder, name: str) -> str:
    """The name of the file, which may have a suffix that the table leaves out."""
    names = [name + suffix for suffix in _SUFFIXES]
    return next((candidate for candidate in names if folder.has(candidate)), name)
