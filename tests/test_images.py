"""Reading image files of every kind and condition, and writing pictures."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from keras_ehrnet.data import ArchiveMember, ImageError, is_image_file, list_images, read_image, write_image
from keras_ehrnet.images import encoded as encoded_images

RED = (230, 20, 10)


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    """An image file, from an array in OpenCV's channel order."""
    written, data = cv2.imencode(suffix, image)
    assert written
    return data.tobytes()


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth RGB picture whose corners differ."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, 255 - rows * 255 // height], -1).astype(np.uint8)


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with the EXIF tag that cameras set when they are held sideways."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0]) + bytes(4)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_formats_give_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bäd näme{suffix}"
    path.write_bytes(encoded(picture()[..., ::-1], suffix))
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == (40, 60, 3)
    assert np.abs(image.astype(int) - picture()).mean() < 3
    np.testing.assert_array_equal(read_image(str(path)), image)
    np.testing.assert_array_equal(read_image(path.read_bytes()), image)


def test_gray_alpha_and_16_bit() -> None:
    gray = read_image(encoded(picture()[..., 0]))
    np.testing.assert_array_equal(gray, np.repeat(picture()[..., :1], 3, axis=2))
    rgba = np.dstack([picture()[..., ::-1], np.full((40, 60), 7, np.uint8)])
    np.testing.assert_array_equal(read_image(encoded(rgba)), picture())  # The colors as stored.
    deep = picture()[..., ::-1].astype(np.uint16) * 256 + 99
    np.testing.assert_array_equal(read_image(encoded(deep)), picture())
    np.testing.assert_array_equal(read_image(encoded(deep[..., 0])), np.repeat(picture()[..., 2:], 3, axis=2))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / "print.jpg"
    image_module.new("RGB", (24, 16), RED).convert("CMYK").save(path, quality=95)
    image = read_image(path)
    assert image.shape == (16, 24, 3)
    assert np.abs(image.astype(int) - RED).max() <= 4


