"""One object for images, batches, folders, videos and cameras."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from keras_ehrnet import runtime
from keras_ehrnet.images import ImageError, ImageSource, is_one_image, list_images, read_image
from keras_ehrnet.poses import Poses, draw
from keras_ehrnet.prediction.pipeline import Settings, check_refining, check_settings, estimate, heatmap
from keras_ehrnet.prediction.sources import PATIENCE, is_pattern, is_video, names_videos
from keras_ehrnet.prediction.video import VideoReport, process
from keras_ehrnet.runtime.network import Network
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import needing, suggests_keywords, warn
from keras_ehrnet.weights import registry
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras

Image = ImageSource
BATCH_SIZE = 8


@dataclass(frozen=True)
class FileResult:
    """What became of one image file.

    Args:
        path: Path of the file.
        poses: `Poses`, or None where the file could not be read.
        error: str, or None. Why not.
    """

    path: Path
    poses: Poses | None
    error: str | None = None


class PosePredictor:
    """Finds people, whatever the network and wherever the images come from.

    Args:
        network: `Network`, as `keras_ehrnet.runtime.load` gives it, or a `keras.Model` of this package.
        refine: `Network` for one person at a time, or None. It places the joints of everyone whom the first network
            finds anew, in a crop each, see `prediction.refining`.
        protocol: str. For EfficientHRNet: `"paper"` groups at full resolution as the papers evaluate, `"fast"` straight
            from the network's maps. Exported models that decode by themselves are always fast.
        flip: bool. Whether to average with the mirrored image.
        scales: tuple of float. For EfficientHRNet: image scales to average over; needs the paper's protocol.
        multi_person: bool. For EfficientPose: find several people through the part affinity fields.
        smooth: bool. For EfficientPose: blur the heatmaps before looking for their highest place.
        max_people: int. At most so many people per image.
        min_score: float or None. People with a lower score are left out; None: what was measured for the network's
            weights, see `Network.min_score`.

    Raises:
        ValueError: if settings contradict each other, or the network cannot follow them.

    Example:
        >>> import numpy as np, keras_ehrnet as ke
        >>> predictor = ke.PosePredictor.load(ke.EfficientPose("RT"), skeleton=ke.skeletons.MPII_16)
        >>> predictor(np.zeros((480, 640, 3), np.uint8)).keypoints.shape
        (1, 16, 3)
    """

    @suggests_keywords
    def __init__(
        self,
        network: Network | keras.Model,
        *,
        refine: Network | keras.Model | None = None,
        protocol: str = "paper",
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        multi_person: bool = False,
        smooth: bool = False,
        max_people: int = 30,
        min_score: float | None = None,
    ) -> None:
        self.network = network if hasattr(network, "family") else runtime.load(network)
        self.refine = refine if refine is None or hasattr(refine, "family") else runtime.load(refine)
        self._maps: Network | None = None
        self.settings = Settings(
            protocol=protocol,
            flip=flip,
            scales=scales,
            multi_person=multi_person,
            smooth=smooth,
            max_people=max_people,
            min_score=min_score,
        )
        check_settings(self.network, self.settings)
        check_refining(self.network, self.refine)

    @classmethod
    @suggests_keywords
    def load(
        cls,
        source: str | Path | keras.Model | None = None,
        *,
        weights: WeightsSource | None = None,
        skeleton: Skeleton | None = None,
        input_size: tuple[int, int] | None = None,
        refine: str | Path | keras.Model | None = None,
        protocol: str = "paper",
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        multi_person: bool = False,
        smooth: bool = False,
        max_people: int = 30,
        min_score: float | None = None,
    ) -> PosePredictor:
        """A predictor from a model of the papers by name, from a file, or from a model in hand.

        Args:
            source: name such as `"efficientpose-rt"` or `"h-2"`, path of a `.keras`, `.tflite` or `.onnx` file, or
                `keras.Model`. None: the package's own weights, through LiteRT: `weights.DEFAULT` find people,
                `weights.DEFAULT_REFINE` place each of them anew, unless `refine` names others.
            weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights.
            skeleton: `Skeleton`, or None for the one that the file names. Where none does, the number of keypoints
                suggests one, which a warning tells.
            input_size: tuple (height, width) in pixels, or None for the model's own.
            refine: what `source` may be, or None: a second network that places everyone anew, see the class.
            protocol, flip, scales, multi_person, smooth, max_people, min_score: see the class.

        Returns:
            `PosePredictor`.

        Raises:
            ValueError: if there is no such model, file or weights.
        """
        network, second = load_networks(source, refine, weights=weights, skeleton=skeleton, input_size=input_size)
        return cls(
            network,
            refine=second,
            protocol=protocol,
            flip=flip,
            scales=scales,
            multi_person=multi_person,
            smooth=smooth,
            max_people=max_people,
            min_score=min_score,
        )

    def __call__(
        self, images: Image | Sequence[Image], boxes: np.ndarray | Sequence[np.ndarray] | None = None
    ) -> Poses | list[Poses]:
        """People in one image, or in several.

        Args:
            images: the path of an image, an array of shape `(H, W, 3)` (uint8 or float in [0, 255], RGB), a PIL image,
                or an encoded image as bytes; or a list of these, an array of shape `(B, H, W, 3)`, a folder, or a
                pattern such as `"photos/*.jpg"`, of which files that cannot be read are left out with a warning
                (`files` tells which). Videos: see `video`.
            boxes: float array of shape `(N, 4)`, or a list of them for several images. For networks that take one
                person each: left, top, right, bottom of every person, in pixels.

        Returns:
            `Poses` for one image; for several, a list of them.

        Raises:
            ImageError: if an image cannot be read.
            FileNotFoundError: if there is no such file.
            ValueError: if the boxes do not fit the images or the network.
        """
        _refuse_videos(images)
        if isinstance(images, (str, os.PathLike)):
            if not _names_several(images):
                return self.one(images, cast("np.ndarray | None", boxes))
            if boxes is not None:
                raise ValueError(
                    "Boxes are given per image: pass a list of the images' paths instead of a folder or pattern. "
                    f"Received: boxes for {str(images)!r}"
                )
            return self._folder(images)
        if is_one_image(images):
            return self.one(images, cast("np.ndarray | None", boxes))
        listed = list(cast("Sequence[Image]", images))
        boxes = cast("Sequence[np.ndarray] | None", boxes)
        return [poses for batch, here in _batches(listed, boxes) for poses in self._batch(batch, here)]

    def one(self, image: Image, boxes: np.ndarray | None = None) -> Poses:
        """People in one image: as a call, but that lists and folders are mistakes.

        Args:
            image: one of what a call takes.
            boxes: float array of shape `(N, 4)`, or None.

        Returns:
            `Poses`.

        Raises:
            ImageError: if it cannot be read, or is more than one.
        """
        return self._batch([image], None if boxes is None else [boxes])[0]

    def _batch(self, sources: Sequence[Image], boxes: Sequence[np.ndarray] | None = None) -> list[Poses]:
        images = [read_image(source) for source in sources]
        people = estimate(self.network, images, self.settings, boxes, self.refine)
        return [replace(poses, image=image) for poses, image in zip(people, images, strict=True)]

    def heatmap(self, image: Image) -> np.ndarray:
        """Where in an image the network sees joints, of whichever kind: what `draw.heat` takes.

        The package's own weights come as files that give joints alone: their maps are those of the same weights in
        Keras, which must be installed.

        Args:
            image: one of what a call takes.

        Returns:
            Float32 array of shape `(H, W)`, about 0 to 1.

        Raises:
            ValueError: if the network gives no maps, as an exported one that decodes by itself.
            MissingPackageError: for the package's own weights, where Keras is missing.
        """
        return heatmap(self._with_maps(), read_image(image))

    def _with_maps(self) -> Network:
        """The network; of the package's own weights the same in Keras."""
        entry = registry.packaged().get(self.network.name)
        if self.network.decode == "none" or entry is None:
            return self.network
        if self._maps is None:
            with needing(f"The heatmap of {entry.name}"):
                import_module("keras")
            self._maps = runtime.load(entry.name, input_size=entry.input_size)
        return self._maps

    def _folder(self, place: str | os.PathLike) -> list[Poses]:
        results = list(self.files(list_images(place)))
        failed = [result for result in results if result.poses is None]
        if failed:
            warn(f"{len(failed)} of {len(results)} files left out: {failed[0].error}")
        return [result.poses for result in results if result.poses is not None]

    def files(self, paths: Iterable[str | Path]) -> Iterator[FileResult]:
        """People in image files, one after the other; a file that cannot be read does not stop the others.

        Args:
            paths: iterable of paths of image files.

        Yields:
            `FileResult`, in the order of the paths.
        """
        for path in map(Path, paths):
            try:
                yield FileResult(path, self._batch([path])[0])
            except (ImageError, OSError) as error:
                yield FileResult(path, None, str(error))

    @suggests_keywords
    def video(
        self,
        source: str | Path | int,
        *,
        output: str | Path | None = None,
        poses: str | Path | None = None,
        smooth: bool = False,
        track: bool = False,
        threshold: float = 0.2,
        style: draw.Style | None = None,
        max_frames: int | None = None,
        on_frame: Callable[[int, np.ndarray, Poses], None] | None = None,
        progress: bool = True,
        patience: float = PATIENCE,
    ) -> VideoReport:
        """People in every frame of a video.

        Args:
            source: path of a video file, number of a camera, address of a stream (`rtsp://`, `http://` ...) or
                GStreamer pipeline.
            output: path or None. Where to write the video with people drawn in it.
            poses: path or None. Where to write the people: a line of JSON per frame.
            smooth: bool. Whether to smooth coordinates over time; tracks too.
            track: bool. Whether to give persons identities.
            threshold: float. Joints with a score below it are not drawn.
            style: `draw.Style`, or None: how people are drawn.
            max_frames: int or None. Stop after so many frames.
            on_frame: callable or None. Called with frame number, RGB frame and `Poses`.
            progress: bool. Whether to show a progress bar.
            patience: float. Seconds for which a stream that broke is opened again; 0: not at all.

        Returns:
            `VideoReport`; more of it stands at `keras_ehrnet.prediction.video.process`.

        Raises:
            VideoError: if the video cannot be opened, or the output cannot be written.
        """
        return process(
            self.network,
            self.settings,
            source,
            output=output,
            poses=poses,
            smooth=smooth,
            track=track,
            threshold=threshold,
            style=style,
            max_frames=max_frames,
            on_frame=on_frame,
            progress=progress,
            refine=self.refine,
            patience=patience,
        )

    def __repr__(self) -> str:
        height, width = self.network.input_size
        return f"PosePredictor({self.network.name}, {self.network.skeleton.name}, input {width}x{height})"


