# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run, and how they are kept with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ssdops.constants import AUGMENTATION_NAMES
from ssdops.files import write_json

CONFIG_FILE = "training.json"

OPTIMIZERS: Final = ("adamw", "sgd")
SCHEDULES: Final = ("cosine", "multistep", "constant")
PRECISIONS: Final = ("float32", "bfloat16", "float16")
# Names of settings, of which the wrong ones are refused.
_CHOICES: Final = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "augmentation": AUGMENTATION_NAMES,
}


class ConfigMismatchError(ValueError):
    """A run cannot be resumed with other settings than it was started with."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes:
        steps: changes of the weights, at least 1.
        batch_size: images per step, over all replicas, at least 1.
        accumulation_steps: parts that a batch is computed in, one after another, to
            save memory; divides `batch_size`. The loss is that of the whole batch.
        augmentation: `"ssd"`, all of the official code; `"mirror"`; or `"none"`.
        augmentation_options: what shall be different from that, by the names of
            `ssdops.data.Augmentation`, such as `{"hue_delta": 9.0}`.
        use_difficult: whether difficult objects are trained on (VOC), or left out.
        optimizer: `"adamw"`, or `"sgd"` as in Caffe: momentum on the gradient with the
            weight decay in it.
        momentum: of `"sgd"`, in [0, 1).
        learning_rate: peak learning rate, above 0.
        schedule: after the warm-up: `"cosine"`, along half a cosine down to 0;
            `"multistep"`, times `decay_factor` after each of `decay_steps`; or
            `"constant"`.
        decay_steps: of `"multistep"`, rising, less than `steps`; others do without.
        decay_factor: of `"multistep"`, in (0, 1].
        warmup_steps: steps of linear rise from 0, less than `steps`.
        weight_decay: at least 0; not applied to biases and batch normalization.
        bias_learning_rate_factor: the learning rate of biases is higher by this, above
            0; `"sgd"` only (2 in the official code).
        gradient_clip_norm: largest global norm of the gradient, or 0 for any.
        ema_decay: share that the averaged weights keep at each step, in [0, 1), less in
            the first steps; they are evaluated and saved in place of the last ones. 0
            for no averaging.
        precision: dtype that the network computes in; weights stay float32. With
            `"float16"` the loss is scaled, and steps whose gradient overflows are left
            out.
        freeze: layers that are not trained, by name; `*` stands for any characters.
        iou_threshold: smallest IoU of a positive anchor, in [0, 1].
        negative_ratio: mined negatives per positive, at least 0.
        localization_weight: factor of the localization loss, at least 0.
        seed: of the order of the images and their augmentation, at least 0.
        evaluate_every: steps between evaluations, at least 1.
        checkpoint_every: steps between checkpoints, at least 1.
        early_stopping: evaluations without a better mAP after which the run ends; 0 for
            all steps.

    Raises:
        ValueError: if a setting is out of its range or of another type.
    """

    steps: int
    batch_size: int = 32
    accumulation_steps: int = 1
    augmentation: str = "none"
    augmentation_options: Mapping[str, Any] = field(default_factory=dict)
    use_difficult: bool = True
    optimizer: str = "adamw"
    momentum: float = 0.9
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    decay_steps: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_steps: int = 100
    weight_decay: float = 5e-4
    bias_learning_rate_factor: float = 1.0
    gradient_clip_norm: float = 10.0
    ema_decay: float = 0.0
    precision: str = "float32"
    freeze: tuple[str, ...] = ()
    iou_threshold: float = 0.5
    negative_ratio: float = 3.0
    localization_weight: float = 1.0
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 250
    early_stopping: int = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        for entry in fields(self):
            self._check_type(entry.name, str(entry.type))
        for name in (
            "steps",
            "batch_size",
            "accumulation_steps",
            "evaluate_every",
            "checkpoint_every",
        ):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "bias_learning_rate_factor"):
            self._check(name, getattr(self, name) > 0, "above 0")
        for name in (
            "warmup_steps",
            "weight_decay",
            "gradient_clip_norm",
            "negative_ratio",
            "localization_weight",
            "seed",
            "early_stopping",
        ):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        for name in ("momentum", "ema_decay"):
            self._check(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, choices in _CHOICES.items():
            known = getattr(self, name) in choices
            self._check(name, known, f"one of {', '.join(choices)}")
        self._check("iou_threshold", 0 <= self.iou_threshold <= 1, "in [0, 1]")
        self._check("decay_factor", 0 < self.decay_factor <= 1, "in (0, 1]")
        before_the_end = f"less than {self.steps} steps"
        self._check("warmup_steps", self.warmup_steps < self.steps, before_the_end)
        self._check(
            "accumulation_steps",
            self.batch_size % self.accumulation_steps == 0,
            f"a divisor of batch_size {self.batch_size}",
        )
        # A recipe's steps must not be in the way of another schedule.
        if self.schedule == "multistep":
            rising = list(self.decay_steps) == sorted(set(self.decay_steps))
            in_range = all(0 < step < self.steps for step in self.decay_steps)
            self._check(
                "decay_steps", rising and in_range, f"rising, above 0, {before_the_end}"
            )
        if self.optimizer != "sgd":
            factor = self.bias_learning_rate_factor
            self._check("bias_learning_rate_factor", factor == 1, "1 but for sgd")

    def keep(self, folder: Path) -> None:
        """Write the settings into a run folder, or compare with those there.

        Args:
            folder: run folder, which exists.

        Raises:
            ConfigMismatchError: if the folder has other settings; names them.
        """
        keep_settings(folder / CONFIG_FILE, asdict(self))

    def _check(self, name: str, is_right: bool, expected: str) -> None:
        if not is_right:
            value = getattr(self, name)
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"{name} must be {expected}, got {shown}")

    def _check_type(self, name: str, expected: str) -> None:
        """Refuses what a file may hold in the place of a setting."""
        value = getattr(self, name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(self, name, value)
        if expected == "float" and type(value) is int:
            value = float(value)
            object.__setattr__(self, name, value)
        item = {"tuple[int, ...]": int, "tuple[str, ...]": str}.get(expected)
        if item is not None:
            right = isinstance(value, tuple) and all(type(i) is item for i in value)
            self._check(name, right, f"a list of {item.__name__}")
        elif expected == "Mapping[str, Any]":
            self._check(name, isinstance(value, Mapping), "values by name")
        else:
            self._check(name, type(value).__name__ == expected, f"of type {expected}")


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
    # As JSON has them: lists for tuples.
    settings = json.loads(json.dumps(settings))
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
