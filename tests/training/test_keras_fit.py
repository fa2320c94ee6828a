# SPDX-License-Identifier: Apache-2.0
"""`compile` and `fit` of Keras with the losses of SSD."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.squares import NAMES, make_dataset

import ssdops
from ssdops.data import Dataset
from ssdops.evaluation import evaluate
from ssdops.models import build_model
from ssdops.training.keras_fit import (
    EvaluationCallback,
    KerasDetector,
    KerasMultiboxLoss,
    fit_batches,
    loss_parts,
)

DATA = make_dataset()


def make_detector():
    keras.utils.set_random_seed(2)
    return build_model("ssd_small", class_names=NAMES, image_size=(64, 64), width=0.25)


def test_a_few_pictures_are_learnt_by_heart():
    ssd = make_detector()
    model = KerasDetector(ssd)
    model.compile(
        keras.optimizers.AdamW(5e-3), loss=KerasMultiboxLoss(), metrics=loss_parts()
    )
    history = model.fit(
        fit_batches(ssd, DATA, 4, seed=0),
        steps_per_epoch=60,
        epochs=4,
        verbose=0,
        callbacks=[EvaluationCallback(ssd, DATA)],
    ).history
    assert history["loss"][-1] < history["loss"][0] / 5
    assert history["loss"][-1] == pytest.approx(
        history["localization"][-1] + history["confidence"][-1], rel=1e-3
    )
    # The same weights: what was trained is the detector.
    assert history["map_50"][-1] == evaluate(ssd, DATA).mean > 0.95


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_is_that_of_the_op(jit_compile):
    ssd = make_detector()
    images, targets = next(iter(fit_batches(ssd, DATA, 3, seed=1)))
    model = KerasDetector(ssd)
    model.compile(
        loss=KerasMultiboxLoss(localization_weight=2.0),
        metrics=loss_parts(localization_weight=2.0),
        jit_compile=jit_compile,
    )
    losses = model.evaluate(images, targets, batch_size=3, verbose=0, return_dict=True)
    outputs = ssd.network(ssd.spec.preprocessing(images), training=False)
    expected = ssdops.multibox_loss(
        outputs["logits"],
        outputs["offsets"],
        tf.cast(targets[..., 0], tf.int32),
        targets[..., 1:],
        localization_weight=2.0,
    )
    for name, value in (
        ("loss", expected.total),
        ("localization", expected.localization),
        ("confidence", expected.confidence),
    ):
        assert losses[name] == pytest.approx(float(value), rel=1e-4)
    assert float(expected.num_positives) > 0


def test_the_loss_can_be_written_down_and_read_back():
    loss = KerasMultiboxLoss(negative_ratio=2.0, confidence_loss="sigmoid")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_early_stopping_sees_the_map(monkeypatch):
    from ssdops.training import keras_fit

    maps = iter([0.5, 0.4, 0.3, 0.2])

    class Result:
        def __init__(self):
            self.mean = next(maps)

    monkeypatch.setattr(keras_fit, "evaluate", lambda *_: Result())
    ssd = make_detector()
    model = KerasDetector(ssd)
    model.compile("sgd", loss=KerasMultiboxLoss())
    stop = keras.callbacks.EarlyStopping(monitor="map_50", mode="max", patience=2)
    history = model.fit(
        fit_batches(ssd, DATA, 2, seed=0),
        steps_per_epoch=1,
        epochs=4,
        verbose=0,
        callbacks=[EvaluationCallback(ssd, DATA), stop],
    ).history
    assert history["map_50"] == [0.5, 0.4, 0.3]


def test_classes_must_fit():
    data = Dataset(DATA.records, (*NAMES, "green"))
    with pytest.raises(ValueError, match=r"3 classes.*4"):
        fit_batches(make_detector(), data, 2, seed=0)


def test_targets_are_those_of_the_op():
    ssd = make_detector()
    images, targets = next(iter(fit_batches(ssd, DATA, 6, seed=0)))
    assert images.dtype == tf.uint8
    assert targets.shape == (6, ssd.spec.anchors.num_anchors, 5)
    classes = targets[..., 0].numpy()
    assert set(np.unique(classes)) <= {-1.0, 0.0, 1.0, 2.0}
    assert (classes > 0).any()
