# SPDX-License-Identifier: Apache-2.0
"""`Detector`: one object from image to answer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ssdops.boxes import clip_boxes
from ssdops.detection.images import image_array, is_one_image
from ssdops.detection.result import DetectedImage
from ssdops.detection.video import read_frames
from ssdops.detection.views import TestTimeAugmentation, View, merge_views
from ssdops.image_io import ImageError
from ssdops.models import SSD, available_models, build_from_weights, load_model
from ssdops.models.class_names import UNUSED_NAME

__all__ = ["UNUSED_NAME", "Detector"]

_DECODING_THREADS = 2


class Detector:
    """Finds objects on images of any kind.

    Images are decoded and brought to the size of the network's input by threads while
    the network works on those before, two batches ahead at most. What was read from a
    file is kept no longer, so that memory is bounded by the size of one image, not of a
    batch. A detector is for one thread at a time.

    Attributes:
        model: The detector's network, anchors and classes.
        class_names: Names of all classes; index 0 is the background.
    """

    def __init__(
        self,
        model: SSD | str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        *,
        class_names: Sequence[str] | None = None,
        score_threshold: float | None = 0.5,
        iou_threshold: float | None = None,
        max_detections: int | None = 100,
        batch_size: int = 8,
        augmentation: TestTimeAugmentation | None = None,
    ) -> None:
        """Loads a model.

        Args:
            model: A detector, folder or file of a saved one, folder of a training run,
                or with `weights` the name of a model.
            weights: Published weights of the named model.
            class_names: Names of all classes, index 0 the background; None for those of
                the model.
            score_threshold: Only objects scored above are shown; None for what the
                model says, which is low, as metrics need it.
            iou_threshold: A box that overlaps a better one of its class by more is
                dropped; None for what the model says.
            max_detections: Most objects per image; None for what the model says.
            batch_size: Images per call of the network.
            augmentation: Ways to look at an image besides as it is; None for none.

        Raises:
            ValueError: If there is no such model, or an argument is outside its range.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise ValueError(f"batch_size must be an integer, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        loaded = _load(model, weights, class_names)
        given = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        chosen: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        self.model = loaded
        self.class_names = loaded.class_names
        self._limits = replace(loaded.spec.post_processing, **chosen)
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._views = [View()] if augmentation is None else augmentation.views()

    @overload
    def detect(
        self, images: str | os.PathLike[str], *, on_error: str = ...
    ) -> DetectedImage: ...

    @overload
    def detect(self, images: Any, *, on_error: str = ...) -> Any: ...

    def detect(
        self, images: Any, *, on_error: Literal["raise", "skip"] | str = "raise"
    ) -> Any:
        """Finds the objects on one image or many.

        Args:
            images: One image: a path, or an array or tensor [H, W, 3], [H, W, 4],
                [H, W, 1] or [H, W] (see `image_array`). Or many: a sequence of images
                of any sizes, a batch [B, H, W, C], or any other iterable, such as a
                generator.
            on_error: What to do with an image that cannot be used: "raise", or "skip",
                which gives a result whose `error` tells why.

        Returns:
            For one image a `DetectedImage`; for a sequence or a batch a list of them;
            for any other iterable an iterator, which reads it as far as it is asked.

        Raises:
            ssdops.image_io.ImageError: If an image cannot be used.
            ValueError: For another `on_error`.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        if is_one_image(images):
            source = os.fspath(images) if _is_path(images) else 0
            return next(self._stream([_Item(source, images)], on_error))
        if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
            return list(self._stream(_items(images), on_error))
        if not isinstance(images, Iterable):
            raise ImageError(
                f"images must be a path, an array or several of them, got "
                f"{type(images).__name__}"
            )
        return self._stream(_items(images), on_error)

    def detect_video(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        max_frames: int | None = None,
    ) -> Iterator[DetectedImage]:
        """Finds the objects on the frames of a video, one after the other.

        Args:
            path: Video file.
            every: Only every so many frames are looked at, from the first.
            max_frames: Most frames to look at; None for all.

        Returns:
            An iterator of results, whose `source` is the number of the frame and
            `seconds` its time.

        Raises:
            ssdops.image_io.ImageError: If the file is absent or cannot be read.
            ImportError: If neither PyAV nor OpenCV is installed.
            ValueError: If `every` or `max_frames` is below 1.
        """
        for name, value in (("every", every), ("max_frames", max_frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        frames = read_frames(path)

        def items() -> Iterator[_Item]:
            used = 0
            for number, seconds, pixels in frames:
                if number % every:
                    continue
                yield _Item(number, pixels, seconds)
                used += 1
                if used == max_frames:
                    return

        return self._stream(items(), "raise")

    def _stream(self, items: Iterable[_Item], on_error: str) -> Iterator[DetectedImage]:
        """Yields results in order; images are decoded ahead by threads."""
        ahead = 2 * self._batch_size
        waiting: deque[Future[_Item]] = deque()
        source = iter(items)
        with ThreadPoolExecutor(_DECODING_THREADS) as pool:
            try:
                while True:
                    while len(waiting) < ahead:
                        item = next(source, None)
                        if item is None:
                            break
                        waiting.append(pool.submit(self._decoded, item))
                    batch = [
                        waiting.popleft().result()
                        for _ in range(min(self._batch_size, len(waiting)))
                    ]
                    if not batch:
                        return
                    if on_error == "raise":
                        for item in batch:
                            if item.error is not None:
                                raise item.error
                    yield from self._detect_batch(batch)
            finally:
                for future in waiting:
                    future.cancel()

    def _decoded(self, item: _Item) -> _Item:
        """Returns the views of the image as the network takes them, or why not."""
        try:
            image = image_array(item.image)
        except ImageError as error:
            is_named = isinstance(item.source, str)
            named = error if is_named else ImageError(f"{item.source}: {error}")
            return replace(item, image=None, error=named)
        fit = self.model.spec.preprocessing.fit
        pictures = [view.of(image) for view in self._views]
        return replace(
            item,
            image=None if isinstance(item.source, str) else image,
            size=(image.shape[0], image.shape[1]),
            pictures=[fit(picture) for picture in pictures],
            picture_sizes=[(each.shape[0], each.shape[1]) for each in pictures],
        )

    def _detect_batch(self, batch: list[_Item]) -> list[DetectedImage]:
        usable = [item for item in batch if item.error is None]
        pictures = [picture for item in usable for picture in item.pictures]
        sizes = [size for item in usable for size in item.picture_sizes]
        found = iter(self._detect_pictures(pictures, sizes))
        results = []
        for item in batch:
            if item.error is not None:
                message = str(item.error)
                results.append(
                    DetectedImage.unreadable(item.source, message, self.class_names)
                )
            else:
                results.append(self._result(item, [next(found) for _ in self._views]))
        return results

    def _detect_pictures(
        self,
        pictures: Sequence[npt.NDArray[np.uint8]],
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
        """Yields boxes in the picture, scores and labels of each.

        Args:
            pictures: As the network takes them.
            sizes: Height and width that they had.
        """
        preprocessing = self.model.spec.preprocessing
        limits = self._limits.to_dict()
        limits.pop("clip")
        for first in range(0, len(pictures), self._batch_size):
            part = slice(first, first + self._batch_size)
            boxes, scores, labels, counts = (
                value.numpy()
                for value in self.model.detect(np.stack(pictures[part]), **limits)
            )
            for index, size in enumerate(sizes[part]):
                count = counts[index]
                # A network that diverged can give corners that are no numbers.
                finite = np.isfinite(boxes[index, :count]).all(axis=-1)
                yield (
                    preprocessing.to_image(boxes[index, :count][finite], size),
                    scores[index, :count][finite],
                    labels[index, :count][finite],
                )

    def _result(
        self,
        item: _Item,
        found: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]],
    ) -> DetectedImage:
        """Returns what all views of an image show."""
        size = item.size
        boxes, scores, labels = found[0]
        if self._augmentation is not None:
            parts = []
            for view, (seen, *values) in zip(self._views, found, strict=True):
                in_image, whole = view.to_image(seen, size)
                parts.append((in_image[whole], *(value[whole] for value in values)))
            boxes, scores, labels = merge_views(
                np.concatenate([part[0] for part in parts]),
                np.concatenate([part[1] for part in parts]),
                np.concatenate([part[2] for part in parts]),
                iou_threshold=self._augmentation.merge_iou,
                max_detections=self._limits.max_detections,
            )
        names = np.array([self.class_names[label] for label in labels], object)
        shown = np.array([name != UNUSED_NAME for name in names], bool)
        return DetectedImage(
            source=item.source,
            image_size=size,
            boxes=clip_boxes(boxes[shown]).astype(np.float32),
            scores=scores[shown].astype(np.float32),
            labels=labels[shown].astype(np.int32),
            names=tuple(names[shown]),
            class_names=self.class_names,
            seconds=item.seconds,
            _image=item.image,
        )


@dataclass
class _Item:
    """An image on its way.

    Attributes:
        source: Path or position.
        image: What was given, later RGB pixels of what is in no file.
        seconds: Time of a frame.
        size: Height and width.
        pictures: Views of it as the network takes them, uint8 [h, w, 3].
        picture_sizes: Height and width that these had in the image.
        error: Why it cannot be used.
    """

    source: str | int
    image: Any
    seconds: float | None = None
    size: tuple[int, int] = (0, 0)
    pictures: Sequence[npt.NDArray[np.uint8]] = ()
    picture_sizes: Sequence[tuple[int, int]] = ()
    error: ImageError | None = None


def _items(images: Iterable[Any]) -> Iterator[_Item]:
    for index, image in enumerate(images):
        yield _Item(os.fspath(image) if _is_path(image) else index, image)


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def _load(
    model: SSD | str | os.PathLike[str],
    weights: str | os.PathLike[str] | None,
    class_names: Sequence[str] | None,
) -> SSD:
    """Returns the detector that the arguments describe."""
    if weights is not None:
        if isinstance(model, SSD) or Path(model).exists():
            raise ValueError(
                f"{model} is a saved model with weights of its own: leave out weights"
            )
        return build_from_weights(os.fspath(model), weights, class_names)[0]
    if not isinstance(model, SSD):
        if not Path(model).exists() and os.fspath(model) in available_models():
            raise ValueError(f"{model} needs weights, or the folder of a saved model")
        if not Path(model).exists():
            raise ValueError(
                f"{model} is neither a saved model nor one of "
                f"{', '.join(available_models())}"
            )
        model = load_model(model)
    if class_names is None:
        return model
    return SSD(model.spec, model.network, class_names)
