# SPDX-License-Identifier: Apache-2.0
"""`ssdops detect`: objects on photos, as table, pictures and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console
    from rich.table import Table

    from ssdops.models import SSD

__all__ = [
    "detect",
    "detect_photo",
    "enlarged",
    "load_detector",
    "output_name",
    "read_class_names",
]

UNUSED_NAME = "???"
MAX_LABELS_BYTES = 4 * 2**20
MIN_PICTURE_SIDE = 384
MAX_ENLARGED_SIDE = 2048


def detect(
    photos: Annotated[list[Path], typer.Argument(help="Photos to look at.")],
    model: Annotated[
        str,
        typer.Option(help="Folder of a saved model, or the name of a model."),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights (.tflite, .caffemodel, .pth, .npz); needed with the name "
            "of a model."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one a line, the first for class 0, the background; "
            "'???' marks unused classes. A saved model brings its own."
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

    from ssdops.cli.quiet import start_tensorflow
    from ssdops.files import write_atomically, write_json
    from ssdops.image_io import load_image
    from ssdops.visualization import draw_detections

    start_tensorflow()
    console = Console()
    try:
        detector = load_detector(model, weights, labels)
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
            image = load_image(photo)
            found = detect_photo(
                detector,
                image,
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
            )
            target = output_name(output, photo, reserved)
            picture = draw_detections(
                enlarged(image),
                [entry["relative_box"] for entry in found],
                [entry["label"] for entry in found],
                class_names=detector.class_names,
                scores=[entry["score"] for entry in found],
            )
            write_atomically(target, partial(picture.save, quality=92))
        except (OSError, ValueError) as error:
            _complain(error)
            failed += 1
            continue
        for entry in found:
            del entry["relative_box"]
        results.append(
            {
                "image": str(photo),
                "width": image.shape[1],
                "height": image.shape[0],
                "detections": found,
            }
        )
        counted = f"{len(found)} object{'' if len(found) == 1 else 's'}"
        for line in (f"{photo}: {counted}", f"picture: {target}"):
            _say(console, line)
        if found:
            console.print(_table(found))
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


def enlarged(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns a small image larger by a whole factor, so that names are readable.

    Args:
        image: uint8 [H, W, 3].
    """
    factor = max(1, round(MIN_PICTURE_SIDE / min(image.shape[:2])))
    # An image with one very short side would grow without limit in the other.
    factor = min(factor, max(1, MAX_ENLARGED_SIDE // max(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _say(console: Console, line: str) -> None:
    """Prints one line as it is."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def _complain(message: object) -> None:
    """Prints one error line."""
    typer.echo(f"error: {message}", err=True)


def read_class_names(path: Path) -> list[str]:
    """Returns the names in a labels file, line 0 for class 0.

    Args:
        path: UTF-8 text, one name a line. The name of class 0 is always "background";
            empty lines at the end do not count.

    Raises:
        ValueError: If the file is absent, no text, or holds fewer than two names.
    """
    if not path.is_file():
        raise ValueError(f"labels file {path} does not exist")
    if path.stat().st_size > MAX_LABELS_BYTES:
        raise ValueError(f"labels file {path} is larger than {MAX_LABELS_BYTES} bytes")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"labels file {path} is not UTF-8 text") from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    if len(names) < 2:
        raise ValueError(
            f"labels file {path} must name the background and at least one class, got "
            f"{len(names)} lines"
        )
    return ["background", *names[1:]]


def load_detector(model: str, weights: Path | None, labels: Path | None) -> SSD:
    """Returns the detector that the options `--model --weights --labels` describe.

    Raises:
        ValueError: If they do not fit together or a file cannot be used.
    """
    from ssdops.models import SSD, available_models, build_from_weights, load_model

    names = None if labels is None else read_class_names(labels)
    if Path(model).is_dir():
        if weights is not None:
            raise ValueError(
                f"{model} is a saved model with weights of its own: leave out --weights"
            )
        saved = load_model(model)
        return saved if names is None else SSD(saved.spec, saved.network, names)
    if model not in available_models():
        raise ValueError(
            f"--model {model} is neither a folder nor one of "
            f"{', '.join(available_models())}"
        )
    if weights is None:
        raise ValueError(f"--model {model} needs --weights (or the folder of a model)")
    return build_from_weights(model, weights, names)[0]


def detect_photo(detector: SSD, image: Any, **options: Any) -> list[dict[str, Any]]:
    """Returns the objects on one photo, best first.

    Args:
        detector: Detector.
        image: RGB, uint8 [H, W, 3] of any size.
        **options: Thresholds and limits of `SSD.detect`.

    Returns:
        Per object `label`, `name`, `score`, `box` in pixels and `relative_box`, both
        (ymin, xmin, ymax, xmax) and clipped to the image. Classes that are called
        "???" are left out.
    """
    from ssdops.boxes import clip_boxes, relative_to_pixels

    resized = detector.spec.preprocessing.fit(image)
    result = detector.detect(resized[None], **options)
    count = int(result.num_detections[0])
    found = result.boxes[0, :count].numpy().astype(float)
    found = detector.spec.preprocessing.to_image(found, image.shape[:2])
    boxes = clip_boxes(found)
    pixels = relative_to_pixels(boxes, image.shape[:2])
    return [
        {
            "label": int(label),
            "name": detector.class_names[label],
            "score": float(score),
            "box": [float(value) for value in pixel_box],
            "relative_box": [float(value) for value in box],
        }
        for label, score, pixel_box, box in zip(
            result.classes[0, :count].numpy(),
            result.scores[0, :count].numpy(),
            pixels,
            boxes,
            strict=True,
        )
        if detector.class_names[label] != UNUSED_NAME
    ]


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
