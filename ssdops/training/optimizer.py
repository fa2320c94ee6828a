# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a run: schedule, weight decay, averaging of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import keras
import tensorflow as tf

from ssdops.training.config import TrainingConfig

# Weights of layers that decay: not biases, not those of batch normalization.
_DECAYING = ("kernel", "scale")
_BIAS = "bias"


@keras.saving.register_keras_serializable(package="ssdops")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear rise from 0 over some steps, then another schedule.

    Args:
        schedule: learning rate by step, from the first step on.
        steps: of the rise, at least 1.
    """

    def __init__(self, schedule: Any, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Learning rate of a step, counted from 0."""
        share = tf.cast(step, tf.float32) / self.steps
        return self.schedule(step) * tf.minimum(share, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"schedule": self.schedule, "steps": self.steps}


def learning_rate_schedule(config: TrainingConfig) -> Any:
    """Learning rate by step, counted from 0, as a Keras schedule."""
    schedules = keras.optimizers.schedules
    if config.schedule == "cosine":
        return schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=config.learning_rate,
            warmup_steps=config.warmup_steps,
            decay_steps=config.steps - config.warmup_steps,
        )
    falls = config.decay_steps if config.schedule == "multistep" else ()
    # Keras lowers the rate after a boundary, Caffe at it; and it wants one at least.
    boundaries = [step - 1 for step in (*falls, config.steps + 1)]
    rates = [
        config.learning_rate * config.decay_factor**k
        for k in range(len(boundaries) + 1)
    ]
    plain = schedules.PiecewiseConstantDecay(boundaries, rates)
    return WarmUp(plain, config.warmup_steps) if config.warmup_steps else plain


def build_optimizer(config: TrainingConfig, variables: Sequence[Any]) -> Any:
    """The optimizer of a run, built for its trainable variables."""
    averaging = {
        "use_ema": config.ema_decay > 0,
        "ema_momentum": config.ema_decay or 0.99,
    }
    rate = learning_rate_schedule(config)
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=config.momentum, **averaging)
    else:
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=config.weight_decay, **averaging
        )
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in variables if v.name not in _DECAYING]
        )
    if config.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def final_gradients(
    gradients: Sequence[tf.Tensor], variables: Sequence[Any], config: TrainingConfig
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """What the optimizer is given: decay added, biases weighted, clipped.

    Args:
        gradients: of the loss by each variable.
        variables: trainable ones.
        config: settings.

    Returns:
        The gradients, and the global norm of those of the loss, float32 scalar.
    """
    norm = tf.linalg.global_norm(gradients)
    changed = []
    for gradient, variable in zip(gradients, variables, strict=True):
        if config.optimizer == "sgd" and variable.name in _DECAYING:
            # Part of the gradient, so that the momentum is of both.
            gradient = gradient + config.weight_decay * variable.value  # noqa: PLW2901
        if variable.name == _BIAS:
            gradient = gradient * config.bias_learning_rate_factor  # noqa: PLW2901
        changed.append(gradient)
    if config.gradient_clip_norm:
        changed, _ = tf.clip_by_global_norm(changed, config.gradient_clip_norm)
    return changed, norm


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer that a loss scale is around, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def growing_average(optimizer: Any, config: TrainingConfig) -> Iterator[None]:
    """While it is open, steps average over what has been trained so far.

    After n steps the averages keep (1 + n) / (10 + n), if that is less than
    `ema_decay`: else the first, random weights would be most of them for long.
    """
    if not config.ema_decay:
        yield
        return
    inner = inner_optimizer(optimizer)
    done = tf.cast(inner.iterations, tf.float32)
    inner.ema_momentum = tf.minimum(config.ema_decay, (1.0 + done) / (10.0 + done))
    try:
        yield
    finally:
        inner.ema_momentum = config.ema_decay


@contextmanager
def averaged_weights(
    optimizer: Any, variables: Sequence[Any], config: TrainingConfig
) -> Iterator[None]:
    """While it is open the variables are their averages, if the run has any."""
    if not config.ema_decay:
        yield
        return
    last = [variable.numpy() for variable in variables]
    inner_optimizer(optimizer).finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, last, strict=True):
            variable.assign(value)


@contextmanager
def frozen_layers(network: Any, patterns: Sequence[str]) -> Iterator[None]:
    """While it is open, layers of these names are not trained.

    Raises:
        ValueError: if no layer has a name like one of the patterns.
    """
    frozen = []
    for pattern in patterns:
        matching = [
            layer for layer in network.layers if fnmatchcase(layer.name, pattern)
        ]
        if not matching:
            names = ", ".join(layer.name for layer in network.layers if layer.weights)
            raise ValueError(
                f"freeze: no layer is named {pattern!r}; there are {names}"
            )
        frozen += [layer for layer in matching if layer.trainable]
    for layer in frozen:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in frozen:
            layer.trainable = True