@pytest.mark.parametrize(("orientation", "shape"), [(1, (40, 60)), (3, (40, 60)), (6, (60, 40)), (8, (60, 40))])
def test_turned_upright(orientation: int, shape: tuple[int, int]) -> None:
    image = read_image(with_orientation(encoded(picture()[..., ::-1], ".jpg"), orientation))
    assert image.shape[:2] == shape
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert np.abs(image.astype(int) - np.rot90(picture(), turns)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_format_and_pil_images_are_turned_upright(form: str, orientation: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    from PIL import ImageOps

    exif, file = image_module.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 98} if form == "JPEG" else {}
    image_module.fromarray(picture()).save(file, form, exif=exif, **options)
    opened = image_module.open(file)
    expected = np.asarray(ImageOps.exif_transpose(opened))
    for source in (file.getvalue(), opened):
        image = read_image(source)
        assert image.shape == expected.shape and image.flags.c_contiguous
        assert np.abs(image.astype(int) - expected).max() <= (12 if form == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif", [b"", b"MM\x00*\x00\x00", b"II*\x00\xff\xff\xff\xff", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00"]
)
def test_damaged_exif_of_webp_counts_as_upright(exif: bytes) -> None:
    chunk = b"EXIF" + len(exif).to_bytes(4, "little") + exif
    plain = cv2.imencode(".webp", picture()[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    marked = plain[:4] + (len(plain) - 8 + len(chunk)).to_bytes(4, "little") + plain[8:] + chunk
    assert encoded_images.orientation(marked) == 1
    np.testing.assert_array_equal(read_image(marked), read_image(plain))


def test_pil_images() -> None:
    image_module = pytest.importorskip("PIL.Image")
    rgb = image_module.fromarray(picture())
    np.testing.assert_array_equal(read_image(rgb), picture())
    np.testing.assert_array_equal(read_image(rgb.convert("RGBA")), picture())
    np.testing.assert_array_equal(read_image(rgb.getchannel(1)), np.repeat(picture()[..., 1:2], 3, axis=2))
    deep = picture()[..., 0].astype(np.uint16) * 256 + 99
    np.testing.assert_array_equal(read_image(image_module.fromarray(deep)), np.repeat(picture()[..., :1], 3, axis=2))
    few = rgb.quantize(8)
    np.testing.assert_array_equal(read_image(few), np.asarray(few.convert("RGB")))
    np.testing.assert_array_equal(read_image(rgb.getchannel(1).convert("I")), read_image(rgb.getchannel(1)))
    with pytest.raises(ImageError, match=r"int32 in \[70000, 70000\]"):
        read_image(image_module.new("I", (4, 4), 70000))
    cut = image_module.open(io.BytesIO(encoded(picture(200, 300), ".jpg")[:1500]))
    with pytest.raises(ImageError, match="PIL image is damaged"):
        read_image(cut)


@pytest.mark.parametrize(("factor", "dtype"), [(1, np.float32), (1, np.int32), (257, np.int32)])
def test_numbers_of_other_kinds_are_read_where_they_are_colors(factor: int, dtype: type) -> None:
    file = encoded(picture()[..., ::-1].astype(dtype) * factor, ".tif")
    np.testing.assert_array_equal(read_image(file), picture())


@pytest.mark.parametrize("beyond", [-1.0, 256.0, 1e6, np.nan])
def test_intact_files_of_distances_are_not_called_damaged(tmp_path: Path, beyond: float) -> None:
    path, depth = tmp_path / "depth.tif", picture().astype(np.float32)
    depth[3, 4] = beyond
    path.write_bytes(encoded(depth, ".tif"))
    with pytest.raises(ImageError, match=r"8 or 16 bits per channel.*Received: float32 in \[.*\] in .*depth\.tif"):
        read_image(path)


@pytest.mark.parametrize("restarts", [0, 2])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_without_its_end_marker_is_shown_with_a_warning(
    capfd: pytest.CaptureFixture, tmp_path: Path, progressive: int, restarts: int
) -> None:
    settings = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
    whole = cv2.imencode(".jpg", picture(), settings)[1].tobytes()
    for missing in (1, 2):
        path = tmp_path / "cut.jpg"
        path.write_bytes(whole[:-missing])
        with pytest.warns(UserWarning, match=r"lacks its end marker, but nothing of the picture.*cut\.jpg"):
            np.testing.assert_array_equal(read_image(path), read_image(whole))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif", ".ppm", ".pgm", ".jp2"])
def test_sizes_are_known_before_decoding(suffix: str) -> None:
    rgb = picture()
    assert encoded_images.size(encoded(rgb[..., 0] if suffix == ".pgm" else rgb, suffix)) == (40, 60)


def test_pictures_larger_than_memory_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = zlib.compress(bytes(32000 // 8 + 1) * 100, 9)
    bomb = encoded_images.PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 32000, 32000, 1, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"takes 2930 MB.*KERAS_EHRNET_MAX_MEGABYTES=2930"):
        read_image(bomb)
    monkeypatch.setenv("KERAS_EHRNET_MAX_MEGABYTES", "1")
    with pytest.raises(ImageError, match="KERAS_EHRNET_MAX_MEGABYTES=2"):
        read_image(encoded(np.zeros((600, 600, 3), np.uint8)))
    monkeypatch.setenv("KERAS_EHRNET_MAX_MEGABYTES", "2")
    assert read_image(encoded(np.zeros((600, 600, 3), np.uint8))).shape == (600, 600, 3)


def test_one_pixel_and_fifty_megapixels() -> None:
    assert read_image(encoded(np.full((1, 1, 3), 9, np.uint8))).tolist() == [[[9, 9, 9]]]
    huge = encoded(np.zeros((6250, 8000), np.uint8), ".jpg")
    assert read_image(huge).shape == (6250, 8000, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_truncated_files_are_told_without_noise(tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str) -> None:
    whole = encoded(picture(200, 300)[..., ::-1], suffix)
    path = tmp_path / f"cut{suffix}"
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match=rf"cut short or damaged\. Received: .*cut\{suffix}"):
            read_image(path)
    assert capfd.readouterr() == ("", "")


def test_every_truncation_of_a_jpeg_is_noticed(capfd: pytest.CaptureFixture) -> None:
    inner = encoded(picture(8, 8), ".jpg")
    baseline = encoded(picture(), ".jpg")
    # A thumbnail brings an end marker of its own; it must not pass for the end of the picture.
    thumbnail = b"\xff\xe2" + (len(inner) + 2).to_bytes(2, "big") + inner
    progressive, restarting = (
        cv2.imencode(".jpg", picture(), [setting, 1])[1].tobytes()
        for setting in (cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL)
    )
    for data in (baseline, baseline[:2] + thumbnail + baseline[2:], progressive, restarting):
        assert read_image(data).shape == (40, 60, 3)
        assert read_image(data + b"trailing bytes of a camera").shape == (40, 60, 3)
        for length in range(3, len(data) - 2):
            with pytest.raises(ImageError):
                read_image(data[:length])
    assert capfd.readouterr() == ("", "")


def test_damaged_png_is_noticed() -> None:
    data = bytearray(encoded(picture()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="PNG image is cut short or damaged"):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just a text\n" * 50, "not an image"),
        (b"\xff\xd8\xff", "damaged"),
        (b"BM" + bytes(60), "damaged"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40), "not an image"),
    ],
)
def test_what_is_no_image(tmp_path: Path, capfd: pytest.CaptureFixture, content: bytes, message: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"{message}.*Received: .*broken\.jpg"):
        read_image(path)
    assert isinstance(ImageError("x"), ValueError)
    assert capfd.readouterr() == ("", "")


def test_missing_files_folders_and_wrong_types(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such image file\. Received: .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(TypeError, match="Received: int"):
        read_image(3)
    with Path(__file__).open("rb") as file, pytest.raises(TypeError, match=r"of an open file, its read\(\)"):
        read_image(file)


def test_arrays() -> None:
    rgb = picture()
    assert np.shares_memory(read_image(rgb), rgb)
    assert read_image(rgb[..., 0]).shape == read_image(rgb[..., :1]).shape == rgb.shape
    rgba = read_image(np.dstack([rgb, rgb[..., 0]]))
    np.testing.assert_array_equal(rgba, rgb)
    assert rgba.flags.c_contiguous
    np.testing.assert_array_equal(read_image(np.array([[[-3.0, 1.6, 300.0]]])), [[[0, 2, 255]]])
    for bad in (np.zeros((2, 2, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3)), np.zeros((2, 2), np.int64)):
        with pytest.raises(ImageError, match=r"Received: shape"):
            read_image(bad)
    for normalized in (rgb / 255, rgb / np.float32(127.5) - 1, (rgb / 255 - 0.45) / 0.225):
        with pytest.raises(ImageError, match=r"values in \[0, 255\]: multiply.*Received: float"):
            read_image(normalized)
    assert not read_image(np.zeros((2, 2, 3))).any()
    np.testing.assert_array_equal(read_image(rgb.astype(np.float32)), rgb)
    with pytest.raises(ImageError, match="finite"):
        read_image(np.full((2, 2, 3), np.nan))


def test_log_level_of_opencv_survives_threads() -> None:
    log = getattr(cv2.utils, "logging", cv2)
    before = log.getLogLevel()

    def attempt(index: int) -> None:
        with pytest.raises(ImageError):
            read_image(b"BM" + bytes([index]) * 60)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(200)))
    assert log.getLogLevel() == before


