# SPDX-License-Identifier: Apache-2.0
"""What a detector is, apart from its weights: the plain values of `model.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ssdops.anchors import AnchorGrid
from ssdops.models.plain_values import checked_keys, plain_json, whole_number
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing

__all__ = ["ModelSpec", "anchors_of_size"]

MAX_CLASSES = 20_000


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes a detector except its weights.

    Attributes:
        name: Entry of the model table that builds the network.
        num_classes: Number of classes including class 0, the background.
        anchors: Grid of anchors; its image size is that of the network input.
        preprocessing: How pixels become the network input.
        score_activation: "softmax" or "sigmoid", how logits become scores.
        options: Further choices of the model, by name, as plain JSON values, for
            example a width.
        post_processing: Thresholds and limits of the detections.

    Raises:
        ValueError: For fewer than 2 classes, an unknown activation, or sizes of grid
            and preprocessing that differ.
    """

    name: str
    num_classes: int
    anchors: AnchorGrid
    preprocessing: Preprocessing
    score_activation: str = "softmax"
    options: Mapping[str, Any] = field(default_factory=dict)
    post_processing: PostProcessing = field(default_factory=PostProcessing)

    def __post_init__(self) -> None:
        """Checks that the values fit together."""
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a string, got {self.name!r}")
        whole_number(
            "num_classes, which counts the background,",
            self.num_classes,
            2,
            MAX_CLASSES,
        )
        if self.score_activation not in ("softmax", "sigmoid"):
            raise ValueError(
                f'score_activation must be "softmax" or "sigmoid", '
                f"got {self.score_activation!r}"
            )
        if tuple(self.preprocessing.image_size) != self.anchors.image_size:
            raise ValueError(
                f"preprocessing.image_size {list(self.preprocessing.image_size)} must "
                f"equal anchors.image_size {list(self.anchors.image_size)}"
            )
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be an object, got {self.options!r}")
        object.__setattr__(self, "options", plain_json("options", self.options))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network input in pixels."""
        return self.anchors.image_size

    @property
    def variances(self) -> tuple[float, float, float, float]:
        """Divisors (y, x, h, w) of the encoded offsets."""
        return self.anchors.variances

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_dict` is the inverse."""
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "anchors": self.anchors.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "score_activation": self.score_activation,
            "options": plain_json("options", self.options),
            "post_processing": self.post_processing.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> ModelSpec:
        """Builds a specification from plain JSON values.

        Descriptions without `post_processing` get that of Caffe's SSD.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        keys = (
            "name",
            "num_classes",
            "anchors",
            "preprocessing",
            "score_activation",
            "options",
            "post_processing",
        )
        given = checked_keys(data, "spec", keys, optional=("post_processing",))
        checked = dict(given)
        checked["anchors"] = AnchorGrid.from_dict(checked["anchors"])
        checked["preprocessing"] = Preprocessing.from_dict(checked["preprocessing"])
        if "post_processing" in checked:
            checked["post_processing"] = PostProcessing.from_dict(
                checked["post_processing"]
            )
        return cls(**checked)


def anchors_of_size(
    anchors: AnchorGrid | None,
    image_size: tuple[int, int] | None,
    usual_size: tuple[int, int],
    grid: Callable[[tuple[int, int]], AnchorGrid],
) -> AnchorGrid:
    """Returns the anchors of a model that can be made for any size of images.

    Args:
        anchors: Grid that was asked for, if any.
        image_size: Height and width that were asked for, if any.
        usual_size: Height and width if neither was.
        grid: Height and width -> grid.

    Raises:
        ValueError: If both were asked for and differ, or the grid refuses the size.
    """
    if anchors is None:
        return grid(usual_size if image_size is None else image_size)
    if image_size is not None and tuple(image_size) != anchors.image_size:
        raise ValueError(
            f"image_size {tuple(image_size)} must equal that of the anchors, "
            f"{anchors.image_size}"
        )
    return anchors
