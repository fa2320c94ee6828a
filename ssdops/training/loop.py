# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from rich.console import Console

from ssdops.data import (
    Augmentation,
    Dataset,
    make_augmentation,
    readable,
    training_batches,
)
from ssdops.evaluation import evaluate
from ssdops.image_io import ImageError
from ssdops.models import SSD
from ssdops.training.checks import check_model_and_data
from ssdops.training.config import CONFIG_FILE, TrainingConfig
from ssdops.training.distribution import (
    LOST_WORKER_ERRORS,
    WorkerLostError,
    make_agreement,
    num_workers,
    worker_index,
)
from ssdops.training.interrupt import StopRequest
from ssdops.training.log import CsvLog, read_log
from ssdops.training.non_finite import first_non_finite
from ssdops.training.optimizer import (
    averaged_weights,
    build_optimizer,
    frozen_layers,
    inner_optimizer,
)
from ssdops.training.progress import RunProgress
from ssdops.training.step import StepResult, make_train_step
from ssdops.training.tensorboard import TensorBoardLog

TRAINING_LOG: Final = "training.csv"
EVALUATION_LOG: Final = "evaluation.csv"
TENSORBOARD: Final = "tensorboard"
CHECKPOINTS: Final = "checkpoints"
MODEL: Final = "model"
BEST_MODEL: Final = "best"

