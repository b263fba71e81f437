"""Weights: every format loads, nothing wrong loads, and downloads are resumable and verified."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.weights import download, formats, layouts, registry
from keras_ehrnet.weights.registry import REGISTRY, entry


@pytest.fixture(scope="module")
def nas_state_dict():
    """A published-style state dict of EfficientPose-A, made from the model itself."""
    model = ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))
    return {
        slot.tensor: np.random.default_rng(index).standard_normal(_published_shape(slot)).astype("float32")
        for index, slot in enumerate(layouts.torch_slots(model))
    }


def _published_shape(slot):
    shape = tuple(slot.variable.shape)
    return shape if slot.axes is None else tuple(shape[slot.axes.index(axis)] for axis in range(len(shape)))


def first_weights(model):
    return [weight.numpy() if hasattr(weight, "numpy") else np.asarray(weight) for weight in model.weights]


@pytest.mark.parametrize("key", ["H0", "H-2", "H-4"])
def test_every_published_efficienthrnet_tensor_has_its_place(reference, key):
    published = dict(json.loads((reference / "reference/efficienthrnet_state_dicts.json").read_text())[key])
    slots = list(layouts.torch_slots(ke.EfficientHRNet(int(key[1:]))))
    needed = {name for name in published if not name.endswith("num_batches_tracked")}
    assert {slot.tensor for slot in slots} == needed


@pytest.mark.parametrize("variant", ["II", "II_LITE", "IV"])
def test_layer_names_of_unpublished_files_are_right(reference, variant):
    """The published networks of these variants are known by their constants, batch norms folded in."""
    constants = json.loads((reference / "reference/efficientpose_constants.json").read_text())[variant]
    published = {re.sub(r"/(depthwise_)?kernel$", "", name) for name, shape in constants if len(shape) == 4}
    published = {name.removeprefix("efficientnet-lite4/model/") for name in published}
    slots = [slot for slot in layouts.efficientpose_slots(ke.EfficientPose(variant)) if slot.weight.endswith("kernel")]
    layers = {slot.tensor.rsplit("/", 1)[0] for slot in slots}
    known = {name for layer in layers for name in published if name == layer or name.startswith(layer + "/")}
    assert known == published


def test_mapping_wrappers_and_prefixes(nas_state_dict):
    plain = ke.weights.load(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)), nas_state_dict)
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in nas_state_dict.items()}}
    other = ke.weights.load(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)), wrapped)
    for first, second in zip(first_weights(plain), first_weights(other), strict=True):
        np.testing.assert_array_equal(first, second)


def test_torch_file(nas_state_dict, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{name}": torch.from_numpy(value) for name, value in nas_state_dict.items()}
    torch.save({"state_dict": tensors, "epoch": 7}, tmp_path / "a.pth")
    model = ke.weights.load(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)), tmp_path / "a.pth")
    expected = ke.weights.load(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)), nas_state_dict)
    for first, second in zip(first_weights(model), first_weights(expected), strict=True):
        np.testing.assert_array_equal(first, second)


class Malicious:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def test_torch_files_run_no_code(tmp_path, capfd):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(ke.weights.WeightsError, match="PyTorch refuses it"):
        ke.weights.load(ke.EfficientPoseNAS("A"), tmp_path / "bad.pth")
    assert "code from a pickle ran" not in capfd.readouterr().out


def test_torch_file_without_torch_tells_the_command(nas_state_dict, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(value) for name, value in nas_state_dict.items()}, tmp_path / "a.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ke.weights.WeightsError, match=r"pip install 'keras-ehrnet\[torch\]'"):
        ke.weights.load(ke.EfficientPoseNAS("A"), tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_convert_and_load_our_files(nas_state_dict, tmp_path, suffix):
    path = tmp_path / "new folder" / f"a{suffix}"
    model = ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))
    assert ke.weights.convert(model, nas_state_dict, path) == path
    loaded = ke.weights.load(ke.EfficientPoseNAS("A"), path)
    for first, second in zip(first_weights(loaded), first_weights(model), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_efficientnet_classifier_layout():
    model = ke.EfficientNet(-4, classes=10)
    names = {slot.tensor for slot in layouts.torch_slots(model)}
    # Ten blocks, so that the top convolution is the eleventh of the features after the stem.
    assert {"features.0.1.weight", "features.11.1.weight", "features.11.2.bias", "classifier.1.weight"} <= names


def test_lite_without_intermediate_heads_warns(reference):
    model = ke.EfficientPose("RT_LITE", intermediate_outputs=True)
    with pytest.warns(UserWarning, match="pafs/kernel"):
        ke.weights.load(model, reference / "weights/EfficientPoseRT_LITE.h5")


def test_another_model_names_the_first_tensor_and_changes_nothing(reference):
    model = ke.EfficientPose("I")
    before = first_weights(model)
    with pytest.raises(ke.weights.WeightsError, match=r"has no tensor 'block1b_dwconv_res1/depthwise_kernel'"):
        ke.weights.load(model, reference / "weights/EfficientPoseRT.h5")
    for old, new in zip(before, first_weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_number_of_keypoints(reference):
    with pytest.raises(ke.weights.WeightsError, match=r"'pass3_detection2_confs/kernel'.*another number of keypoints"):
        ke.weights.load(ke.EfficientPose("RT", num_keypoints=5), reference / "weights/EfficientPoseRT.h5")


def test_another_family(reference, nas_state_dict):
    with pytest.raises(ke.weights.WeightsError, match="build the model with EfficientPose"):
        ke.weights.load(ke.EfficientHRNet(-4), reference / "weights/EfficientPoseRT.h5")
    with pytest.raises(ke.weights.WeightsError, match=r"has no tensor 'features.0.1.weight'"):
        ke.weights.load(ke.EfficientHRNet(-4), nas_state_dict)
    with pytest.raises(ke.weights.WeightsError, match="No PyTorch weights are known"):
        ke.weights.load(ke.EfficientPose("RT"), nas_state_dict)


def test_more_tensors_than_the_model_has(nas_state_dict):
    with pytest.raises(ke.weights.WeightsError, match=r"1 tensors more, the first 'surplus'"):
        ke.weights.load(ke.EfficientPoseNAS("A"), {**nas_state_dict, "surplus": np.zeros(3)})


def test_values_that_are_not_finite(nas_state_dict):
    broken = {**nas_state_dict, "final.2.bias": np.full(17, np.nan)}
    with pytest.raises(ke.weights.WeightsError, match=r"'final.2.bias' holds values that are not finite"):
        ke.weights.load(ke.EfficientPoseNAS("A"), broken)


def test_our_file_of_another_model(tmp_path):
    ke.EfficientPoseNAS("A").save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ke.weights.WeightsError, match=r"stem_separable_project_conv/kernel"):
        ke.weights.load(ke.EfficientPoseNAS("B"), tmp_path / "a.weights.h5")


def test_corrupted_published_file_is_refused(reference, tmp_path):
    """One flipped bit in a tensor: every shape is right, and the file can be read."""
    path = tmp_path / "EfficientPoseRT.h5"
    path.write_bytes((reference / "weights/EfficientPoseRT.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        kernel = file["model_weights/stem_conv_res1/stem_conv/kernel:0"]
        kernel[...] = -kernel[...]
    with pytest.raises(ke.weights.WeightsError, match="not the published file of that name"):
        ke.weights.load(ke.EfficientPose("RT"), path)


def test_half_precision_checkpoint(nas_state_dict, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(value).bfloat16() for name, value in nas_state_dict.items()}, tmp_path / "a.pth")
    loaded = ke.weights.load(ke.EfficientPoseNAS("A"), tmp_path / "a.pth")
    rounded = {name: torch.from_numpy(value).bfloat16().float().numpy() for name, value in nas_state_dict.items()}
    expected = ke.weights.load(ke.EfficientPoseNAS("A"), rounded)
    for own, right in zip(loaded.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(own, right)


def test_download_that_is_no_weights_file(server, tmp_path):
    item, _ = served_entry(server, b"<html>busy</html>")
    with pytest.raises(ke.weights.WeightsError, match="is not the published"):
        download.fetch(dataclasses.replace(item, sha256=None, size=None), tmp_path / "home")


def test_download_of_unknown_size_is_never_cut_short(server, tmp_path):
    item, handler = served_entry(server, b"\x89HDF\r\n\x1a\n" + bytes(1000))
    handler.limit = 500
    with pytest.raises(ke.weights.WeightsError, match="broke off after 500 of 1008"):
        download.fetch(dataclasses.replace(item, sha256=None, size=None), tmp_path / "home")


@pytest.mark.parametrize("source", [None, 5])
def test_sources_of_a_wrong_type(source):
    with pytest.raises(ke.weights.WeightsError, match="a name, a file or a mapping"):
        ke.weights.load(ke.EfficientPoseNAS("A"), source)


@pytest.mark.parametrize("keep", [0, 5, 1000, 100_000])
def test_truncated_files_tell_their_checksum(reference, tmp_path, keep):
    path = tmp_path / "EfficientPoseRT.h5"
    path.write_bytes((reference / "weights/EfficientPoseRT.h5").read_bytes()[:keep])
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ke.weights.WeightsError, match=f"{checksum}, {keep} bytes; the published file.*508943cf"):
        ke.weights.load(ke.EfficientPose("RT"), path)


def test_other_files(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ke.weights.WeightsError, match="holds no weights of Keras"):
        ke.weights.load(ke.EfficientPose("RT"), tmp_path / "empty.h5")
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path, "empty.h5")
    with pytest.raises(ke.weights.WeightsError, match="neither Keras nor PyTorch"):
        ke.weights.load(ke.EfficientPose("RT"), tmp_path / "other.zip")
    with pytest.raises(ke.weights.WeightsError, match=r"Did you mean 'efficientpose-rt'\?"):
        ke.weights.load(ke.EfficientPose("RT"), "efficientpose-tr")
    with pytest.raises(ke.weights.WeightsError, match="not a file"):
        ke.weights.load(ke.EfficientPose("RT"), tmp_path)
    with pytest.raises(ke.weights.WeightsError, match="must be an array"):
        ke.weights.load(ke.EfficientPoseNAS("A"), {"final.2.weight": object()})


def test_convert_to_a_wrong_suffix_or_place(reference, tmp_path):
    with pytest.raises(ke.weights.WeightsError, match=r"\.weights\.h5 or \.keras"):
        ke.weights.convert(ke.EfficientPose("RT"), reference / "weights/EfficientPoseRT.h5", tmp_path / "a.h5")
    (tmp_path / "file").touch()
    source = reference / "weights/EfficientPoseRT.h5"
    with pytest.raises(ke.weights.WeightsError, match="could not be written"):
        ke.weights.convert(ke.EfficientPose("RT"), source, tmp_path / "file" / "a.keras")


def test_registry_checksums_are_those_of_the_official_files(reference):
    checked = 0
    for item in REGISTRY.values():
        path = reference / "weights" / item.file_name
        if path.exists():
            assert (formats.sha256(path), path.stat().st_size) == (item.sha256, item.size)
            checked += 1
    assert checked == 3 + len(registry.PACKAGED)


def test_local_folder_serves_offline(reference, monkeypatch):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    assert download.fetch(entry("efficientpose-rt")) == reference / "weights/EfficientPoseRT.h5"


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, from an offset where one is asked for; breaks off after `limit` bytes."""

    limit: int | None = None
    tag: str | None = None
    length: str | None = None
    offsets: list[int]

    def do_GET(self):
        data = (self.directory_path / self.path.strip("/")).read_bytes()
        offset = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        offset = offset if self.headers.get("If-Range", self.tag) == self.tag else 0
        type(self).offsets.append(offset)
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", self.length or str(len(data) - offset))
        if self.tag:
            self.send_header("ETag", self.tag)
        self.end_headers()
        self.wfile.write(data[offset:][: type(self).limit])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Handler", (RangeHandler,), {"directory_path": folder, "offsets": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder, handler
        running.shutdown()


