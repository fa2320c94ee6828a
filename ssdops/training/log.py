# SPDX-License-Identifier: Apache-2.0
"""The CSV logs of a run, which survive a kill and know where a resumed run begins."""

from __future__ import annotations

import csv
from pathlib import Path

from ssdops.files import write_atomically


class CsvLog:
    """Numbers by step, one row at a time.

    Args:
        path: the file; rows after `first_step` are dropped, because a run that
            resumes from a checkpoint does those steps again.
        columns: names of the numbers that follow the step.
        first_step: number of steps that are done.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], first_step: int) -> None:
        self._path = path
        self._columns = ("step", *columns)
        rows = [row for row in read_log(path) if row["step"] <= first_step]

        def write(partial: Path) -> None:
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

        write_atomically(path, write)

    def append(self, step: int, *numbers: float) -> None:
        """Add a row; it is in the file when this returns."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([step, *(f"{number:.6g}" for number in numbers)])


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a log by column name; empty if there is none.

    A last row that a kill cut short is left out.
    """
    if not path.exists():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                rows.append({name: float(value) for name, value in row.items()})
            except (TypeError, ValueError):
                break
    return rows
