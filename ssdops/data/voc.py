# SPDX-License-Identifier: Apache-2.0
"""Reader and writer of Pascal VOC folders.

A folder holds `JPEGImages`, `Annotations` with one XML file per image, and lists of
image names in `ImageSets/Main`. XML is parsed with `defusedxml`: entity declarations
and references to other files are refused, so a hostile file costs an error message.

Box corners are divided by the width and height as they stand: the official SSD code
does not subtract 1 from the 1-based corners, and so `[1, 1, W, H]` becomes
`[1/W, 1/H, 1, 1]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from ssdops.data.collection import AnnotatedImage, AnnotatedObject, collect_dataset
from ssdops.data.image_files import IMAGE_SUFFIXES, encoded_image, refuse_outside
from ssdops.data.records import Dataset, Record
from ssdops.image_io import read_image_size


def read_voc(
    folder: str | Path,
    split: str | None = "train",
    class_names: Sequence[str] | None = None,
    *,
    check_images: bool = True,
) -> Dataset:
    """The images of a Pascal VOC folder with their objects.

    Objects whose box is degenerate, not finite or outside the image are left out,
    counted by cause in `Dataset.dropped` and reported in one warning. A box that
    reaches over the border is clipped to the image.

    Args:
        folder: the folder with `JPEGImages`, `Annotations` and `ImageSets`.
        split: name of a list in `ImageSets/Main`, without `.txt`, or several joined as
            in `"train+val"`; None for every file in `Annotations`.
        class_names: names of all classes, with or without `"background"` in front;
            None for the names that occur in any annotation of the split, sorted.
        check_images: whether image files must be there. False where only the
            annotations matter.

    Returns:
        A data set with one record per name in the list, in its order. Class ids follow
        `class_names`, from 1. Images are not opened, except for the size of one whose
        annotation lacks it.

    Raises:
        FileNotFoundError: if the folder, the list, an annotation or an image is not
            there.
        ValueError: if a file cannot be understood, or names an unknown class; the
            message begins with the file.
    """
    folder = Path(folder)
    names = _image_names(folder, split)
    parsed = [_read_annotation(folder, name, check_images) for name in names]
    return collect_dataset(parsed, class_names, folder)


def write_voc(
    folder: str | Path,
    records: Iterable[Record],
    split: str,
    class_names: Sequence[str],
) -> None:
    """Writes records as one split of a Pascal VOC folder.

    Args:
        folder: made if it is not there; other splits in it stay as they are.
        records: what to write. Images in memory are written as JPEG of quality 92,
            files are copied byte for byte.
        split: name of the list in `ImageSets/Main`.
        class_names: names in the order of the class ids, `"background"` first.

    Coordinates are written with as many decimals as a float32 needs.

    Raises:
        ImageError: if an image cannot be read.
        ValueError: if an image id has spaces or would leave the folder.
    """
    folder = Path(folder)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = []
    for record in records:
        name = record.image_id
        refuse_outside(name, f"{folder}: image_id {name!r}")
        if name.split() != [name]:
            raise ValueError(
                f"{folder}: image_id must have no spaces to be in a list, got {name!r}"
            )
        data, suffix = encoded_image(record, "JPEG")
        file = folder / "JPEGImages" / f"{name}{suffix}"
        for path in (file, _annotation_path(folder, name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        height, width = read_image_size(file)
        text = _annotation(record, file.name, width, height, class_names)
        _annotation_path(folder, name).write_text(text, "utf-8")
        names.append(name)
    listing = "".join(f"{name}\n" for name in names)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(listing, "utf-8")


def _annotation_path(folder: Path, name: str) -> Path:
    return folder / "Annotations" / f"{name}.xml"


def _image_names(folder: Path, split: str | None) -> list[str]:
    """Names of the images of a split, in order, each once."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if split is None:
        names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        if not names:
            raise FileNotFoundError(f"{folder / 'Annotations'}: no XML files there")
        return names
    names = [name for part in split.split("+") for name in _listed(folder, part)]
    return list(dict.fromkeys(names))


def _listed(folder: Path, split: str) -> list[str]:
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        known = sorted(path.stem for path in listing.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"{listing}: no such list; there are {', '.join(known) or 'none'}"
        )
    # A list of one class has a second column with 1, -1 or 0.
    lines = listing.read_text("utf-8", errors="replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{listing}: {name!r} is no name of an image")
    if not names:
        raise ValueError(f"{listing}: the list is empty")
    return names


