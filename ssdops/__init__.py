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

# Public name -> module that defines it, with its name there if that is another.
_HOME = {
    "AnchorMatches": "ssdops.ops",
    "DetectResult": "ssdops.ops",
    "DetectedImage": "ssdops.detection",
    "Detections": "ssdops.ops",
    "DetectionsWithAnchors": "ssdops.ops",
    "Detector": "ssdops.detection",
    "NativeUnavailableError": "ssdops._loader",
    "NativeUnavailableWarning": "ssdops._loader",
    "Targets": "ssdops.ops",
    "assign_targets": "ssdops.ops",
    "NmsResult": "ssdops.ops",
    "batched_nms": "ssdops.ops",
    "box_iou": "ssdops.ops",
    "decode_boxes": "ssdops.ops",
    "detect": "ssdops.ops",
    "encode_boxes": "ssdops.ops",
    "implementation": "ssdops._implementation",
    "load": "ssdops.models:load_model",
    "match_anchors": "ssdops.ops",
    "nms": "ssdops.ops",
    "mine_hard_negatives": "ssdops.ops",
    "MultiboxLoss": "ssdops.ops",
    "multibox_loss": "ssdops.ops",
}
_SUBMODULES = (
    "anchors",
    "boxes",
    "data",
    "detection",
    "evaluation",
    "image",
    "models",
    "ops",
    "reference",
    "training",
    "visualization",
)

__all__ = [
    "AnchorMatches",
    "DetectResult",
    "DetectedImage",
    "Detections",
    "DetectionsWithAnchors",
    "Detector",
    "MultiboxLoss",
    "NativeUnavailableError",
    "NativeUnavailableWarning",
    "NmsResult",
    "Targets",
    "__version__",
    "anchors",
    "assign_targets",
    "batched_nms",
    "box_iou",
    "boxes",
    "data",
    "decode_boxes",
    "detect",
    "detection",
    "encode_boxes",
    "evaluation",
    "image",
    "implementation",
    "load",
    "match_anchors",
    "mine_hard_negatives",
    "models",
    "multibox_loss",
    "nms",
    "ops",
    "reference",
    "training",
    "visualization",
]

if TYPE_CHECKING:
    from ssdops import (
        anchors,
        boxes,
        data,
        detection,
        evaluation,
        image,
        models,
        ops,
        reference,
        training,
        visualization,
    )
    from ssdops._implementation import implementation
    from ssdops._loader import NativeUnavailableError, NativeUnavailableWarning
    from ssdops.detection import DetectedImage, Detector
    from ssdops.models import load_model as load
    from ssdops.ops import (
        AnchorMatches,
        Detections,
        DetectionsWithAnchors,
        DetectResult,
        MultiboxLoss,
        NmsResult,
        Targets,
        assign_targets,
        batched_nms,
        box_iou,
        decode_boxes,
        detect,
        encode_boxes,
        match_anchors,
        mine_hard_negatives,
        multibox_loss,
        nms,
    )


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, _, original = _HOME[name].partition(":")
        value = getattr(importlib.import_module(module), original or name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"ssdops.{name}")
    else:
        raise AttributeError(f"module 'ssdops' has no attribute {name!r}")
    globals()[name] = value  # the next access is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
