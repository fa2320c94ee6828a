# SPDX-License-Identifier: Apache-2.0
"""Reading photos into arrays."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "decode_image",
    "load_image",
    "read_image_size",
]

MAX_PIXELS = 100_000_000
# Others, such as EPS, run programs to be decoded or are no photos.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


class ImageError(ValueError):
    """A file that cannot be used as an image; the message is one sentence naming it."""


def load_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Returns a photo as RGB, uint8 [H, W, 3], turned as its EXIF orientation says.

    Grey, palette and CMYK images are converted; of 16-bit channels the high byte is
    taken; transparent pixels are laid over white; of animations the first frame counts.

    Args:
        path: A JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file.

    Raises:
        ImageError: If the file is absent, no such image, truncated or damaged, has
            floating-point pixels, or has more than 100 million pixels.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path} does not exist")
    if not path.is_file():
        raise ImageError(f"{path} is not a file")
    return _decode(path, str(path))


def decode_image(encoded: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Returns the photo that is in memory as a file, as `load_image` does.

    Args:
        encoded: What a file of one of the formats of `load_image` holds.
        name: What messages call it.

    Raises:
        ImageError: As in `load_image`.
    """
    return _decode(io.BytesIO(encoded), name)


def read_image_size(photo: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """Returns height and width of a photo as `load_image` gives it, from its header.

    Args:
        photo: A file, or what it holds.

    Raises:
        ImageError: If the file is absent or no image of a known format.
    """
    try:
        file = io.BytesIO(photo) if isinstance(photo, bytes) else photo
        with Image.open(file, formats=FORMATS) as image:
            height, width = image.height, image.width
            return (width, height) if _is_turned(image) else (height, width)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        name = "image in memory" if isinstance(photo, bytes) else os.fspath(photo)
        raise ImageError(f"{name}: not a readable image: {error}") from None


def _decode(file: Path | io.BytesIO, name: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} has {width} x {height} pixels, more than the "
                    f"{MAX_PIXELS} allowed"
                )
            image.load()
            _turn_upright(image)
            # A copy, because views of Pillow images are read-only.
            return np.array(_to_rgb(image, name), order="C")
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{name} has more than the {MAX_PIXELS} pixels allowed"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image in a known format ({', '.join(FORMATS)})"
        ) from None
    # Decoders raise almost anything on damaged files: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error and more.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded: {reason[:200]}") from None


def _turn_upright(image: Image.Image) -> None:
    """Applies the EXIF orientation; a damaged EXIF block counts as none."""
    # Without a copy of what may be the largest thing in memory.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _is_turned(image: Image.Image) -> bool:
    """Whether `_turn_upright` swaps height and width."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1) in _QUARTER_TURNS
    except Exception:
        return False


def _to_rgb(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    """Returns the pixels as RGB, uint8 [H, W, 3]."""
    if image.mode == "F":
        raise ImageError(f"{name} has floating-point pixels, which have no known range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip these to 255 instead of scaling.
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return np.repeat(values.astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # Converting copies even what is RGB already.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
