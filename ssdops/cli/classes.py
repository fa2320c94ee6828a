# SPDX-License-Identifier: Apache-2.0
"""The classes that the options `--classes` choose."""

from __future__ import annotations

from pathlib import Path

__all__ = ["chosen_classes"]

VOC = "voc"


def chosen_classes(text: str) -> tuple[str, ...]:
    """Returns the names of all classes, the first for the background.

    Args:
        text: "voc" for the classes of Pascal VOC, or a text file of names, one a line,
            with "background" before them or not.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no names or one twice.
    """
    from ssdops.data import read_class_names
    from ssdops.models.class_names import VOC_CLASS_NAMES

    if text == VOC:
        return VOC_CLASS_NAMES
    if not Path(text).is_file():
        raise ValueError(f"classes file {text} does not exist")
    background = VOC_CLASS_NAMES[0]
    names = read_class_names(Path(text))
    return (background, *(name for name in names if name != background))
