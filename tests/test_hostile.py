"""Files that are damaged, or made to do harm: told before anything opens them."""

from __future__ import annotations

import gc
import io
import pickle
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import metadata, runtime
from keras_ehrnet.runtime import litert
from keras_ehrnet.runtime.apart import ApartEngine
from keras_ehrnet.runtime.engine import LocalEngine
from keras_ehrnet.runtime.onnx import OnnxNetwork
from keras_ehrnet.support.errors import ModelError
from keras_ehrnet.weights import registry

PACKAGED = registry.packaged()["efficientpose-rt-coco"].exported_path


def model_of(content: bytes) -> bytes:
    """A `.tflite` file without its metadata."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: min(entry.header_offset for entry in archive.infolist())]


def test_packaged_models_know_their_bytes() -> None:
    for entry in registry.packaged().values():
        about = metadata.verified(entry.exported_path)
        assert about is not None and about.checksum is not None


@pytest.mark.parametrize("place", [0, 5, 0.3, 0.6, 0.9])
def test_a_changed_bit_of_a_tflite_file_is_told_before_it_is_opened(place: float, tmp_path: Path, monkeypatch) -> None:
    content = bytearray(PACKAGED.read_bytes())
    content[int(place * len(model_of(content))) if place < 1 else int(place)] ^= 4
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    monkeypatch.setattr(litert, "_engine", lambda *_: pytest.fail("opened"))
    for model in (path, bytes(content)):
        with pytest.raises(ModelError, match="bytes are not those that were exported"):
            runtime.Interpreter(model)


def test_models_of_others_run_apart(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(model_of(PACKAGED.read_bytes()))
    image = np.full((1, 224, 224, 3), 99, np.uint8)
    own = runtime.Interpreter(PACKAGED)
    assert isinstance(own._engine, LocalEngine)
    for model in (path, path.read_bytes()):
        other = pickle.loads(pickle.dumps(runtime.Interpreter(model)))
        assert isinstance(other._engine, ApartEngine) and repr(other) == repr(own)
        for picture in (image, image // 2):
            assert np.array_equal(other(image=picture)["poses"], own(image=picture)["poses"])
    assert isinstance(runtime.Interpreter(path, verify=False)._engine, LocalEngine)
    process = other._engine._process
    del other
    gc.collect()
    assert process.poll() is not None


def test_a_model_that_ends_its_process_is_refused() -> None:
    model = model_of(PACKAGED.read_bytes())
    shape = struct.pack("<4i", 240, 1, 1, 40)  # Of kernels, which a convolution then reads far beyond their end.
    told = []
    for place in re.finditer(re.escape(shape), model):
        changed = model[: place.start() + 4] + b"\xff\x0f" + model[place.start() + 6 :]
        with pytest.raises(ModelError) as caught:
            runtime.Interpreter(changed)(image=np.zeros((1, 224, 224, 3), np.uint8))
        told.append("it ends the process that runs it" in str(caught.value))
    assert any(told)


def test_metadata_of_another_model_are_told(tmp_path: Path) -> None:
    content = PACKAGED.read_bytes()
    about = metadata.read(content)
    for change, told in (
        ({"skeleton": ke.skeletons.MPII_16}, "'poses' has shape .* 'mpii_16' has 16 joints"),
        ({"input": metadata.Input(256, 256)}, "height and width .224, 224., not .256, 256."),
        ({"decode": "peaks"}, "no output 'peaks'"),
        ({"family": "hourglass"}, "no family 'hourglass'"),
    ):
        with pytest.raises(ModelError, match=told):
            runtime.TFLiteNetwork(metadata.append(model_of(content), replace(about, **change)))


def test_one_changed_bit_of_an_onnx_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import tiny

    path = ke.export.onnx(tiny.network(), tmp_path / "a.onnx", skeleton=ke.skeletons.COCO_17)
    content = path.read_bytes()
    assert OnnxNetwork(path).metadata.checksum is not None
    refused = 0
    for place in range(40, len(content), len(content) // 50):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(ke.KerasEhrnetError):
            OnnxNetwork(path)
        refused += 1
    assert refused >= 50
