"""A million pictures: Ray Data reads, spreads, repeats what failed, and writes; every worker has a predictor."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.images import list_images
from keras_ehrnet.poses import Poses
from keras_ehrnet.support.errors import ImageError, KerasEhrnetError
from keras_ehrnet.support.messages import is_whole, needing, warn

if TYPE_CHECKING:
    import pyarrow

    from keras_ehrnet.prediction.predictor import PosePredictor

BATCH = 16
"""Pictures that a worker takes at a time."""

PART = 256
"""Pictures whose people lie in one file: what is lost of a run that is ended."""


@dataclass(frozen=True)
class ManyReport:
    """What was done with many pictures.

    Args:
        images: int. Pictures looked at in this run.
        earlier: int. Pictures that an earlier run had done.
        failed: int. Pictures of this run that could not be read; their rows have an `error`.
        persons: int. Persons found in this run.
        output: Path of the folder of Parquet files.
    """

    images: int
    earlier: int
    failed: int
    persons: int
    output: Path


@needing("predict_with_ray")
def predict_with_ray(
    predictor: PosePredictor, source: str | Path, output: str | Path, *, workers: int = 2, part: int = PART
) -> ManyReport:
    """People in any number of pictures, found by the workers of a Ray cluster, or of this machine.

    A picture that cannot be read has a row with an `error`. The work of a worker that dies is done by another. A run
    that was ended goes on where it was: what `output` holds already is not done again.

    Args:
        predictor: `PosePredictor`. It travels to the workers.
        source: folder of images, those of its folders included; pattern; or Parquet, a file or a folder, with a column
            `path` of paths and of addresses that Arrow reads, such as `s3://bucket/photo.jpg`.
        output: folder of Parquet files to write. A row has `path`, `error`, `width`, `height`, `skeleton`, and for
            every person its number in `scores`, and in `keypoints` x, y and score of every joint.
        workers: int. How many work at a time.
        part: int. At most so many pictures in one file.

    Returns:
        `ManyReport`.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        KerasEhrnetError: if the Parquet has no such column, or the output is in the way.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.prediction.ray_engine import predict_with_ray
        >>> predict_with_ray(ke.PosePredictor.load(), "photos", "people", workers=8)  # doctest: +SKIP
        ManyReport(images=1000000, earlier=0, failed=3, persons=2311042, output=PosixPath('people'))
    """
    for name, number in (("workers", workers), ("part", part)):
        if not is_whole(number):
            raise KerasEhrnetError(f"{name} is a whole number, 1 or more. Received: {name}={number!r}")
    folder = Path(output)
    done = _done(folder)
    earlier = set(_parts(folder))
    paths = [path for path in _paths(Path(source)) if path not in done]
    if not paths:
        return ManyReport(0, len(done), 0, 0, folder)
    folder.mkdir(parents=True, exist_ok=True)
    ray = _started()
    parts = -(-len(paths) // part)
    found = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=parts)
    found = found.map_batches(
        _Worker,
        fn_constructor_kwargs={"predictor": predictor},
        compute=ray.data.ActorPoolStrategy(size=min(workers, parts)),
        batch_size=min(BATCH, part),
        batch_format="pyarrow",
    )
    # Written while others are looked at: workers may hold all processors to the end.
    found.write_parquet(str(folder.absolute()), mode="append", ray_remote_args={"num_cpus": 0})
    rows = [row for file in _parts(folder) if file not in earlier for row in _read(file, ["error", "scores"])]
    failed = sum(row["error"] is not None for row in rows)
    return ManyReport(len(rows), len(done), failed, sum(len(row["scores"]) for row in rows), folder)


def _started() -> Any:
    """Ray, on the cluster that the environment variable RAY_ADDRESS names, else on this machine."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    return ray


class _Worker:
    """Looks at a batch of pictures, in a process of its own."""

    def __init__(self, predictor: PosePredictor) -> None:
        self._predictor = predictor

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        import pyarrow

        rows = [self._row(path) for path in batch.column("path").to_pylist()]
        return pyarrow.Table.from_pylist(rows, schema=_schema())

    def _row(self, path: str) -> dict[str, Any]:
        try:
            poses = self._predictor.one(_opened(path))
        except (ImageError, OSError) as error:
            nobody = Poses.empty(self._predictor.network.skeleton)
            return _described(path, nobody, str(error))
        return _described(path, poses, None)


def _opened(path: str) -> str | bytes:
    """Paths as they are; what lies elsewhere is fetched by Arrow."""
    if "://" not in path:
        return path
    import pyarrow
    from pyarrow.fs import FileSystem

    try:
        place, name = FileSystem.from_uri(path)
        with place.open_input_stream(name) as stream:
            return stream.read()
    except pyarrow.ArrowException as error:
        raise OSError(f"Arrow cannot read this address ({error}). Received: {path}") from error


def _described(path: str, poses: Poses, error: str | None) -> dict[str, Any]:
    width, height = poses.image_size or (None, None)
    return {
        "path": path,
        "error": error,
        "width": width,
        "height": height,
        "skeleton": poses.skeleton.name,
        "scores": poses.scores.tolist(),
        "keypoints": poses.keypoints.reshape(len(poses), 3 * poses.skeleton.num_joints).tolist(),
    }


def _schema() -> pyarrow.Schema:
    import pyarrow

    numbers = pyarrow.list_(pyarrow.float32())
    text, whole = pyarrow.string(), pyarrow.int32()
    columns = {"path": text, "error": text, "width": whole, "height": whole, "skeleton": text}
    return pyarrow.schema({**columns, "scores": numbers, "keypoints": pyarrow.list_(numbers)})


def _paths(source: Path) -> list[str]:
    if source.suffix != ".parquet" and not (source.is_dir() and _parts(source)):
        return [str(path.absolute()) for path in list_images(source, recursive=True)]
    files = _parts(source) if source.is_dir() else [source]
    if not all(file.is_file() for file in files):
        raise FileNotFoundError(f"There is no such file or folder. Received: {source}")
    # A picture named twice is one.
    return list(dict.fromkeys(row["path"] for file in files for row in _read(file, ["path"])))


def _done(folder: Path) -> set[str]:
    """Pictures that an earlier run wrote down. Files it did not finish are removed."""
    done: set[str] = set()
    for file in _parts(folder) if folder.exists() else []:
        try:
            done |= {row["path"] for row in _read(file, ["path", "scores"])}
        except KerasEhrnetError:
            if file.name.split(".")[0].count("_") < 2:  # Not of Ray's names.
                raise
            warn(f"An earlier run did not finish this file: it is written anew. Received: {file}")
            file.unlink()
    return done


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _read(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        yield from parquet.read_table(file, columns=columns).to_pylist()
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        wanted = " and ".join(columns)
        raise KerasEhrnetError(f"This is no intact Parquet file with a column {wanted}. Received: {file}") from error
