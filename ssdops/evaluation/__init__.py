# SPDX-License-Identifier: Apache-2.0
"""How good detections are: Pascal VOC average precision."""

from __future__ import annotations

from ssdops.evaluation.detector import evaluate
from ssdops.evaluation.voc import VocEvaluator, VocResult, average_precision

__all__ = ["VocEvaluator", "VocResult", "average_precision", "evaluate"]
