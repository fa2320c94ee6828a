# SPDX-License-Identifier: Apache-2.0
"""`ssdops evaluate`: how good a model, or a file of detections, is on a data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ssdops.cli.evaluation_tables import Results
    from ssdops.data import Dataset
    from ssdops.evaluation import ImageDetections
    from ssdops.models import SSD

__all__ = ["Interpolation", "Metric", "evaluate"]

MODEL_SCORE_THRESHOLD = 0.01
PRECISION_RECALL = "precision_recall.png"
ERRORS = "errors.png"


class Metric(str, Enum):
    """Values of `--metric`."""

    VOC = "voc"
    COCO = "coco"
    BOTH = "both"


class Interpolation(str, Enum):
    """Values of `--interpolation`."""

    AREA = "area"
    ELEVEN_POINT = "11point"


def evaluate(
    data: Annotated[Path, typer.Argument(help="The data set with its ground truth.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder of a saved model to run on it.")
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            help="Detections to judge instead: COCO's results JSON, or a folder of "
            "VOC's comp4_det_test_CLASS.txt."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the data set, such as test.")
    ] = None,
    data_format: Annotated[
        str, typer.Option("--format", help="Format of the data set.")
    ] = "auto",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names, a file with one a line, or 'voc' or 'coco' for theirs. "
            "With --model: which of its classes to use (airplane and aeroplane "
            "are the same), by default all. With --detections: by default those in "
            "NAME.classes.txt beside NAME.json, else those of the data set. The "
            "category_id of a JSON file is that of COCO's ground truth; for a data set "
            "in another format, it is the number of the line, from 1."
        ),
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Whose metric.")] = Metric.BOTH,
    interpolation: Annotated[
        Interpolation,
        typer.Option(help="VOC: area under the curve (2010 on), or 11 points (2007)."),
    ] = Interpolation.AREA,
    iou_threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="VOC: IoU of a true positive.")
    ] = 0.5,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Only detections scored above this count; by default "
            f"{MODEL_SCORE_THRESHOLD} with --model, and all with --detections.",
        ),
    ] = None,
    error_score_threshold: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Errors are counted among those scored above this."
        ),
    ] = 0.5,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per call of the network.")
    ] = 32,
    save_detections: Annotated[
        Path | None,
        typer.Option(
            help="Write the detections: to COCO's JSON if the name ends in .json, with "
            "NAME.classes.txt beside it, else to a folder of VOC's files."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help=f"Folder for pictures: {PRECISION_RECALL}, {ERRORS}."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
) -> None:
    """Measure detections against the ground truth of a data set."""
    if (model is None) == (detections is None):
        _complain("give either --model or --detections", status=2)

    from rich.console import Console

    from ssdops.cli.evaluation_tables import print_results
    from ssdops.cli.quiet import start_tensorflow

    start_tensorflow()

    from ssdops.data import DATA_FORMATS
    from ssdops.evaluation import summarize
    from ssdops.files import write_json

    if data_format not in ("auto", *DATA_FORMATS):
        formats = ", ".join(("auto", *DATA_FORMATS))
        _complain(f"--format must be one of {formats}, got {data_format}", status=2)
    if model is not None and score_threshold is None:
        score_threshold = MODEL_SCORE_THRESHOLD
    console = Console()
    written: list[tuple[str, Path]] = []
    try:
        _check_places(save_detections, output, json_file)
        dataset, found = _open(
            data,
            split=split,
            data_format=data_format,
            model=model,
            detections=detections,
            classes=classes,
            score_threshold=score_threshold,
            batch_size=batch_size,
        )
        results = _judge(
            console,
            dataset,
            found,
            metric=metric,
            interpolation=interpolation,
            iou_threshold=iou_threshold,
            error_score_threshold=error_score_threshold,
            save_detections=save_detections,
        )
        if save_detections is not None:
            written += _detection_files(save_detections)
        if output is not None:
            written += _save_pictures(output, dataset.class_names, results)
        if json_file is not None:
            summary = {
                "data": str(data),
                "split": split,
                "model": None if model is None else str(model),
                "detections": None if detections is None else str(detections),
                "num_images": len(dataset),
                "class_names": list(dataset.class_names[1:]),
                "settings": {
                    "interpolation": interpolation.value,
                    "iou_threshold": iou_threshold,
                    "score_threshold": score_threshold,
                    "error_score_threshold": error_score_threshold,
                },
                **summarize(dataset.class_names, **vars(results)),
            }
            write_json(json_file, summary)
            written.append(("numbers", json_file))
    except (OSError, ValueError) as error:
        _complain(error, status=1)
    print_results(
        console,
        dataset.class_names,
        results,
        iou_threshold=iou_threshold,
        error_score_threshold=error_score_threshold,
    )
    for what, place in written:
        line = f"{what}: {place}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _open(
    data: Path,
    *,
    split: str | None,
    data_format: str,
    model: Path | None,
    detections: Path | None,
    classes: str | None,
    score_threshold: float | None,
    batch_size: int,
) -> tuple[Dataset, Iterable[ImageDetections]]:
    """The data set, and the detections on it as they are asked for."""
    from ssdops.cli.classes import chosen_classes
    from ssdops.data import read_dataset
    from ssdops.evaluation import detect_dataset, read_results

    detector = None if model is None else _detector(model, classes)
    class_names = None if detector is None else detector.class_names
    if classes is None and detections is not None and detections.suffix == ".json":
        beside = _class_names_file(detections)
        classes = str(beside) if beside.is_file() else None
    if classes is not None and detector is None:
        class_names = chosen_classes(classes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = read_dataset(
            data,
            split=split,
            class_names=class_names,
            data_format=data_format,
            check_images=detector is not None,
        )
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    if not len(dataset):
        raise ValueError(f"{data}: there are no images to evaluate on")
    if dataset.num_classes < 2:
        raise ValueError(f"{data}: no object names a class; give --classes")
    if detector is not None:
        assert score_threshold is not None
        return dataset, detect_dataset(
            detector, dataset, batch_size=batch_size, score_threshold=score_threshold
        )
    assert detections is not None
    read = read_results(detections, dataset)
    if score_threshold is None:
        return dataset, read
    return dataset, [image.above(score_threshold) for image in read]


def _detector(model: Path, classes: str | None) -> SSD:
    """The model, with the classes that are asked for."""
    from ssdops.cli.classes import chosen_classes
    from ssdops.models import change_classes, load_model
    from ssdops.models.class_names import match_class_names

    detector = load_model(model)
    known = detector.class_names
    if classes is None:
        if len(set(known)) < len(known):
            raise ValueError(
                f"{model} has several classes of one name, as '???' for unused ones: "
                f"choose those to evaluate with --classes"
            )
        return detector
    names = chosen_classes(classes)
    matches = zip(names, match_class_names(names, known), strict=True)
    unknown = [name for name, match in matches if match is None]
    if unknown:
        raise ValueError(f"{model} does not know the classes {', '.join(unknown)}")
    return change_classes(detector, names)[0]


def _judge(
    console: Console,
    dataset: Dataset,
    found: Iterable[ImageDetections],
    *,
    metric: Metric,
    interpolation: Interpolation,
    iou_threshold: float,
    error_score_threshold: float,
    save_detections: Path | None,
) -> Results:
    """The results of all metrics; writes the detections if that is asked for."""
    from rich.progress import Progress

    from ssdops.cli.evaluation_tables import Results
    from ssdops.evaluation import (
        CocoEvaluator,
        DetectionCollector,
        DetectionEvaluator,
        ErrorEvaluator,
        VocEvaluator,
        feed_evaluators,
    )

    voc = coco = None
    errors = ErrorEvaluator(dataset.num_classes, score_threshold=error_score_threshold)
    evaluators: list[DetectionEvaluator] = [errors]
    if metric is not Metric.COCO:
        voc = VocEvaluator(
            dataset.num_classes,
            iou_threshold=iou_threshold,
            interpolation="area" if interpolation is Interpolation.AREA else "11point",
        )
        evaluators.append(voc)
    if metric is not Metric.VOC:
        coco = CocoEvaluator(dataset.num_classes)
        evaluators.append(coco)
    collector = DetectionCollector()
    if save_detections is not None:
        evaluators.append(collector)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("Evaluating", total=len(dataset))
        feed_evaluators(
            dataset,
            found,
            evaluators,
            progress=lambda done: bar.update(task, completed=done),
        )
        # Before COCO's numbers, which can take minutes.
        if save_detections is not None:
            _save_detections(save_detections, dataset, collector.detections)
        bar.update(task, description="Computing the metrics")
        return Results(
            errors=errors.result(),
            voc=None if voc is None else voc.result(),
            coco=None if coco is None else coco.result(),
        )


def _class_names_file(detections: Path) -> Path:
    """The file of class names beside COCO's JSON.

    Category ids mean nothing without the order of the names, which need not be the one
    that the data set has by itself.
    """
    return detections.with_suffix(".classes.txt")


def _save_detections(
    place: Path, dataset: Dataset, detections: Sequence[ImageDetections]
) -> None:
    from ssdops.evaluation import write_results
    from ssdops.files import write_atomically

    write_results(place, dataset, detections)
    if place.suffix == ".json":
        text = "".join(f"{name}\n" for name in dataset.class_names[1:])
        write_atomically(
            _class_names_file(place), lambda path: path.write_text(text, "utf-8")
        )


def _detection_files(place: Path) -> list[tuple[str, Path]]:
    """What `_save_detections` wrote, with a word for each."""
    files = [("detections", place)]
    if place.suffix == ".json":
        files.append(("class names", _class_names_file(place)))
    return files


def _save_pictures(
    folder: Path, class_names: Sequence[str], results: Results
) -> list[tuple[str, Path]]:
    """Draws the results; returns what was drawn, with a word for each."""
    from ssdops.evaluation import save_error_breakdown, save_precision_recall

    pictures = []
    if results.voc is not None:
        curves = folder / PRECISION_RECALL
        save_precision_recall(results.voc, class_names, curves)
        pictures.append(("precision over recall", curves))
    errors = folder / ERRORS
    save_error_breakdown(results.errors, class_names, errors)
    return [*pictures, ("kinds of errors", errors)]


def _check_places(
    save_detections: Path | None, output: Path | None, json_file: Path | None
) -> None:
    """Finds out before the work whether its results have a place."""
    is_file = save_detections is not None and save_detections.suffix == ".json"
    for place, wants_file in (
        (save_detections, is_file),
        (output, False),
        (json_file, True),
    ):
        if place is None:
            continue
        if wants_file and place.is_dir():
            raise ValueError(f"{place} is a folder; a file is to be written there")
        folder = place.parent if wants_file else place
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder}: no permission to write there")


def _complain(message: object, *, status: int) -> NoReturn:
    """Prints one error line and ends the command."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(status) from None
