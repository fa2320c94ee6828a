# SPDX-License-Identifier: Apache-2.0
"""`ssdops bench`: times of the ops beside TensorFlow and the peers found installed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ssdops.benchmarking.session import Session, Settings


def bench(
    workload: Annotated[
        list[str] | None, typer.Option(help="Workload to measure; repeatable.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="All workloads of a group, such as W3; repeatable."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All workloads; takes an hour or so.")
    ] = False,
    implementation: Annotated[
        list[str] | None,
        typer.Option(help="Who takes part; repeatable. All that are installed."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Threads of an op; repeatable. 1 if not given."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Turns of everyone; 3 if not given.")
    ] = None,
    limit: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds after which a contestant is given up."),
    ] = 60.0,
    output: Annotated[
        Path, typer.Option(help="Folder for results; made if it is not there.")
    ] = Path("ssdops-bench"),
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round: a look, no measurement.")
    ] = False,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show workloads and who is installed.")
    ] = False,
) -> None:
    """Measure the ops beside TensorFlow and every peer that is installed.

    Every result is checked against NumPy before it is timed. Each contestant has a
    process of its own, and rounds of all of them take turns. Writes results.json,
    session.json and chart.png. Ctrl-C keeps what was measured. The exit status is 1
    if a result of ssdops is wrong.
    """
    from rich.console import Console

    from ssdops.benchmarking.session import Settings

    console = Console()
    if show_list:
        _list(console)
        return
    settings = Settings(
        workloads=_workloads(workload or [], group or [], everything),
        implementations=_implementations(implementation or []),
        threads=tuple(dict.fromkeys(threads or [1])),
        rounds=rounds or (1 if quick else 3),
        seconds=0.05 if quick else 0.3,
        limit=limit,
    )
    _bench(settings, output, console)


def _bench(settings: Settings, output: Path, console: Console) -> None:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ssdops.benchmarking.report import save_results
    from ssdops.benchmarking.session import Session

    interrupted = False
    done = 0
    total = len(settings.workloads)
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting")

        def show(text: str) -> None:
            text = text.replace("[", r"\[")
            bar.update(task, description=rf"({done + 1} of {total}) {text}")

        def save() -> None:
            nonlocal done
            done += 1
            save_results(session, output)

        session = Session(settings, progress=show, after_workload=save)
        try:
            # An unusable folder is told before anything is measured.
            save_results(session, output)
        except OSError as error:
            console.print(f"Cannot write the results: {error}", highlight=False)
            raise typer.Exit(1) from None
        try:
            session.run()
        except KeyboardInterrupt:
            interrupted = True
    _report(session, output, console)
    if interrupted:
        console.print("Interrupted: what was measured before is above.")
        raise typer.Exit(128 + signal.SIGINT)
    if any(e.library.startswith("ssdops") and not e.verified for e in session.entries):
        console.print("A result of ssdops is WRONG.", style="red")
        raise typer.Exit(1)


def _report(session: Session, output: Path, console: Console) -> None:
    from ssdops.benchmarking.report import (
        CHART_FILE,
        RESULTS_FILE,
        SESSION_FILE,
        result_table,
        save_chart,
        save_results,
    )

    save_results(session, output)
    written = [RESULTS_FILE, SESSION_FILE]
    if session.entries:
        console.print(result_table(session.entries))
        save_chart(session.entries, output / CHART_FILE)
        written.append(CHART_FILE)
    notes = dict.fromkeys(
        f"{entry.implementation}: {entry.note}"
        for entry in session.entries
        if entry.note
    )
    notes.update(
        dict.fromkeys(
            f"{entry.workload}: {entry.implementation} differs: {entry.problem}"
            for entry in session.entries
            if not entry.verified
        )
    )
    for line in notes:
        console.print(line, highlight=False, markup=False)
    absent = [s for s in session.skipped if not s.threads]
    for skipped in session.skipped:
        if skipped not in absent:
            place = f"{skipped.workload}: " if skipped.workload else ""
            console.print(
                f"Skipped: {place}{skipped.implementation}: {skipped.reason}",
                highlight=False,
                markup=False,
            )
    if absent:
        names = ", ".join(skipped.implementation for skipped in absent)
        console.print(
            f"Not installed: {names} (peers are optional:"
            " python -m pip install 'ssdops[peers]')",
            highlight=False,
            markup=False,
        )
    console.print(f"Written: {', '.join(str(output / name) for name in written)}")


def _workloads(
    names: list[str], groups: list[str], everything: bool
) -> tuple[str, ...]:
    from ssdops.benchmarking.workloads import HEADLINE, suite

    known = suite()
    _check("--workload", names, list(known))
    _check("--group", groups, list(dict.fromkeys(w.group for w in known.values())))
    if everything:
        return tuple(known)
    if not names and not groups:
        return HEADLINE
    return tuple(n for n, w in known.items() if n in names or w.group in groups)


def _implementations(names: list[str]) -> tuple[str, ...]:
    from ssdops.benchmarking.implementations import IMPLEMENTATIONS

    _check("--implementation", names, list(IMPLEMENTATIONS))
    return tuple(name for name in IMPLEMENTATIONS if not names or name in names)


def _check(option: str, given: list[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise typer.BadParameter(
                f"{option} {name!r} does not exist; there are {', '.join(known)}"
            )


def _list(console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssdops.benchmarking.implementations import IMPLEMENTATIONS
    from ssdops.benchmarking.workloads import HEADLINE, suite

    table = Table("workload", "what it stands for", "", box=SIMPLE_HEAD)
    for name, workload in suite().items():
        mark = "default" if name in HEADLINE else ""
        table.add_row(name, workload.description, mark)
    console.print(table)
    table = Table("implementation", "installed", box=SIMPLE_HEAD)
    for name, entry in IMPLEMENTATIONS.items():
        missing = entry.missing()
        table.add_row(name, f"no: {', '.join(missing)}" if missing else "yes")
    console.print(table)
