"""A data set as a few archives of limited size, to be sent to a machine without network, and unpacked there.

python training/own_weights/pack.py make coco train.json train/ packs/coco_train --longest 384
python training/own_weights/pack.py make lspet train.json train.zip packs/lspet_train --limit 2000
python training/own_weights/pack.py check packs/coco_train.json
python training/own_weights/pack.py unpack packs/coco_train.json data

A pack is `NAME-1.zip`, `NAME-2.zip` ... and `NAME.json`, which holds their checksums. Unpacked it is `NAME/`, with
`annotations.json` and `images/`. Images are copied as they are, unless they are to be smaller.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from parts import MIB, check_files, checksum_of, read_manifest, run_app

from keras_ehrnet.data import read_coco, read_image, read_lspet
from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.data.images import find_images
from keras_ehrnet.errors import suggestion
from keras_ehrnet.files import write_file

SHARD_MIB = 60.0
ANNOTATIONS, IMAGES, UNPACKED = "annotations.json", "images", "pack.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Kind:
    """What a kind of annotation file has of images, besides `images` with `file_name`, `width` and `height`.

    Args:
        read: callable of annotations and images that gives a `Dataset`.
        resize: callable of the content and, by image key, the factors of width and height. Changes coordinates.
        key: str. Field of an image's entry that the people in it refer to.
    """

    read: Callable[..., Dataset]
    resize: Callable[[dict[str, Any], dict[Any, np.ndarray]], None]
    key: str


def _resize_coco(content: dict[str, Any], factors: dict[Any, np.ndarray]) -> None:
    for person in content["annotations"]:
        factor = factors[person["image_id"]]
        if isinstance(person.get("segmentation"), dict):
            raise ValueError(
                "Run lengths cannot be made smaller: pack these images as they are. "
                f"Received: annotation {person['id']}"
            )
        keypoints = np.array(person.get("keypoints", ()), float).reshape(-1, 3)
        person["keypoints"] = (keypoints * [*factor, 1]).round(2).reshape(-1).tolist()
        person["bbox"] = (np.array(person["bbox"], float) * [*factor, *factor]).round(2).tolist()
        person["area"] = round(float(person["area"] * factor.prod()), 3)
        if person.get("segmentation"):
            polygons = (np.array(polygon, float).reshape(-1, 2) * factor for polygon in person["segmentation"])
            person["segmentation"] = [polygon.round(2).reshape(-1).tolist() for polygon in polygons]


def _resize_lspet(content: dict[str, Any], factors: dict[Any, np.ndarray]) -> None:
    for entry in content["images"]:
        entry["joints"] = (np.array(entry["joints"], float) * factors[entry["file_name"]]).round(2).tolist()


KINDS = {"coco": Kind(read_coco, _resize_coco, "id"), "lspet": Kind(read_lspet, _resize_lspet, "file_name")}


def make(
    kind: str,
    annotations: Path,
    images: Path,
    target: Path,
    *,
    longest: int | None = None,
    quality: int | None = None,
    limit: int | None = None,
    shard_size: int = int(SHARD_MIB * MIB),
) -> Path:
    """Packs a data set.

    Args:
        kind: str. Key of `KINDS`.
        annotations: Path of its JSON.
        images: Path of the folder or archive with its images.
        target: Path `FOLDER/NAME` of the pack.
        longest: int or None. Longer sides of images are made that long, annotations with them.
        quality: int or None. JPEG quality of 1 to 100 to encode anew with; None: as they are, or 85 for smaller ones.
        limit: int or None. So many images, evenly spread over the file.
        shard_size: int. Largest size of an archive, in bytes.

    Returns:
        Path of the pack's JSON.

    Raises:
        ValueError: if the annotations are wrong, or an image is too large for an archive.
        OSError: if an image is missing, or the pack cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"No data set of that kind can be packed. {suggestion(kind, KINDS)} Received: {kind!r}")
    KINDS[kind].read(annotations, images)  # Whatever is wrong is told here rather than far away.
    content = _limited(json.loads(annotations.read_text(encoding="utf-8")), KINDS[kind], limit)
    if longest is not None and quality is None:
        quality = 85
    files = list(_files(content, images, KINDS[kind], longest, quality))
    text = json.dumps(content, separators=(",", ":")).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in (target.with_name(f"{target.name}.json"), *target.parent.glob(f"{target.name}-*.zip")):
        old.unlink(missing_ok=True)
    shards = [
        _write_shard(target.with_name(f"{target.name}-{number}.zip"), members)
        for number, members in enumerate(_filled([(ANNOTATIONS, text), *files], shard_size), start=1)
    ]
    manifest = {
        "name": target.name,
        "kind": kind,
        "images": len(files),
        "made_from": annotations.name,
        "longest": longest,
        "quality": quality,
        "shards": shards,
    }
    path = target.with_name(f"{target.name}.json")
    write_file(path, json.dumps(manifest, indent=2) + "\n")
    return path


def unpack(manifest: Path, folder: Path) -> list[str]:
    """Unpacks what has come of a pack; archives that were unpacked before need not be there any more.

    Args:
        manifest: Path of the pack's JSON; its archives lie beside it.
        folder: Path. Receives `NAME/annotations.json` and `NAME/images/`.

    Returns:
        Names of the archives that are still missing; none: the data set is complete.

    Raises:
        ValueError: if an archive is damaged.
    """
    content = read_manifest(manifest)
    place = folder / content["name"]
    record = place / UNPACKED
    done = json.loads(record.read_text()) if record.exists() else []
    for shard in content["shards"]:
        if shard["sha256"] in done or not (manifest.parent / shard["name"]).is_file():
            continue
        check_files(manifest.parent, [shard])
        with zipfile.ZipFile(manifest.parent / shard["name"]) as archive:
            archive.extractall(place)
        done.append(shard["sha256"])
        write_file(record, json.dumps(done))
    return [shard["name"] for shard in content["shards"] if shard["sha256"] not in done]


