"""A folder as parts of limited size with checksums, and back: for ways of transport that limit the size of files.

python training/own_weights/parts.py split runs/h-4 FOLDER --mib 15
python training/own_weights/parts.py join FOLDER/h-4.json runs/h-4
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ehrnet.files import write_file

MIB = 1 << 20
PART_MIB = 15.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def split(folder: Path, target: Path, limit: int = int(PART_MIB * MIB), skip: Sequence[str] = ()) -> Path:
    """Writes a folder as `NAME.part01`, `NAME.part02` ... and, last of all, `NAME.json` with their checksums.

    Args:
        folder: Path of the folder; its name is that of the parts.
        target: Path of the folder to write to. Parts of an earlier call are replaced.
        limit: int. Largest size of a part, in bytes.
        skip: names of files and folders in it to leave out.

    Returns:
        Path of the JSON.

    Raises:
        ValueError: if there is no such folder, or the limit is too small to make sense.

    Example:
        >>> from pathlib import Path
        >>> manifest = split(Path("runs/h-4"), Path("out"))  # doctest: +SKIP
        >>> join(manifest, Path("runs/h-4"))  # doctest: +SKIP
    """
    if not folder.is_dir():
        raise ValueError(f"Only a folder can be split. Received: {folder}")
    if limit < 1024:
        raise ValueError(f"A part must be allowed 1024 bytes at least. Received: {limit}")
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / f"{folder.name}.json"
    for old in (manifest, *target.glob(f"{folder.name}.part*")):
        old.unlink(missing_ok=True)

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if set(Path(member.name).parts) & set(skip) else member

    writer = _Writer(lambda number: target / f"{folder.name}.part{number:02d}", limit)
    with tarfile.open(fileobj=writer, mode="w|") as archive:
        archive.add(folder, arcname=".", filter=wanted)
    write_file(manifest, json.dumps({"name": folder.name, "parts": writer.close()}, indent=2) + "\n")
    return manifest


def join(manifest: Path, folder: Path) -> Path:
    """Brings a folder back that `split` has written; what was there before is replaced by a whole one only.

    Args:
        manifest: Path of the JSON; the parts lie beside it.
        folder: Path of the folder to make.

    Returns:
        The same path.

    Raises:
        ValueError: naming the part that is missing or damaged.
    """
    parts = read_manifest(manifest)["parts"]
    check_files(manifest.parent, parts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".joining-") as temporary:
        whole = Path(temporary) / "whole"
        reader = _Reader(manifest.parent / part["name"] for part in parts)
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            archive.extractall(whole, filter="data")
        if folder.exists():
            folder.rename(Path(temporary) / "before")
        whole.rename(folder)
    return folder


def read_manifest(path: Path) -> dict[str, Any]:
    """Content of a JSON of `split` or of a pack.

    Raises:
        ValueError: if it is missing or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(content["name"], str)
    except FileNotFoundError:
        raise ValueError(f"There is no such list of parts. Received: {path}") from None
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"This is no list of parts. Received: {path}") from error
    return content


def check_files(folder: Path, entries: Sequence[dict[str, Any]]) -> None:
    """ValueError naming the first of the files that is missing, or not the one that was written."""
    for entry in entries:
        path = folder / entry["name"]
        if not path.is_file():
            raise ValueError(f"A part is missing: bring it too. Received: {path}")
        size, checksum = path.stat().st_size, checksum_of(path)
        if checksum != entry["sha256"]:
            raise ValueError(
                f"A part is damaged: its sha256 is {checksum} ({size} bytes), expected {entry['sha256']} "
                f"({entry['bytes']} bytes). Received: {path}"
            )


def checksum_of(path: Path) -> str:
    """Sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


class _Writer:
    """A file for `tarfile` that goes on in the next part where one is full."""

    def __init__(self, path_of: Callable[[int], Path], limit: int) -> None:
        self._path_of, self._limit, self._file, self._room = path_of, limit, None, 0
        self._paths: list[Path] = []

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            if not self._room:
                self._next()
            written = self._file.write(view[: self._room])
            self._room -= written
            view = view[written:]
        return len(data)

    def _next(self) -> None:
        if self._file is not None:
            self._file.close()
        self._paths.append(self._path_of(len(self._paths) + 1))
        self._file, self._room = self._paths[-1].open("wb"), self._limit

    def close(self) -> list[dict[str, Any]]:
        self._file.close()
        return [{"name": path.name, "bytes": path.stat().st_size, "sha256": checksum_of(path)} for path in self._paths]


class _Reader:
    """The parts one after the other, as one file for `tarfile`."""

    def __init__(self, paths: Iterator[Path]) -> None:
        self._paths, self._file = iter(paths), None

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._file.read(size - len(data)) if self._file else b""
            data += more
            if not more and not self._next():
                break
        return data

    def _next(self) -> bool:
        if self._file is not None:
            self._file.close()
        path = next(self._paths, None)
        self._file = path.open("rb") if path else None
        return path is not None


@app.command("split")
def split_command(
    folder: Annotated[Path, typer.Argument(help="Folder to split.")],
    target: Annotated[Path, typer.Argument(help="Folder to write the parts to.")],
    mib: Annotated[float, typer.Option(help="Largest size of a part, in MiB.")] = PART_MIB,
) -> None:
    """Write a folder as parts, with checksums."""
    manifest = split(folder, target, int(mib * MIB))
    parts = read_manifest(manifest)["parts"]
    print(f"{len(parts)} parts, {sum(part['bytes'] for part in parts) / MIB:.1f} MiB: {manifest}")


@app.command("join")
def join_command(
    manifest: Annotated[Path, typer.Argument(help="NAME.json, with the parts beside it.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Make the folder again."""
    print(join(manifest, folder))


def run_app(command: Callable[[], None]) -> None:
    """Runs a command line; mistakes end in one sentence."""
    try:
        command()
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run_app(app)
