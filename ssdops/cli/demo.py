# SPDX-License-Identifier: Apache-2.0
"""`ssdops demo`: a detector trained from scratch in minutes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder of the run; made if it is not there.")
    ] = Path("ssdops-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    steps: Annotated[int, typer.Option(min=2, help="Training steps.")] = 1000,
    train_scenes: Annotated[
        int, typer.Option(min=1, help="Scenes to train on.")
    ] = 3000,
    test_scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes.")] = 250,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart/--resume",
            help="Begin anew, or go on with the run in the folder if there is one.",
        ),
    ] = False,
) -> None:
    """Train a small SSD from scratch on scenes of handwritten digits and show it.

    The scenes are composed from real handwritten digits and written as a Pascal VOC
    folder; training and evaluation take the same path as your own data would.
    Ctrl-C keeps what was learned: run the command again to go on.
    """
    from rich.console import Console

    from ssdops.cli.quiet import start_tensorflow

    console = Console()
    try:
        start_tensorflow()
        _demo(output, seed, steps, train_scenes, test_scenes, restart, console)
    except KeyboardInterrupt:
        console.print("\nStopped. Run the same command to go on.")
        raise typer.Exit(128 + signal.SIGINT) from None


def _demo(
    output: Path,
    seed: int,
    steps: int,
    train_scenes: int,
    test_scenes: int,
    restart: bool,
    console: Console,
) -> None:
    from ssdops.demo import DemoSettings, run_demo
    from ssdops.training import ConfigMismatchError, TrainingInterrupted

    settings = DemoSettings(
        seed=seed, steps=steps, train_scenes=train_scenes, test_scenes=test_scenes
    )
    try:
        run_demo(output, settings, restart=restart, console=console)
    except ConfigMismatchError as error:
        console.print(
            f"{error}. Run with those settings, with --restart, or with another"
            " --output.",
            highlight=False,
        )
        raise typer.Exit(2) from None
    except TrainingInterrupted as interrupted:
        console.print(
            f"\nStopped after step {interrupted.step}. The checkpoint and the model so"
            f" far are in {interrupted.folder}. Run the same command to go on, or with"
            " --restart to begin anew.",
            highlight=False,
        )
        raise typer.Exit(128 + interrupted.signal) from None
