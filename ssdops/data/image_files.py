# SPDX-License-Identifier: Apache-2.0
"""Image files of a data set: where they are, and how writers store them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssdops.data.records import EncodedImage, Record
from ssdops.image_io import FORMATS, ImageError

IMAGE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"),
    *(".bmp", ".webp"),
)
MAX_SIDE: Final = 2**31 - 1
"""Pixels that a file may say an image is high or wide."""

_JPEG_QUALITY = 92
_SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "TIFF": ".tif"}


class ImageFolder:
    """Names in an annotation file to paths in the folder of the images.

    Args:
        folder: of the images.
        check: whether the files must be there. A folder is listed once, which for many
            images is far faster than a look at each.
    """

    def __init__(self, folder: Path, check: bool = True) -> None:
        self.folder = folder
        self._check = check
        self._files: dict[str, frozenset[str]] = {}

    def path(self, name: str, where: str) -> Path:
        """Path of an image.

        Args:
            name: relative to the folder.
            where: who names it, for messages.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if the name would leave the folder.
        """
        refuse_outside(name, where)
        if self._check and not self.has(name):
            raise FileNotFoundError(f"{where}: no image {self.folder / name}")
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        parent, last = os.path.split(name)
        if parent not in self._files:
            self._files[parent] = _files_in(self.folder / parent)
        return last in self._files[parent]


def refuse_outside(name: str, where: str) -> None:
    """Checks the name of an image that a file gives.

    Args:
        name: must be relative and without `..`, by the rules of any system.
        where: who names it, for messages.

    Raises:
        ValueError: if it would leave the folder of the images.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or not parts[0] or ".." in parts or name[1:2] == ":" or "\0" in name:
        raise ValueError(
            f"{where}: the name of an image must be relative to the folder of the"
            f" images and stay in it, got {name!r}"
        )


def find_image_folder(
    images: str | os.PathLike[str] | None,
    candidates: Sequence[Path],
    first_name: str,
    annotation: Path,
    suffixes: Sequence[str] = ("",),
) -> Path:
    """The folder of the images.

    Args:
        images: what the user said, or None for the first candidate that has an image
            of the given name.
        candidates: folders to look in.
        first_name: of some image of the data set.
        annotation: file of the data set, for messages.
        suffixes: any of which the name may lack.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if images is not None:
        if not Path(images).is_dir():
            raise FileNotFoundError(f"images: there is no folder {os.fspath(images)}")
        return Path(images)
    refuse_outside(first_name, str(annotation))
    for folder in candidates:
        if any((folder / (first_name + suffix)).is_file() for suffix in suffixes):
            return folder
    raise FileNotFoundError(
        f"{annotation}: no image {first_name} in"
        f" {', '.join(str(folder) for folder in dict.fromkeys(candidates))};"
        " name the folder of the images (argument images)"
    )


def encoded_image(record: Record, array_format: str) -> tuple[bytes, str]:
    """What an image file of the record holds, and its suffix.

    Args:
        record: an image that is a file, or stands in one, is taken byte for byte.
        array_format: `"JPEG"` (quality 92) or `"PNG"` (lossless), for pixels in memory.

    Raises:
        ImageError: if the image cannot be read.
    """
    if isinstance(record.image, np.ndarray):
        buffer = io.BytesIO()
        Image.fromarray(record.image).save(buffer, array_format, quality=_JPEG_QUALITY)
        return buffer.getvalue(), _suffix(array_format)
    if isinstance(record.image, Path):
        try:
            return record.image.read_bytes(), record.image.suffix
        except OSError as error:
            raise ImageError(f"{record.image} cannot be read: {error}") from None
    data = record.image
    if isinstance(data, EncodedImage):
        data = data.read()
    return data, _suffix(image_format(data, f"image {record.image_id}"))


def image_format(encoded: bytes, name: str) -> str:
    """Pillow's name of the format of an encoded image, such as `"JPEG"`.

    Raises:
        ImageError: if it is in no known format.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return str(image.format)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name} is not a readable image: {error}") from None


def _suffix(format_name: str) -> str:
    return _SUFFIX_OF_FORMAT.get(format_name, f".{format_name.lower()}")


def _files_in(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()
