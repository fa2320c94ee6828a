# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: small inputs on a coarse grid, so that ties abound."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

STEPS = 8
_DTYPES = (np.float32, np.float64)


def boxes(count: int, dtype: Any) -> st.SearchStrategy[Any]:
    """Arrays `[count, 4]` with coordinates that are multiples of 1/8 in [0, 1]."""
    row = st.lists(st.integers(0, STEPS), min_size=4, max_size=4)
    rows = st.lists(row, min_size=count, max_size=count)
    return rows.map(lambda r: (np.array(r).reshape(count, 4) / STEPS).astype(dtype))


@st.composite
def box_pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two arrays of up to 9 boxes."""
    dtype = draw(st.sampled_from(_DTYPES))
    a = draw(boxes(draw(st.integers(0, 9)), dtype))
    b = draw(boxes(draw(st.integers(0, 9)), dtype))
    return a, b


@st.composite
def matching(draw: st.DrawFn) -> tuple[Any, Any, Any, dict[str, Any]]:
    """`(anchors, gt_boxes, gt_labels, options)` of one image for `match_anchors`."""
    dtype = draw(st.sampled_from(_DTYPES))
    num_gt = draw(st.integers(0, 6))
    anchors = draw(boxes(draw(st.integers(0, 10)), dtype))
    gt_boxes = draw(boxes(num_gt, dtype))
    labels = draw(
        st.lists(st.integers(-1, 2), min_size=num_gt, max_size=num_gt).map(
            lambda values: np.array(values, np.int32)
        )
    )
    eighths = st.integers(0, STEPS).map(lambda n: n / STEPS)
    low, high = sorted((draw(eighths), draw(eighths)))
    options = {
        "iou_threshold": high,
        "negative_threshold": low,
        "ignore_threshold": draw(eighths),
        "bipartite_only": draw(st.booleans()),
        "ignore_cross_boundary": draw(st.booleans()),
    }
    return anchors, gt_boxes[None], labels[None], options


@st.composite
def suppression(draw: st.DrawFn) -> tuple[Any, Any, dict[str, Any]]:
    """`(boxes, scores, options)` of one image for `batched_nms`."""
    dtype = draw(st.sampled_from(_DTYPES))
    count = draw(st.integers(0, 10))
    classes = draw(st.integers(0, 3))
    some_boxes = draw(boxes(count, dtype))
    cells = count * classes
    scores = draw(
        st.lists(st.integers(0, 4), min_size=cells, max_size=cells).map(
            lambda values: (np.array(values).reshape(count, classes) / 4).astype(dtype)
        )
    )
    options = {
        "score_threshold": draw(st.sampled_from((-1.0, 0.0, 0.25, 0.5))),
        "iou_threshold": draw(st.integers(0, STEPS)) / STEPS,
        "pre_nms_top_k": draw(st.sampled_from((-1, 1, 2, 5, 20))),
        "max_detections": draw(st.sampled_from((1, 3, 8, 40))),
        "background_class": draw(st.sampled_from((-1, 0, 1, 7))),
    }
    return some_boxes[None], scores[None], options
