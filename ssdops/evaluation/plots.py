# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation: precision over recall, and kinds of errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssdops.evaluation.errors import DETECTION_KINDS, ErrorBreakdown
from ssdops.evaluation.voc import VocResult
from ssdops.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES: Final = 100
"""A picture shows the classes with most objects, up to this many."""

_DPI: Final = 110
_BLUE: Final = "#1f5fa8"
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_KIND_COLORS: Final = {
    "correct": "#009e73",
    "localization": "#56b4e9",
    "confusion": "#e69f00",
    "duplicate": "#cc79a7",
    "background": "#d55e00",
    "confusion_and_localization": "#f0e442",
    "missed": "#8c8c8c",
}


def save_precision_recall(
    result: VocResult, class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draws precision over recall, one panel for each class that has objects.

    The thin line is what was measured, the thick one the best precision at that recall
    or a higher one, which average precision is taken from.

    Args:
        result: of `VocEvaluator.result` or `evaluate`.
        class_names: of all class ids, the background first.
        path: picture to write; the suffix tells the format.

    Raises:
        OSError: if the place cannot be written.
        ValueError: if the names are not as many as the classes, or the suffix is of no
            known format.
    """
    _check_names(class_names, len(result.num_ground_truth))
    labels, note = _shown_classes(result.num_ground_truth)
    if not labels:
        note = ": no class has objects"
    # Wide enough for the title.
    columns = max(2, min(len(labels), max(3, round(np.sqrt(1.6 * len(labels))))))
    rows = max(1, -(-len(labels) // columns))
    figure = _figure(2.3 * columns + 0.6, 2.2 * rows + 0.9)
    mean = f", mAP {result.mean:.3f}" if labels else ""
    figure.suptitle(f"Precision over recall{mean}{note}", fontsize=12)
    panels: Any = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    )
    for axes in panels.flat[len(labels) :]:
        axes.axis("off")
    recalls = np.linspace(0, 1, 501)
    for axes in panels.flat[max(0, len(labels) - columns) : len(labels)]:
        # Also where the panel below it is empty.
        axes.tick_params(labelbottom=True)
    for axes, label in zip(panels.flat, labels, strict=False):
        curve = result.curves[label]
        best = curve.precision_at(recalls)
        axes.fill_between(recalls, best, color=_BLUE, alpha=0.12, linewidth=0)
        axes.plot(recalls, best, color=_BLUE, linewidth=1.6)
        axes.plot(curve.recall, curve.precision, color=_BLUE, linewidth=0.6, alpha=0.6)
        axes.set_title(
            f"{_cut(class_names[label])}  {result.average_precision[label]:.3f}",
            fontsize=9,
            parse_math=False,
        )
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize=7, length=2)
        axes.grid(alpha=0.25, linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    _save(figure, path)


def save_error_breakdown(
    errors: ErrorBreakdown, class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draws, for each class, its detections by kind and its missed objects as a bar.

    Args:
        errors: of `ErrorEvaluator.result`.
        class_names: of all class ids, the background first.
        path: picture to write; the suffix tells the format.

    Raises:
        OSError: if the place cannot be written.
        ValueError: if the names are not as many as the classes, or the suffix is of no
            known format.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    _check_names(class_names, len(errors.num_ground_truth))
    labels, note = _shown_classes(
        errors.num_ground_truth + sum(errors.detections.values())
    )
    figure = _figure(9, 0.26 * len(labels) + 1.9)
    axes = figure.subplots()
    places = np.arange(len(labels))
    left = np.zeros(len(labels))
    for kind in (*DETECTION_KINDS, "missed"):
        counts = errors.missed if kind == "missed" else errors.detections[kind]
        shown = counts[labels]
        axes.barh(
            places,
            shown,
            left=left,
            height=0.75,
            color=_KIND_COLORS[kind],
            label=f"{kind.replace('_', ' ')} ({counts.sum()})",
        )
        left += shown
    names = [_cut(class_names[label]) for label in labels]
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, max(1, 1.02 * left.max(initial=0)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("detections, and missed objects", fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.suptitle(f"Detections by kind{note if labels else ': none'}", fontsize=12)
    if labels:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    _save(figure, path)


def _shown_classes(weights: Any) -> tuple[list[int], str]:
    """Class ids to draw, in their order, and what the title says of it."""
    present = np.flatnonzero(weights)
    if len(present) <= MAX_CLASSES:
        return present.tolist(), ""
    largest = np.argsort(-weights[present], kind="stable")[:MAX_CLASSES]
    chosen = np.sort(present[largest]).tolist()
    return chosen, f", {MAX_CLASSES} of {len(present)} classes"


def _check_names(class_names: Sequence[str], num_classes: int) -> None:
    if len(class_names) != num_classes:
        raise ValueError(
            f"class_names must name {num_classes} classes, got {len(class_names)} names"
        )


def _cut(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    write_atomically(Path(path), lambda partial: figure.savefig(partial, dpi=_DPI))
