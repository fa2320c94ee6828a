# SPDX-License-Identifier: Apache-2.0
"""`ssdops import`: weights of other programs as a saved model, with a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ssdops.models import SSD
    from ssdops.models.weights import LoadReport

__all__ = ["import_model"]

REPORT_FILE = "import.json"
SAFETENSORS_FILE = "model.safetensors"
MAX_LINES = 20


def import_model(
    source: Annotated[
        str,
        typer.Argument(
            help="Weights (.caffemodel, .tflite, .pb, .pth, .safetensors, .npz, .h5, "
            ".keras, a checkpoint or a SavedModel), or the folder of a saved model "
            "or a run."
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder for the model.")],
    model: Annotated[
        str | None,
        typer.Option(help="Name of the model; without it the one that fits is found."),
    ] = None,
    prototxt: Annotated[
        Path | None,
        typer.Option(
            help="Caffe's description of the network, from which model, anchors and "
            "thresholds are taken; see --mean and --scale."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="B,G,R",
            help="With --prototxt: what is subtracted from blue, green and red.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="With --prototxt: the factor after that."),
    ] = None,
    model_options: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help='Options of the model, values in TOML: anchors="ssd300_coco".',
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes of the weights, one a line, the first for class "
            "0, the background; '???' marks unused classes. Or a label map of the "
            "Object Detection API or of Caffe (.pbtxt, .prototxt), or 'voc', 'coco' "
            "(80 classes in a row) or 'coco91' (with the gaps of COCO's numbers)."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Have these classes instead: 'voc' or 'coco', or a file with one name "
            "a line. Those that the weights lack begin at random."
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Take what fits, a backbone for example; report the rest."
        ),
    ] = False,
    preprocessing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Change of the preprocessing, values in TOML: mean=[104, 117, 123].",
        ),
    ] = None,
    post_processing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Change of the thresholds, such as score_threshold=0.3.",
        ),
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option(help="Photo to try the model on; as often as there are photos."),
    ] = None,
    safetensors: Annotated[
        bool,
        typer.Option(
            "--safetensors", help=f"Write the whole model to {SAFETENSORS_FILE}, too."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that the folder has.")
    ] = False,
) -> None:
    """Make a model of other programs' weights, and report on every tensor."""
    from rich.console import Console

    from ssdops.cli.classes import chosen_classes
    from ssdops.cli.quiet import start_tensorflow

    start_tensorflow()
    from ssdops.files import write_json
    from ssdops.models import change_classes, save_safetensors
    from ssdops.models.saving import find_model

    console = Console()
    try:
        if not overwrite and find_model(to) is not None:
            raise ValueError(f"{to} has a model already; --overwrite replaces it")
        names = None if classes is None else chosen_classes(classes)
        if prototxt is None:
            if mean is not None or scale is not None:
                raise ValueError("--mean and --scale go with --prototxt")
            imported, report = _imported(source, model, model_options, labels, partial)
        else:
            if model is not None or model_options:
                raise ValueError("--prototxt is a model: leave out --model")
            imported, report = _described(
                source, prototxt, mean, scale, labels, partial
            )
        _show(console, source, imported, report)
        contents = _contents(source, imported, report)
        if names is not None:
            imported, chosen = change_classes(imported, names)
            _show(console, f"classes of {classes}", imported, chosen)
            contents["classes"] = _contents(str(classes), imported, chosen)
        imported = _changed(imported, preprocessing, post_processing)
        imported.save(to)
        write_json(to / REPORT_FILE, contents)
        _say(console, f"model: {to} (all tensors: {to / REPORT_FILE})")
        if safetensors:
            path = save_safetensors(imported, to / SAFETENSORS_FILE)
            _say(console, f"model in one file: {path}")
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if photo:
        from ssdops.cli.detect import detect

        detect(photo, str(to), output=to / "detections")


def _imported(
    source: str,
    name: str | None,
    options: list[str] | None,
    labels: Path | None,
    partial: bool,
) -> tuple[SSD, LoadReport]:
    """Returns the model of the command's arguments, and what was loaded."""
    from ssdops.cli.classes import read_labels
    from ssdops.models import SSD, build_from_weights, load_model
    from ssdops.models.saving import find_model
    from ssdops.models.weights import LoadReport
    from ssdops.training import read_values

    names = None if labels is None else read_labels(labels)
    values = read_values(options or ())
    if partial and name is None:
        raise ValueError("--partial needs the name of the model, --model")
    if Path(source).is_dir() and find_model(source) is not None:
        if name is not None or values or partial:
            raise ValueError(
                f"{source} is a saved model: leave out --model, --model-options and "
                f"--partial"
            )
        model = load_model(source)
        if names is not None:
            model = SSD(model.spec, model.network, names)
        shapes = {weight.path: tuple(weight.shape) for weight in model.network.weights}
        return model, LoadReport(loaded=shapes)
    return build_from_weights(name, source, names, strict=not partial, **values)


