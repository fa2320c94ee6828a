# SPDX-License-Identifier: Apache-2.0
"""SSD object detection for TensorFlow, with native ops for its hot paths.

Public names are imported on first use: `import ssdops` is quick, and
`import ssdops._native` works without TensorFlow.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("ssdops")
except PackageNotFoundError:  # a source folder that was never installed
    __version__ = "0+unknown"

# Public name -> module that defines it.
_HOME = {
    "AnchorMatches": "ssdops.ops",
    "Detections": "ssdops.ops",
    "DetectionsWithAnchors": "ssdops.ops",
    "NativeUnavailableError": "ssdops._loader",
    "NativeUnavailableWarning": "ssdops._loader",
    "batched_nms": "ssdops.ops",
    "box_iou": "ssdops.ops",
    "decode_boxes": "ssdops.ops",
    "encode_boxes": "ssdops.ops",
    "implementation": "ssdops._implementation",
    "match_anchors": "ssdops.ops",
}
_SUBMODULES = (
    "anchors",
    "boxes",
    "data",
    "evaluation",
    "models",
    "ops",
    "reference",
    "training",
    "visualization",
)

__all__ = ["__version__", *_HOME, *_SUBMODULES]

if TYPE_CHECKING:
    from ssdops import anchors as anchors
    from ssdops import boxes as boxes
    from ssdops import data as data
    from ssdops import evaluation as evaluation
    from ssdops import models as models
    from ssdops import ops as ops
    from ssdops import reference as reference
    from ssdops import training as training
    from ssdops import visualization as visualization
    from ssdops._implementation import implementation as implementation
    from ssdops._loader import NativeUnavailableError as NativeUnavailableError
    from ssdops._loader import NativeUnavailableWarning as NativeUnavailableWarning
    from ssdops.ops import AnchorMatches as AnchorMatches
    from ssdops.ops import Detections as Detections
    from ssdops.ops import DetectionsWithAnchors as DetectionsWithAnchors
    from ssdops.ops import batched_nms as batched_nms
    from ssdops.ops import box_iou as box_iou
    from ssdops.ops import decode_boxes as decode_boxes
    from ssdops.ops import encode_boxes as encode_boxes
    from ssdops.ops import match_anchors as match_anchors


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"ssdops.{name}")
    raise AttributeError(f"module 'ssdops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
