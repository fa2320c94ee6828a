# SPDX-License-Identifier: Apache-2.0
"""What every implementation gives the suite: its variants of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssdops.benchmarking.workloads import Arrays

__all__ = ["Builder", "Prepared", "Task", "Variants"]


@dataclass(frozen=True)
class Prepared:
    """A variant with its inputs in place.

    Attributes:
        call: what is timed; returns when the result is there.
        result: turns what `call` returned into the arrays of `results`; not timed.
        note: what is not included, or how results are known to differ.
    """

    call: Callable[[], Any]
    result: Callable[[Any], Arrays]
    note: str = ""


Builder = Callable[[], Prepared]
Variants = dict[str, Builder]
"""By name; the main one may be called `""`."""

Task = Callable[[Arrays], Variants]
