# SPDX-License-Identifier: Apache-2.0
"""Scenes composed from handwritten digits, written as a Pascal VOC folder.

The digits are the 1797 real 8x8 handwritten digits that scikit-learn bundles. They are
divided into two disjoint sets first, so that no digit of a test scene is ever seen in
training. Every scene is drawn from its own random stream, which depends on the seed,
the split and the number of the scene only: a longer run begins with the same scenes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ssdops.data.records import Record
from ssdops.data.voc import write_voc

DIGIT_NAMES = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
"""Class names in the order of the digits; the class id of digit `d` is `d + 1`."""

_SPLITS = ("train", "test")
_STAMP = "digits.json"
_INK = 0.35  # part of the full ink from which a pixel belongs to the digit's box


@dataclass(frozen=True)
class SceneSettings:
    """What the scenes look like; two equal settings give equal bytes.

    Attributes:
        train_scenes: number of scenes of the split `train`.
        test_scenes: number of scenes of the split `test`.
        image_size: side of the square scenes in pixels, at least 32.
        seed: seed of everything random, at least 0.
        min_digits: fewest digits that are tried in a scene, at least 1.
        max_digits: most digits in a scene.
        min_height: smallest height of a digit in pixels, at least 8.
        max_height: largest height of a digit in pixels, less than `image_size`.
        max_cover: largest part of a digit's box that another digit's box may cover.
        test_fraction: part of the 1797 digits that is kept for the test scenes.

    Raises:
        ValueError: if a number is out of its range.
    """

    train_scenes: int = 3000
    test_scenes: int = 250
    image_size: int = 128
    seed: int = 0
    min_digits: int = 3
    max_digits: int = 8
    min_height: int = 20
    max_height: int = 64
    max_cover: float = 0.25
    test_fraction: float = 0.25

    def __post_init__(self) -> None:
        """Checks every number."""
        _check_range("train_scenes", self.train_scenes, 1, 1_000_000)
        _check_range("test_scenes", self.test_scenes, 1, 1_000_000)
        _check_range("image_size", self.image_size, 32, 4096)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("min_digits", self.min_digits, 1, 100)
        _check_range("max_digits", self.max_digits, self.min_digits, 100)
        _check_range("min_height", self.min_height, 8, self.image_size - 1)
        _check_range(
            "max_height", self.max_height, self.min_height, self.image_size - 1
        )
        _check_range("max_cover", self.max_cover, 0, 1)
        _check_range("test_fraction", self.test_fraction, 0.05, 0.95)


def compose_digit_scenes(
    folder: str | Path,
    settings: SceneSettings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Whether the scenes had to be composed; `folder` holds them afterwards.

    The folder gets `JPEGImages`, `Annotations` and `ImageSets/Main/{train,test}.txt`
    and, last of all, `digits.json` with the settings. If that file is there with the
    same settings, nothing is written. An incomplete folder, or one with other settings,
    is composed anew.

    Args:
        folder: where the scenes go; made if it is not there.
        settings: what they look like; None for the defaults.
        progress: called with the number of scenes done and the number of all scenes.

    Raises:
        ModuleNotFoundError: if scikit-learn is not installed.
        FileExistsError: if the folder holds something that is not digit scenes.
    """
    folder = Path(folder)
    settings = settings or SceneSettings()
    stamp = folder / _STAMP
    wanted = json.dumps({"scenes": asdict(settings), "version": 1}, indent=2) + "\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    _make_empty(folder)

    glyphs, digits = _load_glyphs()
    parts = _split_glyphs(digits, settings)
    total = settings.train_scenes + settings.test_scenes
    done = 0
    (folder / "INCOMPLETE").touch()
    for number, split in enumerate(_SPLITS):
        count = settings.train_scenes if number == 0 else settings.test_scenes
        pool = parts[number]
        records = []
        for index in range(count):
            rng = np.random.default_rng([settings.seed, number + 1, index])
            records.append(
                compose_scene(
                    rng, glyphs[pool], digits[pool], settings, f"{split}_{index:05d}"
                )
            )
            done += 1
            if progress is not None:
                progress(done, total)
        write_voc(folder, records, split, ("background", *DIGIT_NAMES))
    stamp.write_text(wanted)
    (folder / "INCOMPLETE").unlink()
    return True


