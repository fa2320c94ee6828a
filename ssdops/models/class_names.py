# SPDX-License-Identifier: Apache-2.0
"""Names of classes: those of Pascal VOC and COCO, and what is called the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

__all__ = [
    "COCO_CLASS_NAMES",
    "COCO_ID_NAMES",
    "UNUSED_NAME",
    "VOC_CLASS_NAMES",
    "match_class_names",
]

UNUSED_NAME: Final = "???"
"""The name of classes that are never shown, as label maps write it."""

VOC_CLASS_NAMES: Final = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The classes of Pascal VOC in the order of the official code."""

COCO_CLASS_NAMES: Final = (
    "background",
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck"),
    *("boat", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra"),
    *("giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
    *("skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup"),
    *("fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange"),
    *("broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""The 80 classes of COCO in a row, as the official code numbers them."""

# Numbers of categories that COCO has no objects of.
_NOT_IN_COCO: Final = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _by_category() -> tuple[str, ...]:
    names = iter(COCO_CLASS_NAMES)
    ids = range(len(COCO_CLASS_NAMES) + len(_NOT_IN_COCO))
    return tuple(UNUSED_NAME if i in _NOT_IN_COCO else next(names) for i in ids)


COCO_ID_NAMES: Final = _by_category()
"""The classes of COCO by the numbers of its categories, with gaps between them."""

# Names of COCO, where they are not those of VOC but for spaces.
_SAME: Final = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "motorcycle": "motorbike",
    "tv": "tvmonitor",
}


def match_class_names(
    wanted: Sequence[str],
    known: Sequence[str],
    sources: Mapping[str, str] | None = None,
) -> list[int | None]:
    """Returns for every wanted class the known one that means the same, or None.

    Names mean the same if they are equal, else if they are but for case, spaces,
    hyphens and underscores, else if they are the names of Pascal VOC and COCO for one
    kind of object. Class 0 is the background whatever it is called.

    Args:
        wanted: Names of classes, index 0 the background.
        known: Names of classes, index 0 the background.
        sources: Known classes for wanted ones, by name; these come first.

    Returns:
        One index of `known`, or None, per wanted class.

    Raises:
        ValueError: If `sources` names a class that is not there.
    """
    sources = sources or {}
    for name, source in sources.items():
        for text, names in ((name, wanted), (source, known)):
            if text not in names:
                raise ValueError(
                    f"there is no class {text!r}; there are {', '.join(names)}"
                )
    exact = {name: index for index, name in reversed(list(enumerate(known)))}
    loose = {_key(name): index for index, name in reversed(list(enumerate(known)))}
    found: list[int | None] = [0]
    for name in wanted[1:]:
        index = exact.get(sources.get(name, name), loose.get(_key(name)))
        # The background is none of the objects.
        found.append(index or None)
    return found


def _key(name: str) -> str:
    plain = "".join(part for part in name.casefold() if part not in " -_")
    return _SAME.get(plain, plain)
