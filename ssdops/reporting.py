# SPDX-License-Identifier: Apache-2.0
"""Pictures of runs and of data: curves, detections, ground truth, augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssdops.anchors import AnchorGrid
from ssdops.data import (
    Augmentation,
    Dataset,
    evaluation_batches,
    readable,
    training_batches,
)
from ssdops.files import write_atomically
from ssdops.models import SSD
from ssdops.ops import match_anchors
from ssdops.training import read_log
from ssdops.training.loop import EVALUATION_LOG, TRAINING_LOG
from ssdops.visualization import draw_detections, draw_frames


def save_curves(run_folder: Path, path: Path) -> None:
    """Draw the loss and mAP of a run over its steps.

    Args:
        run_folder: folder of `ssdops.training.train`.
        path: picture to write; the suffix tells the format.
    """
    losses = read_log(run_folder / TRAINING_LOG)
    evaluations = read_log(run_folder / EVALUATION_LOG)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in losses]
    for name in ("loss", "localization", "confidence"):
        left.plot(steps, [row[name] for row in losses], label=name, linewidth=1)
    left.set(xlabel="step", ylabel="loss", yscale="log", title="Training loss")
    left.legend()
    right.plot(
        [row["step"] for row in evaluations],
        [row["map_50"] for row in evaluations],
        marker="o",
    )
    right.set(xlabel="step", ylabel="mAP@0.5", ylim=(0, 1), title="Evaluation")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    _save(figure, path)


def save_comparison(
    model: SSD,
    dataset: Dataset,
    path: Path,
    *,
    count: int = 6,
    score_threshold: float = 0.5,
) -> None:
    """Draw detections beside the ground truth for the first images of a data set.

    Args:
        model: detector with the classes of the data set.
        dataset: images to show.
        path: picture to write; the suffix tells the format.
        count: number of images, at least 1.
        score_threshold: only detections with a higher score are drawn.
    """
    shown = Dataset(dataset.records[:count], dataset.class_names)
    columns = 4
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(12, 3.2 * rows), layout="constrained")
    grid: Any = np.atleast_2d(figure.subplots(rows, columns))
    for axes in grid.flat:
        axes.axis("off")
    place = 0
    for batch in evaluation_batches(shown, model.spec.image_size, count):
        found = model.detect(batch["images"], score_threshold=score_threshold)
        for i, image in enumerate(batch["images"].numpy()):
            record = shown.records[place]
            number = int(found.num_detections[i])
            # Enlarged, so that the names of small objects can be read.
            large = image.repeat(4, axis=0).repeat(4, axis=1)
            truth = draw_detections(
                large, record.boxes, record.labels, class_names=shown.class_names
            )
            detected = draw_detections(
                large,
                found.boxes[i, :number].numpy(),
                found.classes[i, :number].numpy(),
                class_names=shown.class_names,
                scores=found.scores[i, :number].numpy(),
            )
            row, column = divmod(place, 2)
            for offset, picture, title in (
                (0, truth, "ground truth"),
                (1, detected, f"detections above {score_threshold:g}"),
            ):
                axes = grid[row, 2 * column + offset]
                axes.imshow(np.asarray(picture))
                axes.set_title(f"{record.image_id}: {title}", fontsize=7)
            place += 1
    _save(figure, path)


def save_ground_truth(
    dataset: Dataset, grid: AnchorGrid, path: Path, *, count: int = 6
) -> None:
    """Draw the ground truth of images, and the anchors that take each object.

    Args:
        dataset: images to choose from, evenly.
        grid: anchors of the detector; they are drawn thin, in the colour of the class
            of their object.
        path: picture to write; the suffix tells the format.
        count: number of images at most.
    """
    anchors = grid.boxes()
    places = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    pictures = []
    for place in places if len(dataset) else ():
        record = dataset.records[place]
        labels = np.zeros(max(len(record.labels), 1), np.int32)
        boxes = np.zeros((len(labels), 4), np.float32)
        labels[: len(record.labels)] = record.labels
        boxes[: len(record.boxes)] = record.boxes
        matched = match_anchors(anchors, boxes[None], labels[None]).matched_gt.numpy()
        positive = np.nonzero(matched[0] >= 0)[0]
        image = record.load_image()
        drawn = draw_detections(
            image, record.boxes, record.labels, class_names=dataset.class_names
        )
        with_anchors = draw_frames(
            image, anchors[positive], labels[matched[0][positive]]
        )
        pictures.append((drawn, f"{record.image_id}: {len(record.labels)} objects"))
        pictures.append((with_anchors, f"their {len(positive)} positive anchors"))
    _save_page(pictures, path)


def save_augmented(
    dataset: Dataset,
    image_size: tuple[int, int],
    augmentation: Augmentation,
    path: Path,
    *,
    count: int = 12,
    seed: int = 0,
) -> None:
    """Draw training images as the detector gets them.

    Args:
        dataset: images to change, one epoch in the order of a training.
        image_size: of the detector's input.
        augmentation: settings.
        path: picture to write; the suffix tells the format.
        count: number of pictures, at least 1.
        seed: of the order and the changes.
    """
    batches = training_batches(
        dataset, image_size, count, seed=seed, augmentation=augmentation
    )
    batch = {name: value.numpy() for name, value in next(readable(batches)).items()}
    pictures = []
    for image, boxes, labels, index in zip(
        batch["images"],
        batch["gt_boxes"],
        batch["gt_labels"],
        batch["indices"],
        strict=True,
    ):
        objects = labels > 0
        drawn = draw_detections(
            image, boxes[objects], labels[objects], class_names=dataset.class_names
        )
        pictures.append((drawn, dataset.records[index].image_id))
    _save_page(pictures, path)


def _save_page(pictures: Sequence[tuple[Any, str]], path: Path) -> None:
    columns = 4
    rows = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(14, 3.6 * rows), layout="constrained")
    grid: Any = np.atleast_2d(figure.subplots(rows, columns))
    for axes in grid.flat:
        axes.axis("off")
    for axes, (picture, title) in zip(grid.flat, pictures, strict=False):
        axes.imshow(np.asarray(picture))
        axes.set_title(title, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=130))
