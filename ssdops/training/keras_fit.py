# SPDX-License-Identifier: Apache-2.0
"""Training by Keras: `compile` and `fit` with the losses of SSD.

For one machine, and for those who have callbacks of their own; `ssdops.training.train`
resumes exactly, and knows several machines.

Example:
    >>> data = read_dataset("my_data", split="train")
    >>> ssd = ssdops.models.build_model("ssd_small", class_names=data.class_names)
    >>> model = KerasDetector(ssd)
    >>> model.compile("adamw", loss=KerasMultiboxLoss(), metrics=loss_parts())
    >>> model.fit(
    ...     fit_batches(ssd, data, batch_size=16, seed=0),
    ...     steps_per_epoch=len(data) // 16,
    ...     epochs=20,
    ...     callbacks=[EvaluationCallback(ssd, test_data)],
    ... )
    >>> ssd.save("my_model")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ssdops.data import Augmentation, Dataset, training_batches
from ssdops.evaluation import evaluate
from ssdops.models import SSD
from ssdops.ops import MultiboxLoss, assign_targets, multibox_loss
from ssdops.training.checks import check_model_and_data

# Of what an anchor shall predict: its class, then its offsets.
_TARGET_WIDTH = 5


class KerasDetector(keras.Model):  # type: ignore[misc]
    """A detector as one Keras model, from images to all that it predicts.

    Its weights are those of the detector: what is trained here is there.

    Args:
        ssd: the detector.
    """

    def __init__(self, ssd: SSD) -> None:
        super().__init__(name=ssd.spec.name)
        self.network = ssd.network
        self._spec = ssd.spec

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Predictions of RGB images in [0, 255], `[B, h, w, 3]`.

        Returns:
            float32 `[B, A, C + 4]`: logits, then offsets.
        """
        outputs = self.network(self._spec.preprocessing(images), training=training)
        parts = [tf.cast(outputs[key], tf.float32) for key in ("logits", "offsets")]
        return tf.concat(parts, axis=-1)


@keras.saving.register_keras_serializable(package="ssdops")
class KerasMultiboxLoss(keras.losses.Loss):  # type: ignore[misc]
    """`ssdops.multibox_loss` of a batch, for `compile`.

    Args:
        negative_ratio: mined negatives per positive.
        localization_weight: factor of the localization loss.
        confidence_loss: as in `multibox_loss`; `ssd.spec.score_activation`.
        name: of the loss.
    """

    def __init__(
        self,
        negative_ratio: float = 3.0,
        localization_weight: float = 1.0,
        confidence_loss: str = "softmax",
        name: str = "multibox_loss",
    ) -> None:
        # It is one number for a batch already: the sum of one.
        super().__init__(name=name, reduction="sum")
        self._options = {
            "negative_ratio": negative_ratio,
            "localization_weight": localization_weight,
            "confidence_loss": confidence_loss,
        }

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss of the predictions of `KerasDetector`, given the `fit_batches`."""
        return _losses(y_true, y_pred, self._options).total

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"name": self.name, **self._options}


def loss_parts(
    **options: Any,
) -> list[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Metrics for `compile`: the losses of the boxes and of the classes.

    Args:
        **options: of `KerasMultiboxLoss`.
    """

    def localization(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return _losses(y_true, y_pred, options).localization

    def confidence(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return _losses(y_true, y_pred, options).confidence

    return [localization, confidence]


def fit_batches(
    ssd: SSD,
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int,
    augmentation: Augmentation | None = None,
    iou_threshold: float = 0.5,
) -> tf.data.Dataset:
    """Endless batches of images with what every anchor shall predict.

    Args:
        ssd: detector with the anchors.
        dataset: images with ground truth.
        batch_size: images per batch.
        seed: of the order and the augmentation.
        augmentation: random changes of the images; None to resize them only.
        iou_threshold: smallest IoU of a positive anchor.

    Returns:
        `(images uint8 [B, h, w, 3], targets float32 [B, A, 5])`: class, then offsets.

    Raises:
        ValueError: if the classes of detector and data differ in number, or as
            `training_batches`.
    """
    check_model_and_data(ssd, dataset)

    def with_targets(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        targets = assign_targets(
            ssd.anchors,
            batch["gt_boxes"],
            batch["gt_labels"],
            iou_threshold=iou_threshold,
            variances=ssd.spec.variances,
        )
        classes = tf.cast(targets.classes, tf.float32)[..., tf.newaxis]
        return batch["images"], tf.concat([classes, targets.offsets], axis=-1)

    batches = training_batches(
        dataset,
        ssd.spec.image_size,
        batch_size,
        seed=seed,
        augmentation=augmentation,
    )
    return batches.map(with_targets).prefetch(1)


class EvaluationCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """mAP at an IoU of 0.5 after every epoch, as `map_50` in the logs.

    Put it before callbacks that look at it, such as `ModelCheckpoint` or
    `EarlyStopping` with `monitor="map_50", mode="max"`.

    Args:
        ssd: the detector that is trained.
        dataset: images with ground truth.
    """

    def __init__(self, ssd: SSD, dataset: Dataset) -> None:
        super().__init__()
        self._ssd = ssd
        self._dataset = dataset

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the number to the logs."""
        if logs is not None:
            logs["map_50"] = evaluate(self._ssd, self._dataset).mean


def _losses(
    y_true: tf.Tensor, y_pred: tf.Tensor, options: dict[str, Any]
) -> MultiboxLoss:
    y_true = tf.ensure_shape(y_true, (None, None, _TARGET_WIDTH))
    return multibox_loss(
        y_pred[..., :-4],
        y_pred[..., -4:],
        tf.cast(y_true[..., 0], tf.int32),
        y_true[..., 1:],
        **options,
    )
