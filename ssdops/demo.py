# SPDX-License-Identifier: Apache-2.0
"""Trains a detector from scratch on scenes of handwritten digits and shows it.

Everything but the scenes is what a user's own data would take: a Pascal VOC folder is
read, `ssd_small` is trained on it, evaluated, drawn and saved.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ssdops import __version__
from ssdops._implementation import requested_implementation
from ssdops._loader import not_supported_reasons
from ssdops.data import DIGIT_NAMES, SceneSettings, compose_digit_scenes, read_voc
from ssdops.evaluation import VocResult, evaluate
from ssdops.files import write_json
from ssdops.models import build_model
from ssdops.reporting import save_comparison, save_curves
from ssdops.training import TrainingConfig, train
from ssdops.training.config import keep_settings
from ssdops.training.loop import MODEL

DATA: Final = "data"
METRICS: Final = "metrics.json"
SETTINGS: Final = "demo.json"
COMPARISON: Final = "detections.png"
CURVES: Final = "curves.png"


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does.

    Attributes:
        seed: of the scenes, the first weights and the order of the images.
        train_scenes: number of scenes to train on.
        test_scenes: number of held-out scenes, with digits never seen in training.
        steps: batches of 32 scenes to train on.
    """

    seed: int = 0
    train_scenes: int = 3000
    test_scenes: int = 250
    steps: int = 1000


def run_demo(
    folder: Path, settings: DemoSettings, *, restart: bool, console: Console
) -> dict[str, Any]:
    """Compose the scenes, train, evaluate, and write what came out.

    Args:
        folder: gets `data/` (the scenes), the run of `ssdops.training.train`,
            `metrics.json`, `detections.png` and `curves.png`.
        settings: what to do; a run that is resumed must have the same.
        restart: begin anew, even if the folder has a run.
        console: where progress and results are shown.

    Returns:
        The contents of `metrics.json`.

    Raises:
        ssdops.training.TrainingInterrupted: if the run was asked to stop.
        ssdops.training.ConfigMismatchError: if the folder's run has other settings.
    """
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    config = TrainingConfig(
        steps=settings.steps,
        learning_rate=3e-3,
        warmup_steps=min(100, settings.steps - 1),
        seed=settings.seed,
        evaluate_every=max(1, settings.steps // 4),
        checkpoint_every=100,
    )
    if restart:
        (folder / SETTINGS).unlink(missing_ok=True)
    # Before the scenes are composed: those of another run must not be replaced.
    keep_settings(folder / SETTINGS, asdict(settings))
    _compose(folder / DATA, settings, console)
    train_data = read_voc(folder / DATA, "train", DIGIT_NAMES)
    test_data = read_voc(folder / DATA, "test", DIGIT_NAMES)

    keras.utils.set_random_seed(settings.seed)
    model = build_model("ssd_small", class_names=train_data.class_names)
    console.print(
        f"training ssd_small ({model.network.count_params():,} weights,"
        f" {model.spec.anchors.num_anchors} anchors) from scratch on"
        f" {len(train_data)} scenes with {train_data.num_objects} digits",
        highlight=False,
    )
    outcome = train(
        model,
        train_data,
        config,
        folder,
        evaluation_data=test_data,
        restart=restart,
        console=console,
    )
    if outcome.first_step == outcome.steps:
        console.print(
            "this run was finished before: only evaluated again"
            " (--restart trains anew)",
            highlight=False,
        )
    result = evaluate(model, test_data)
    save_comparison(model, test_data, folder / COMPARISON)
    save_curves(folder, folder / CURVES)
    metrics = _metrics(result, test_data.class_names, settings)
    metrics["seconds"] = round(time.monotonic() - start, 1)
    write_json(folder / METRICS, metrics)

    console.print(_table(result, test_data.class_names))
    seconds, ops = metrics["seconds"], metrics["implementation"]
    console.print(
        f"\nmAP@0.5 {result.mean:.4f} on {len(test_data)} held-out scenes, seed"
        f" {settings.seed}, {ops} ops, {seconds:.0f} s",
        highlight=False,
    )
    for what, name in (
        ("detections beside ground truth", COMPARISON),
        ("loss and mAP curves", CURVES),
        ("metrics", METRICS),
        ("trained model", MODEL),
    ):
        console.print(f"  {what}: {folder / name}", highlight=False, soft_wrap=True)
    return metrics


def _compose(folder: Path, settings: DemoSettings, console: Console) -> None:
    scenes = SceneSettings(
        train_scenes=settings.train_scenes,
        test_scenes=settings.test_scenes,
        seed=settings.seed,
    )
    total = settings.train_scenes + settings.test_scenes
    console.print(f"composing {total} scenes of handwritten digits in {folder}")
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("composing", total=total)
        compose_digit_scenes(
            folder, scenes, progress=lambda done, _: bar.update(task, completed=done)
        )


def _metrics(
    result: VocResult, class_names: tuple[str, ...], settings: DemoSettings
) -> dict[str, Any]:
    native = requested_implementation() != "reference" and not not_supported_reasons(
        "match_anchors", "float32"
    )
    return {
        "map_50": result.mean,
        "ap_50": {
            name: float(result.average_precision[label])
            for label, name in enumerate(class_names)
            if result.num_ground_truth[label]
        },
        "seed": settings.seed,
        "steps": settings.steps,
        "train_scenes": settings.train_scenes,
        "test_scenes": settings.test_scenes,
        "implementation": "native" if native else "reference",
        "versions": {"ssdops": __version__, "tensorflow": tf.version.VERSION},
    }


def _table(result: VocResult, class_names: tuple[str, ...]) -> Table:
    table = Table(title="AP at IoU 0.5, held-out scenes")
    table.add_column("class")
    for name in ("objects", "detections", "AP"):
        table.add_column(name, justify="right")
    for label, name in enumerate(class_names):
        if label == 0:
            continue
        table.add_row(
            name,
            str(result.num_ground_truth[label]),
            str(result.num_detections[label]),
            f"{result.average_precision[label]:.4f}",
        )
    table.add_section()
    table.add_row("mean", "", "", f"{result.mean:.4f}")
    return table