def test_archive_members(tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("deep/a.png", encoded(picture()[..., ::-1]))
        file.writestr("empty.png", b"")
    member = pickle.loads(pickle.dumps(ArchiveMember(archive, "deep/a.png")))
    np.testing.assert_array_equal(read_image(member), picture())
    with pytest.raises(ImageError, match=r"empty\. Received: .*images\.zip/empty\.png"):
        read_image(ArchiveMember(archive, "empty.png"))
    with pytest.raises(FileNotFoundError, match=r"images\.zip/b\.png"):
        read_image(ArchiveMember(archive, "b.png"))


def test_listing(tmp_path: Path) -> None:
    png = encoded(picture())
    for name in ("b.PNG", "a.jpg", "nosuffix", ".hidden.png", "notes.txt", "inner/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text" if name == "notes.txt" else png)
    with pytest.warns(UserWarning, match="^1 file is no image, and left out: notes.txt. Received: "):
        assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "nosuffix"]
    (tmp_path / "inner" / "song.wav").write_bytes(b"RIFF____WAVE")
    with pytest.warns(UserWarning, match="^2 files are no image, and left out: inner/song.wav, notes.txt. Received: "):
        assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "c.png", "nosuffix"]
    assert [path.name for path in list_images(f"{tmp_path}/*.*")] == ["a.jpg", "b.PNG", "notes.txt"]
    assert list_images(tmp_path / "a.jpg") == [tmp_path / "a.jpg"]
    assert not is_image_file(tmp_path / "notes.txt") and not is_image_file(tmp_path)
    (tmp_path / "empty").mkdir()
    for nothing, message in (
        ("empty", "no images in this folder"),
        ("gone", "no such file"),
        ("*.gif", "no such file"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            list_images(tmp_path / nothing)


def heic(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=-1, **options)
    return file.getvalue()


def test_heic(tmp_path: Path) -> None:
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:16, :32] = 255, 0, 0
    found = read_image(heic(pixels))
    assert found.shape == (48, 80, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels)[2:14, 2:30].max() <= 4
    assert np.abs(found.astype(int) - pixels)[20:, 36:].max() <= 4
    for name in ("a.HEIC", "b.heif", "nosuffix"):
        (tmp_path / name).write_bytes(heic(pixels))
        assert np.array_equal(read_image(tmp_path / name), found)
    assert [path.name for path in list_images(tmp_path)] == ["a.HEIC", "b.heif", "nosuffix"]


def test_heic_is_turned_upright_once() -> None:
    """Telephones note twice how they were held: HEIF's own note counts."""
    stored = np.zeros((48, 80, 3), np.uint8)
    stored[:16, :32] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(stored)
    pillow_heif.register_heif_opener()
    image.save(file := io.BytesIO(), "HEIF", exif=exif.tobytes(), quality=-1)
    upright = read_image(file.getvalue())
    assert upright.shape == (80, 48, 3)
    assert upright[4, 44, 0] > 240 > 10 > upright[70, 44, 0]


def test_damaged_heic_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = heic(np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8))
    for length in range(30, len(whole) - 1, 97):
        with pytest.raises(ImageError, match="The image is damaged"):
            read_image(whole[:length])
    monkeypatch.setenv("KERAS_EHRNET_MAX_MEGABYTES", "1")
    with pytest.raises(ImageError, match="takes 2 MB of memory, and one input may take 1"):
        read_image(heic(np.zeros((700, 700, 3), np.uint8)))


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(np.zeros((32, 32, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        ImageError, match=r"needs pillow_heif, .*pip install 'keras-ehrnet\[heic\]'  or save it as JPEG"
    ):
        read_image(data)


def test_writing(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".JPEG"):
        path = tmp_path / f"out{suffix}"
        for _ in range(2):  # The second time over the first.
            write_image(path, picture())
        assert np.abs(read_image(path).astype(int) - picture()).mean() < 3
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), picture())
    assert sorted(os.listdir(tmp_path)) == ["out.JPEG", "out.jpg", "out.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_writing_fails_clearly_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    write_image(path, picture())
    with pytest.raises(ValueError, match=r"one of \.jpg, \.jpeg, \.png\. Received: .*out\.gif"):
        write_image(tmp_path / "out.gif", picture())
    for bad in (picture().astype(float), picture()[..., 0], np.zeros((0, 3, 3), np.uint8), None):
        with pytest.raises(ValueError, match="uint8 array of shape"):
            write_image(path, bad)
    with pytest.raises(FileNotFoundError, match=r"cannot be written .*Received: .*gone/out\.png"):
        write_image(tmp_path / "gone/out.png", picture())

    def full_disk(file: Path, data: bytes) -> None:
        file.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)"):
        write_image(path, picture() // 2)
    np.testing.assert_array_equal(read_image(path), picture())
    assert os.listdir(tmp_path) == ["out.png"]


def test_real_photographs(reference: Path) -> None:
    images = json.loads((reference / "data/coco_samples/person_keypoints.json").read_text())["images"]
    shapes = {image["file_name"]: (image["height"], image["width"], 3) for image in images}
    paths = list_images(reference / "data/coco_samples/images")
    assert {path.name: read_image(path).shape for path in paths} == shapes
