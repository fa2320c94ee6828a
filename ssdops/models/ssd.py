# SPDX-License-Identifier: Apache-2.0
"""The detector: a network with its anchors, classes and post-processing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ssdops.files import write_atomically, write_json
from ssdops.models.spec import ModelSpec
from ssdops.ops import Detections, detect

__all__ = ["SSD"]

MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"
FORMAT = "ssdops-model"
FORMAT_VERSION = 1


class SSD:
    """A single-shot detector.

    Attributes:
        spec: Everything that fixes the detector except its weights.
        network: Keras model from preprocessed images float32 [B, h, w, 3] to
            `{"offsets": [B, A, 4], "logits": [B, A, C]}`.
        anchors: float32 [A, 4], relative (ymin, xmin, ymax, xmax).
        class_names: One name per class; index 0 is the background.
    """

    def __init__(
        self,
        spec: ModelSpec,
        network: keras.Model,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Joins a specification with its network.

        Args:
            spec: Specification.
            network: Network that belongs to it.
            class_names: Names of all classes including index 0; None for "background",
                "class 1", "class 2", ...

        Raises:
            ValueError: If the number of names is not the number of classes, or the
                outputs of the network do not have the shapes that the spec asks for.
        """
        if class_names is None:
            class_names = (
                "background",
                *(f"class {index}" for index in range(1, spec.num_classes)),
            )
        if len(class_names) != spec.num_classes:
            raise ValueError(
                f"class_names must name all {spec.num_classes} classes with the "
                f"background first, got {len(class_names)} names"
            )
        for key, width in (("offsets", 4), ("logits", spec.num_classes)):
            expected = (None, spec.anchors.num_anchors, width)
            if tuple(network.output[key].shape) != expected:
                raise ValueError(
                    f"network output {key!r} must have shape {expected}, got "
                    f"{tuple(network.output[key].shape)}"
                )
        self.spec = spec
        self.network = network
        self.anchors = tf.constant(spec.anchors.boxes(), tf.float32)
        self.class_names = tuple(str(name) for name in class_names)
        self._graphs: dict[tuple[Any, ...], Any] = {}

    def _detection_graph(self, dtype: tf.DType, **options: Any) -> Any:
        """Returns preprocessing, network and post-processing as one graph.

        Args:
            dtype: Dtype of the images.
            **options: Of `ssdops.detect`.
        """

        def detections(images: tf.Tensor) -> Any:
            outputs = self.network(self.spec.preprocessing(images), training=False)
            found = detect(
                outputs["logits"],
                outputs["offsets"],
                self.anchors,
                score_activation=self.spec.score_activation,
                variances=self.spec.variances,
                **options,
            )
            return Detections(
                found.boxes, found.scores, found.classes, found.num_detections
            )

        # One trace for every batch size.
        images = tf.TensorSpec([None, *self.spec.image_size, 3], dtype)
        return tf.function(detections, input_signature=[images], autograph=False)

    def detect(
        self,
        images: Any,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        pre_nms_top_k: int | None = None,
        max_detections: int | None = None,
    ) -> Any:
        """Finds objects.

        One graph serves all calls; it is traced again only for new thresholds, limits
        or dtypes, not for every batch size. It keeps the implementation of the ops
        that it was traced with. What is None is as `spec.post_processing` says.

        Args:
            images: RGB images [B, h, w, 3] with values in [0, 255], uint8 or floating,
                of the spec's `image_size`.
            score_threshold: Only scores above count.
            iou_threshold: A box overlapping a better one of its class by more is
                dropped.
            pre_nms_top_k: Candidates per class and image that enter suppression.
            max_detections: Detections kept per image.

        Returns:
            `ssdops.ops.Detections`: boxes [B, D, 4] relative (ymin, xmin, ymax, xmax),
            unclipped unless the spec clips them; scores [B, D], sorted downwards;
            classes int32 [B, D]; num_detections int32 [B]. Unused rows are zero.

        Raises:
            ValueError: If the images do not have the shape the network takes, or
                there are none (TensorFlow's convolutions fail on empty batches), or a
                threshold or limit is outside its range.
        """
        images = tf.convert_to_tensor(images)
        expected = (*self.spec.image_size, 3)
        shape = images.shape
        if shape.rank != 4 or tuple(shape[1:]) != expected or shape[0] == 0:
            raise ValueError(
                f"images must have shape [B, {', '.join(map(str, expected))}] with at "
                f"least one image, got {shape}"
            )
        given: dict[str, Any] = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "pre_nms_top_k": pre_nms_top_k,
            "max_detections": max_detections,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        options = replace(self.spec.post_processing, **chosen).to_dict()
        key = (images.dtype, *options.values())
        if key not in self._graphs:
            self._graphs[key] = self._detection_graph(images.dtype, **options)
        return self._graphs[key](images)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the detector to `model.json` and `model.weights.h5`.

        Each file is written beside its place and moved there when complete. Existing
        files of these names are replaced, other files are left alone.

        Args:
            folder: Created if absent.

        Returns:
            The folder.
        """
        path = Path(folder)
        write_atomically(path / WEIGHTS_FILE, self.network.save_weights)
        write_json(path / MODEL_FILE, self.description())
        return path

    def description(self) -> dict[str, Any]:
        """Returns everything but the weights as plain JSON values, as `model.json`."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "class_names": list(self.class_names),
            "spec": self.spec.to_dict(),
        }
