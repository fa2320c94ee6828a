# SPDX-License-Identifier: Apache-2.0
"""The CSV log survives a kill and forgets what is done again."""

from __future__ import annotations

from ssdops.training import read_log
from ssdops.training.log import CsvLog


def test_rows_are_there_at_once_and_later_steps_are_forgotten(tmp_path):
    path = tmp_path / "log.csv"
    assert read_log(path) == []
    log = CsvLog(path, ("loss", "rate"), 0)
    for step in (10, 20, 30):
        log.append(step, step / 7, 1e-9)
    assert [row["step"] for row in read_log(path)] == [10, 20, 30]
    CsvLog(path, ("loss", "rate"), 20).append(25, 0.5, 0.25)
    rows = read_log(path)
    assert [row["step"] for row in rows] == [10, 20, 25]
    assert rows[-1] == {"step": 25, "loss": 0.5, "rate": 0.25}
    assert rows[0]["rate"] == 1e-9


def test_a_row_cut_short_is_left_out(tmp_path):
    path = tmp_path / "log.csv"
    CsvLog(path, ("loss", "rate"), 0).append(10, 1, 2)
    with path.open("a") as file:
        file.write("20,3")
    assert [row["step"] for row in read_log(path)] == [10]
    CsvLog(path, ("loss", "rate"), 10).append(20, 3, 4)
    assert [row["step"] for row in read_log(path)] == [10, 20]
