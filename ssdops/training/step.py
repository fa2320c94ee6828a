# SPDX-License-Identifier: Apache-2.0
"""One step of training: a batch changes the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ssdops.models import SSD
from ssdops.ops import assign_targets, multibox_loss
from ssdops.training.config import TrainingConfig
from ssdops.training.distribution import num_workers, worker_index
from ssdops.training.optimizer import final_gradients, growing_average


class StepResult(NamedTuple):
    """What a step tells, float32 scalars.

    Attributes:
        total: loss of the batch.
        localization: its part of the boxes, without the weight.
        confidence: its part of the classes.
        gradient_norm: global norm of the gradient of the loss, before clipping.
    """

    total: tf.Tensor
    localization: tf.Tensor
    confidence: tf.Tensor
    gradient_norm: tf.Tensor


TrainStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], StepResult]


def make_train_step(
    model: SSD,
    optimizer: Any,
    config: TrainingConfig,
    variables: Sequence[Any] | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainStep:
    """The step of a run, a graph.

    With a strategy every replica computes a part of the batch; losses and gradients are
    those of the whole batch, normalized by its matches over all replicas.

    Args:
        model: detector whose network is trained.
        optimizer: built for the variables.
        config: settings.
        variables: trained ones; None for all trainable ones of the network.
        strategy: of replicas; the model and the optimizer were made in its scope.

    Returns:
        A function of `images` `[B, h, w, 3]`, `gt_boxes` `[B, G, 4]` and `gt_labels`
        `[B, G]`, of the part of the batch that this worker has. If the loss or its
        gradient is not finite, the weights stay as they are; but not with a strategy.
    """
    if variables is None:
        variables = model.network.trainable_variables
    parts = config.accumulation_steps
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync

    def reduce_sum(value: Any) -> Any:
        if replicas == 1:
            return value
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def loss_of_part(
        images: tf.Tensor, classes: tf.Tensor, offsets: tf.Tensor, normalizer: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        with tf.GradientTape() as tape, compute_dtype(model.network, config.precision):
            outputs = model.network(model.spec.preprocessing(images), training=True)
            loss = multibox_loss(
                tf.cast(outputs["logits"], tf.float32),
                tf.cast(outputs["offsets"], tf.float32),
                classes,
                offsets,
                negative_ratio=config.negative_ratio,
                localization_weight=config.localization_weight,
                confidence_loss=model.spec.score_activation,
                normalizer=normalizer,
            )
            total = optimizer.scale_loss(loss.total) if is_scaled else loss.total
        gradients = tape.gradient(total, variables)
        return gradients, tf.stack([loss.total, loss.localization, loss.confidence])

    def step(
        images: tf.Tensor, gt_boxes: tf.Tensor, gt_labels: tf.Tensor
    ) -> StepResult:
        targets = assign_targets(
            model.anchors,
            gt_boxes,
            gt_labels,
            iou_threshold=config.iou_threshold,
            variances=model.spec.variances,
        )
        # The matches of the whole batch, in however many parts it is computed.
        positives = reduce_sum(tf.reduce_sum(tf.cast(targets.classes > 0, tf.float32)))
        batch = (images, targets.classes, targets.offsets)
        if parts == 1:
            gradients, losses = loss_of_part(*batch, positives)
        else:
            gradients, losses = _accumulate(loss_of_part, batch, positives, parts)
        gradients, losses = reduce_sum((gradients, losses))
        scale = optimizer.dynamic_scale if is_scaled else 1.0
        gradients, norm = final_gradients(
            [gradient / scale for gradient in gradients], variables, config
        )
        # The optimizer adds up what the replicas give it, a sum in each already.
        factor = scale / replicas
        pairs = list(zip([g * factor for g in gradients], variables, strict=True))
        finite = tf.math.is_finite(losses[0]) & tf.math.is_finite(norm)
        # Weights that a NaN has reached cannot be mended: leave them alone. A loss
        # scale looks itself, and replicas cannot meet inside of a condition.
        with growing_average(optimizer, config):
            if is_scaled or replicas > 1 or finite:
                optimizer.apply_gradients(pairs)
        return StepResult(losses[0], losses[1], losses[2], norm)

    if strategy is None:
        return tf.function(step)  # type: ignore[no-any-return]
    return _distributed(step, strategy)


def _distributed(step: TrainStep, strategy: tf.distribute.Strategy) -> TrainStep:
    @tf.function  # type: ignore[untyped-decorator]
    def run(*parts: Any) -> Any:
        return strategy.run(step, parts)

    local_replicas = strategy.num_replicas_in_sync // num_workers(strategy)

    def distributed_step(*batch: tf.Tensor) -> StepResult:
        # Of the part of this worker, the parts of its replicas.
        parts = [tf.split(tensor, local_replicas) for tensor in batch]
        first = worker_index(strategy) * local_replicas

        def of_replica(tensor_parts: list[tf.Tensor]) -> Any:
            return strategy.experimental_distribute_values_from_function(
                lambda context: tensor_parts[context.replica_id_in_sync_group - first]
            )

        results = run(*(of_replica(tensor_parts) for tensor_parts in parts))
        # The same in every replica.
        return StepResult(
            *(strategy.experimental_local_results(value)[0] for value in results)
        )

    return distributed_step


@contextmanager
def compute_dtype(network: Any, precision: str) -> Iterator[None]:
    """While it is open, the layers of a network compute in this dtype.

    Their weights stay float32. Graphs that are traced meanwhile keep the dtype.
    """
    if precision == "float32":
        yield
        return
    policy = keras.DTypePolicy(f"mixed_{precision}")
    before = [layer.dtype_policy for layer in network.layers]
    for layer in network.layers:
        layer.dtype_policy = policy
    try:
        yield
    finally:
        for layer, old in zip(network.layers, before, strict=True):
            layer.dtype_policy = old


def _accumulate(
    loss_of_part: Callable[..., Any],
    batch: tuple[tf.Tensor, ...],
    positives: tf.Tensor,
    parts: int,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Sums of the gradients and losses of the parts of a batch."""
    split = [
        tf.reshape(tensor, tf.concat([[parts, -1], tf.shape(tensor)[1:]], axis=0))
        for tensor in batch
    ]

    def part(number: Any) -> Any:
        tensors = [
            tf.ensure_shape(tensor[number], (None, *whole.shape[1:]))
            for tensor, whole in zip(split, batch, strict=True)
        ]
        return loss_of_part(*tensors, positives)

    gradients, losses = part(0)
    for number in tf.range(1, parts):
        more_gradients, more_losses = part(number)
        gradients = [a + b for a, b in zip(gradients, more_gradients, strict=True)]
        losses = losses + more_losses
    return gradients, losses
