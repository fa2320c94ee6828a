# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf
from rich.console import Console

from ssdops.data import Dataset, training_batches
from ssdops.evaluation import evaluate
from ssdops.models import SSD
from ssdops.ops import assign_targets
from ssdops.training.config import CONFIG_FILE, TrainingConfig
from ssdops.training.interrupt import StopRequest
from ssdops.training.log import CsvLog
from ssdops.training.loss import multibox_loss
from ssdops.training.progress import RunProgress

TRAINING_LOG: Final = "training.csv"
EVALUATION_LOG: Final = "evaluation.csv"
CHECKPOINTS: Final = "checkpoints"
MODEL: Final = "model"

_LOG_EVERY = 10
_LOSS_COLUMNS = ("loss", "localization", "confidence", "learning_rate", "images_per_s")


class TrainingInterrupted(Exception):  # noqa: N818 - not an error
    """The run was asked to stop; everything up to `step` is saved.

    Attributes:
        step: number of steps done.
        folder: run folder with the checkpoint and the model.
        signal: number of the signal that asked for it.
    """

    def __init__(self, step: int, folder: Path, signal: int) -> None:
        super().__init__(f"stopped after step {step}; saved in {folder}")
        self.step = step
        self.folder = folder
        self.signal = signal


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the checkpoint is intact."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        steps: number of steps done.
        first_step: where this call began; above 0 if the run was resumed.
        seconds: duration of this call.
        folder: run folder.
    """

    steps: int
    first_step: int
    seconds: float
    folder: Path


def train(
    model: SSD,
    train_data: Dataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    evaluation_data: Dataset | None = None,
    restart: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a detector, or go on with a run that was stopped.

    The run folder gets `training.json` (the settings), `training.csv` (losses),
    `evaluation.csv` (mAP), `checkpoints/` and `model/` (`SSD.save`). Weights,
    optimizer and order of the images are restored from the last checkpoint, so a run
    that was stopped or killed gives what it would have given.

    Args:
        model: detector to train, in place; its class ids are those of the data.
        train_data: images with ground truth.
        config: settings; those of a run that is resumed must be the same.
        folder: run folder, made if it is not there.
        evaluation_data: images for the evaluations during the run; None for none.
        restart: drop what the folder has of an earlier run and begin anew.
        console: where progress is shown; None for the standard output.

    Returns:
        `TrainingResult`; the model has its final weights.

    Raises:
        TrainingInterrupted: if SIGINT or SIGTERM came; a checkpoint and the model
            are saved.
        NonFiniteLossError: if the loss became NaN or infinite.
        ConfigMismatchError: if the folder's run has other settings.
        ValueError: if the model and the data do not fit.
    """
    folder = Path(folder)
    console = console or Console()
    if model.spec.num_classes != train_data.num_classes:
        raise ValueError(
            f"the model has {model.spec.num_classes} classes,"
            f" the data set {train_data.num_classes}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if restart:
        _remove_run(folder)
    config.keep(folder)
    return _Run(model, train_data, evaluation_data, config, folder, console).go()


def _remove_run(folder: Path) -> None:
    # A folder without a run may have folders of the same names that are not ours.
    if not (folder / CONFIG_FILE).exists():
        return
    for name in (CONFIG_FILE, TRAINING_LOG, EVALUATION_LOG):
        (folder / name).unlink(missing_ok=True)
    for name in (CHECKPOINTS, MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)


class _Run:
    """One call of `train`: what has to be kept between the steps."""

    def __init__(
        self,
        model: SSD,
        train_data: Dataset,
        evaluation_data: Dataset | None,
        config: TrainingConfig,
        folder: Path,
        console: Console,
    ) -> None:
        self._model = model
        self._train_data = train_data
        self._evaluation_data = evaluation_data
        self._config = config
        self._folder = folder
        self._console = console

        self._optimizer = keras.optimizers.AdamW(
            learning_rate=config.learning_rate_schedule(),
            weight_decay=config.weight_decay,
            global_clipnorm=config.gradient_clip_norm,
        )
        self._optimizer.exclude_from_weight_decay(
            var_list=[
                v for v in model.network.trainable_variables if v.name != "kernel"
            ]
        )
        self._optimizer.build(model.network.trainable_variables)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(network=model.network, optimizer=self._optimizer),
            str(folder / CHECKPOINTS),
            max_to_keep=2,
        )
        if self._manager.latest_checkpoint:
            self._manager.checkpoint.restore(
                self._manager.latest_checkpoint
            ).assert_existing_objects_matched()
        self._step = int(self._optimizer.iterations.numpy())
        self._first_step = self._step
        self._losses = CsvLog(folder / TRAINING_LOG, _LOSS_COLUMNS, self._step)
        self._evaluations = CsvLog(folder / EVALUATION_LOG, ("map_50",), self._step)

    def go(self) -> TrainingResult:
        """All remaining steps."""
        config = self._config
        start = time.monotonic()
        if self._first_step:
            self._console.print(
                f"resuming after step {self._first_step} of {config.steps}",
                highlight=False,
            )
        if self._step < config.steps:
            batches = training_batches(
                self._train_data,
                self._model.spec.image_size,
                config.batch_size,
                seed=config.seed,
                first_step=self._step,
            )
            progress = RunProgress(self._console, config.steps, self._step)
            with StopRequest() as stop, progress:
                self._steps(iter(batches), stop, progress)
        # Also when nothing was left to do: the last call may have been killed just
        # before it came here.
        self._model.save(self._folder / MODEL)
        return TrainingResult(
            steps=self._step,
            first_step=self._first_step,
            seconds=time.monotonic() - start,
            folder=self._folder,
        )

    def _steps(self, batches: Any, stop: StopRequest, progress: RunProgress) -> None:
        config = self._config
        train_step = _train_step(self._model, self._optimizer, config)
        window_start, window_step = time.monotonic(), self._step
        while self._step < config.steps:
            batch = next(batches)
            learning_rate = float(self._optimizer.learning_rate)
            losses = train_step(batch["images"], batch["gt_boxes"], batch["gt_labels"])
            total, localization, confidence, norm = (float(x) for x in losses)
            if not (math.isfinite(total) and math.isfinite(norm)):
                raise NonFiniteLossError(
                    self._describe(batch, total, norm, learning_rate)
                )
            self._step += 1
            if self._step % _LOG_EVERY == 0 or self._step == config.steps:
                now = time.monotonic()
                steps_per_s = (self._step - window_step) / (now - window_start)
                images_per_s = steps_per_s * config.batch_size
                window_start, window_step = now, self._step
                self._losses.append(
                    self._step,
                    total,
                    localization,
                    confidence,
                    learning_rate,
                    images_per_s,
                )
                progress.show(
                    self._step,
                    f"loss {total:.3f} (localization {localization:.3f}, confidence"
                    f" {confidence:.3f})  {images_per_s:.0f} images/s",
                    (config.steps - self._step) / steps_per_s,
                )
            last = self._step == config.steps
            if last or self._step % config.evaluate_every == 0:
                evaluation_start = time.monotonic()
                self._evaluate(progress)
                window_start += time.monotonic() - evaluation_start
            if last or stop.received or self._step % config.checkpoint_every == 0:
                self._manager.save(self._step)
            if stop.received and not last:
                self._model.save(self._folder / MODEL)
                raise TrainingInterrupted(self._step, self._folder, stop.received)

    def _evaluate(self, progress: RunProgress) -> None:
        if self._evaluation_data is None:
            return
        result = evaluate(self._model, self._evaluation_data)
        self._evaluations.append(self._step, result.mean)
        progress.message(f"step {self._step}: mAP@0.5 {result.mean:.4f}")

    def _describe(
        self, batch: Any, total: float, norm: float, learning_rate: float
    ) -> str:
        records = self._train_data.records
        images = [records[i].image_id for i in batch["indices"].numpy()]
        return (
            f"the loss is {total} and the norm of its gradient {norm} at step"
            f" {self._step + 1} (learning rate {learning_rate:.3g}, images"
            f" {', '.join(images)}); the last checkpoint is"
            f" {self._manager.latest_checkpoint}"
        )


def _train_step(
    model: SSD, optimizer: keras.optimizers.Optimizer, config: TrainingConfig
) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]]:
    """One step as a graph: a batch to the three losses and the gradient's norm."""
    variables = model.network.trainable_variables

    def step(
        images: tf.Tensor, gt_boxes: tf.Tensor, gt_labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        targets = assign_targets(
            model.anchors,
            gt_boxes,
            gt_labels,
            iou_threshold=config.iou_threshold,
            variances=model.spec.variances,
        )
        with tf.GradientTape() as tape:
            outputs = model.network(model.spec.preprocessing(images), training=True)
            loss = multibox_loss(
                outputs["offsets"],
                outputs["logits"],
                targets,
                negative_ratio=config.negative_ratio,
                localization_weight=config.localization_weight,
                score_activation=model.spec.score_activation,
            )
        gradients = tape.gradient(loss.total, variables)
        norm = tf.linalg.global_norm(gradients)
        # Weights that a NaN has reached cannot be mended: leave them alone.
        if tf.math.is_finite(loss.total) & tf.math.is_finite(norm):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss.total, loss.localization, loss.confidence, norm

    return tf.function(step)  # type: ignore[no-any-return]
