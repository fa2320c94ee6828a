# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run, and how they are kept with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from ssdops.files import write_json

CONFIG_FILE = "training.json"


class ConfigMismatchError(ValueError):
    """A run cannot be resumed with other settings than it was started with."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes:
        steps: batches to train on, at least 1.
        batch_size: images per batch, at least 1.
        learning_rate: peak learning rate, above 0; reached after the warm-up, then
            lowered to 0 along half a cosine.
        warmup_steps: steps of linear rise from 0, less than `steps`.
        weight_decay: of AdamW, at least 0; not applied to biases and normalization.
        gradient_clip_norm: largest global norm of the gradient, above 0.
        iou_threshold: smallest IoU of a positive anchor, in [0, 1].
        negative_ratio: mined negatives per positive, at least 0.
        localization_weight: factor of the localization loss, at least 0.
        seed: of the order of the images, at least 0.
        evaluate_every: steps between evaluations, at least 1.
        checkpoint_every: steps between checkpoints, at least 1.

    Raises:
        ValueError: if a number is out of its range.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 5e-4
    gradient_clip_norm: float = 10.0
    iou_threshold: float = 0.5
    negative_ratio: float = 3.0
    localization_weight: float = 1.0
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("steps", "batch_size", "evaluate_every", "checkpoint_every"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "gradient_clip_norm"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        for name in (
            "warmup_steps",
            "weight_decay",
            "negative_ratio",
            "localization_weight",
            "seed",
        ):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        in_range = 0 <= self.iou_threshold <= 1
        _check("iou_threshold", self.iou_threshold, in_range, "in [0, 1]")
        fits = self.warmup_steps < self.steps
        _check("warmup_steps", self.warmup_steps, fits, f"less than {self.steps} steps")

    def learning_rate_schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """Learning rate by step: linear warm-up, then half a cosine down to 0."""
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay_steps=self.steps - self.warmup_steps,
        )

    def keep(self, folder: Path) -> None:
        """Write the settings into a run folder, or compare with those there.

        Args:
            folder: run folder, which exists.

        Raises:
            ConfigMismatchError: if the folder has other settings; names them.
        """
        keep_settings(folder / CONFIG_FILE, asdict(self))


def keep_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write settings to a file, or compare them with those that it holds.

    Args:
        path: JSON file in a folder that exists.
        settings: plain values by name.

    Raises:
        ConfigMismatchError: if the file holds other settings; names them.
        ValueError: if the file is damaged.
    """
    if not path.exists():
        write_json(path, settings)
        return
    try:
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    different = [
        f"{name} was {kept.get(name)!r} and is {value!r} now"
        for name, value in settings.items()
        if kept.get(name) != value
    ]
    if different:
        raise ConfigMismatchError(
            f"the run in {path.parent} was started with other settings: "
            + ", ".join(different)
        )


def _check(name: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise ValueError(f"{name} must be {expected}, got {value}")
