# SPDX-License-Identifier: Apache-2.0
"""What a data set holds, how anchors fit it, and which mistakes it may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ssdops.anchors import AnchorGrid
from ssdops.data import Dataset, Record
from ssdops.image_io import ImageError
from ssdops.ops import box_iou, match_anchors

# Sides of objects in pixels of the network's input, as COCO's classes of size.
SIZE_CLASSES: Final = (("small", 0.0), ("medium", 32.0), ("large", 96.0))
# Width by height, below which an object is called so.
ASPECT_CLASSES: Final = (
    ("tall (up to 1:2)", 0.5),
    ("upright", 0.8),
    ("square", 1.25),
    ("lying", 2.0),
    ("wide (from 2:1)", float("inf")),
)
IMAGES_AT_ONCE: Final = 32

_MANY = 0.3
_FEW_OBJECTS = 20

_Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class FitOfGroup:
    """How the anchors fit a group of objects.

    Attributes:
        name: of the group.
        objects: how many.
        mean_best_iou: mean over them of the IoU with the anchor that fits best.
        by_threshold: objects that some anchor overlaps by the threshold at least.
        by_bipartite_step: others, which get an anchor in the bipartite step only.
        unmatched: others, which no anchor is left for.
    """

    name: str
    objects: int
    mean_best_iou: float
    by_threshold: int
    by_bipartite_step: int
    unmatched: int


@dataclass(frozen=True)
class DatasetReport:
    """What `inspect_dataset` found.

    Attributes:
        images: number of images.
        objects: number of usable objects.
        images_without_objects: number of images.
        objects_by_class: by name, background left out.
        difficult: number of objects.
        crowds: number of regions.
        dropped: objects that the reader left out, by cause.
        duplicates: objects with the same box and class as one before in the image.
        at_border: objects that reach the right or lower border of their image.
        unreadable: image id and reason of every image that cannot be decoded; empty if
            they were not opened.
        other_sizes: image id of every image opened that has another size than the data
            set says, with both sizes `(height, width)`, first that of the data set.
        mean_colour: mean red, green and blue of the images opened; None without any.
        fit: of the anchors to all objects, then by size, then by aspect ratio.
        positives_by_level: anchors that are positive, by feature map.
        positives_per_image: mean number of positive anchors of an image with objects.
        proposed_sizes: sides in pixels that would cover the objects, one for each
            feature map and one more.
        proposed_ratios: aspect ratios above 1 of many objects.
        warnings: sentences on what looks like a mistake.
    """

    images: int
    objects: int
    images_without_objects: int
    objects_by_class: dict[str, int]
    difficult: int
    crowds: int
    dropped: dict[str, int]
    duplicates: int
    at_border: int
    unreadable: dict[str, str]
    other_sizes: dict[str, tuple[_Size, _Size]]
    mean_colour: tuple[float, float, float] | None
    fit: tuple[FitOfGroup, ...]
    positives_by_level: tuple[int, ...]
    positives_per_image: float
    proposed_sizes: tuple[float, ...]
    proposed_ratios: tuple[float, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def inspect_dataset(
    dataset: Dataset,
    grid: AnchorGrid,
    *,
    iou_threshold: float = 0.5,
    open_images: bool = True,
    progress: Callable[[int], None] | None = None,
) -> DatasetReport:
    """Counts what a data set holds and how the anchors of a detector fit it.

    Args:
        dataset: images with ground truth; crowds are left out of the matching.
        grid: anchors of the detector.
        iou_threshold: smallest IoU of a positive anchor.
        open_images: whether every image is decoded.
        progress: called with the number of images done so far.

    Returns:
        The report.
    """
    matched = _match(dataset, grid, iou_threshold)
    opened = dataset if open_images else Dataset((), dataset.class_names)
    images = _open_all(opened, progress)
    records = dataset.records
    labels = np.concatenate([np.zeros(0, np.int32), *(r.labels for r in records)])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)])
    counts = np.bincount(labels, minlength=dataset.num_classes)
    by_class = dict(zip(dataset.class_names[1:], counts[1:].tolist(), strict=True))
    at_border = int((boxes[:, 2:] >= 1).any(axis=1).sum())
    sizes, ratios = _proposals(matched, len(grid.levels))
    report = DatasetReport(
        images=len(dataset),
        objects=dataset.num_objects,
        images_without_objects=sum(not len(record.labels) for record in records),
        objects_by_class=by_class,
        difficult=sum(int(record.difficult.sum()) for record in records),
        crowds=sum(int(r.crowd.sum()) for r in records if r.crowd is not None),
        dropped=dict(dataset.dropped),
        duplicates=sum(_duplicates(record) for record in records),
        at_border=at_border,
        unreadable=images.unreadable,
        other_sizes=images.other_sizes,
        mean_colour=images.mean_colour,
        fit=_fit(matched),
        positives_by_level=tuple(matched.positives_by_level.tolist()),
        positives_per_image=matched.positives_per_image,
        proposed_sizes=sizes,
        proposed_ratios=ratios,
        warnings=(),
    )
    return DatasetReport(**{**vars(report), "warnings": tuple(_warnings(report))})


@dataclass(frozen=True)
class _Matched:
    """Of all objects that are no crowds, row by row."""

    best_iou: npt.NDArray[np.float64]
    by_threshold: npt.NDArray[np.bool_]
    by_bipartite_step: npt.NDArray[np.bool_]
    sides: npt.NDArray[np.float64]  # square root of the area, pixels
    ratios: npt.NDArray[np.float64]  # width by height, pixels
    positives_by_level: npt.NDArray[np.int64]
    positives_per_image: float


def _match(dataset: Dataset, grid: AnchorGrid, iou_threshold: float) -> _Matched:
    anchors = grid.boxes()
    level_of = np.repeat(np.arange(len(grid.levels)), grid.anchors_per_level)
    positives = np.zeros(len(grid.levels), np.int64)
    best, by_threshold, bipartite, all_boxes = [], [], [], []
    with_objects = 0
    for first in range(0, len(dataset), IMAGES_AT_ONCE):
        truths = [_truth(r) for r in dataset.records[first : first + IMAGES_AT_ONCE]]
        rows = max([1, *(len(boxes) for boxes in truths)])
        gt_boxes = np.zeros((len(truths), rows, 4), np.float32)
        gt_labels = np.zeros((len(truths), rows), np.int32)
        for i, boxes in enumerate(truths):
            gt_boxes[i, : len(boxes)] = boxes
            gt_labels[i, : len(boxes)] = 1
        matches = match_anchors(
            anchors, gt_boxes, gt_labels, iou_threshold=iou_threshold
        ).matched_gt.numpy()
        positives += np.bincount(
            level_of[np.nonzero(matches >= 0)[1]], minlength=len(positives)
        )
        for boxes, of_image in zip(truths, matches, strict=True):
            if not len(boxes):
                continue
            with_objects += 1
            best_iou = box_iou(boxes, anchors).numpy().max(axis=1)
            taken = np.isin(np.arange(len(boxes)), of_image)
            above = best_iou >= iou_threshold
            best.append(best_iou)
            by_threshold.append(taken & above)
            bipartite.append(taken & ~above)
            all_boxes.append(boxes)
    boxes = np.concatenate([np.zeros((0, 4)), *all_boxes]).astype(np.float64)
    height, width = (boxes[:, 2:] - boxes[:, :2]).T * np.array(grid.image_size)[:, None]
    return _Matched(
        best_iou=np.concatenate([np.zeros(0), *best]),
        by_threshold=np.concatenate([np.zeros(0, bool), *by_threshold]),
        by_bipartite_step=np.concatenate([np.zeros(0, bool), *bipartite]),
        sides=np.sqrt(height * width),
        ratios=width / height,
        positives_by_level=positives,
        positives_per_image=float(positives.sum() / max(with_objects, 1)),
    )


def _truth(record: Record) -> npt.NDArray[np.float32]:
    return record.boxes if record.crowd is None else record.boxes[~record.crowd]


def _fit(matched: _Matched) -> tuple[FitOfGroup, ...]:
    everything = np.ones(len(matched.sides), bool)
    groups = [("all", everything)]
    uppers = [low for _, low in SIZE_CLASSES[1:]] + [float("inf")]
    for (name, low), high in zip(SIZE_CLASSES, uppers, strict=True):
        groups.append((name, (matched.sides >= low) & (matched.sides < high)))
    low = 0.0
    for name, high in ASPECT_CLASSES:
        groups.append((name, (matched.ratios >= low) & (matched.ratios < high)))
        low = high
    return tuple(
        FitOfGroup(
            name,
            int(members.sum()),
            float(matched.best_iou[members].mean()) if members.any() else 0.0,
            int(matched.by_threshold[members].sum()),
            int(matched.by_bipartite_step[members].sum()),
            int((~matched.by_threshold & ~matched.by_bipartite_step)[members].sum()),
        )
        for name, members in groups
    )


@dataclass
class _Images:
    """What decoding all images shows; see `DatasetReport`."""

    unreadable: dict[str, str]
    other_sizes: dict[str, tuple[_Size, _Size]]
    mean_colour: tuple[float, float, float] | None = None


def _open_all(dataset: Dataset, progress: Callable[[int], None] | None) -> _Images:
    images = _Images({}, {})
    total = np.zeros(3)
    for done, record in enumerate(dataset.records, start=1):
        try:
            image = record.load_image()
        except ImageError as error:
            images.unreadable[record.image_id] = str(error)
        else:
            total += image.reshape(-1, 3).mean(axis=0)
            size = (image.shape[0], image.shape[1])
            if record.image_size not in (None, size):
                images.other_sizes[record.image_id] = (record.image_size, size)
        if progress is not None:
            progress(done)
    opened = len(dataset) - len(images.unreadable)
    if opened:
        red, green, blue = (float(value) for value in np.round(total / opened, 1))
        images.mean_colour = (red, green, blue)
    return images


def _duplicates(record: Record) -> int:
    rows = Counter(
        (int(label), *box)
        for label, box in zip(record.labels, record.boxes.tolist(), strict=True)
    )
    return sum(count - 1 for count in rows.values())


def _proposals(
    matched: _Matched, num_levels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sizes at even shares of the objects; ratios from clusters of their logarithms."""
    if len(matched.sides) < _FEW_OBJECTS:
        return (), ()
    from sklearn.cluster import KMeans  # noqa: PLC0415

    shares = np.linspace(0.02, 0.98, num_levels + 1)
    sizes = np.round(np.quantile(matched.sides, shares), 1)
    # A ratio and its reciprocal are one shape, flipped.
    logs = np.abs(np.log(matched.ratios)).reshape(-1, 1)
    distinct = len(np.unique(logs))
    clusters = KMeans(min(3, distinct), n_init=4, random_state=0).fit(logs)
    ratios = np.round(np.exp(np.sort(clusters.cluster_centers_.ravel())), 1)
    return tuple(sizes.tolist()), tuple(r for r in ratios.tolist() if r > 1.2)


