# SPDX-License-Identifier: Apache-2.0
"""Names of the Object Detection API of TensorFlow 2 as those of TensorFlow 1.

The same networks were written twice: with slim, and later with Keras. The readers of
weights know the names of slim.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ssdops.models.weights.arrays import Array

__all__ = ["with_names_of_slim"]

# Heads and further layers say what they are; the layers of the backbone have the names
# that Keras's own networks have. `_relu` and `_activation` come from converters, which
# call a convolution after the last operation that was merged with it.
_HEAD: Final = re.compile(
    r"(?:.*/)?Convolutional(?:Box|Class)Head_(?P<level>\d+)/"
    r"(?P<head>(?:BoxEncoding|Class)Predictor)"
    r"(?P<depthwise>_depthwise)?(?:_batchnorm|_activation)?"
)
_EXTRA: Final = re.compile(
    r"(?:.*/)?(?P<layer>(?P<base>layer_19|Conv2d_13_pointwise)"
    r"_[12]_Conv2d_\d+_\dx\d(?:_s2)?_\d+(?:_depthwise)?)(?:_conv|_batchnorm)?"
)
_BLOCK_V1: Final = re.compile(
    r"(?:.*/)?(?:conv1|conv_(?P<kind>dw|pw)_(?P<index>\d+))(?:_bn|_relu)?"
)
_BLOCK_V2: Final = re.compile(
    r"(?:.*/)?(?:expanded_conv|block(?P<index>_\d+))_(?P<part>expand|depthwise|project)"
    r"(?:_BN|_relu)?"
)
_ENDS_V2: Final = {
    **dict.fromkeys(("Conv1", "bn_Conv1", "Conv1_relu"), "Conv"),
    **dict.fromkeys(("Conv_1", "Conv_1_bn", "out_relu"), "Conv_1"),
}
_V1: Final = "FeatureExtractor/MobilenetV1"
_V2: Final = "FeatureExtractor/MobilenetV2"
_KINDS_V1: Final = {"dw": "depthwise", "pw": "pointwise"}
_STATISTICS: Final = ("gamma", "beta", "moving_mean", "moving_variance")
_WORDS: Final = {
    "kernel": "weights",
    "depthwise_kernel": "depthwise_weights",
    "bias": "biases",
    **{part: f"BatchNorm/{part}" for part in _STATISTICS},
    # What `names_by_layer` gives weights of TensorFlow Lite.
    **{word: word for word in ("weights", "depthwise_weights", "biases")},
}


def with_names_of_slim(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Weights of an SSD of TensorFlow 2 by the names that TensorFlow 1 gave them.

    Args:
        arrays: Of a checkpoint, a SavedModel or a TensorFlow Lite file; how a tensor
            was quantised may stand after a bar.

    Returns:
        Arrays whose names are of no layer as they were; all of them, if there are no
        heads of TensorFlow 2 among them.
    """
    if not any(_HEAD.fullmatch(name.rpartition("/")[0]) for name in arrays):
        return arrays
    return {_slim_name(name): value for name, value in arrays.items()}


def _slim_name(name: str) -> str:
    variable, bar, note = name.partition("|")
    layer, _, word = variable.rpartition("/")
    scope = _slim_layer(layer)
    if scope is None or word not in _WORDS:
        return name
    return f"{scope}/{_WORDS[word]}{bar}{note}"


def _slim_layer(layer: str) -> str | None:
    """Returns the scope of a layer, None if it is none of these networks."""
    if match := _HEAD.fullmatch(layer):
        depthwise = match["depthwise"] or ""
        return f"BoxPredictor_{match['level']}/{match['head']}{depthwise}"
    if match := _EXTRA.fullmatch(layer):
        network = _V2 if match["base"] == "layer_19" else _V1
        return f"{network}/{match['layer']}"
    if match := _BLOCK_V1.fullmatch(layer):
        if match["kind"] is None:
            return f"{_V1}/Conv2d_0"
        return f"{_V1}/Conv2d_{match['index']}_{_KINDS_V1[match['kind']]}"
    if match := _BLOCK_V2.fullmatch(layer):
        return f"{_V2}/expanded_conv{match['index'] or ''}/{match['part']}"
    end = _ENDS_V2.get(layer.rpartition("/")[2])
    return None if end is None else f"{_V2}/{end}"
