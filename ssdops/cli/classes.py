# SPDX-License-Identifier: Apache-2.0
"""The classes that the options `--classes` and `--labels` name."""

from __future__ import annotations

from pathlib import Path

__all__ = ["chosen_classes", "read_labels"]

VOC = "voc"
UNUSED = "???"
MAX_LABELS_BYTES = 4 * 2**20
# As many classes as any model has.
MAX_LABEL = 1000
LABEL_MAPS = (".pbtxt", ".prototxt")


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


def read_labels(path: Path) -> list[str]:
    """Returns the names in a labels file, the first for class 0, the background.

    Args:
        path: UTF-8 text, one name a line from class 0 on; the name of class 0 is always
            "background", empty lines at the end do not count. Or a label map (`.pbtxt`
            of the Object Detection API, `.prototxt` of Caffe); classes between that it
            does not name are called "???".

    Raises:
        ValueError: If the file is absent, too large, no text or no label map, has a
            class beyond 1000, or names no class but the background.
    """
    if not path.is_file():
        raise ValueError(f"labels file {path} does not exist")
    if path.stat().st_size > MAX_LABELS_BYTES:
        raise ValueError(f"labels file {path} is larger than {MAX_LABELS_BYTES} bytes")
    if path.suffix.lower() in LABEL_MAPS:
        from ssdops.data.label_map import read_label_map

        named = read_label_map(path)
        last = max(named)
        if last > MAX_LABEL:
            raise ValueError(
                f"labels file {path} has class {last}, more than {MAX_LABEL}"
            )
        names = [named.get(label, UNUSED) for label in range(last + 1)]
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
