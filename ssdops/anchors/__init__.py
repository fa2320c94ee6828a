# SPDX-License-Identifier: Apache-2.0
"""Grids of anchors (default boxes): rules, the published grids, and their boxes.

A grid is a list of feature levels. Every cell of a level carries the same shapes,
centred on the cell; the order of the anchors is level, row, column, shape, the order
in which the convolutional heads emit their predictions.

Two kinds of level exist. `AnchorLevel` lists sizes and aspect ratios, and derives the
shapes by the rule of the original SSD. `ShapeLevel` lists the shapes themselves.

This package needs NumPy only.

References:
    Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325, section 2.2,
    and the layer `PriorBox` of the original Caffe implementation.
"""

from __future__ import annotations

from ssdops.anchors.grid import AnchorGrid
from ssdops.anchors.levels import AnchorLevel, ShapeLevel
from ssdops.anchors.presets import (
    anchor_grid,
    anchor_grid_names,
    mobilenet_ssd_voc,
    ssd300_coco,
    ssd300_face,
    ssd300_mobilenet_v1_coco,
    ssd300_nvidia,
    ssd300_torchvision,
    ssd300_voc,
    ssd512_coco,
    ssd512_voc,
    ssd_small,
    ssdlite320_torchvision,
    within_image,
)
from ssdops.anchors.recipes import object_detection_grid, recipe_grid, recipe_sizes

__all__ = [
    "AnchorGrid",
    "AnchorLevel",
    "ShapeLevel",
    "anchor_grid",
    "anchor_grid_names",
    "mobilenet_ssd_voc",
    "object_detection_grid",
    "recipe_grid",
    "recipe_sizes",
    "ssd300_coco",
    "ssd300_face",
    "ssd300_mobilenet_v1_coco",
    "ssd300_nvidia",
    "ssd300_torchvision",
    "ssd300_voc",
    "ssd512_coco",
    "ssd512_voc",
    "ssd_small",
    "ssdlite320_torchvision",
    "within_image",
]