def served_entry(server, data: bytes, sha256: str | None = None):
    url, folder, handler = server
    (folder / "weights.h5").write_bytes(data)
    checksum = sha256 or hashlib.sha256(data).hexdigest()
    made = dataclasses.replace(entry("efficientpose-rt"), url=f"{url}/weights.h5", sha256=checksum, size=len(data))
    return made, handler


def test_download_resumes_where_it_broke_off(server, tmp_path):
    data = np.random.default_rng(0).bytes(300_000)
    item, handler = served_entry(server, data)
    handler.limit = 100_000
    with pytest.raises(ke.weights.WeightsError, match="broke off after 100000 of 300000 bytes"):
        download.fetch(item, tmp_path / "home")
    assert not (tmp_path / "home/weights.h5").exists()
    handler.limit = None
    path = download.fetch(item, tmp_path / "home")
    assert path.read_bytes() == data
    assert handler.offsets == [0, 100_000]
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["weights.h5"]


def unknown(item):
    """Weights of which no checksum is published."""
    return dataclasses.replace(item, sha256=None, size=None)


@pytest.mark.filterwarnings("ignore:No checksum is published")
def test_the_first_copy_is_remembered(server, tmp_path):
    data = b"\x89HDF\r\n\x1a\n" + bytes(1000)
    item, handler = served_entry(server, data)
    path = download.fetch(unknown(item), tmp_path)
    recorded = path.with_name("weights.h5.sha256").read_text()
    assert recorded == f"{hashlib.sha256(data).hexdigest()}  weights.h5\n"
    assert download.fetch(unknown(item), tmp_path) == path and handler.offsets == [0]
    path.write_bytes(data[:-1] + b"1")
    with pytest.raises(ke.weights.WeightsError, match="is not the published.*If it is right and weights.h5.sha256"):
        download.fetch(unknown(item), tmp_path)
    path.unlink()
    served_entry(server, data[:-1] + b"2")
    with pytest.raises(ke.weights.WeightsError, match="The download was deleted"):
        download.fetch(unknown(item), tmp_path)


