# SPDX-License-Identifier: Apache-2.0
"""Names of the weights in a TensorFlow Lite model by the layers that they belong to.

Converters differ: the first kept the names of variables; today's calls weights after
the operations that were merged, several names in a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ssdops.models.weights.flat_buffers import Table

__all__ = ["names_by_layer"]

# Fields and numbers of schema.fbs.
_MODEL_OPERATOR_CODES = 1
_SUBGRAPH_OPERATORS = 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_OLD_CODE, _CODE = 0, 3
_CONV_2D, _DEPTHWISE_CONV_2D, _DEQUANTIZE = 3, 4, 6

_KERNELS: Final = {_CONV_2D: "weights", _DEPTHWISE_CONV_2D: "depthwise_weights"}
_BIAS: Final = "biases"
_CONVOLUTION_INPUTS: Final = 3
# What a variable is called, quantised or not, and what the first converter called the
# biases that it made of normalisations.
_OF_A_VARIABLE: Final = re.compile(r"[^;]*/[^;/]*(weights|bias)[^;]*")
# The operation that a layer ends with.
_OPERATION: Final = re.compile(r"/(?:BatchNorm/.+|[^/]+)$")


def names_by_layer(
    model: Table, subgraph: Table, names: Sequence[str]
) -> dict[int, str]:
    """Names of weights that do not tell what they are, by index of their tensor.

    Kernel and bias of a convolution whose result is called `<layer>/<operation>` become
    `<layer>/weights` or `<layer>/depthwise_weights`, and `<layer>/biases`, as the
    variables of a checkpoint are called.

    Args:
        model: The whole file.
        subgraph: Of its first network.
        names: Of all tensors of it.

    Raises:
        ValueError: If an operator has tensors that are not there.
    """
    codes = [
        max(code.number(_OLD_CODE, "b"), code.number(_CODE, "<i"))
        for code in model.tables(_MODEL_OPERATOR_CODES)
    ]
    found: dict[int, str] = {}
    # Halves are made whole before they are used.
    origins: dict[int, int] = {}
    for operator in subgraph.tables(_SUBGRAPH_OPERATORS):
        index = operator.number(_OPERATOR_CODE, "<I")
        if index >= len(codes):
            raise ValueError(f"an operator has code {index} of {len(codes)}")
        inputs = operator.numbers(_OPERATOR_INPUTS, "<i4").tolist()
        outputs = operator.numbers(_OPERATOR_OUTPUTS, "<i4").tolist()
        # Inputs that are left out are -1.
        used = [*inputs, *(index % 2**32 for index in outputs)]
        if max(used, default=0) >= len(names):
            raise ValueError(f"an operator has tensor {max(used)} of {len(names)}")
        if codes[index] == _DEQUANTIZE and len(inputs) == len(outputs) == 1:
            origins[outputs[0]] = inputs[0]
        if codes[index] not in _KERNELS or len(outputs) != 1:
            continue
        layer = _layer(names[outputs[0]])
        words = (_KERNELS[codes[index]], _BIAS)
        for tensor, word in zip(inputs[1:_CONVOLUTION_INPUTS], words, strict=False):
            origin = origins.get(tensor, tensor)
            if layer and origin >= 0 and not _OF_A_VARIABLE.fullmatch(names[origin]):
                found.setdefault(origin, f"{layer}/{word}")
    return found


def _layer(name: str) -> str:
    """Returns the layer of which a tensor is the result; empty if it does not tell."""
    first = name.partition(";")[0]
    operation = _OPERATION.search(first)
    return first[: operation.start()] if operation else ""
