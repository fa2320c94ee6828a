# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation as plain values, for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ssdops.evaluation.coco import CocoResult
from ssdops.evaluation.errors import ErrorBreakdown
from ssdops.evaluation.voc import VocResult

RECALL_STEPS: Final = 100
"""Precision is told at the recalls 0, 1/100, ..., 1."""


def summarize(
    class_names: Sequence[str],
    *,
    voc: VocResult | None = None,
    coco: CocoResult | None = None,
    errors: ErrorBreakdown | None = None,
) -> dict[str, Any]:
    """All numbers as dictionaries, lists, numbers and None for NaN.

    Args:
        class_names: of all class ids, the background first; it is left out.
        voc: its entry has `mean` and, by class, `average_precision`,
            `num_ground_truth`, `num_detections` and `precision` at the recalls 0, 0.01,
            ..., 1 (the best one at that recall or a higher one).
        coco: its entry has `metrics` by name, and `average_precision` by class.
        errors: its entry has the counts of each kind `in_all` and by class.

    Returns:
        An entry for each result that is given.

    Raises:
        ValueError: if a result has another number of classes.
    """
    summary: dict[str, Any] = {}
    names = list(enumerate(class_names))[1:]
    if voc is not None:
        _check_names(class_names, len(voc.average_precision))
        recalls = np.linspace(0, 1, RECALL_STEPS + 1)
        summary["voc"] = {
            "mean": _number(voc.mean),
            "classes": {
                name: {
                    "average_precision": _number(voc.average_precision[label]),
                    "num_ground_truth": int(voc.num_ground_truth[label]),
                    "num_detections": int(voc.num_detections[label]),
                    "precision": voc.curves[label].precision_at(recalls).tolist(),
                }
                for label, name in names
            },
        }
    if coco is not None:
        _check_names(class_names, len(coco.average_precision))
        summary["coco"] = {
            "metrics": {name: _number(value) for name, value in coco.metrics.items()},
            "classes": {
                name: {"average_precision": _number(coco.average_precision[label])}
                for label, name in names
            },
        }
    if errors is not None:
        _check_names(class_names, len(errors.num_ground_truth))
        counts = {
            **errors.detections,
            "missed": errors.missed,
            "num_ground_truth": errors.num_ground_truth,
        }
        summary["errors"] = {
            "in_all": {kind: int(count.sum()) for kind, count in counts.items()},
            "classes": {
                name: {kind: int(count[label]) for kind, count in counts.items()}
                for label, name in names
            },
        }
    return summary


def _check_names(class_names: Sequence[str], num_classes: int) -> None:
    if len(class_names) != num_classes:
        raise ValueError(
            f"class_names must name {num_classes} classes, got {len(class_names)} names"
        )


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