def check(manifest: Path, folder: Path) -> Dataset:
    """Unpacks a pack and reads every image.

    Raises:
        ValueError: if something is missing or damaged.
    """
    content = read_manifest(manifest)
    missing = unpack(manifest, folder)
    if missing:
        raise ValueError(f"Archives are missing: {', '.join(missing)}. Received: {manifest}")
    place = folder / content["name"]
    dataset = KINDS[content["kind"]].read(place / ANNOTATIONS, place / IMAGES)
    for sample in dataset:
        sample.read()
    return dataset


def _limited(content: dict[str, Any], kind: Kind, limit: int | None) -> dict[str, Any]:
    if limit is None or limit >= len(content["images"]):
        return content
    if limit < 1:
        raise ValueError(f"limit must be at least 1. Received: {limit}")
    rows = np.linspace(0, len(content["images"]) - 1, limit).round().astype(int)
    kept = [content["images"][row] for row in rows]
    keys = {entry[kind.key] for entry in kept}
    people = [person for person in content.get("annotations", ()) if person["image_id"] in keys]
    return {**content, "images": kept, **({"annotations": people} if "annotations" in content else {})}


def _files(
    content: dict[str, Any], images: Path, kind: Kind, longest: int | None, quality: int | None
) -> Iterator[tuple[str, bytes]]:
    """Name and content of every image file; brings the annotations to the sizes of the images."""
    sources = find_images([entry["file_name"] for entry in content["images"]], images)
    factors = {}
    for entry in content["images"]:
        data, factor = sources[entry["file_name"]].read_bytes(), np.ones(2)
        if quality is not None:
            data, size = _encoded(data, longest, quality)
            factor = np.array(size) / (entry["width"], entry["height"])
            entry["width"], entry["height"] = size
        factors[entry[kind.key]] = factor
        yield f"{IMAGES}/{entry['file_name']}", data
    if longest is not None:
        kind.resize(content, factors)


def _encoded(data: bytes, longest: int | None, quality: int) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of an image, and its width and height."""
    image = read_image(data)
    factor = min(1.0, (longest or max(image.shape)) / max(image.shape[:2]))
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    if factor < 1:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes(), size


def _filled(files: list[tuple[str, bytes]], limit: int) -> Iterator[list[tuple[str, bytes]]]:
    """Files shared out so that each archive stays below the limit."""
    members, size = [], 0
    for name, data in files:
        needed = len(data) + 2 * len(name) + 256  # Headers here, and in the list at the archive's end.
        if needed > limit:
            raise ValueError(f"A file does not fit an archive of {limit} bytes. Received: {name}, {len(data)} bytes")
        if members and size + needed > limit:
            yield members
            members, size = [], 0
        members.append((name, data))
        size += needed
    yield members


def _write_shard(path: Path, members: list[tuple[str, bytes]]) -> dict[str, Any]:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            # Without times, so that the same data give the same archive.
            packed = zipfile.ZIP_DEFLATED if name == ANNOTATIONS else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), data, packed)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": checksum_of(path)}


@app.command("make")
def make_command(
    kind: Annotated[str, typer.Argument(help="What the annotations are: coco or lspet.")],
    annotations: Annotated[Path, typer.Argument(help="JSON of the data set.")],
    images: Annotated[Path, typer.Argument(help="Folder or zip archive of its images.")],
    target: Annotated[Path, typer.Argument(help="FOLDER/NAME of the pack.")],
    longest: Annotated[int | None, typer.Option(help="Make longer sides of images that long.")] = None,
    quality: Annotated[int | None, typer.Option(help="Encode JPEGs anew with this quality.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take so many images, evenly spread.")] = None,
    shard_mib: Annotated[float, typer.Option(help="Largest size of an archive, in MiB.")] = SHARD_MIB,
) -> None:
    """Pack a data set, and check the pack."""
    manifest = make(
        kind,
        annotations,
        images,
        target,
        longest=longest,
        quality=quality,
        limit=limit,
        shard_size=int(shard_mib * MIB),
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = check(manifest, Path(folder))
    for shard in read_manifest(manifest)["shards"]:
        print(f"{shard['name']}: {shard['bytes'] / MIB:.1f} MiB")
    print(f"{dataset!r}: {manifest}")


@app.command("check")
def check_command(manifest: Annotated[Path, typer.Argument(help="NAME.json of a pack.")]) -> None:
    """Compare the checksums of a pack, and read every image."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"{check(manifest, Path(folder))!r}: intact")


@app.command("unpack")
def unpack_command(
    manifest: Annotated[Path, typer.Argument(help="NAME.json of a pack.")],
    folder: Annotated[Path, typer.Argument(help="Where to: becomes FOLDER/NAME.")],
) -> None:
    """Unpack what is there of a pack."""
    missing = unpack(manifest, folder)
    print(
        f"still missing: {', '.join(missing)}" if missing else f"complete: {folder / read_manifest(manifest)['name']}"
    )


if __name__ == "__main__":
    run_app(app)