_LOG_EVERY = 10
_LOSS_COLUMNS = (
    "loss",
    "localization",
    "confidence",
    "gradient_norm",
    "learning_rate",
    "images_per_s",
    "data_wait",
)
# A loss scale that was halved below this has no step left to try.
_SMALLEST_LOSS_SCALE = 1.0
# Beside the numbers of signals.
_STAGNATED = 127


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
        best_map: highest mAP of its evaluations; None without any.
        stopped_early: whether it ended because the mAP did not rise any more.
    """

    steps: int
    first_step: int
    seconds: float
    folder: Path
    best_map: float | None
    stopped_early: bool


def train(
    model: SSD,
    train_data: Dataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    evaluation_data: Dataset | None = None,
    restart: bool = False,
    console: Console | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainingResult:
    """Train a detector, or go on with a run that was stopped.

    The run folder gets `training.json` (the settings), `training.csv` (losses),
    `evaluation.csv` (mAP), `checkpoints/`, `model/` (`SSD.save`) and `best/`, the model
    of the evaluation with the highest mAP; with the package `tensorboard` also
    `tensorboard/`, the curves and pictures of detections. Weights, optimizer, averages,
    order and augmentation of the images are restored from the last checkpoint, so a run
    that was stopped or killed gives what it would have given.

    Args:
        model: detector to train, in place; its class ids are those of the data.
        train_data: images with ground truth.
        config: settings; those of a run that is resumed must be the same.
        folder: run folder, made if it is not there.
        evaluation_data: images for the evaluations during the run; None for none.
        restart: drop what the folder has of an earlier run and begin anew.
        console: where progress is shown; None for the standard output.
        strategy: of `tf.distribute`, in whose scope the model was made; None for one
            device. Every worker calls this function; all of them read and the first
            one writes the run folder.

    Returns:
        `TrainingResult`; the model has its final weights.

    Raises:
        TrainingInterrupted: if SIGINT or SIGTERM came; a checkpoint and the model
            are saved.
        NonFiniteLossError: if the loss became NaN or infinite.
        ConfigMismatchError: if the folder's run has other settings.
        ValueError: if the model, the data and the settings do not fit.
        ssdops.image_io.ImageError: if an image cannot be read.
        WorkerLostError: if another worker is gone.
    """
    folder = Path(folder)
    console = console or Console()
    check_model_and_data(model, train_data)
    augmentation = make_augmentation(config.augmentation, config.augmentation_options)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if config.batch_size % (replicas * config.accumulation_steps):
        raise ValueError(
            f"batch_size {config.batch_size} must be a multiple of {replicas} replicas"
            f" times {config.accumulation_steps} accumulation_steps"
        )
    if replicas > 1 and config.precision == "float16":
        raise ValueError("float16 is for one replica; several can use bfloat16")
    with frozen_layers(model.network, config.freeze):
        if worker_index(strategy) == 0:
            folder.mkdir(parents=True, exist_ok=True)
            if restart:
                _remove_run(folder)
            config.keep(folder)
        else:
            console = Console(file=io.StringIO())
        run = None
        try:
            # The first worker has dropped what is not to be read.
            make_agreement(strategy)(0)
            run = _Run(
                model, train_data, evaluation_data, config, folder, console, strategy
            )
            return run.go(augmentation)
        except LOST_WORKER_ERRORS as error:
            if num_workers(strategy) == 1:
                raise
            place = "before the first step" if run is None else run.describe_progress()
            reason = " ".join(error.message.split())[:200]
            raise WorkerLostError(
                f"another worker is gone {place}; start all of them again to go on"
                f" ({type(error).__name__}: {reason})"
            ) from None


def _remove_run(folder: Path) -> None:
    # A folder without a run may have folders of the same names that are not ours.
    if not (folder / CONFIG_FILE).exists():
        return
    for name in (CONFIG_FILE, TRAINING_LOG, EVALUATION_LOG):
        (folder / name).unlink(missing_ok=True)
    for name in (CHECKPOINTS, MODEL, BEST_MODEL, TENSORBOARD):
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
        strategy: tf.distribute.Strategy | None,
    ) -> None:
        self._strategy = strategy
        self._is_first = worker_index(strategy) == 0
        self._model = model
        self._train_data = train_data
        self._evaluation_data = evaluation_data
        self._config = config
        self._folder = folder
        self._console = console

        self._variables = model.network.trainable_variables
        # Nothing else is made in the scope: a variable there is a message to all.
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            self._optimizer = build_optimizer(config, self._variables)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(network=model.network, optimizer=self._optimizer),
            str(folder / CHECKPOINTS),
            max_to_keep=2,
        )
        if self._manager.latest_checkpoint:
            self._manager.checkpoint.restore(
                self._manager.latest_checkpoint
            ).assert_existing_objects_matched()
        # A step that a loss scale left out is one, too.
        self._step = self._steps_of_checkpoint()
        self._first_step = self._step
        # All have read the checkpoint before the first one writes another.
        self._agree = make_agreement(strategy)
        self._agree(0)
        self._maps: list[float] = []
        if self._is_first:
            self._losses = CsvLog(folder / TRAINING_LOG, _LOSS_COLUMNS, self._step)
            self._evaluations = CsvLog(folder / EVALUATION_LOG, ("map_50",), self._step)
            self._maps = [row["map_50"] for row in read_log(folder / EVALUATION_LOG)]
            self._tensorboard = TensorBoardLog(folder / TENSORBOARD)

    def go(self, augmentation: Augmentation | None) -> TrainingResult:
        """All remaining steps, on images with these changes."""
        config = self._config
        start = time.monotonic()
        if self._first_step:
            self._console.print(
                f"resuming after step {self._first_step} of {config.steps}",
                highlight=False,
            )
        stagnated = self._agree(_STAGNATED if self._has_stagnated() else 0)
        if self._step < config.steps and not stagnated:
            batches = training_batches(
                self._train_data,
                self._model.spec.image_size,
                config.batch_size,
                seed=config.seed,
                first_step=self._step,
                augmentation=augmentation,
                use_difficult=config.use_difficult,
                worker=worker_index(self._strategy),
                num_workers=num_workers(self._strategy),
            )
            progress = RunProgress(self._console, config.steps, self._step)
            with StopRequest() as stop, progress:
                self._steps(readable(batches), stop, progress)
        # Also when nothing was left to do: the last call may have been killed just
        # before it came here.
        self._save_model(MODEL)
        if config.ema_decay:
            inner_optimizer(self._optimizer).finalize_variable_values(self._variables)
        return TrainingResult(
            steps=self._step,
            first_step=self._first_step,
            seconds=time.monotonic() - start,
            folder=self._folder,
            best_map=max(self._maps, default=None),
            stopped_early=self._step < config.steps,
        )

    def describe_progress(self) -> str:
        """How far the run has come, for messages."""
        return (
            f"after step {self._step}, the last checkpoint is"
            f" {self._manager.latest_checkpoint}"
        )

    def _steps(
        self,
        batches: Iterator[dict[str, Any]],
        stop: StopRequest,
        progress: RunProgress,
    ) -> None:
        config = self._config
        train_step = make_train_step(
            self._model, self._optimizer, config, self._variables, self._strategy
        )
        window = _Window(self._step)
        while self._step < config.steps:
            waiting_since = time.monotonic()
            batch = self._next(batches)
            window.waited += time.monotonic() - waiting_since
            learning_rate = float(self._optimizer.learning_rate)
            result = StepResult(
                *(
                    float(x)
                    for x in train_step(
                        batch["images"], batch["gt_boxes"], batch["gt_labels"]
                    )
                )
            )
            if not self._is_usable(result):
                raise NonFiniteLossError(self._describe(batch, result, learning_rate))
            self._step += 1
            if self._step % _LOG_EVERY == 0 or self._step == config.steps:
                self._log(result, learning_rate, window, progress)
                window = _Window(self._step)
            last = self._step == config.steps
            if last or self._step % config.evaluate_every == 0:
                evaluation_start = time.monotonic()
                self._evaluate(progress)
                window.start += time.monotonic() - evaluation_start
            # A signal, or a mAP that only the first worker knows.
            why = self._agree(
                _STAGNATED if self._has_stagnated() else stop.received or 0
            )
            if last or why or self._step % config.checkpoint_every == 0:
                self._save_checkpoint()
            if why == _STAGNATED:
                progress.message(
                    f"step {self._step}: the mAP did not rise in the last"
                    f" {config.early_stopping} evaluations: the run ends"
                )
                return
            if why and not last:
                self._save_model(MODEL)
                raise TrainingInterrupted(self._step, self._folder, why)

    def _next(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        try:
            return next(batches)
        except ImageError as error:
            # Often after hours: once the file is repaired, the run goes on from here.
            if self._step > self._steps_of_checkpoint():
                self._save_checkpoint()
            raise ImageError(f"{error} ({self.describe_progress()})") from None

    def _log(
        self,
        result: StepResult,
        learning_rate: float,
        window: _Window,
        progress: RunProgress,
    ) -> None:
        if not self._is_first:
            return
        seconds = time.monotonic() - window.start
        steps_per_s = (self._step - window.first_step) / seconds
        images_per_s = steps_per_s * self._config.batch_size
        data_wait = min(window.waited / seconds, 1.0)
        numbers = (*result, learning_rate, images_per_s, data_wait)
        self._losses.append(self._step, *numbers)
        self._tensorboard.scalars(
            self._step, dict(zip(_LOSS_COLUMNS, numbers, strict=True))
        )
        progress.show(
            self._step,
            f"loss {result.total:.3f} (localization {result.localization:.3f},"
            f" confidence {result.confidence:.3f})  {images_per_s:.1f} images/s,"
            f" {data_wait:.0%} of the time waiting for data",
            (self._config.steps - self._step) / steps_per_s,
        )

    def _is_usable(self, result: StepResult) -> bool:
        if not math.isfinite(result.total):
            return False
        if math.isfinite(result.gradient_norm):
            return True
        # The loss scale is halved and the step left out, as long as that can help.
        scale = getattr(self._optimizer, "dynamic_scale", None)
        return scale is not None and float(scale) >= _SMALLEST_LOSS_SCALE

    def _evaluate(self, progress: RunProgress) -> None:
        if self._evaluation_data is None or not self._is_first:
            return
        with averaged_weights(self._optimizer, self._variables, self._config):
            mean = evaluate(self._model, self._evaluation_data).mean
            is_best = mean > max(self._maps, default=-math.inf)
            if is_best:
                self._model.save(self._folder / BEST_MODEL)
            self._tensorboard.detections(self._step, self._model, self._evaluation_data)
        self._evaluations.append(self._step, mean)
        self._tensorboard.scalars(self._step, {"map_50": mean})
        self._maps.append(mean)
        progress.message(
            f"step {self._step}: mAP@0.5 {mean:.4f}{', the best' if is_best else ''}"
        )

    def _has_stagnated(self) -> bool:
        patience = self._config.early_stopping
        if not patience or len(self._maps) <= patience:
            return False
        return max(self._maps[-patience:]) <= max(self._maps[:-patience])

    def _save_checkpoint(self) -> None:
        if self._is_first:
            self._manager.save(self._step)

    def _save_model(self, name: str) -> None:
        if not self._is_first:
            return
        with averaged_weights(self._optimizer, self._variables, self._config):
            self._model.save(self._folder / name)

    def _steps_of_checkpoint(self) -> int:
        latest = self._manager.latest_checkpoint
        return int(latest.rsplit("-", 1)[1]) if latest else 0

    def _describe(self, batch: Any, result: StepResult, learning_rate: float) -> str:
        records = self._train_data.records
        images = [records[i].image_id for i in batch["indices"].numpy()]
        first = first_non_finite(
            self._model, batch["images"], self._variables, self._config.precision
        )
        return (
            f"the loss is {result.total} and the norm of its gradient"
            f" {result.gradient_norm} at step {self._step + 1}; not finite first:"
            f" {first} (learning rate {learning_rate:.3g}, images"
            f" {', '.join(images)}); the last checkpoint is"
            f" {self._manager.latest_checkpoint}"
        )


class _Window:
    """The steps since the last row of the log."""

    def __init__(self, first_step: int) -> None:
        self.start = time.monotonic()
        self.first_step = first_step
        self.waited = 0.0
