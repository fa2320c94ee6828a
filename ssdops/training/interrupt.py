# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and termination as a request that is honoured between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Context in which SIGINT and SIGTERM set a flag instead of stopping at once.

    A second signal has its usual effect. Outside the main thread, where signals
    cannot be caught, nothing changes.

    Attributes:
        received: number of the signal that has come; 0 if none has.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
