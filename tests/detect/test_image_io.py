# SPDX-License-Identifier: Apache-2.0
"""Reading photos of all kinds, refusing what is none, and resizing."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ssdops.image_io import (
    ImageError,
    decode_image,
    load_image,
    read_image_size,
)

ORIENTATION = 0x0112


def scene() -> npt.NDArray[np.uint8]:
    """A smooth picture without symmetry, uint8 [24, 36, 3]."""
    y, x = np.mgrid[0:24, 0:36]
    return np.stack([6 * x, 10 * y, 4 * x + 4 * y], axis=-1).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(scene()))
    loaded = load_image(str(path))
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, scene())


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(scene()), quality=95)
    assert np.abs(load_image(path).astype(int) - scene()).mean() < 4


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", Image.fromarray(scene()), format="PNG")
    np.testing.assert_array_equal(load_image(path), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    """The stored picture is the upright one, turned back."""
    transposes = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(scene())
    if orientation in transposes:
        stored = stored.transpose(transposes[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    np.testing.assert_array_equal(load_image(path), scene())
    np.testing.assert_array_equal(decode_image(path.read_bytes(), "a"), scene())
    assert read_image_size(path) == scene().shape[:2]
    assert read_image_size(path.read_bytes()) == scene().shape[:2]


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    image = Image.fromarray(scene())
    path = save(tmp_path / "a.png", image, exif=b"Exif\x00\x00II*\x00\xff\xff\xff")
    assert load_image(path).shape == (24, 36, 3)
    assert read_image_size(path) == (24, 36)


def test_grey_image(tmp_path: Path) -> None:
    grey = scene()[..., 0]
    loaded = load_image(save(tmp_path / "a.png", Image.fromarray(grey)))
    np.testing.assert_array_equal(loaded, np.repeat(grey[..., None], 3, axis=-1))


def test_black_and_white_and_palette_images(tmp_path: Path) -> None:
    bits = Image.fromarray((scene()[..., 0] > 100).astype(np.uint8) * 255).convert("1")
    loaded = load_image(save(tmp_path / "a.png", bits))
    assert set(np.unique(loaded)) == {0, 255}
    flat = np.zeros((4, 4, 3), np.uint8) + np.array([200, 30, 60], np.uint8)
    palette = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE)
    loaded = load_image(save(tmp_path / "b.gif", palette))
    np.testing.assert_allclose(loaded, flat, atol=8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_over_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    suffix = "gif" if mode == "P" else "png"
    stored = image.convert("LA") if mode == "LA" else image
    loaded = load_image(save(tmp_path / f"a.{suffix}", stored))
    assert loaded[0, 0].tolist() == [255] * 3
    assert loaded[1, 3].tolist() == [0] * 3
    if mode != "P":
        np.testing.assert_allclose(loaded[0, 1], 127, atol=1)


def test_cmyk_image(tmp_path: Path) -> None:
    red = Image.fromarray(np.full((16, 16, 3), (250, 10, 10), np.uint8))
    path = save(tmp_path / "a.jpg", red.convert("CMYK"), quality=95)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    np.testing.assert_allclose(load_image(path)[8, 8], (250, 10, 10), atol=8)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_image(suffix: str, tmp_path: Path) -> None:
    """The high byte counts; clipping at 255 would turn the picture white."""
    values = np.array([[0, 255, 256, 30_000], [40_000, 65_535, 1, 513]], np.uint16)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    np.testing.assert_array_equal(load_image(path)[..., 1], values >> 8)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", Image.fromarray(np.ones((3, 3), np.float32)))
    with pytest.raises(ImageError, match=r"a\.tiff has floating-point pixels"):
        load_image(path)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert load_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tiff", "webp", "bmp"])
def test_truncated_file(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8))
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\.{suffix} (cannot be decoded|is not an)"):
        load_image(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(11_000, 10_000), (60_000, 60_000)])
@pytest.mark.filterwarnings("ignore:Image size")
def test_decompression_bomb(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(ImageError, match=r"bomb\.png has .*more than the 100000000"):
        load_image(path)


def test_claimed_size_without_data(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_header(100, 100))
    with pytest.raises(ImageError, match=r"a\.png cannot be decoded"):
        load_image(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xff\xd8",
    ],
    ids=["empty", "text", "postscript", "two bytes"],
)
def test_not_an_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(
        ImageError, match=r"a\.jpg (is not an image|cannot be deco)"
    ) as e:
        load_image(path)
    assert "\n" not in str(e.value)
    with pytest.raises(ImageError, match=r"^name (is not an image|cannot be deco)"):
        decode_image(content, "name")
    with pytest.raises(ImageError, match=r"a\.jpg: not a readable image"):
        read_image_size(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path)


def test_result_can_be_written(tmp_path: Path) -> None:
    """Arrays of Pillow are read-only."""
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(stream.getvalue())
    loaded = load_image(path)
    loaded[0, 0] = 7
    assert loaded[0, 0].tolist() == [7, 7, 7]
