# SPDX-License-Identifier: Apache-2.0
"""`ssdops bench`: processes, files, interruption and exit statuses."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ssdops.benchmarking import session as session_module
from ssdops.benchmarking import worker as worker_module
from ssdops.benchmarking.implementations import IMPLEMENTATIONS, Implementation
from ssdops.benchmarking.implementations.variant import Prepared
from ssdops.benchmarking.processes import Worker, WorkerError
from ssdops.benchmarking.report import fastest_peers, result_table, save_chart
from ssdops.benchmarking.session import Entry, Session, Settings
from ssdops.benchmarking.worker import measure, read_workload, write_workload
from ssdops.benchmarking.workloads import HEADLINE, suite
from ssdops.cli import app

WORKLOAD = "W6-high-n1000"
KEYS = {
    "workload",
    "implementation",
    "threads",
    "median_ms",
    "p25_ms",
    "p75_ms",
    "verified",
}
NUMPY = Settings((WORKLOAD,), ("numpy",), rounds=2, seconds=0.01)
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own; results have `exit_code`, `output`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments: CliRunner().invoke(app, ["bench", *arguments])


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    with Worker("numpy", 1, tmp_path / "log") as started:
        assert started.start_up(60) == np.__version__
        yield started


def entry(library: str, median: float, problem: str | None = None) -> Entry:
    return Entry(WORKLOAD, library, "", 1, problem, "", [[median] * 3])


def test_list(run: Run) -> None:
    result = run("--list")
    assert result.exit_code == 0, result.output
    for name in (*suite(), *IMPLEMENTATIONS):
        assert name in result.output
    assert result.output.count("default") == len(HEADLINE)


@pytest.mark.parametrize("option", ["--workload", "--group", "--implementation"])
def test_unknown_names_are_refused(run: Run, option: str) -> None:
    result = run(option, "nothing")
    assert result.exit_code == 2
    assert "nothing" in result.output


def test_quick_run(run: Run, tmp_path: Path) -> None:
    names = ("--workload", WORKLOAD, "--implementation", "numpy")
    result = run("--quick", *names, "--threads", "1", "--threads", "2", "--output", "o")
    assert result.exit_code == 0, result.output
    assert f"{WORKLOAD}, 2 threads" in result.output
    found = json.loads((tmp_path / "o/results.json").read_text("utf-8"))
    assert [row["threads"] for row in found] == [1, 2]
    for row in found:
        assert set(row) >= KEYS
        assert (row["workload"], row["implementation"]) == (WORKLOAD, "numpy")
        assert row["verified"] is True
        assert 0 < row["p25_ms"] <= row["median_ms"] <= row["p75_ms"]
        assert row["rounds"] == 1
    told = json.loads((tmp_path / "o/session.json").read_text("utf-8"))
    assert told["versions"]["numpy"] == np.__version__
    assert told["settings"]["threads"] == [1, 2]
    facts = told["workloads"][WORKLOAD]
    assert facts["operations"] > 0
    assert facts["floor_ms_bytes"] > 0
    assert facts["floor_ms_operations"] > 0
    assert told["machine"]["cores"] >= 1
    with Image.open(tmp_path / "o/chart.png") as picture:
        assert min(picture.size) > 100
    assert {file.name for file in (tmp_path / "o").iterdir()} == {
        "chart.png",
        "results.json",
        "session.json",
    }


def test_an_unusable_folder_is_told_first(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    result = run("--implementation", "numpy", "--output", "file/o")
    assert result.exit_code == 1
    assert "Cannot write" in result.output


def test_interruption_keeps_what_was_measured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turn = Session._take_turn
    turns = 0

    def interrupted(self: Session, entry: Entry) -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise KeyboardInterrupt
        take_turn(self, entry)

    monkeypatch.setattr(Session, "_take_turn", interrupted)
    names = ("--workload", WORKLOAD, "--implementation", "numpy")
    result = run("--rounds", "3", *names, "--output", "o")
    assert result.exit_code == 130
    assert "Interrupted" in result.output
    [row] = json.loads((tmp_path / "o/results.json").read_text("utf-8"))
    assert row["rounds"] == 1
    assert (tmp_path / "o/chart.png").is_file()


def test_a_wrong_result_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    right = session_module.expected
    monkeypatch.setattr(
        session_module,
        "expected",
        lambda workload: {"indices": right(workload)["indices"][1:]},
    )
    session = Session(NUMPY)
    session.run()
    [found] = session.entries
    assert not found.verified
    assert found.to_dict()["verified"] is False
    assert "1 differ" in str(found.problem)
    assert fastest_peers(session.entries) == {}


def test_a_wrong_result_of_ssdops_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(self: Session) -> None:
        self._entries = [entry("numpy", 1.0), entry("ssdops", 1.0, "is wrong")]

    monkeypatch.setattr(Session, "run", pretend)
    result = run("--quick")
    assert result.exit_code == 1
    assert "differs: is wrong" in result.output
    assert "WRONG" in result.output


def test_who_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Implementation("absent", ("no_such_package.part",))
    monkeypatch.setitem(IMPLEMENTATIONS, "absent", absent)
    session = Session(Settings((WORKLOAD,), ("absent",)))
    session.run()
    assert session.entries == []
    [skipped] = session.skipped
    assert skipped.reason == "not installed: no_such_package.part"


def test_who_takes_too_long_leaves_the_workload() -> None:
    settings = Settings(("W6-low-n20000",), ("numpy",), rounds=1, limit=0.02)
    session = Session(settings)
    session.run()
    assert session.entries == []
    assert "no answer within" in session.skipped[0].reason


def test_a_dead_worker_is_an_error(worker: Worker) -> None:
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended with status -9"):
        worker.ask(10, "close")
    assert not worker.is_alive


def test_an_error_leaves_the_worker_alive(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="KeyError"):
        worker.ask(10, "prepare", variant="none")
    with pytest.raises(WorkerError, match="no such request"):
        worker.ask(10, "dance")
    assert worker.ask(10, "close") == {}


def test_a_silent_worker_is_ended(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="no answer within 0 s"):
        worker.ask(0, "close")
    assert not worker.is_alive


def test_workload_file_keeps_order_and_values(tmp_path: Path) -> None:
    arrays = {"scores": np.arange(3.0), "boxes": np.zeros((0, 4), np.float32)}
    write_workload(tmp_path / "w.npz", arrays, {"kept_in": np.array([True])})
    inputs, right = read_workload(tmp_path / "w.npz")
    assert list(inputs) == ["scores", "boxes"]
    assert inputs["boxes"].shape == (0, 4)
    assert right["kept_in"].tolist() == [True]


def test_short_calls_are_repeated() -> None:
    calls = []
    times = measure(Prepared(lambda: calls.append(0), dict), 0.0)
    assert len(times) == 3
    assert len(calls) == 4
    assert len(measure(Prepared(lambda: None, dict), 10.0)) == 1000


def test_a_long_call_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_LONG_CALL", 0.01)
    times = measure(Prepared(lambda: time.sleep(0.02), dict), 0.0)
    assert len(times) == 1
    assert times[0] >= 20


def test_fastest_peer_is_right_and_no_part_of_ssdops() -> None:
    entries = [
        entry("ssdops", 1.0),
        entry("ssdops-reference", 2.0),
        entry("torch", 3.0, "differs"),
        entry("numpy", 5.0),
        entry("openvino", 4.0),
    ]
    [fastest] = fastest_peers(entries).values()
    assert fastest.library == "openvino"
    cells = [list(column.cells) for column in result_table(entries).columns]
    ratios = dict(zip(cells[0], cells[-1], strict=True))
    assert ratios["  ssdops"] == "4.00"
    assert ratios["  openvino"] == "1.00"
    assert "differs" in cells[-2]


def test_percentiles_are_over_all_calls() -> None:
    several = Entry("w", "numpy", "fast", 2, None, "", [[1.0, 2.0], [3.0, 10.0]])
    assert several.implementation == "numpy/fast"
    row = several.to_dict()
    assert (row["median_ms"], row["lowest_round_ms"], row["calls"]) == (2.5, 1.5, 4)


def test_chart_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no entries"):
        save_chart([], tmp_path / "chart.png")
