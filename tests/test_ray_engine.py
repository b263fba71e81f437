"""Many pictures by several workers: the serial answers, whatever breaks on the way."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import keras_ehrnet as ke
from keras_ehrnet.cli import app
from keras_ehrnet.images import read_image, write_image
from keras_ehrnet.prediction import PosePredictor
from keras_ehrnet.support.errors import KerasEhrnetError

ray = pytest.importorskip("ray", reason="pip install 'keras-ehrnet[ray]'")
pyarrow = pytest.importorskip("pyarrow", reason="pip install 'keras-ehrnet[ray]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'keras-ehrnet[ray]'")
from keras_ehrnet.prediction.ray_engine import predict_with_ray  # noqa: E402

PHOTO = Path(__file__).parents[1] / "docs/pictures/astronaut.jpg"
MODEL = "efficientpose-rt-coco"


class Fragile(PosePredictor):
    """Its process dies at the first picture that one of them sees."""

    mark: Path

    def one(self, image, boxes=None):
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            return super().one(image, boxes)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.fixture(scope="module")
def predictor():
    return ke.PosePredictor.load(MODEL)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # The workers do not find this module by its name.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven parts of a photograph, in a folder and one inside, and a file that is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    image = read_image(PHOTO)
    for number in range(7):
        write_image(folder / ("more" if number % 2 else ".") / f"{number}.png", np.roll(image, 20 * number, axis=1))
    (folder / "cut.jpg").write_bytes(PHOTO.read_bytes()[:2000])
    return folder


def rows(folder):
    return {row["path"]: row for file in folder.glob("*.parquet") for row in parquet.read_table(file).to_pylist()}


@pytest.fixture(scope="module")
def done(predictor, photos, tmp_path_factory):
    """What two workers wrote, one of whom died, and what was reported."""
    folder = tmp_path_factory.mktemp("done")
    fragile = Fragile(predictor.network)
    fragile.mark = folder / "died"
    report = predict_with_ray(fragile, photos, folder / "out", workers=2, part=3)
    assert fragile.mark.exists()
    return folder / "out", report


def test_two_workers_find_whom_one_finds_though_one_of_them_dies(predictor, done):
    output, report = done
    assert (report.images, report.earlier, report.failed) == (8, 0, 1)
    found = rows(output)
    assert len(found) == 8
    persons = 0
    for path, row in found.items():
        if path.endswith("cut.jpg"):
            assert "cut short or damaged" in row["error"] and row["scores"] == []
            continue
        serial = predictor.one(path)
        assert (row["error"], row["skeleton"], row["width"]) == (None, "coco_17", serial.image_size[0])
        np.testing.assert_allclose(row["scores"], serial.scores, atol=1e-5)
        np.testing.assert_allclose(np.reshape(row["keypoints"], (-1, 17, 3)), serial.keypoints, atol=1e-3)
        persons += len(serial)
    assert report.persons == persons > 0


def test_a_run_that_was_ended_goes_on(predictor, photos, done, tmp_path):
    """What is there is not done again; what was not finished is."""
    output = shutil.copytree(done[0], tmp_path / "out")
    before = rows(output)
    *whole, cut = sorted(output.glob("*.parquet"))
    assert whole
    lost = parquet.read_table(cut).num_rows
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.warns(UserWarning, match="An earlier run did not finish this file"):
        report = predict_with_ray(predictor, photos, output, part=3)
    assert (report.images, report.earlier) == (lost, 8 - lost)
    assert rows(output) == before
    assert predict_with_ray(predictor, photos, output).images == 0


def test_addresses_are_read_from_parquet_by_the_command(predictor, photos, tmp_path):
    listed = tmp_path / "listed.parquet"
    addresses = [str(photos / "0.png"), (photos / "2.png").as_uri(), (photos / "absent.png").as_uri()]
    listed_rows = [{"path": address} for address in addresses]
    parquet.write_table(pyarrow.Table.from_pylist(listed_rows), listed)
    command = ["predict", str(listed), "--engine", "ray", "--model", MODEL, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    assert "3 images" in result.output
    found = rows(tmp_path / "out")
    assert set(found) == set(addresses)
    assert [row["error"] is None for row in (found[address] for address in addresses)] == [True, True, False]
    assert len(found[addresses[1]]["scores"]) == len(predictor.one(photos / "2.png"))


def test_mistakes_are_explained(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        predict_with_ray(predictor, tmp_path / "absent", tmp_path / "out")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(KerasEhrnetError, match="no intact Parquet file with a column path"):
        predict_with_ray(predictor, tmp_path / "text.parquet", tmp_path / "out")
    with pytest.raises(KerasEhrnetError, match="Received: workers=0"):
        predict_with_ray(predictor, tmp_path, tmp_path / "out", workers=0)
    result = CliRunner().invoke(app, ["predict", "clip.mp4", "--engine", "ray"])
    assert "name no video" in str(result.exception)
    assert not (tmp_path / "out").exists()
