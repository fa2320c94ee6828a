# SPDX-License-Identifier: Apache-2.0
"""`ssdops train`: a detector for your own data."""

from __future__ import annotations

import inspect
import signal
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ssdops.training import RunConfig


def _train(
    config: Path | None,
    recipe: str | None,
    data: str | None,
    split: str | None,
    evaluation_data: str | None,
    evaluation_split: str | None,
    data_format: str | None,
    model: str | None,
    model_options: list[str] | None,
    weights: str | None,
    class_names: Path | None,
    output: Path,
    restart: bool,
    strategy: str,
    **training: Any,
) -> None:
    """Train a detector and evaluate it while it learns.

    Settings come from a recipe, then from a TOML file, then from flags; later ones go
    before earlier ones. The run folder keeps all of them, and a run that was stopped or
    killed goes on when the same command is given again.
    """
    from rich.console import Console

    from ssdops.cli.quiet import start_tensorflow

    console = Console()
    try:
        start_tensorflow()
        from ssdops.training import (
            merged,
            read_recipe,
            read_run_file,
            read_values,
            run_config,
        )

        train_data = {"path": data, "split": split, "data_format": data_format}
        evaluation: dict[str, str | None] = {
            "path": evaluation_data or (data if evaluation_split else None),
            "split": evaluation_split,
            "data_format": data_format,
        }
        names_file = None if class_names is None else str(class_names)
        changes = read_values(training.pop("augmentation_options") or ())
        flags: dict[str, dict[str, Any]] = {
            "train_data": train_data,
            "evaluation_data": evaluation,
            "model": {
                "name": model,
                "weights": weights,
                "class_names_file": names_file,
                "options": read_values(model_options or ()),
            },
            "training": {**training, "augmentation_options": changes},
        }
        settings = run_config(
            merged(
                read_recipe(recipe) if recipe else {},
                read_run_file(config) if config else {},
                {
                    name: _given(values)
                    for name, values in flags.items()
                    if _given(values)
                },
            )
        )
        _run(settings, output, restart, strategy, console)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("\nStopped. Run the same command to go on.")
        raise typer.Exit(128 + signal.SIGINT) from None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if value is not None and value not in ([], {})
    }


