# SPDX-License-Identifier: Apache-2.0
"""How good detections are: Pascal VOC's and COCO's metrics, and kinds of errors."""

from __future__ import annotations

from ssdops.evaluation.coco import COCO_METRICS, CocoEvaluator, CocoResult
from ssdops.evaluation.detections import (
    DetectionCollector,
    DetectionEvaluator,
    ImageDetections,
    detect_dataset,
    feed_evaluators,
)
from ssdops.evaluation.detector import evaluate
from ssdops.evaluation.errors import DETECTION_KINDS, ErrorBreakdown, ErrorEvaluator
from ssdops.evaluation.plots import save_error_breakdown, save_precision_recall
from ssdops.evaluation.result_files import (
    read_coco_results,
    read_results,
    read_voc_results,
    write_coco_results,
    write_results,
    write_voc_results,
)
from ssdops.evaluation.summary import summarize
from ssdops.evaluation.voc import (
    PrecisionRecall,
    VocEvaluator,
    VocResult,
    average_precision,
)

__all__ = [
    "COCO_METRICS",
    "DETECTION_KINDS",
    "CocoEvaluator",
    "CocoResult",
    "DetectionCollector",
    "DetectionEvaluator",
    "ErrorBreakdown",
    "ErrorEvaluator",
    "ImageDetections",
    "PrecisionRecall",
    "VocEvaluator",
    "VocResult",
    "average_precision",
    "detect_dataset",
    "evaluate",
    "feed_evaluators",
    "read_coco_results",
    "read_results",
    "read_voc_results",
    "save_error_breakdown",
    "save_precision_recall",
    "summarize",
    "write_coco_results",
    "write_results",
    "write_voc_results",
]
