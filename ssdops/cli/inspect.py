# SPDX-License-Identifier: Apache-2.0
"""`ssdops inspect`: is the data right, and do the anchors fit it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssdops.constants import AUGMENTATION_NAMES

DEFAULT_ANCHORS = "ssd300_voc"

if TYPE_CHECKING:
    from rich.console import Console

    from ssdops.anchors import AnchorGrid
    from ssdops.data import Augmentation, Dataset
    from ssdops.inspection import DatasetReport


def inspect(
    data: Annotated[str, typer.Argument(help="Data set: a folder or a file.")],
    split: Annotated[
        str | None, typer.Option(help="Its part, such as train; all without.")
    ] = None,
    data_format: Annotated[
        str, typer.Option("--format", help="Format of the data set.")
    ] = "auto",
    class_names: Annotated[
        Path | None,
        typer.Option("--classes", help="Class names, a text file, one a line."),
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option(
            help="Anchors to try on it; `ssdops anchors` names them."
            f" (default: {DEFAULT_ANCHORS})",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Try the anchors of this model instead.")
    ] = None,
    model_options: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Options of the model, as in `ssdops train`."
        ),
    ] = None,
    iou_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Smallest IoU of a positive anchor.")
    ] = 0.5,
    open_images: Annotated[
        bool, typer.Option(help="Decode every image, to find those that cannot be.")
    ] = True,
    augmentation: Annotated[
        str, typer.Option(help=f"Shown in pictures: {', '.join(AUGMENTATION_NAMES)}.")
    ] = "ssd",
    augmentation_options: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What shall be different from that, as in `ssdops train`.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the augmented pictures.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures of ground truth and augmentation."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
) -> None:
    """Count what a data set holds, try anchors on it, and name likely mistakes."""
    from rich.console import Console

    from ssdops.cli.quiet import start_tensorflow

    console = Console()
    try:
        start_tensorflow()
        from ssdops.anchors import anchor_grid
        from ssdops.data import make_augmentation, read_class_names, read_dataset
        from ssdops.files import write_json
        from ssdops.models import model_spec
        from ssdops.training import read_values

        settings = make_augmentation(
            augmentation, read_values(augmentation_options or ())
        )
        if model is None:
            anchors = anchors or DEFAULT_ANCHORS
            grid = anchor_grid(anchors)
        elif anchors is None:
            anchors = model
            grid = model_spec(model, **read_values(model_options or ())).anchors
        else:
            raise ValueError("give --anchors or --model, not both")
        names = read_class_names(class_names) if class_names else None
        dataset = read_dataset(
            data, split=split, class_names=names, data_format=data_format
        )
        report = _report(dataset, grid, iou_threshold, open_images, console)
        _show(report, anchors, console)
        if json_file is not None:
            write_json(json_file, report.to_dict())
            console.print(f"numbers: {json_file}", highlight=False, soft_wrap=True)
        if output is not None:
            _draw(dataset, grid, settings, seed, report, output, console)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _report(
    dataset: Dataset,
    grid: AnchorGrid,
    iou_threshold: float,
    open_images: bool,
    console: Console,
) -> DatasetReport:
    from rich.progress import Progress

    from ssdops.inspection import inspect_dataset

    with Progress(
        console=console, disable=not (open_images and console.is_terminal)
    ) as bar:
        task = bar.add_task("opening images", total=len(dataset))
        return inspect_dataset(
            dataset,
            grid,
            iou_threshold=iou_threshold,
            open_images=open_images,
            progress=lambda done: bar.update(task, completed=done),
        )


def _show(report: DatasetReport, anchors: str, console: Console) -> None:
    from rich.table import Table

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(
        f"{report.images} images, {report.images_without_objects} of them without"
        f" objects; {report.objects} objects, {report.difficult} difficult,"
        f" {report.crowds} crowds, {report.duplicates} twice,"
        f" {report.at_border} at the right or lower border"
    )
    for cause, count in report.dropped.items():
        say(f"left out: {count} {cause}")
    classes = Table(title="Objects by class")
    classes.add_column("class")
    for name in ("objects", "share"):
        classes.add_column(name, justify="right")
    for name, count in sorted(report.objects_by_class.items(), key=lambda i: -i[1]):
        classes.add_row(name, str(count), f"{count / max(report.objects, 1):.1%}")
    console.print(classes)
    fit = Table(title=f"Objects and the anchors of {anchors}")
    fit.add_column("objects that are")
    for name in (
        "count",
        "best IoU",
        "by threshold",
        "bipartite step only",
        "no anchor",
    ):
        fit.add_column(name, justify="right")
    for group in report.fit:
        fit.add_row(
            group.name,
            str(group.objects),
            f"{group.mean_best_iou:.3f}" if group.objects else "",
            str(group.by_threshold),
            str(group.by_bipartite_step),
            str(group.unmatched),
        )
    console.print(fit)
    levels = ", ".join(str(count) for count in report.positives_by_level)
    say(
        f"positive anchors: {report.positives_per_image:.1f} per image with objects; by"
        f" feature map {levels}"
    )
    if report.proposed_sizes:
        sizes = ", ".join(f"{size:g}" for size in report.proposed_sizes)
        ratios = ", ".join(f"{ratio:g}" for ratio in report.proposed_ratios)
        say(f"sizes that would cover the objects, in pixels of the input: {sizes}")
        say(
            f"aspect ratios of many objects, with their reciprocals: {ratios or 'none'}"
        )
    if report.mean_colour is not None:
        say("mean colour (R, G, B): " + ", ".join(f"{v:g}" for v in report.mean_colour))
    for image_id, reason in report.unreadable.items():
        say(f"cannot be read: {image_id}: {reason}")
    for warning in report.warnings:
        console.print(f"[bold]look:[/bold] {warning}", highlight=False, soft_wrap=True)
    if not report.warnings:
        say("nothing looks like a mistake")


def _draw(
    dataset: Dataset,
    grid: AnchorGrid,
    settings: Augmentation | None,
    seed: int,
    report: DatasetReport,
    output: Path,
    console: Console,
) -> None:
    from ssdops.data import Dataset
    from ssdops.reporting import save_augmented, save_ground_truth

    good = [r for r in dataset.records if r.image_id not in report.unreadable]
    readable = Dataset(good, dataset.class_names)
    pictures = {"ground_truth.png": "ground truth and anchors"}
    save_ground_truth(readable, grid, output / "ground_truth.png")
    if settings is not None and good:
        pictures["augmented.png"] = "training images"
        save_augmented(
            readable, grid.image_size, settings, output / "augmented.png", seed=seed
        )
    for name, what in pictures.items():
        console.print(f"{what}: {output / name}", highlight=False, soft_wrap=True)