def _run(
    config: RunConfig, output: Path, restart: bool, strategy: str, console: Console
) -> None:
    from ssdops.reporting import save_curves
    from ssdops.training import (
        NonFiniteLossError,
        TrainingInterrupted,
        WorkerLostError,
        execute_run,
    )

    try:
        _, result, _ = execute_run(
            config, output, restart=restart, console=console, strategy=strategy
        )
    except TrainingInterrupted as interrupted:
        console.print(
            f"\nStopped after step {interrupted.step}. The checkpoint and the model so"
            f" far are in {interrupted.folder}. Run the same command to go on, or with"
            " --restart to begin anew.",
            highlight=False,
        )
        raise typer.Exit(128 + interrupted.signal) from None
    except (NonFiniteLossError, WorkerLostError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    curves = output / "curves.png"
    save_curves(output, curves)
    if result.first_step == result.steps:
        console.print("this run was finished before (--restart trains anew)")
    best = "" if result.best_map is None else f", best mAP@0.5 {result.best_map:.4f}"
    console.print(
        f"{result.steps} steps in {result.seconds:.0f} s{best}; the model is in"
        f" {output / 'model'}, the curves are in {curves}",
        highlight=False,
        soft_wrap=True,
    )


def _help_of_settings() -> dict[str, str]:
    """The words of `TrainingConfig` for each of its settings."""
    from ssdops.training import TrainingConfig

    texts: dict[str, str] = {}
    name = None
    lines = inspect.cleandoc(TrainingConfig.__doc__ or "").split("Attributes:")[1]
    for line in lines.split("Raises:")[0].splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            continue
        if indent == 4 and ":" in line:
            name, text = line.strip().split(":", 1)
            texts[name] = text.strip()
        elif name is not None:
            texts[name] += " " + line.strip()
    plain = {
        name: text.replace("`", "").replace('"', "'") for name, text in texts.items()
    }
    return {name: text[:1].upper() + text[1:] for name, text in plain.items()}


def _shown(default: Any) -> str:
    return "none" if default == () else str(default)


def _parameters() -> list[inspect.Parameter]:
    """The options of the command, with one for every setting of the training."""
    from ssdops.training import TrainingConfig, recipes

    text = typer.Option
    options: dict[str, Any] = {
        "config": Annotated[Path | None, text(help="Settings, a TOML file.")],
        "recipe": Annotated[
            str | None,
            text(help=f"Settings that come with the package: {', '.join(recipes())}."),
        ],
        "data": Annotated[
            str | None, text(help="Data set to train on: a folder or a file.")
        ],
        "split": Annotated[str | None, text(help="Its part, such as train.")],
        "evaluation_data": Annotated[
            str | None, text(help="Data set to evaluate on, if it is another.")
        ],
        "evaluation_split": Annotated[str | None, text(help="Its part, such as test.")],
        "data_format": Annotated[
            str | None,
            text("--format", help="Format of the data sets. (default: auto)"),
        ],
        "model": Annotated[
            str | None,
            text(
                help="Name of the model. (default: that of the weights, or "
                "ssd300_vgg16)"
            ),
        ],
        "model_options": Annotated[
            list[str] | None,
            text(
                metavar="NAME=VALUE",
                help="Options of the model, values in TOML: image_size=[256,256].",
            ),
        ],
        "weights": Annotated[
            str | None,
            text(
                help="First weights: folder of a saved model, or published ones"
                " (.tflite, .caffemodel, .pth, .npz, .h5), of the backbone at least."
            ),
        ],
        "class_names": Annotated[
            Path | None, text("--classes", help="Class names, a text file, one a line.")
        ],
    }
    defaults: dict[str, Any] = dict.fromkeys(options)
    options["output"] = Annotated[
        Path, text(help="Folder of the run; made if it is not there.")
    ]
    defaults["output"] = Path("ssdops-run")
    options["restart"] = Annotated[
        bool,
        text(
            "--restart/--resume", help="Begin anew, or go on with the run if there is."
        ),
    ]
    defaults["restart"] = False
    options["strategy"] = Annotated[
        str,
        text(
            help="Devices: 'mirrored', all GPUs; 'multi_worker', the machines of"
            " TF_CONFIG; 'none', one device; or 'auto'."
        ),
    ]
    defaults["strategy"] = "auto"
    kinds = {"int": int, "float": float, "str": str, "bool": bool}
    by_name = {"Mapping[str, Any]": str}
    lists = {"tuple[int, ...]": int, "tuple[str, ...]": str, **by_name}
    words = _help_of_settings()
    for entry in fields(TrainingConfig):
        kind = str(entry.type)
        is_plain = entry.default is not MISSING
        default = f" (default: {_shown(entry.default)})" if is_plain else ""
        option = text(
            help=words[entry.name] + default,
            rich_help_panel="Training",
            show_default=False,
            metavar="NAME=VALUE" if kind in by_name else None,
        )
        if kind in lists:
            options[entry.name] = Annotated[list[lists[kind]] | None, option]  # type: ignore[valid-type]
        else:
            options[entry.name] = Annotated[kinds[kind] | None, option]
        defaults[entry.name] = None
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults[name],
            annotation=annotation,
        )
        for name, annotation in options.items()
    ]


def train(**options: Any) -> None:
    """Filled in below."""
    _train(**options)


train.__doc__ = _train.__doc__
train.__signature__ = inspect.Signature(_parameters(), return_annotation=None)  # type: ignore[attr-defined]
train.__annotations__ = {
    parameter.name: parameter.annotation for parameter in _parameters()
}
