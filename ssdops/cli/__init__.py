# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command, registered here."""

from __future__ import annotations

import os
import sys
import warnings

import typer

from ssdops.cli.anchors import anchors
from ssdops.cli.bench import bench
from ssdops.cli.demo import demo
from ssdops.cli.detect import detect
from ssdops.cli.doctor import doctor
from ssdops.cli.evaluate import evaluate
from ssdops.cli.import_model import import_model
from ssdops.cli.inspect import inspect
from ssdops.cli.train import train

app = typer.Typer(
    name="ssdops",
    help="SSD object detection for TensorFlow, with native ops for its hot paths.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    inspect,
    import_model,
    train,
    evaluate,
    detect,
    anchors,
    bench,
    doctor,
):
    app.command("import" if command is import_model else None)(command)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from ssdops import __version__

        print(f"ssdops {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the `ssdops` command and of `python -m ssdops`."""
    # TensorFlow's start-up messages would bury the answer; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What was left out of a data set is for the user, where in the code it is not.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        app()
    except BrokenPipeError:
        # The reader of a pipe has gone (`ssdops doctor | head`): no traceback,
        # nor a second one when the interpreter flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