def _read_annotation(folder: Path, name: str, check_image: bool) -> AnnotatedImage:
    """What one XML file says."""
    path = _annotation_path(folder, name)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation")
    try:
        root = parse(path).getroot()
    except DefusedXmlException as error:
        raise ValueError(f"{path}: refused, {type(error).__name__}: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not well-formed XML: {error}") from None
    if root is None or root.tag != "annotation":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise ValueError(f"{path}: expected <annotation>, found {found}")

    image = _image_path(folder, name, root.findtext("filename"), check_image)
    width = _number(path, root, "size/width", 0.0)
    height = _number(path, root, "size/height", 0.0)
    if not (0 < width < math.inf and 0 < height < math.inf):
        height, width = read_image_size(image)
    objects = []
    for element in root.findall("object"):
        label = (element.findtext("name") or "").strip()
        if not label:
            raise ValueError(f"{path}: an <object> has no <name>")
        # A missing corner is an error, a senseless one is a box to drop.
        corners = [
            _number(path, element, f"bndbox/{corner}", None)
            for corner in ("ymin", "xmin", "ymax", "xmax")
        ]
        box = (
            corners[0] / height,
            corners[1] / width,
            corners[2] / height,
            corners[3] / width,
        )
        hard = _number(path, element, "difficult", 0.0) > 0
        objects.append(AnnotatedObject(label, box, hard))
    # Grouped by class in order of first appearance: the order of the official code,
    # which decides ties in matching. `sorted` keeps the order inside a class.
    first = {item.name: i for i, item in reversed(list(enumerate(objects)))}
    objects.sort(key=lambda item: first[item.name])
    return AnnotatedImage(image, name, objects, path, (int(height), int(width)))


def _number(path: Path, element: Any, tag: str, default: float | None) -> float:
    """The number in a child element; `default` if the child is not there."""
    text = element.findtext(tag)
    if text is None or not text.strip():
        if default is None:
            raise ValueError(f"{path}: an <object> has no <{tag}>")
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: <{tag}> is no number: {text.strip()!r}") from None


def _image_path(folder: Path, name: str, file_name: str | None, check: bool) -> Path:
    """The image of an annotation: named after it, else what `<filename>` says.

    Tools that convert or rename images leave the old name in `<filename>`, so that it
    counts last, with the suffix it has or without.
    """
    images = folder / "JPEGImages"
    # Only the last part counts: an annotation cannot point outside the folder.
    said = (file_name or "").replace("\\", "/").split("/")[-1].strip()
    names = [f"{name}{suffix}" for suffix in IMAGE_SUFFIXES]
    if said not in ("", ".", ".."):
        names += [said, *(f"{Path(said).stem}{suffix}" for suffix in IMAGE_SUFFIXES)]
    for candidate in names:
        if (images / candidate).is_file():
            return images / candidate
    if not check:
        return images / names[0]
    raise FileNotFoundError(
        f"{_annotation_path(folder, name)}: no image {images / name} with suffix"
        f" {', '.join(IMAGE_SUFFIXES)}, and <filename> is {file_name!r}"
    )


def _annotation(
    record: Record,
    file_name: str,
    width: int,
    height: int,
    class_names: Sequence[str],
) -> str:
    """The XML text of a record."""
    lines = [
        "<annotation>",
        f"  <filename>{escape(file_name)}</filename>",
        "  <size>",
        f"    <width>{width}</width>",
        f"    <height>{height}</height>",
        "    <depth>3</depth>",
        "  </size>",
    ]
    scale = np.array([height, width, height, width], np.float64)
    for box, label, difficult in zip(
        record.boxes, record.labels, record.difficult, strict=True
    ):
        ymin, xmin, ymax, xmax = (f"{value:.9g}" for value in box * scale)
        lines += [
            "  <object>",
            f"    <name>{escape(class_names[label])}</name>",
            f"    <difficult>{int(difficult)}</difficult>",
            "    <bndbox>",
            f"      <xmin>{xmin}</xmin>",
            f"      <ymin>{ymin}</ymin>",
            f"      <xmax>{xmax}</xmax>",
            f"      <ymax>{ymax}</ymax>",
            "    </bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
