# SPDX-License-Identifier: Apache-2.0
"""The layers of a `.prototxt` file that take part in a test, and their input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ssdops.protobuf_text import Message

__all__ = ["MAX_LAYERS", "Net", "maker", "read_net", "where"]

MAX_LAYERS: Final = 4096
_MAX_BLOBS: Final = 64
_DATA: Final = ("AnnotatedData", "Data", "ImageData", "Input", "MemoryData")


@dataclass(frozen=True)
class Net:
    """The layers of a network for detection.

    Attributes:
        source: Name of the input.
        image_size: Its height and width.
        transform: The message `transform_param` of the layer that reads data.
        layers: All other layers in order.
        makers: Per blob the last layer that gives it.
    """

    source: str
    image_size: tuple[int, int]
    transform: Message
    layers: list[Message]
    makers: dict[str, Message]


def where(layer: Message) -> str:
    """Returns what messages call a layer."""
    kind = layer.text("type")
    return f"line {layer.line}: layer {layer.text('name')} of type {kind}"


def maker(net: Net, blob: str) -> Message:
    """Returns the last layer that gives a blob.

    Raises:
        ValueError: If there is none.
    """
    if blob not in net.makers:
        raise ValueError(f"blob {blob!r} is an input of a layer, but of none an output")
    return net.makers[blob]


def read_net(message: Message) -> Net:
    """Returns the layers of the test phase, and the input.

    Raises:
        ValueError: If the file is of the format before the present one, gives no input
            of three channels, or has more than 4096 layers or 64 blobs at one of them.
    """
    if "layers" in message:
        raise ValueError("its layers are in the format before the present one")
    layers = [layer for layer in message.messages("layer") if _in_test(layer)]
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"at most {MAX_LAYERS} layers are allowed, got {len(layers)}")
    for layer in layers:
        for name in ("bottom", "top"):
            count = len(layer.texts(name))
            if count > _MAX_BLOBS:
                raise ValueError(
                    f"{where(layer)}: {name} may be given {_MAX_BLOBS} times, got "
                    f"{count}"
                )
    source, size, transform = message.text("input"), (0, 0), Message(1)
    dims = message.message("input_shape").integers("dim")
    dims = dims or message.integers("input_dim")
    for layer in layers:
        if layer.text("type") in _DATA:
            source = (layer.texts("top") or [""])[0]
            shapes = layer.message("input_param").messages("shape")
            dims = shapes[0].integers("dim") if shapes else []
            transform = layer.message("transform_param")
            resized = transform.message("resize_param")
            size = (resized.integer("height", 0), resized.integer("width", 0))
            break
    if dims:
        if len(dims) != 4 or dims[1] != 3:
            raise ValueError(f"the input must have the shape [1, 3, h, w], got {dims}")
        size = (dims[2], dims[3])
    if not source or min(size) < 1:
        raise ValueError("it gives no size of an input image (input_shape, Input)")
    others = [layer for layer in layers if layer.text("type") not in _DATA]
    makers = {top: layer for layer in others for top in layer.texts("top")}
    return Net(source, size, transform, others, makers)


def _in_test(layer: Message) -> bool:
    """Whether a layer takes part when a network is tested."""
    phases = [rule.text("phase") for rule in layer.messages("include")]
    if phases:
        return any(phase in ("TEST", "1", "") for phase in phases)
    phases = [rule.text("phase") for rule in layer.messages("exclude")]
    return not any(phase in ("TEST", "1") for phase in phases)