def load_networks(
    source: str | Path | keras.Model | None,
    refine: str | Path | keras.Model | None,
    *,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
) -> tuple[Network, Network | None]:
    """The network that finds people, and the one that looks at them again; arguments as of `PosePredictor.load`.

    Where both are named alike they are one, with the same weights.
    """
    source, refine = registry.or_own(source, refine)
    network = runtime.load(source, weights=weights, skeleton=skeleton, input_size=input_size)
    return network, None if refine is None else network if refine == source else runtime.load(refine)


def _refuse_videos(images: object) -> None:
    if is_video(images) or names_videos(images):
        raise ValueError(f"Videos and cameras are read by predictor.video(source). Received: {images!r}")


def _names_several(place: str | os.PathLike) -> bool:
    """Whether this is a folder, or a pattern."""
    return Path(place).is_dir() or is_pattern(place)


def _batches(
    images: Sequence[Image], boxes: Sequence[np.ndarray] | None
) -> Iterator[tuple[list[Image], list[np.ndarray] | None]]:
    if boxes is not None and len(boxes) != len(images):
        raise ValueError(f"Boxes are given per image. Received: {len(boxes)} for {len(images)} images")
    for start in range(0, len(images), BATCH_SIZE):
        end = start + BATCH_SIZE
        yield list(islice(images, start, end)), None if boxes is None else list(boxes[start:end])