def _warnings(report: DatasetReport) -> list[str]:
    found = []
    read = report.objects + sum(report.dropped.values())
    outside = sum(n for why, n in report.dropped.items() if "outside" in why)
    degenerate = sum(n for why, n in report.dropped.items() if "degenerate" in why)
    if outside > _MANY * read:
        found.append(
            f"{outside} of {read} boxes are outside their image: are they in pixels"
            " where relative numbers are expected, or x in the place of y?"
        )
    if degenerate > _MANY * read:
        found.append(
            f"{degenerate} of {read} boxes have no width or height: are they (x, y,"
            " width, height) where corners are expected, or another order of corners?"
        )
    if report.objects >= _FEW_OBJECTS and report.at_border > _MANY * report.objects:
        found.append(
            f"{report.at_border} of {report.objects} boxes reach the right or lower"
            " border: are x and y exchanged, or are the sizes of the images wrong?"
        )
    empty = [name for name, count in report.objects_by_class.items() if not count]
    if empty and report.objects:
        names = list(report.objects_by_class)
        ends = [name for name in dict.fromkeys((names[0], names[-1])) if name in empty]
        hint = (
            f"; {' and '.join(ends)} at the end of the list: are the labels off by one?"
            if ends
            else ""
        )
        found.append(f"there are no objects of {', '.join(empty)}{hint}")
    if "background" in report.objects_by_class:
        found.append("there is a class named background, which class 0 is already")
    if report.duplicates:
        found.append(f"{report.duplicates} objects are in their image twice")
    if report.images_without_objects > _MANY * report.images:
        found.append(
            f"{report.images_without_objects} of {report.images} images have no"
            " objects: SSD learns nothing from them"
        )
    if report.unreadable:
        found.append(
            f"{len(report.unreadable)} images cannot be read, which ends a training"
        )
    if report.other_sizes:
        image_id, ((height, width), (real_height, real_width)) = next(
            iter(report.other_sizes.items())
        )
        found.append(
            f"{len(report.other_sizes)} images have another size than the data set says"
            f" ({image_id}: {real_width} x {real_height}, said to be {width} x"
            f" {height}): were they turned or resized after the boxes were drawn?"
        )
    if report.mean_colour is not None:
        red, _, blue = report.mean_colour
        if blue > red + 25:
            found.append(
                f"the images are more blue ({blue:g}) than red ({red:g}): are their"
                " channels BGR?"
            )
    everything = report.fit[0]
    weak = everything.by_bipartite_step + everything.unmatched
    if everything.objects and weak > _MANY * everything.objects:
        found.append(
            f"{weak} of {everything.objects} objects have no anchor that overlaps them"
            " enough: see the proposed sizes and ratios"
        )
    return found
