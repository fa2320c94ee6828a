# SPDX-License-Identifier: Apache-2.0
"""Names of the Object Detection API of TensorFlow 2 in checkpoints and Lite files.

The names were written down from files that this code itself exported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.tensorflow_files import write_checkpoint

from ssdops.models.weights import read_weights
from ssdops.models.weights.checkpoint import find_checkpoint, read_checkpoint
from ssdops.models.weights.object_detection_keras import with_names_of_slim

EXTRACTOR = "ssd_mobile_net_v2_keras_feature_extractor"
V1, V2 = "FeatureExtractor/MobilenetV1", "FeatureExtractor/MobilenetV2"
HEAD = "BoxPredictor/ConvolutionalBoxHead_0/BoxEncodingPredictor"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Conv1/kernel", f"{V2}/Conv/weights"),
        ("bn_Conv1/gamma", f"{V2}/Conv/BatchNorm/gamma"),
        (f"{EXTRACTOR}_2/model/Conv1_relu/biases", f"{V2}/Conv/biases"),
        (
            "expanded_conv_depthwise/depthwise_kernel",
            f"{V2}/expanded_conv/depthwise/depthwise_weights",
        ),
        (
            "expanded_conv_project_BN/beta",
            f"{V2}/expanded_conv/project/BatchNorm/beta",
        ),
        (
            "block_13_expand_BN/moving_mean",
            f"{V2}/expanded_conv_13/expand/BatchNorm/moving_mean",
        ),
        (
            f"{EXTRACTOR}_2/model/block_2_depthwise_relu/depthwise_weights",
            f"{V2}/expanded_conv_2/depthwise/depthwise_weights",
        ),
        (
            f"{EXTRACTOR}_2/model/block_2_project_BN/weights",
            f"{V2}/expanded_conv_2/project/weights",
        ),
        ("Conv_1/kernel", f"{V2}/Conv_1/weights"),
        ("Conv_1_bn/gamma", f"{V2}/Conv_1/BatchNorm/gamma"),
        (f"{EXTRACTOR}_2/model/out_relu/biases", f"{V2}/Conv_1/biases"),
        (
            f"{EXTRACTOR}/FeatureMaps/layer_19_2_Conv2d_5_3x3_s2_128_conv/kernel",
            f"{V2}/layer_19_2_Conv2d_5_3x3_s2_128/weights",
        ),
        (
            f"{EXTRACTOR}/FeatureMaps/layer_19_1_Conv2d_2_1x1_256_batchnorm/beta",
            f"{V2}/layer_19_1_Conv2d_2_1x1_256/BatchNorm/beta",
        ),
        (
            f"{EXTRACTOR}_2/FeatureMaps/layer_19_2_Conv2d_4_3x3_s2_192_depthwise/biases",
            f"{V2}/layer_19_2_Conv2d_4_3x3_s2_192_depthwise/biases",
        ),
        ("conv1/kernel", f"{V1}/Conv2d_0/weights"),
        ("conv1_bn/beta", f"{V1}/Conv2d_0/BatchNorm/beta"),
        (
            "conv_dw_13/depthwise_kernel",
            f"{V1}/Conv2d_13_depthwise/depthwise_weights",
        ),
        ("x/model/conv_pw_6_relu/weights", f"{V1}/Conv2d_6_pointwise/weights"),
        (
            "x/FeatureMaps/Conv2d_13_pointwise_2_Conv2d_3_3x3_s2_256/weights",
            f"{V1}/Conv2d_13_pointwise_2_Conv2d_3_3x3_s2_256/weights",
        ),
        (f"{HEAD}/bias", "BoxPredictor_0/BoxEncodingPredictor/biases"),
        (
            f"{HEAD}_depthwise_batchnorm/gamma",
            "BoxPredictor_0/BoxEncodingPredictor_depthwise/BatchNorm/gamma",
        ),
        (
            "BoxPredictor/ConvolutionalClassHead_5/ClassPredictor_depthwise_activation"
            "/biases|scale_zp",
            "BoxPredictor_5/ClassPredictor_depthwise/biases|scale_zp",
        ),
        ("anchors", "anchors"),
        ("Conv1/other", "Conv1/other"),
        ("block_1_add/kernel", "block_1_add/kernel"),
        ("block_1_expand/kernel/Momentum", "block_1_expand/kernel/Momentum"),
    ],
)
def test_names(name: str, expected: str) -> None:
    value, head = np.zeros(2), np.ones(3)
    named = with_names_of_slim({name: value, f"{HEAD}/kernel": head})
    assert named == {
        expected: value,
        "BoxPredictor_0/BoxEncodingPredictor/weights": head,
    }


def test_without_heads_names_are_those_of_a_classifier() -> None:
    arrays = {"Conv1/kernel": np.zeros(2), "bn_Conv1/gamma": np.zeros(2)}
    assert with_names_of_slim(arrays) is arrays


def test_variables_of_objects_have_the_names_they_were_made_with(
    tmp_path: Path,
) -> None:
    module = tf.Module()
    module.layers = [
        tf.Variable([1.0], name="conv1/kernel"),
        tf.Variable([2.0], name="twice"),
        tf.Variable([3.0], name="twice"),
    ]
    tf.train.Checkpoint(model=module).save(str(tmp_path / "ckpt"))
    read = read_checkpoint(tmp_path)
    assert {name: value.tolist() for name, value in read.items()} == {
        "conv1/kernel": [1.0],
        "model/layers/1/.ATTRIBUTES/VARIABLE_VALUE": [2.0],
        "model/layers/2/.ATTRIBUTES/VARIABLE_VALUE": [3.0],
        "save_counter": 1,
    }


def test_a_graph_of_objects_that_is_damaged(tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "model",
        {"_CHECKPOINTABLE_OBJECT_GRAPH": b"\x0a\x09a", "a": np.zeros(2)},
    )
    with pytest.raises(ValueError, match="not a readable checkpoint: field 1 claims"):
        read_checkpoint(tmp_path / "model")


def test_what_means_a_checkpoint(tmp_path: Path) -> None:
    prefix = tmp_path / "run" / "checkpoint" / "model.ckpt-7"
    write_checkpoint(prefix, {"a": np.zeros(2)})
    (prefix.parent / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    Path(f"{prefix}.meta").touch()
    for path in (
        prefix,
        tmp_path / "run",
        prefix.parent,
        prefix.parent / "checkpoint",
        *prefix.parent.glob("model.ckpt-7.*"),
    ):
        assert find_checkpoint(path) == prefix, path
    for path in (tmp_path, prefix.parent / "other.index", tmp_path / "saved_model.pb"):
        assert find_checkpoint(path) is None, path


def test_a_frozen_saved_model(tmp_path: Path) -> None:
    """Those of TensorFlow 1 have constants in the place of variables."""
    folder = tmp_path / "saved_model"
    with tf.Graph().as_default():
        constant = tf.constant([1.0, 2.0], name="weights")
        ends = {"x": tf.identity(constant)}
        with tf.compat.v1.Session() as session:
            tf.compat.v1.saved_model.simple_save(session, str(folder), ends, ends)
    for path in (folder, folder / "saved_model.pb"):
        np.testing.assert_array_equal(read_weights(path)["weights"], [1, 2])
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ValueError, match="readable frozen graph: it has no graph"):
        read_weights(folder)
