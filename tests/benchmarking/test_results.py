# SPDX-License-Identifier: Apache-2.0
"""The checker of the benchmarks: it agrees with the oracles and notices mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from oracles.batched_nms import batched_nms
from oracles.decode_boxes import decode_boxes
from oracles.encode_boxes import encode_boxes
from oracles.match_anchors import match_anchors

from ssdops.benchmarking import workloads as w
from ssdops.benchmarking.implementations import IMPLEMENTATIONS
from ssdops.benchmarking.results import detection_rows, expected, mined, problem

Array = npt.NDArray[Any]

FULL = {
    "suppress": w.detection("trained", 2),
    "postprocess": w.detection("trained", 2, given="offsets"),
    "detect": w.detection("trained", 2, given="logits"),
    "assign": w.matching(2),
    "encode": w.encoding(2),
    "decode": w.decoding(2),
    "mine": w.mining(2),
    "nms": w.single_class("high", 300),
    "loss": w.loss(2),
    "iou": w.overlaps(7),
}


def small(task: str) -> w.Workload:
    """A workload on the last anchors of the grid, the large ones."""
    workload = FULL[task]

    def make() -> w.Arrays:
        arrays = {}
        for name, array in workload.arrays.items():
            last = [slice(-300 if n == 8732 else None, None) for n in array.shape]
            arrays[name] = np.ascontiguousarray(array[tuple(last)])
        return arrays

    return dataclasses.replace(workload, make=make)


def test_suppression_is_the_oracles() -> None:
    workload = small("suppress")
    boxes, scores, classes, numbers, _ = batched_nms(*workload.inputs)
    rows = [
        detection_rows(i, classes[i, :n], scores[i, :n], boxes[i, :n])
        for i, n in enumerate(numbers)
    ]
    found = expected(workload)["rows"]
    assert len(found) > 5
    assert (found == np.concatenate(rows)).all()


def test_targets_are_the_oracles() -> None:
    workload = small("assign")
    anchors, gt_boxes, gt_labels = workload.inputs
    matched, _ = match_anchors(anchors, gt_boxes, gt_labels)
    right = expected(workload)
    assert (matched >= 0).sum() > 5
    for i, row in enumerate(matched):
        assert (right["classes"][i] == np.where(row < 0, 0, gt_labels[i][row])).all()
        offsets = encode_boxes(gt_boxes[i][row], anchors)
        offsets[row < 0] = 0
        np.testing.assert_allclose(right["offsets"][i], offsets, atol=1e-4)


def test_coding_is_the_oracles() -> None:
    encoding, decoding = small("encode"), small("decode")
    assert (
        problem({"offsets": encode_boxes(*encoding.inputs)}, expected(encoding)) is None
    )
    assert (
        problem({"boxes": decode_boxes(*decoding.inputs)}, expected(decoding)) is None
    )


def test_the_loss_has_the_gradients_of_finite_differences() -> None:
    workload = small("loss")
    right = expected(workload)
    rng = np.random.default_rng(0)
    for name in ("logits", "offsets"):
        grad = right[f"grad_{name}"]
        places = np.argwhere(grad)
        for place in map(tuple, rng.permutation(places)[:5]):
            values = []
            for step in (-1e-2, 1e-2):
                arrays = dict(workload.arrays)
                arrays[name] = arrays[name].astype(np.float64)
                arrays[name][place] += step
                moved = dataclasses.replace(workload, make=lambda a=arrays: a)
                values.append(float(expected(moved)["loss"]))
            slope = (values[1] - values[0]) / 2e-2
            assert slope == pytest.approx(grad[place], rel=0.02, abs=2e-5)


def test_mined_ties_go_to_the_first_anchors() -> None:
    classes = np.array([[0, 3, 0, 0, 0, 0]])
    mask = mined(np.ones((1, 6)), classes)
    assert mask.tolist() == [[True, False, True, True, False, False]]


def moved(name: str, change: float, first: bool = False) -> Callable[[w.Arrays], None]:
    def mistake(result: w.Arrays) -> None:
        array = result[name]
        # The last value that is not zero: a zero has no digits to lose.
        places = np.argwhere(array)
        place = tuple(places[0 if first else -1]) if array.ndim else ()
        array[place] += change * max(1.0, abs(float(array[place])))

    return mistake


def without_last(name: str) -> Callable[[w.Arrays], None]:
    def mistake(result: w.Arrays) -> None:
        result[name] = result[name][:-1]

    return mistake


def twice(name: str) -> Callable[[w.Arrays], None]:
    def mistake(result: w.Arrays) -> None:
        result[name] = np.concatenate([result[name], result[name][-1:]])

    return mistake


def other_class(result: w.Arrays) -> None:
    result["rows"][0, 1] += 1


def other_image(result: w.Arrays) -> None:
    result["rows"][0, 0] = 1 - result["rows"][0, 0]


def flipped(result: w.Arrays) -> None:
    result["mined"][0, 0] ^= True


def absent(result: w.Arrays) -> None:
    result.clear()


MISTAKES = [
    ("suppress", other_class),
    ("suppress", other_image),
    ("suppress", moved("rows", 1e-3)),
    ("suppress", without_last("rows")),
    ("postprocess", twice("rows")),
    ("detect", absent),
    ("assign", moved("classes", 1)),
    ("assign", moved("offsets", 1e-3)),
    ("assign", without_last("offsets")),
    ("encode", moved("offsets", 1e-3)),
    ("decode", moved("boxes", 1e-4)),
    ("decode", moved("boxes", float("nan"))),
    ("mine", flipped),
    ("nms", without_last("indices")),
    ("nms", twice("indices")),
    ("nms", moved("indices", 1)),
    ("loss", moved("loss", 1e-4)),
    ("loss", moved("grad_logits", 1e-3)),
    ("loss", moved("grad_offsets", 1e-3)),
    ("iou", moved("iou", 1e-4)),
]


@pytest.mark.parametrize(("task", "mistake"), MISTAKES)
def test_a_wrong_result_is_noticed(
    task: str, mistake: Callable[[w.Arrays], None]
) -> None:
    right = expected(small(task))
    result = {name: np.array(array) for name, array in right.items()}
    assert problem(result, right) is None
    mistake(result)
    assert problem(result, right)


def test_order_of_detections_does_not_matter() -> None:
    right = expected(small("suppress"))
    assert problem({"rows": right["rows"][::-1]}, right) is None


CONTESTS = [
    (name, task)
    for name, implementation in IMPLEMENTATIONS.items()
    for task in implementation.module().TASKS
    if name != "ssdops-reference"  # slow, and driven by the code that drives ssdops
]


@pytest.mark.parametrize(("name", "task"), CONTESTS)
def test_contestants(name: str, task: str) -> None:
    """Everyone who is installed gives the right result, or says why not."""
    implementation = IMPLEMENTATIONS[name]
    if implementation.missing():
        pytest.skip(f"not installed: {', '.join(implementation.missing())}")
    module = implementation.module()
    if "tensorflow" not in implementation.requires:  # its threads are fixed by now
        try:
            module.start(1)
        except Exception as error:
            pytest.skip(f"{name} does not start: {error}")
    workload = small(task)
    right = expected(workload)
    variants = module.TASKS[task](workload.arrays)
    assert variants
    checked = 0
    for build in variants.values():
        try:
            prepared = build()
        except AttributeError as error:
            if "ssdops.ops" not in str(error):
                raise
            continue
        found = problem(prepared.result(prepared.call()), right)
        assert found is None or prepared.note, found
        checked += 1
    if not checked:
        pytest.skip(f"this version of ssdops has no op for {task}")
