# SPDX-License-Identifier: Apache-2.0
"""Weights of one detector in another, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssdops.models.class_names import match_class_names
from ssdops.models.registry import build_from_spec
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import LoadReport, Shape

__all__ = ["change_classes", "transfer_weights"]


def change_classes(
    model: SSD,
    class_names: Sequence[str],
    sources: Mapping[str, str] | None = None,
) -> tuple[SSD, LoadReport]:
    """Returns a detector of other classes with the weights of `model`, and a report.

    What predicts a class that both have (`match_class_names`) is taken over, class by
    class: a detector of 90 classes becomes one of 20, or of one. What predicts a class
    that `model` does not know begins at random, to be trained. Softmax scores are
    relative to the classes that there are, so that those of a subset are higher.

    Args:
        model: Detector; it is not changed.
        class_names: Names of all classes of the new one, index 0 the background.
        sources: Classes of `model` for new ones of another name.

    Raises:
        ValueError: If `sources` names a class that is not there, or `class_names` has a
            name twice or fewer than two.
    """
    names = tuple(class_names)
    if len(set(names)) < len(names):
        raise ValueError(f"class_names must differ from each other, got {names}")
    changed = build_from_spec(replace(model.spec, num_classes=len(names)), names)
    return changed, transfer_weights(model, changed, sources)


def transfer_weights(
    source: SSD, target: SSD, sources: Mapping[str, str] | None = None
) -> LoadReport:
    """Puts weights of `source` into `target` where name and shape are the same.

    Of the layers that predict classes, the parts for classes that both have are taken.

    Args:
        source: Detector with the weights to copy.
        target: Detector to change in place.
        sources: As for `change_classes`.

    Returns:
        What was copied (`loaded`), what of the source had no place (`skipped`) and what
        of the target keeps its values (`missing`), with shapes and, where a tensor was
        not copied as a whole, the reason.

    Raises:
        ValueError: If `sources` names a class that is not there.
    """
    matches = match_class_names(target.class_names, source.class_names, sources)
    given = {weight.path: weight for weight in source.network.weights}
    predictors = _class_predictors(source, target, matches)
    loaded: dict[str, Shape] = {}
    missing: dict[str, Shape] = {}
    reasons: dict[str, str] = {}
    for weight in target.network.weights:
        shape = tuple(weight.shape)
        match = given.get(weight.path)
        if match is None:
            missing[weight.path] = shape
            reasons[weight.path] = f"{source.spec.name} has no weight of this name"
        elif weight.path in predictors:
            known = len(matches) - matches.count(None)
            # A background alone would be that of other objects.
            if known > 1:
                weight.assign(_class_by_class(match.numpy(), weight.numpy(), matches))
            (loaded if known > 1 else missing)[weight.path] = shape
            if known < len(matches):
                reasons[weight.path] = f"{known} of {len(matches)} classes are known"
        elif tuple(match.shape) != shape:
            missing[weight.path] = shape
            reasons[weight.path] = f"has shape {list(match.shape)} in the source"
        else:
            weight.assign(match.value)
            loaded[weight.path] = shape
    skipped = {
        path: tuple(weight.shape)
        for path, weight in given.items()
        if path not in loaded
    }
    for path in skipped.keys() - missing.keys():
        reasons[path] = f"{target.spec.name} has no weight of this name"
    return LoadReport(loaded, skipped, missing, reasons)


def _class_predictors(
    source: SSD, target: SSD, matches: Sequence[int | None]
) -> set[str]:
    """Returns the names of weights that have a part for every class."""
    if list(matches) == list(range(source.spec.num_classes)):
        return set()  # the same classes: all is copied whole
    count = target.spec.num_classes
    if source.spec.num_classes == count:
        # Equal shapes tell nothing; those of one class more do.
        other = build_from_spec(replace(target.spec, num_classes=count + 1))
    else:
        other = source
    shapes = {weight.path: tuple(weight.shape) for weight in other.network.weights}
    given = {weight.path: tuple(weight.shape) for weight in source.network.weights}
    return {
        weight.path
        for weight in target.network.weights
        if weight.path in shapes.keys() & given.keys()
        and _has_classes(
            shapes[weight.path], other.spec.num_classes, tuple(weight.shape), count
        )
        # The source may be wider or have other anchors.
        and given[weight.path][:-1] == tuple(weight.shape[:-1])
        and given[weight.path][-1] * count == weight.shape[-1] * source.spec.num_classes
    }


def _has_classes(shape: Shape, count: int, other: Shape, other_count: int) -> bool:
    """Whether shapes differ as boxes times classes do, in the last dimension."""
    return (
        len(shape) == len(other) > 0
        and shape[:-1] == other[:-1]
        and shape != other
        and shape[-1] % count == 0
        and shape[-1] // count * other_count == other[-1]
    )


def _class_by_class(given: Any, initial: Any, matches: Sequence[int | None]) -> Any:
    """Returns `initial` with the parts of `given` for the classes that match.

    Args:
        given: Weights `[..., boxes * classes]` of the source.
        initial: Weights `[..., boxes * len(matches)]` of the target.
        matches: Class of the source per class of the target.
    """
    boxes = initial.shape[-1] // len(matches)
    parts = initial.reshape(*initial.shape[:-1], boxes, len(matches)).copy()
    known = given.reshape(*given.shape[:-1], boxes, -1)
    for index, match in enumerate(matches):
        if match is not None:
            parts[..., index] = known[..., match]
    return np.ascontiguousarray(parts.reshape(initial.shape))
