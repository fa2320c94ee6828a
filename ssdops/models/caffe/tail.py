# SPDX-License-Identifier: Apache-2.0
"""The tail of an SSD in Caffe: from the heads to the layer `DetectionOutput`.

It is part of every model here, so that nothing of it becomes a layer. What it does has
to be the usual, or results would be others.
"""

from __future__ import annotations

from typing import Final

from ssdops.models.caffe.net import Net, maker, where
from ssdops.protobuf_text import Message

__all__ = ["heads_behind", "joined_parts"]

_SHAPING: Final = ("Flatten", "Permute", "Reshape")
_ACTIVATIONS: Final = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# Channels last, as rows of one box each need them.
_ORDER: Final = [0, 2, 3, 1]


def heads_behind(net: Net, blob: str) -> tuple[list[Message], str | None]:
    """Returns the convolutions behind an input of the detections; the activation.

    Args:
        net: The network.
        blob: The input.

    Raises:
        ValueError: If there are other layers between them than those of SSD, or these
            do something else.
    """
    tail, blob = _way_back(net, blob)
    activation = None
    for layer in tail:
        if layer.text("type") not in _ACTIVATIONS:
            continue
        if activation is not None:
            raise ValueError(f"{where(layer)}: there must be one activation, got two")
        activation = _ACTIVATIONS[layer.text("type")]
        axis = layer.message("softmax_param").integer("axis", 1)
        if activation == "softmax" and axis not in (2, -1):
            raise ValueError(f"{where(layer)}: axis must be 2, the classes, got {axis}")
    heads = []
    for part in joined_parts(net, blob, 1):
        between, source = _way_back(net, part)
        head = maker(net, source)
        if head.text("type") != "Convolution":
            raise ValueError(f"{where(head)}: a head must be a Convolution")
        _check_order(head, [*tail, *between])
        for layer in between:
            if layer.text("type") in _ACTIVATIONS:
                raise ValueError(f"{where(layer)}: must come after the Concat")
        heads.append(head)
    return heads, activation


def joined_parts(net: Net, blob: str, axis: int) -> list[str]:
    """Returns the blobs that a blob joins; itself if it joins none.

    Args:
        net: The network.
        blob: Name of the blob.
        axis: Along which they must be joined.

    Raises:
        ValueError: If they are joined along another axis.
    """
    joined = maker(net, blob)
    if joined.text("type") != "Concat":
        return [blob]
    given = joined.message("concat_param")
    found = given.integer("axis", given.integer("concat_dim", 1))
    if found not in (axis, -1):
        raise ValueError(f"{where(joined)}: axis must be {axis}, got {found}")
    return joined.texts("bottom")


def _way_back(net: Net, blob: str) -> tuple[list[Message], str]:
    """Returns the layers of the tail before a blob, and what the first of them takes.

    The layers begin with the last.
    """
    passed: list[Message] = []
    # A layer whose output is its input would be passed for ever.
    for _ in range(len(net.layers)):
        layer = maker(net, blob)
        if layer.text("type") not in (*_SHAPING, *_ACTIVATIONS):
            break
        passed.append(layer)
        blob = _only_bottom(layer)
    return passed, blob


def _check_order(head: Message, layers: list[Message]) -> None:
    """Refuses another order of numbers than row, column, box."""
    orders = [
        layer.message("permute_param").integers("order")
        for layer in layers
        if layer.text("type") == "Permute"
    ]
    if orders != [_ORDER]:
        raise ValueError(
            f"{where(head)}: one Permute of order {_ORDER} must follow a head, got "
            f"orders {orders[:4]}"
        )


def _only_bottom(layer: Message) -> str:
    bottoms = layer.texts("bottom")
    if len(bottoms) != 1:
        raise ValueError(f"{where(layer)}: must have one input, got {len(bottoms)}")
    return bottoms[0]
