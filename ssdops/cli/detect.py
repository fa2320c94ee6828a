# SPDX-License-Identifier: Apache-2.0
"""`ssdops detect`: objects on photos, as table, pictures and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["detect", "output_name"]


def detect(
    photos: Annotated[list[Path], typer.Argument(help="Photos to look at.")],
    model: Annotated[
        str,
        typer.Option(
            help="Folder or file of a saved model, folder of a run, or the name of a "
            "model."
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of other programs, as in `ssdops import`; needed with the "
            "name of a model."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one a line, the first for class 0, the background; "
            "'???' marks unused classes. Or a label map of the Object Detection API "
            "or of Caffe (.pbtxt, .prototxt), or 'voc', 'coco' or 'coco91'. A saved "
            "model brings its own."
        ),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Show objects scored above this.")
    ] = 0.5,
    iou_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Drop a box that overlaps a better one of its class by more; without "
            "it, by more than the model says.",
        ),
    ] = None,
    max_detections: Annotated[
        int, typer.Option(min=1, max=10000, help="Most objects per photo.")
    ] = 100,
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the annotated pictures NAME_detections.jpg; those of "
            "small photos are enlarged."
        ),
    ] = Path("detections"),
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write all detections to this file."),
    ] = None,
) -> None:
    """Detect objects on photos, draw them, and list them."""
    from rich.console import Console
    from rich.progress import track

    from ssdops.cli.classes import read_labels
    from ssdops.cli.quiet import start_tensorflow

    start_tensorflow()
    from ssdops.detection import Detector
    from ssdops.files import write_atomically, write_json

    console = Console()
    try:
        detector = Detector(
            model,
            weights,
            class_names=None if labels is None else read_labels(labels),
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            batch_size=1,
        )
        output.mkdir(parents=True, exist_ok=True)
        if json_file is not None:
            # Before the photos: nothing found may be lost to a place like this.
            write_json(json_file, [])
    except (OSError, ValueError) as error:
        _complain(error)
        raise typer.Exit(1) from None

    results = []
    failed = 0
    reserved = {photo.resolve() for photo in photos}
    for photo in track(
        photos,
        description="Detecting",
        console=console,
        transient=True,
        disable=len(photos) < 4 or not console.is_terminal,
    ):
        try:
            found = detector.detect(photo)
            target = output_name(output, photo, reserved)
            picture = found.draw()
            write_atomically(target, partial(picture.save, quality=92))
        except (OSError, ValueError) as error:
            _complain(error)
            failed += 1
            continue
        results.append(found.to_dict())
        counted = f"{len(found)} object{'' if len(found) == 1 else 's'}"
        for line in (f"{photo}: {counted}", f"picture: {target}"):
            _say(console, line)
        if found:
            console.print(_table(found.to_dict()["detections"]))
    if json_file is not None:
        try:
            write_json(json_file, results)
        except (OSError, ValueError) as error:
            _complain(error)
            raise typer.Exit(1) from None
        _say(console, f"detections: {json_file}")
    if failed:
        _complain(f"{failed} of {len(photos)} photos could not be processed")
        raise typer.Exit(1)


def _say(console: Console, line: str) -> None:
    """Prints one line as it is."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def _complain(message: object) -> None:
    """Prints one error line."""
    typer.echo(f"error: {message}", err=True)


def output_name(folder: Path, photo: Path, reserved: set[Path]) -> Path:
    """Returns where the picture of a photo goes, and adds it to `reserved`.

    Args:
        folder: Folder of the pictures.
        photo: The photo.
        reserved: Resolved paths that must not be written: the photos themselves and
            pictures of this run. A number is put into the name to avoid them.
    """
    number = 1
    while True:
        suffix = "" if number == 1 else f"_{number}"
        target = folder / f"{photo.stem}{suffix}_detections.jpg"
        if target.resolve() not in reserved:
            reserved.add(target.resolve())
            return target
        number += 1


def _table(found: Sequence[dict[str, Any]]) -> Table:
    """Returns the table of one photo's objects."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("name")
    for header in ("score", "ymin", "xmin", "ymax", "xmax"):
        table.add_column(header, justify="right")
    for entry in found:
        table.add_row(
            escape(entry["name"]),
            f"{entry['score']:.2f}",
            *(f"{value:.0f}" for value in entry["box"]),
        )
    return table