def compose_scene(
    rng: np.random.Generator,
    glyphs: npt.NDArray[np.float32],
    digits: npt.NDArray[np.int32],
    settings: SceneSettings,
    image_id: str = "",
) -> Record:
    """One scene with the boxes of the digits in it.

    Args:
        rng: source of everything random in the scene.
        glyphs: float32 `[N, 8, 8]`, ink in [0, 1].
        digits: int32 `[N]`, the digit of each glyph, 0 to 9.
        settings: what the scene looks like.
        image_id: name of the scene.

    Returns:
        A record with the image as uint8 `[S, S, 3]` and one box per digit, tight
        around its ink. There are fewer digits than `min_digits` only if they find no
        room.
    """
    side = settings.image_size
    canvas = _background(rng, side)
    canvas = _clutter(rng, canvas, int(rng.integers(3, 9)))
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    low, high = math.log(settings.min_height), math.log(settings.max_height)
    for _ in range(int(rng.integers(settings.min_digits, settings.max_digits + 1))):
        for _ in range(12):
            pick = int(rng.integers(len(glyphs)))
            height = math.exp(rng.uniform(low, high))
            ink = _draw_glyph(rng, glyphs[pick], height)
            if max(ink.shape) > side:
                continue
            top = int(rng.integers(side - ink.shape[0] + 1))
            left = int(rng.integers(side - ink.shape[1] + 1))
            box = _ink_box(ink, top, left)
            if all(_cover(box, other) <= settings.max_cover for other in boxes):
                _paint(rng, canvas, ink, top, left)
                boxes.append(box)
                labels.append(int(digits[pick]) + 1)
                break
    noise = rng.normal(0.0, rng.uniform(0.0, 9.0), canvas.shape)
    image = np.clip(np.rint(canvas + noise), 0, 255).astype(np.uint8)
    return Record(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4) / np.float32(side),
        labels=np.array(labels, np.int32),
        difficult=np.zeros(len(labels), bool),
        image_id=image_id,
    )


