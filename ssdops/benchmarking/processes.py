# SPDX-License-Identifier: Apache-2.0
"""Workers seen from outside: started, asked with a time limit, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Worker", "WorkerError"]

# Every library reads the number of its threads from one of these, or is told in the
# worker. Graphics cards are not measured here.
_THREAD_VARIABLES = (
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
_FIXED_VARIABLES = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class WorkerError(Exception):
    """The worker failed: an error there, its death, or no answer in time."""


class Worker:
    """One process of `ssdops.benchmarking.worker`.

    It has a session of its own, so that Ctrl-C reaches only the process that decides
    what is kept.
    """

    def __init__(self, name: str, threads: int, log: Path) -> None:
        """Start the process; `start_up` waits for it.

        Args:
            name: key of `IMPLEMENTATIONS`.
            threads: of the library.
            log: file for what it prints.
        """
        self.name = name
        self.threads = threads
        self._log = log
        self._unread = b""
        environment = {
            **os.environ,
            **_FIXED_VARIABLES,
            **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        }
        with log.open("wb") as messages:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ssdops.benchmarking.worker"),
                    *(name, str(threads)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def start_up(self, seconds: float) -> str:
        """Version of the library, once it is imported.

        Raises:
            WorkerError: if it cannot be imported.
        """
        return str(self._answer(seconds)["version"])

    def ask(self, limit: float, do: str, /, **details: Any) -> dict[str, Any]:
        """The answer to a request; see `ssdops.benchmarking.worker`.

        Args:
            limit: in seconds; a worker that exceeds it is ended.
            do: name of the request.
            details: of the request.

        Raises:
            WorkerError: if there is no answer, or it is an error.
        """
        assert self._process.stdin is not None
        line = json.dumps({"do": do, **details}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._death()) from None
        return self._answer(limit)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                self.end()
                raise WorkerError(f"no answer within {seconds:g} s")
            part = os.read(descriptor, 1 << 20)
            if not part:
                raise WorkerError(self._death())
            self._unread += part
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _death(self) -> str:
        code = self._process.wait()
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        return f"the process ended with status {code}{last}"
