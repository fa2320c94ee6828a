# SPDX-License-Identifier: Apache-2.0
"""How a run shows its progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES: Final = 10.0


class RunProgress:
    """Progress of the steps of a run.

    Args:
        console: where to write.
        total: number of steps of the run.
        first_step: number of steps done before.
    """

    def __init__(self, console: Console, total: int, first_step: int) -> None:
        self._console = console
        self._total = total
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=first_step)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, text: str, remaining_seconds: float) -> None:
        """Show the state after a step; lines are written every ten seconds only."""
        self._bar.update(self._task, completed=step, description=text)
        now = time.monotonic()
        if (
            not self._console.is_terminal
            and now - self._last_line >= SECONDS_BETWEEN_LINES
        ):
            self._last_line = now
            self._console.print(
                f"step {step}/{self._total}  {text}  {remaining_seconds:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )

    def message(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, highlight=False)