def _load_glyphs() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The digits that scikit-learn bundles: ink `[1797, 8, 8]` in [0, 1], digit."""
    # Slow to import, and only the demo composes scenes.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    data: Any = load_digits()
    return (
        (data.images / 16.0).astype(np.float32),
        data.target.astype(np.int32),
    )


def _split_glyphs(
    digits: npt.NDArray[np.int32], settings: SceneSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Disjoint indices for training and test, the same part of every digit."""
    rng = np.random.default_rng([settings.seed, 0])
    train, test = [], []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(digits == digit))
        cut = round(len(order) * settings.test_fraction)
        test.append(order[:cut])
        train.append(order[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _background(rng: np.random.Generator, side: int) -> npt.NDArray[np.float32]:
    """A coloured ground with a gradient and a texture, float32 `[S, S, 3]`."""
    base = rng.uniform(25, 230, 3)
    # Saturated grounds are rare in photographs: pull the colour towards its grey.
    base = base.mean() + (base - base.mean()) * rng.uniform(0.1, 0.8)
    ramp = np.linspace(-0.5, 0.5, side)
    angle = rng.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * ramp[:, None] + math.sin(angle) * ramp[None, :]
    canvas: npt.NDArray[Any] = base + slope[..., None] * rng.uniform(-70, 70, 3)
    for cells in (3, 9, 25):
        texture = rng.normal(0, rng.uniform(0, 14), (cells, cells)).astype(np.float32)
        canvas = canvas + _resize(texture, side)[..., None]
    return canvas.astype(np.float32)


def _clutter(
    rng: np.random.Generator, canvas: npt.NDArray[np.float32], count: int
) -> npt.NDArray[np.float32]:
    """`canvas` with strokes, arcs and blobs that are no digits."""
    side = canvas.shape[0]
    for _ in range(count):
        # Drawn twice as large and averaged down, for smooth edges.
        mask = Image.new("L", (2 * side, 2 * side), 0)
        draw = ImageDraw.Draw(mask)
        y, x = rng.uniform(0, 2 * side, 2)
        length = rng.uniform(8, 70)
        width = int(rng.integers(2, 9))
        kind = int(rng.integers(4))
        if kind == 0:
            turn = rng.uniform(0, 2 * math.pi)
            end = (x + length * math.cos(turn), y + length * math.sin(turn))
            draw.line([(x, y), end], fill=255, width=width)
        elif kind == 1:
            start = rng.uniform(0, 360)
            frame = [x, y, x + length, y + length * rng.uniform(0.5, 1)]
            draw.arc(frame, start, start + rng.uniform(40, 150), 255, width)
        elif kind == 2:
            frame = [x, y, x + length * rng.uniform(0.3, 1), y + length]
            draw.ellipse(frame, fill=255)
        else:
            corners = rng.uniform(-0.5, 0.5, (3, 2)) * length + (x, y)
            draw.polygon([(float(a), float(b)) for a, b in corners], fill=255)
        alpha = np.asarray(mask.reduce(2), np.float32)[..., None] / 255
        alpha *= np.float32(rng.uniform(0.25, 0.9))
        canvas = canvas + alpha * (rng.uniform(0, 255, 3).astype(np.float32) - canvas)
    return canvas


def _draw_glyph(
    rng: np.random.Generator, glyph: npt.NDArray[np.float32], height: float
) -> npt.NDArray[np.float32]:
    """The glyph turned, sheared and scaled so that its ink is `height` pixels high."""
    angle = rng.uniform(-0.2, 0.2)
    shear = rng.uniform(-0.15, 0.15)
    stretch = rng.uniform(0.85, 1.25)
    # Ink is 8 rows high in nearly every glyph; 14 leave room for the turned corners.
    scale = height / 8.0
    size = max(10, math.ceil(14 * scale))
    forward = np.array(
        [
            [math.cos(angle), -math.sin(angle)],
            [math.sin(angle), math.cos(angle)],
        ]
    ) @ np.array([[scale * stretch, scale * shear], [0.0, scale]])
    back = np.linalg.inv(forward)
    shift = np.array([6.0, 6.0]) - back @ np.array([size / 2, size / 2])
    padded = Image.fromarray(np.pad(glyph, 2))
    turned = padded.transform(
        (size, size),
        Image.Transform.AFFINE,
        (*back[0], shift[0], *back[1], shift[1]),
        Image.Resampling.BICUBIC,
    )
    ink: npt.NDArray[np.float32] = np.asarray(turned, np.float32).clip(0, 1)
    ink /= max(float(ink.max()), 1e-3)
    # Sharpens the blur of the enlargement; 1 leaves it.
    gain = rng.uniform(1.0, 2.0)
    ink = np.clip((ink - 0.5) * gain + 0.5, 0, 1) * (ink > 0.02)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _ink_box(
    ink: npt.NDArray[np.float32], top: int, left: int
) -> tuple[int, int, int, int]:
    """Pixel box (ymin, xmin, ymax, xmax) around the clearly inked pixels."""
    clear = ink >= _INK
    rows, columns = np.flatnonzero(clear.any(1)), np.flatnonzero(clear.any(0))
    return (
        top + int(rows[0]),
        left + int(columns[0]),
        top + int(rows[-1]) + 1,
        left + int(columns[-1]) + 1,
    )


def _cover(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The larger part of one of the boxes that the other one covers."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return height * width / smaller


def _paint(
    rng: np.random.Generator,
    canvas: npt.NDArray[np.float32],
    ink: npt.NDArray[np.float32],
    top: int,
    left: int,
) -> None:
    """Paints the digit in a colour that stands out from what is below it."""
    area = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
    ground = float(area.mean())
    contrast = rng.uniform(65, 150)
    up = ground + contrast <= 255
    down = ground - contrast >= 0
    sign = 1.0 if up and (not down or rng.random() < 0.5) else -1.0
    tint = rng.uniform(-45, 45, 3)
    colour = np.clip(ground + sign * contrast + tint - tint.mean(), 0, 255)
    area += ink[..., None] * (colour.astype(np.float32) - area)


def _resize(grid: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """`grid` enlarged smoothly to a square."""
    image = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def _make_empty(folder: Path) -> None:
    """Clears what an earlier call left in `folder`, and refuses anything else."""
    if folder.is_dir() and any(folder.iterdir()):
        if not ((folder / _STAMP).is_file() or (folder / "INCOMPLETE").is_file()):
            raise FileExistsError(
                f"{folder} is not empty and holds no digit scenes: choose another one"
            )
        for name in ("JPEGImages", "Annotations", "ImageSets"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / _STAMP).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
