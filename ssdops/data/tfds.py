# SPDX-License-Identifier: Apache-2.0
"""Data sets of the package `tensorflow_datasets`, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ssdops.data.collection import AnnotatedImage, AnnotatedObject, collect_dataset
from ssdops.data.records import Dataset
from ssdops.image_io import read_image_size

TFDS_PREFIX: Final = "tfds:"


def read_tfds(
    name: str, split: str = "train", class_names: Sequence[str] | None = None
) -> Dataset:
    """The images of a split of a data set of `tensorflow_datasets`.

    The package must be installed. The first time, it downloads and prepares the data
    set in the folder that it keeps for that. All encoded images of the split are in
    memory: take a part of a large one, as in `"train[:10%]"`.

    Objects whose box is degenerate, not finite or outside the image are left out,
    counted by cause in `Dataset.dropped` and reported in one warning.

    Args:
        name: such as `"voc/2007"` or `"coco/2017"`; the data set must have `image` and
            `objects` with `bbox` and `label`.
        split: such as `"train"`, `"train+validation"` or `"train[:10%]"`.
        class_names: names of all classes, with or without `"background"` in front;
            None for those of the data set, in its order.

    Returns:
        A data set in the order of the split. `image_id` is `image/id`, else
        `image/filename` without suffix, else the number of the image from 0;
        `is_difficult`, `is_crowd` and `area` count where the objects have them.

    Raises:
        ImportError: if the package cannot be imported.
        ValueError: if there is no such data set or split, or it has no such features.
    """
    tfds = _package()
    source = Path(TFDS_PREFIX + name)
    found, info = tfds.load(
        name,
        split=split,
        with_info=True,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    known = _names(source, info.features)
    images = [
        _image(source, index, example, known)
        for index, example in enumerate(found.as_numpy_iterator())
    ]
    if not images:
        raise ValueError(f"{source}: the split {split!r} has no images")
    return collect_dataset(
        images, known if class_names is None else class_names, source
    )


def _package() -> Any:
    try:
        import tensorflow_datasets  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"data sets named {TFDS_PREFIX}... need the package tensorflow-datasets,"
            f" which cannot be imported: {error}; install it with"
            " `pip install tensorflow-datasets`"
        ) from error
    return tensorflow_datasets


def _names(source: Path, features: Any) -> list[str]:
    """Names of the labels, which count from 0."""
    try:
        objects = features["objects"]
        needed = features["image"], objects["bbox"], objects["label"].names
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{source}: expected the features image and objects with bbox and label,"
            f" which has names; the features are {', '.join(features)}"
        ) from None
    return [str(name) for name in needed[-1]]


def _image(
    source: Path, index: int, example: Mapping[str, Any], names: Sequence[str]
) -> AnnotatedImage:
    encoded = bytes(example["image"])
    if "image/id" in example:
        image_id = _text(example["image/id"])
    elif "image/filename" in example:
        image_id = Path(_text(example["image/filename"])).stem
    else:
        image_id = str(index)
    where = Path(f"{source}, image {image_id}")
    columns = {key: value.tolist() for key, value in example["objects"].items()}
    objects = []
    for i, (box, label) in enumerate(
        zip(columns["bbox"], columns["label"], strict=True)
    ):
        if not 0 <= label < len(names):
            raise ValueError(
                f"{where}: label must be from 0 to {len(names) - 1}, got {label}"
            )
        objects.append(
            AnnotatedObject(
                names[label],
                (box[0], box[1], box[2], box[3]),
                bool(columns["is_difficult"][i])
                if "is_difficult" in columns
                else False,
                bool(columns["is_crowd"][i]) if "is_crowd" in columns else False,
                float(columns["area"][i]) if "area" in columns else None,
            )
        )
    size = read_image_size(encoded)
    return AnnotatedImage(encoded, image_id, objects, where, size)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
