# SPDX-License-Identifier: Apache-2.0
"""The classes that the options `--classes` and `--labels` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["chosen_classes", "read_labels", "suggested_labels"]

LISTS = ("voc", "coco", "coco91")
MAX_LABELS_BYTES = 4 * 2**20
# As many classes as any model has.
MAX_LABEL = 1000
LABEL_MAPS = (".pbtxt", ".prototxt")


def chosen_classes(text: str) -> tuple[str, ...]:
    """Returns the names of all classes, the first for the background.

    Args:
        text: "voc" for the classes of Pascal VOC, "coco" for those of COCO, or a text
            file of names, one a line, with "background" before them or not.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no names or one twice.
    """
    from ssdops.data import read_class_names
    from ssdops.models.class_names import VOC_CLASS_NAMES

    known = _known_lists()
    if text in known:
        return known[text]
    if not Path(text).is_file():
        raise ValueError(f"classes file {text} does not exist")
    background = VOC_CLASS_NAMES[0]
    names = read_class_names(Path(text))
    return (background, *(name for name in names if name != background))


def _known_lists() -> dict[str, tuple[str, ...]]:
    from ssdops.models.class_names import (
        COCO_CLASS_NAMES,
        COCO_ID_NAMES,
        VOC_CLASS_NAMES,
    )

    lists = (VOC_CLASS_NAMES, COCO_CLASS_NAMES, COCO_ID_NAMES)
    return dict(zip(LISTS, lists, strict=True))


def suggested_labels(class_names: Sequence[str]) -> str | None:
    """Returns the list that classes without names are probably of, None if of none.

    Args:
        class_names: Of a model, index 0 the background.
    """
    if class_names[1] != "class 1":
        return None
    counts = {len(names): text for text, names in _known_lists().items()}
    return counts.get(len(class_names))


def read_labels(path: Path) -> list[str]:
    """Returns the names in a labels file, the first for class 0, the background.

    Args:
        path: "voc", "coco" for the 80 classes of COCO in a row, "coco91" for the same
            by the numbers of COCO's categories. Or a file: UTF-8 text, one name a line
            from class 0 on; the name of class 0 is always "background", empty lines at
            the end do not count. Or a label map (`.pbtxt` of the Object Detection API,
            `.prototxt` of Caffe); classes between that it does not name are called
            "???".

    Raises:
        ValueError: If the file is absent, too large, no text or no label map, has a
            class beyond 1000, or names no class but the background.
    """
    known = _known_lists()
    if str(path) in known and not path.is_file():
        return list(known[str(path)])
    if not path.is_file():
        raise ValueError(
            f"labels file {path} does not exist; there are the lists {', '.join(LISTS)}"
        )
    if path.stat().st_size > MAX_LABELS_BYTES:
        raise ValueError(f"labels file {path} is larger than {MAX_LABELS_BYTES} bytes")
    if path.suffix.lower() in LABEL_MAPS:
        from ssdops.data.label_map import read_label_map
        from ssdops.models.class_names import UNUSED_NAME

        named = read_label_map(path)
        last = max(named)
        if last > MAX_LABEL:
            raise ValueError(
                f"labels file {path} has class {last}, more than {MAX_LABEL}"
            )
        names = [named.get(label, UNUSED_NAME) for label in range(last + 1)]
    else:
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"labels file {path} is not UTF-8 text") from None
        names = [line.strip() for line in text.rstrip().splitlines()]
    if len(names) < 2:
        raise ValueError(
            f"labels file {path} must name the background and at least one class, got "
            f"{len(names)} lines"
        )
    return ["background", *names[1:]]
