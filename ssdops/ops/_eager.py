# SPDX-License-Identifier: Apache-2.0
"""Repeated eager calls of a native op, without repeating the checks.

Checking shapes and options in Python takes several times as long as a native op on
small input. What was accepted once for some dtypes, shapes and options is accepted
again: the call goes straight to the kernel, which checks its input in any case.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import tensorflow as tf

from ssdops._implementation import requested_implementation

P = ParamSpec("P")
R = TypeVar("R")

# A loop over ever new shapes must not fill the memory.
_MAX_CALLS = 1024


class _NativeCall(NamedTuple):
    function: Callable[..., Any]
    others: dict[str, Any]
    wrap: Callable[[Any], Any]


class _Recorder(threading.local):
    """The native call that the op running on this thread has made."""

    call: _NativeCall | None = None
    arguments: tuple[Any, ...] = ()

    def start(self, arguments: tuple[Any, ...]) -> None:
        self.call, self.arguments = None, arguments

    def stop(self) -> _NativeCall | None:
        call = self.call
        self.call, self.arguments = None, ()
        return call


_recorder = _Recorder()


def native_call(
    function: Callable[..., Any],
    tensors: tuple[Any, ...],
    wrap: Callable[[Any], R],
    *,
    name: str | None = None,
    **others: Any,
) -> R:
    """Call a generated native function.

    Args:
        function: of the loaded library.
        tensors: its first inputs, which are arguments of the public op.
        wrap: makes the public result of what the function returns.
        name: name of the op.
        **others: its other inputs and attributes, the same for equal options.
    """
    result = wrap(function(*tensors, **others, name=name))
    arguments = _recorder.arguments
    if len(arguments) == len(tensors) and all(
        given is used for given, used in zip(arguments, tensors, strict=True)
    ):
        _recorder.call = _NativeCall(function, others, wrap)
    return result


def remembers_eager_calls(op: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public op that makes its native call by `native_call`."""
    calls: dict[Hashable, _NativeCall] = {}

    @functools.wraps(op)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        key = _key(args, kwargs)
        if key is None:
            return op(*args, **kwargs)
        call = calls.get(key)
        if call is not None:
            result: R = call.wrap(call.function(*args, **call.others))
            return result
        _recorder.start(args)
        try:
            return op(*args, **kwargs)
        finally:
            call = _recorder.stop()
            if call is not None:
                if len(calls) >= _MAX_CALLS:
                    calls.clear()
                calls[key] = call

    return wrapper


def _key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
    """What decides about a call, or None if it is to be checked in full."""
    if not (
        tf.executing_eagerly()
        and _TENSORS.issuperset(map(type, args))
        and _PLAIN.issuperset(map(type, kwargs.values()))
    ):
        return None
    # Types, since 1, 1.0 and True are equal, but not the same option. The sign of a
    # zero makes no difference; a NaN is never equal to itself.
    return (
        requested_implementation(kwargs.get("implementation")),
        *[(tensor._datatype_enum(), tensor._shape_tuple()) for tensor in args],
        *kwargs.items(),
        *map(type, kwargs.values()),
    )


_TENSORS = frozenset({tf.__internal__.EagerTensor})
_PLAIN = frozenset({str, int, float, bool, type(None)})
