# SPDX-License-Identifier: Apache-2.0
"""How the outputs of a network become detections, unless a call says otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ssdops.models.plain_values import checked_keys, number_in, whole_number

__all__ = ["PostProcessing"]

MAX_ROWS = 2**31 - 1


@dataclass(frozen=True)
class PostProcessing:
    """Thresholds and limits of a detector; the defaults are those of Caffe's SSD.

    Attributes:
        score_threshold: Only scores above count.
        iou_threshold: A box that overlaps a better one of its class by more is dropped.
        pre_nms_top_k: Candidates per class and image that enter suppression.
        max_detections: Detections kept per image.
        clip: Whether boxes are limited to the image before suppression.

    Raises:
        ValueError: For thresholds outside [0, 1] and limits below 1.

    References:
        Layer `DetectionOutput` of the original Caffe implementation.
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    pre_nms_top_k: int = 400
    max_detections: int = 200
    clip: bool = False

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ("score_threshold", "iou_threshold"):
            value = number_in(name, getattr(self, name), 0.0, 1.0)
            object.__setattr__(self, name, value)
        for name in ("pre_nms_top_k", "max_detections"):
            whole_number(name, getattr(self, name), 1, MAX_ROWS)
        if not isinstance(self.clip, bool):
            raise ValueError(f"clip must be true or false, got {self.clip!r}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> PostProcessing:
        """Builds the value from plain JSON values.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        keys = [entry.name for entry in fields(cls)]
        checked = checked_keys(data, "post_processing", keys)
        try:
            return cls(**checked)
        except ValueError as error:
            raise ValueError(f"post_processing.{error}") from None