def _described(
    source: str,
    prototxt: Path,
    mean: str | None,
    scale: float | None,
    labels: Path | None,
    partial: bool,
) -> tuple[SSD, LoadReport]:
    """Returns the model of a prototxt, and what was loaded."""
    from ssdops.cli.classes import read_labels
    from ssdops.models import build_from_prototxt

    means = None
    if mean is not None:
        try:
            means = [float(number) for number in mean.split(",")]
        except ValueError:
            raise ValueError(f"--mean must be like 104,117,123, got {mean!r}") from None
    return build_from_prototxt(
        prototxt,
        source,
        None if labels is None else read_labels(labels),
        mean=means,
        scale=scale,
        strict=not partial,
    )


def _changed(
    model: SSD, preprocessing: list[str] | None, post_processing: list[str] | None
) -> SSD:
    """Returns the model with other settings before and after the network."""
    from ssdops.models import SSD
    from ssdops.training import read_values

    spec = model.spec
    for field, texts in (
        ("preprocessing", preprocessing),
        ("post_processing", post_processing),
    ):
        try:
            value = replace(getattr(spec, field), **read_values(texts or ()))
        except TypeError:
            known = ", ".join(getattr(spec, field).to_dict())
            raise ValueError(f"{field} has the settings {known}, got {texts}") from None
        changes: dict[str, Any] = {field: value}
        spec = replace(spec, **changes)
    return SSD(spec, model.network, model.class_names)


def _contents(source: str, model: SSD, report: LoadReport) -> dict[str, Any]:
    """Returns the report as plain JSON values."""
    return {
        "source": source,
        "model": model.spec.name,
        "classes": model.spec.num_classes,
        "tensors": [
            {"state": state, "name": name, "shape": list(shape), "reason": reason}
            for state, name, shape, reason in report.entries()
        ],
    }


def _show(console: Console, source: str, model: SSD, report: LoadReport) -> None:
    """Prints what was loaded, and the tensors that were not, or in part."""
    from ssdops.cli.classes import suggested_labels

    _say(console, f"{source}: {model.spec.name}, {model.spec.num_classes} classes")
    _say(console, _anchors(model, report))
    suggested = suggested_labels(model.class_names)
    if suggested is not None and not report.missing:
        _say(console, f"classes: without names; --labels {suggested} has as many")
    entries = report.entries()
    sizes: Mapping[str, list[tuple[int, ...]]] = {
        state: [shape for kind, _, shape, _ in entries if kind == state]
        for state in ("loaded", "skipped", "missing")
    }
    console.print(_counts(sizes))
    notable = [entry for entry in entries if entry[3]]
    for state, name, shape, reason in notable[:MAX_LINES]:
        _say(console, f"  {state}: {name} {list(shape)}: {reason}")
    if len(notable) > MAX_LINES:
        _say(console, f"  and {len(notable) - MAX_LINES} more")


def _anchors(model: SSD, report: LoadReport) -> str:
    """Returns what anchors a model has, and when it should have others."""
    from ssdops.anchors import anchor_grid, anchor_grid_names

    grid = model.spec.anchors
    known = [name for name in anchor_grid_names() if anchor_grid(name) == grid]
    text = f"anchors: {known[0] if known else 'of its own'}, {grid.num_anchors}"
    heads = any(name.endswith("_mbox_loc|0") for name in report.loaded)
    if heads and known in (["ssd300_voc"], ["ssd512_voc"]):
        coco = known[0].replace("_voc", "_coco")
        text += (
            f"; weights do not tell which, and those that were trained on COCO before "
            f"need --model-options 'anchors=\"{coco}\"'"
        )
    return text


def _counts(sizes: Mapping[str, list[tuple[int, ...]]]) -> Table:
    """Returns the table of tensors and numbers by state."""
    import math

    from rich.table import Table

    table = Table("state")
    for header in ("tensors", "numbers"):
        table.add_column(header, justify="right")
    for state, shapes in sizes.items():
        numbers = sum(math.prod(shape) for shape in shapes)
        table.add_row(state, str(len(shapes)), f"{numbers:,}")
    return table


def _say(console: Console, line: str) -> None:
    """Prints one line as it is."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)
