# SPDX-License-Identifier: Apache-2.0
"""A measurement of many contestants that take turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssdops.benchmarking.floors import copy_seconds, multiply_add_rate
from ssdops.benchmarking.implementations import IMPLEMENTATIONS
from ssdops.benchmarking.processes import Worker, WorkerError
from ssdops.benchmarking.results import expected
from ssdops.benchmarking.worker import write_workload
from ssdops.benchmarking.workloads import Workload, suite

__all__ = ["Entry", "Session", "Settings", "Skipped", "threads_text"]

_START_UP_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long.

    Attributes:
        workloads: names, of `workloads.suite`.
        implementations: names, of `IMPLEMENTATIONS`.
        threads: numbers of threads.
        rounds: turns of every contestant.
        seconds: of one turn.
        limit: seconds that one answer of a contestant may take; whoever exceeds it
            leaves the workload.
    """

    workloads: tuple[str, ...]
    implementations: tuple[str, ...]
    threads: tuple[int, ...] = (1,)
    rounds: int = 3
    seconds: float = 0.3
    limit: float = 60.0


@dataclass
class Entry:
    """One contestant on one workload.

    Attributes:
        workload: name.
        library: key of `IMPLEMENTATIONS`.
        variant: which of its ways; `""` for the main one.
        threads: of the library.
        problem: why its result is not the right one, or None.
        note: what is not included, or how its results are known to differ.
        rounds: milliseconds of every call of every round.
    """

    workload: str
    library: str
    variant: str
    threads: int
    problem: str | None
    note: str
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def implementation(self) -> str:
        """Library and variant."""
        return f"{self.library}/{self.variant}" if self.variant else self.library

    @property
    def verified(self) -> bool:
        """Whether its result is right."""
        return self.problem is None

    @property
    def is_peer(self) -> bool:
        """Whether `ssdops` is compared with it."""
        return IMPLEMENTATIONS[self.library].peer

    @property
    def median_ms(self) -> float:
        """Median over all calls."""
        return self._percentile(50)

    @property
    def lowest_round_ms(self) -> float:
        """Smallest median of a round."""
        return min(float(np.median(times)) for times in self.rounds)

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON-ready values."""
        return {
            "workload": self.workload,
            "implementation": self.implementation,
            "threads": self.threads,
            "median_ms": self.median_ms,
            "p25_ms": self._percentile(25),
            "p75_ms": self._percentile(75),
            "verified": self.verified,
            "lowest_round_ms": self.lowest_round_ms,
            "rounds": len(self.rounds),
            "calls": sum(len(times) for times in self.rounds),
        }

    def _percentile(self, percent: float) -> float:
        return float(np.percentile(np.concatenate(self.rounds), percent))


@dataclass(frozen=True)
class Skipped:
    """A contestant that could not be measured.

    Attributes:
        workload: name, or `""` if it took part in none.
        implementation: library, with the variant if it is known.
        threads: of the library; 0 if it was not started.
        reason: why.
    """

    workload: str
    implementation: str
    threads: int
    reason: str


class Session:
    """Measures, and keeps what it has measured if it is interrupted.

    Attributes:
        settings: as given.
        entries: what was measured so far; each has at least one round.
        skipped: what could not be measured so far.
        versions: of the libraries that were started, by name.
        facts: description, bytes, operations and floors (of one thread) of the
            workloads begun, by name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Callable[[str], None] = lambda text: None,
        after_workload: Callable[[], None] = lambda: None,
    ) -> None:
        """A session that has not begun.

        Args:
            settings: what to measure.
            progress: told what is about to be done.
            after_workload: called when a workload is finished.
        """
        self.settings = settings
        self.skipped: list[Skipped] = []
        self.versions: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self._entries: list[Entry] = []
        self._progress = progress
        self._after_workload = after_workload
        self._workers: dict[tuple[str, int], Worker] = {}
        # Libraries that cannot be used at all, with the numbers of threads.
        self._unusable: set[tuple[str, int]] = set()

    @property
    def entries(self) -> list[Entry]:
        """What was measured so far; each has at least one round."""
        return [entry for entry in self._entries if entry.rounds]

    def run(self) -> None:
        """Measure everything; workers are ended however this ends."""
        for name in self.settings.implementations:
            missing = IMPLEMENTATIONS[name].missing()
            if missing:
                reason = f"not installed: {', '.join(missing)}"
                self._skip("", name, 0, reason)
        with tempfile.TemporaryDirectory(prefix="ssdops-bench-") as folder:
            try:
                for name in self.settings.workloads:
                    # A copy, so that its arrays are freed when it is done.
                    self._measure(replace(suite()[name]), Path(folder))
                    self._after_workload()
            finally:
                for worker in self._workers.values():
                    worker.end()

    def _contestants(self, workload: Workload) -> Iterator[tuple[str, int]]:
        for name in self.settings.implementations:
            implementation = IMPLEMENTATIONS[name]
            if implementation.missing() or not implementation.takes_part(workload):
                continue
            if workload.task in implementation.module().TASKS:
                for threads in self.settings.threads:
                    yield name, threads

    def _measure(self, workload: Workload, folder: Path) -> None:
        contestants = list(self._contestants(workload))
        if not contestants:
            return
        self._progress(f"{workload.name}: inputs and the right result")
        path = folder / "workload.npz"
        write_workload(path, workload.arrays, expected(workload))
        self.facts[workload.name] = {
            "description": workload.description,
            "bytes_moved": workload.bytes_moved,
            "operations": workload.operations,
            "floor_ms_bytes": 1e3 * copy_seconds(workload.bytes_moved),
            "floor_ms_operations": 1e3 * workload.operations / multiply_add_rate(),
        }
        here = [
            entry
            for name, threads in contestants
            for entry in self._prepare(workload, name, threads, path, folder)
        ]
        self._entries += here
        for turn in range(self.settings.rounds):
            for entry in here:
                self._progress(
                    f"{workload.name}: round {turn + 1} of {self.settings.rounds},"
                    f" {entry.implementation}, {threads_text(entry.threads)}"
                )
                self._take_turn(entry)
        for key in contestants:
            worker = self._workers.get(key)
            if worker is not None and worker.is_alive:
                worker.ask(self.settings.limit, "close")

    def _prepare(
        self, workload: Workload, name: str, threads: int, path: Path, folder: Path
    ) -> list[Entry]:
        """Entries of one library whose first call succeeded."""
        self._progress(f"{workload.name}: {name}, {threads_text(threads)}, first call")
        waiting: list[str] | None = None
        done: list[Entry] = []
        opened: Worker | None = None
        while waiting is None or waiting:
            worker = self._worker(name, threads, folder)
            if worker is None:
                return []
            label = name
            try:
                if worker is not opened:
                    answer = worker.ask(
                        self.settings.limit, "open", path=str(path), task=workload.task
                    )
                    opened = worker
                    # A worker that was started anew has to catch up.
                    waiting = (
                        answer["variants"]
                        if waiting is None
                        else [entry.variant for entry in done] + waiting
                    )
                    done = []
                while waiting:
                    variant = waiting.pop(0)
                    label = f"{name}/{variant}" if variant else name
                    answer = worker.ask(self.settings.limit, "prepare", variant=variant)
                    details = (threads, answer["problem"], answer["note"])
                    done.append(Entry(workload.name, name, variant, *details))
            except WorkerError as error:
                self._skip(workload.name, label, threads, str(error))
                if worker is not opened:
                    return []
        return done

    def _take_turn(self, entry: Entry) -> None:
        worker = self._workers[entry.library, entry.threads]
        reason = "its process has ended"
        if worker.is_alive:
            try:
                answer = worker.ask(
                    self.settings.limit + self.settings.seconds,
                    "measure",
                    variant=entry.variant,
                    seconds=self.settings.seconds,
                )
            except WorkerError as error:
                reason = str(error)
            else:
                entry.rounds.append(answer["times_ms"])
                return
        self._skip(entry.workload, entry.implementation, entry.threads, reason)

    def _skip(
        self, workload: str, implementation: str, threads: int, reason: str
    ) -> None:
        skipped = Skipped(workload, implementation, threads, reason)
        if skipped not in self.skipped:
            self.skipped.append(skipped)

    def _worker(self, name: str, threads: int, folder: Path) -> Worker | None:
        """The living worker of a library, started if need be."""
        key = (name, threads)
        worker = self._workers.get(key)
        if key in self._unusable or (worker is not None and worker.is_alive):
            return None if key in self._unusable else worker
        self._workers[key] = Worker(name, threads, folder / f"{name}-{threads}.log")
        try:
            self.versions[name] = self._workers[key].start_up(_START_UP_SECONDS)
        except WorkerError as error:
            self._unusable.add(key)
            self._workers[key].end()
            self._skip("", name, threads, str(error))
            return None
        return self._workers[key]


def threads_text(number: int) -> str:
    """A number of threads in words."""
    return f"{number} thread{'s' if number > 1 else ''}"
