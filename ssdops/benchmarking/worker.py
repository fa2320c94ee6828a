# SPDX-License-Identifier: Apache-2.0
"""The process of one implementation with one number of threads.

Run as `python -m ssdops.benchmarking.worker NAME THREADS`. Reads one JSON request per
line from standard input and answers each with one line on standard output:

| request | answer |
| --- | --- |
| (start) | `version`, or `error` |
| `open`: `path`, `task` | `variants` |
| `prepare`: `variant` | `first_ms`, `problem`, `note`, or `error` |
| `measure`: `variant`, `seconds` | `times_ms` |
| `close` | nothing |

It ends when its standard input does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np

from ssdops.benchmarking.implementations import IMPLEMENTATIONS
from ssdops.benchmarking.implementations.variant import Prepared, Variants
from ssdops.benchmarking.results import problem
from ssdops.benchmarking.workloads import Arrays

__all__ = ["Server", "main", "measure", "read_workload", "write_workload"]

_MOST_CALLS = 1000
_FEWEST_CALLS = 3
_LONG_CALL = 0.5


def write_workload(path: Path, arrays: Arrays, right: Arrays) -> None:
    """Write inputs and the right result to a file for the workers.

    Args:
        path: ends in `.npz`.
        arrays: inputs, whose order is kept.
        right: of `results.expected`.
    """
    named: dict[str, Any] = {f"in_{name}": array for name, array in arrays.items()}
    named.update({f"out_{name}": array for name, array in right.items()})
    np.savez(path, **named)


def read_workload(path: Path) -> tuple[Arrays, Arrays]:
    """Inputs and the right result, as `write_workload` was given them."""
    found: dict[str, Arrays] = {"in": {}, "out": {}}
    with np.load(path) as file:
        for key in file.files:
            side, name = key.split("_", 1)
            found[side][name] = file[key]
    return found["in"], found["out"]


def measure(prepared: Prepared, seconds: float) -> list[float]:
    """Times of single calls in milliseconds.

    The first call warms the caches and is not counted, unless it takes so long that
    it can be the only one.

    Args:
        prepared: what is called.
        seconds: how long to go on; at least 3 calls, or 1 if it is a long one.
    """

    def one_call() -> float:
        start = time.perf_counter()
        prepared.call()
        return 1e3 * (time.perf_counter() - start)

    gc.collect()
    gc.disable()
    try:
        first = one_call()
        long = first > 1e3 * _LONG_CALL
        times = [first] if long else []
        fewest = 1 if long else _FEWEST_CALLS
        end = time.perf_counter() + (0.0 if long else seconds)
        while len(times) < fewest or (
            time.perf_counter() < end and len(times) < _MOST_CALLS
        ):
            times.append(one_call())
    finally:
        gc.enable()
    return times


class Server:
    """Answers requests; see the table of the module."""

    def __init__(self, name: str, threads: int) -> None:
        self._implementation = IMPLEMENTATIONS[name]
        self._threads = threads
        self._right: Arrays = {}
        self._variants: Variants = {}
        self._prepared: dict[str, Prepared] = {}

    def start(self) -> dict[str, Any]:
        """Import the library."""
        self._implementation.module().start(self._threads)
        return {"version": _version(self._implementation.requires[-1])}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            ValueError: if there is no such request.
        """
        if request["do"] == "open":
            return self._open(Path(request["path"]), request["task"])
        if request["do"] == "prepare":
            return self._prepare(request["variant"])
        if request["do"] == "measure":
            prepared = self._prepared[request["variant"]]
            return {"times_ms": measure(prepared, request["seconds"])}
        if request["do"] == "close":
            self._right, self._variants, self._prepared = {}, {}, {}
            gc.collect()
            return {}
        raise ValueError(f"no such request: {request['do']!r}")

    def _open(self, path: Path, task: str) -> dict[str, Any]:
        arrays, self._right = read_workload(path)
        tasks = self._implementation.module().TASKS
        self._variants = tasks[task](arrays) if task in tasks else {}
        self._prepared = {}
        return {"variants": list(self._variants)}

    def _prepare(self, variant: str) -> dict[str, Any]:
        prepared = self._variants[variant]()
        start = time.perf_counter()
        output = prepared.call()
        first = 1e3 * (time.perf_counter() - start)
        found = problem(prepared.result(output), self._right)
        self._prepared[variant] = prepared
        return {"first_ms": first, "problem": found, "note": prepared.note}


def main() -> None:
    """Serve until standard input ends."""
    # Libraries print to standard output; only answers may go to the one given.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def guarded(function: Any, *arguments: Any) -> None:
        try:
            answer = function(*arguments)
        except Exception as error:
            first_line = (str(error).strip() or "no message").splitlines()[0]
            answer = {"error": f"{type(error).__name__}: {first_line[:200]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    server = Server(sys.argv[1], int(sys.argv[2]))
    guarded(server.start)
    for line in sys.stdin:
        guarded(server.answer, json.loads(line))


def _version(module: str) -> str:
    loaded = importlib.import_module(module)
    found = getattr(loaded, "__version__", None)
    if found is not None:
        return str(found)
    for distribution in packages_distributions().get(module.partition(".")[0], ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


if __name__ == "__main__":
    main()