@pytest.mark.filterwarnings("ignore:No checksum is published")
@pytest.mark.parametrize(("tag", "asked"), [(None, [0, 0]), ('"same"', [0, 500]), ('"other"', [0, 0])])
def test_the_rest_is_of_the_same_file(server, tmp_path, tag, asked):
    data = b"\x89HDF\r\n\x1a\n" + bytes(range(250)) * 4
    item, handler = served_entry(server, data)
    handler.limit, handler.tag = 500, tag and '"same"'
    with pytest.raises(ke.weights.WeightsError, match="broke off after 500"):
        download.fetch(unknown(item), tmp_path / "home")
    handler.limit, handler.tag = None, tag
    assert download.fetch(unknown(item), tmp_path / "home").read_bytes() == data
    assert handler.offsets == asked
    assert {file.name for file in (tmp_path / "home").iterdir()} == {"weights.h5", "weights.h5.sha256"}


@pytest.mark.parametrize(
    ("length", "message"),
    [("many", "does not say how long it is.*'many'"), (str(1 << 40), "download takes 1048576 MB")],
)
def test_lengths_that_cannot_be(server, tmp_path, length, message):
    item, handler = served_entry(server, b"data")
    handler.length = length
    with pytest.raises(ke.weights.WeightsError, match=message):
        download.fetch(item, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_processes_wait_for_one_download(server, tmp_path):
    data = np.random.default_rng(0).bytes(3_000_000)
    item, handler = served_entry(server, data)
    with ThreadPoolExecutor(6) as threads:
        paths = list(threads.map(lambda _: download.fetch(item, tmp_path / "home"), range(6)))
    assert handler.offsets == [0] and {path.read_bytes() for path in paths} == {data}
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["weights.h5"]


def test_download_of_another_file_is_refused_and_deleted(server, tmp_path):
    item, _ = served_entry(server, b"something else", sha256="0" * 64)
    with pytest.raises(ke.weights.WeightsError, match="is not the published weights.h5"):
        download.fetch(item, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_cached_file_that_is_damaged_is_refused(reference, tmp_path):
    (tmp_path / "EfficientPoseRT.h5").write_bytes(b"damaged")
    with pytest.raises(ke.weights.WeightsError, match="Delete .* to download it again"):
        download.fetch(entry("efficientpose-rt"), tmp_path)


def test_no_network_says_what_to_do(tmp_path):
    item = dataclasses.replace(entry("efficientpose-rt"), url="http://127.0.0.1:9/EfficientPoseRT.h5")
    with pytest.raises(ke.weights.WeightsError, match="or set KERAS_EHRNET_HOME to a folder that holds it"):
        download.fetch(item, tmp_path)


def test_command_line_convert(reference, tmp_path, run_here):
    command = ["convert", str(reference / "weights/EfficientPoseRT.h5")]
    wrong = run_here(*command, tmp_path / "rt.weights.h5", "-m", "efficientpose-i")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Error: ")
    assert wrong.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    program = [sys.executable, "-m", "keras_ehrnet"]
    right = subprocess.run([*program, *command, tmp_path / "rt.weights.h5", "-m", "efficientpose-rt"], check=False)
    assert right.returncode == 0
    ke.weights.load(ke.EfficientPose("RT"), tmp_path / "rt.weights.h5")


@pytest.fixture(scope="module")
def tiny_model():
    """A small network with weights of its own."""
    return ke.EfficientPoseNAS("A", input_shape=(32, 32, 3))


@pytest.fixture
def own_entry(tiny_model, tmp_path, monkeypatch):
    """An entry of our own weights, in a folder that stands for the package's."""
    monkeypatch.setattr(registry, "packaged_folder", lambda: tmp_path / "packaged")
    (tmp_path / "packaged").mkdir()
    path = tmp_path / "packaged" / "own-a.weights.h5"
    tiny_model.save_weights(path)
    entry = registry.PackagedEntry(
        name="own-a",
        model="efficientpose-a",
        url=path.name,
        sha256=formats.sha256(path),
        size=path.stat().st_size,
        license="Apache-2.0",
        skeleton="coco_17",
        paper="doi 10.1007/s41095-021-0214-z",
        score="AP 0.0 (nothing)",
        recipe="none",
        data="none, random weights",
    )
    monkeypatch.setattr(registry, "PACKAGED", (entry,))
    return entry


def test_packaged_weights_load_by_name_without_a_download(own_entry, tiny_model, tmp_path, monkeypatch):
    entry = own_entry
    assert registry.packaged() == {"own-a": entry}
    monkeypatch.setitem(registry.REGISTRY, "own-a", entry)
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(tmp_path / "nothing-here"))
    other = ke.EfficientPoseNAS("A", input_shape=(32, 32, 3), weights="own-a")
    for here, there in zip(other.weights, tiny_model.weights, strict=True):
        np.testing.assert_array_equal(here, there)
    assert not (tmp_path / "nothing-here").exists()
    entry.path.write_bytes(entry.path.read_bytes()[:-1])
    with pytest.raises(ke.weights.WeightsError, match="is not the published"):
        ke.weights.load(other, "own-a")


def test_an_installation_without_the_file_does_not_know_its_name(own_entry):
    own_entry.path.unlink()
    assert registry.packaged() == {}


def test_packaged_entries_and_files_belong_together():
    folder = registry.packaged_folder()
    assert folder.is_dir()
    assert {path.name for path in folder.glob("*.h5")} == {entry.url for entry in registry.PACKAGED}
