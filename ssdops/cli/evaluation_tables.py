# SPDX-License-Identifier: Apache-2.0
"""The tables of `ssdops evaluate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ssdops.evaluation import CocoResult, ErrorBreakdown, VocResult

__all__ = ["Results", "print_results"]

COCO_MEANINGS = {
    "AP": "mean of AP at IoU 0.50, 0.55, ..., 0.95",
    "AP50": "AP at IoU 0.50",
    "AP75": "AP at IoU 0.75",
    "AP_small": "AP of objects below 32 x 32 pixels",
    "AP_medium": "AP of objects between",
    "AP_large": "AP of objects above 96 x 96 pixels",
    "AR1": "recall with 1 detection per image and class",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "AR_small": "recall of objects below 32 x 32 pixels",
    "AR_medium": "recall of objects between",
    "AR_large": "recall of objects above 96 x 96 pixels",
}
KIND_MEANINGS = {
    "correct": "an object of its class, IoU 0.5 or more",
    "localization": "right class, IoU from 0.1 to 0.5",
    "confusion": "wrong class, IoU 0.5 or more",
    "duplicate": "of an object that a better one found",
    "background": "near no object",
    "confusion_and_localization": "wrong class, IoU from 0.1 to 0.5",
    "missed": "objects that none of these is about",
}


@dataclass(frozen=True)
class Results:
    """What the evaluators found; None for a metric that was not asked for."""

    errors: ErrorBreakdown
    voc: VocResult | None
    coco: CocoResult | None


def print_results(
    console: Console,
    class_names: Sequence[str],
    results: Results,
    *,
    iou_threshold: float,
    error_score_threshold: float,
) -> None:
    """Print a line per class, COCO's numbers, and the kinds of errors.

    Args:
        console: where to.
        class_names: of all class ids, the background first.
        results: of the evaluators.
        iou_threshold: of the VOC metric.
        error_score_threshold: of the errors.
    """
    console.print(_class_table(class_names, results, iou_threshold))
    if results.coco is not None:
        console.print(_coco_table(results.coco))
    console.print(_error_table(results.errors, error_score_threshold))
    if results.voc is not None:
        console.print(
            f"mAP@{iou_threshold:g} {_text(results.voc.mean)}", highlight=False
        )


def _class_table(
    class_names: Sequence[str], results: Results, iou_threshold: float
) -> Table:
    from rich.markup import escape
    from rich.table import Table

    voc, coco = results.voc, results.coco
    objects = results.errors.num_ground_truth
    columns = ["objects"]
    if voc is not None:
        columns += ["detections", f"AP@{iou_threshold:g}"]
    if coco is not None:
        columns += ["AP@.50:.95"]
    table = Table("class", title="Average precision by class")
    for column in columns:
        table.add_column(column, justify="right")
    for label, name in list(enumerate(class_names))[1:]:
        cells = [str(objects[label])]
        if voc is not None:
            cells += [str(voc.num_detections[label])]
            cells += [_text(voc.average_precision[label])]
        if coco is not None:
            cells += [_text(coco.average_precision[label])]
        table.add_row(escape(name), *cells)
    table.add_section()
    cells = [str(objects.sum())]
    if voc is not None:
        cells += [str(voc.num_detections.sum()), _text(voc.mean)]
    if coco is not None:
        cells += [_text(coco.metrics["AP"])]
    table.add_row("all", *cells)
    return table


def _coco_table(coco: CocoResult) -> Table:
    from rich.table import Table

    table = Table(title="COCO's metrics")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("meaning")
    for name, value in coco.metrics.items():
        table.add_row(name, _text(value), COCO_MEANINGS[name])
    return table


def _error_table(errors: ErrorBreakdown, score_threshold: float) -> Table:
    from rich.table import Table

    table = Table(title=f"Detections scored above {score_threshold:g}, by kind")
    table.add_column("kind")
    table.add_column("count", justify="right")
    table.add_column("meaning")
    for kind, counts in errors.detections.items():
        table.add_row(kind.replace("_", " "), str(counts.sum()), KIND_MEANINGS[kind])
    table.add_section()
    table.add_row("missed", str(errors.missed.sum()), KIND_MEANINGS["missed"])
    return table


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
