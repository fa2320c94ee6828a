# SPDX-License-Identifier: Apache-2.0
"""`ssdops doctor`: what is installed and which implementation each op uses."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ssdops.diagnostics import Report


def doctor(
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON.")
    ] = False,
) -> None:
    """Report versions, build facts and the implementation of every op.

    The exit status is 0 if the native ops are active and 1 if plain TensorFlow
    replaces them.
    """
    from ssdops.cli.quiet import start_tensorflow
    from ssdops.diagnostics import diagnose

    try:
        start_tensorflow()
    except ImportError as error:
        print(f"TensorFlow cannot be imported, so no ssdops op can run: {error}")
        raise typer.Exit(1) from None
    report = diagnose()
    if json:
        print(json_module.dumps(report.to_dict(), indent=2))
    else:
        from rich.console import Console

        _print(report, Console(soft_wrap=True))
    raise typer.Exit(0 if report.native else 1)


def _print(report: Report, console: Console) -> None:
    from rich.table import Table

    facts = Table(show_header=False, box=None)
    for name, version in report.versions.items():
        facts.add_row(name, version)
    for name, value in report.environment.items():
        facts.add_row(name, str(value))
    console.print(facts)

    console.print("\nBuild", style="bold")
    build = Table(show_header=False, box=None)
    for name, value in report.build.items():
        if name == "components":
            for component, state in value.items():
                build.add_row(component, f"{state['status']} ({state['reason']})")
        elif name == "libraries":
            for library, checksum in value.items():
                build.add_row(library, f"SHA-256 {checksum[:16]}…")
        else:
            build.add_row(name, str(value))
    console.print(build)

    console.print("\nOps (implementation that 'auto' takes)", style="bold")
    dtypes = list(dict.fromkeys(row.dtype for row in report.ops))
    table = Table("op", "device", *dtypes)
    for op, device in dict.fromkeys((row.op, row.device) for row in report.ops):
        cells = [
            row.implementation
            for row in report.ops
            if (row.op, row.device) == (op, device)
        ]
        table.add_row(op, device, *cells)
    console.print(table)
    console.print(f"With jit_compile=True: {report.xla}", highlight=False)

    if report.native:
        console.print("Native ops are active.", style="green")
        reasons = {reason for row in report.ops for reason in row.reasons}
        if reasons:
            console.print("Why not everywhere:")
            for reason in sorted(reasons):
                console.print(f"  - {reason}", highlight=False)
    else:
        console.print(
            "Native ops are NOT active; plain TensorFlow is used.", style="red"
        )
    for problem in report.problems:
        console.print(f"  - {problem}", highlight=False)
    if not report.native or report.problems:
        console.print(f"To rebuild, run in the source folder: {report.rebuild}")
