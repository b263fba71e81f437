"""Exported files measured: every column is filled, for what it should be filled with."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_ehrnet import EfficientPoseNAS, benchmark
from keras_ehrnet.benchmark.measure import measure, measure_apart
from keras_ehrnet.cli import main as command_line

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    EfficientPoseNAS("A", input_shape=(64, 64, 3)).save(path)
    return path


@pytest.fixture(scope="module")
def measured(model, tmp_path_factory):
    """The command's results for a small model."""
    folder = tmp_path_factory.mktemp("benchmark")
    command_line_without_exit(
        ["benchmark", str(model), "-p", "float32,float16", "-d", "poses", "--repeats", "3", "-o", str(folder)]
    )
    return folder


def command_line_without_exit(arguments):
    with pytest.raises(SystemExit) as ended:
        command_line(arguments)
    assert not ended.value.code


def test_table_csv_operations_and_picture_are_written(measured):
    stem = f"benchmark-{benchmark.device()}"
    with (measured / f"{stem}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["precision"], row["decode"]) for row in rows] == [
        ("float32", "poses"),
        ("float16", "poses"),
    ]
    for row in rows:
        assert 0 < float(row["median_ms"]) <= float(row["p95_ms"])
        assert float(row["images_per_second"]) == pytest.approx(1e3 / float(row["median_ms"]))
        assert float(row["first_result_ms"]) > float(row["median_ms"])
        assert 30 < float(row["memory_mb"]) < 400  # an interpreter and a small network, not TensorFlow
        assert 0.5 < float(row["delegated"]) <= 1
    sizes = [float(row["size_mb"]) for row in rows]
    assert sizes[1] < 0.6 * sizes[0]
    operations = json.loads((measured / f"{stem}-operations.json").read_text())
    assert [sum(counts.values()) for counts in operations.values()] == [int(row["operations"]) for row in rows]
    assert all(counts["CONV_2D"] > 10 for counts in operations.values())
    assert (measured / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_measured_apart_and_here(measured):
    path = measured / "small-float32-poses.tflite"
    image = np.zeros((48, 64, 3), np.uint8)
    here, apart = measure(path, image, repeats=2), measure_apart(path, image, repeats=2)
    assert here.operations == apart.operations
    assert apart.memory_mb > apart.idle_memory_mb > 0


def test_a_file_that_cannot_be_run_is_told(tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="TFLite"):
        measure_apart(path, np.zeros((8, 8, 3), np.uint8), repeats=1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((["h-4"], ["tflit"], ["float32"], ["none"]), "no such format to measure.*'tflit'"),
        ((["h-4"], ["tflite"], ["int9"], ["none"]), "no such precision.*'int9'"),
        ((["h-4"], ["onnx"], ["int8"], ["none"]), "nothing to measure"),
    ],
)
def test_cases_that_there_are_not(names, message):
    with pytest.raises(ValueError, match=message):
        benchmark.cases(*names)


def test_scores_where_data_is_given(reference):
    data = benchmark.Data(reference / "data/lspet/val.json", limit=4)
    assert data.figure == "PCK@0.2"
    coco = reference / "data/coco_samples"
    assert benchmark.Data(next(coco.glob("*.json")), coco / "images").figure == "AP"
    with pytest.raises(ValueError, match="COCO's annotations need the folder of their images"):
        benchmark.Data(next(coco.glob("*.json")))


@pytest.fixture(scope="module")
def jetson():
    spec = importlib.util.spec_from_file_location("jetson_benchmark", ROOT / "deploy/jetson/benchmark.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TRTEXEC = """#!/bin/sh
for argument in "$@"; do
  case "$argument" in --saveEngine=*) echo engine > "${argument#--saveEngine=}";; --fp16) [ "$FAIL" ] && echo "[E] no" && exit 1;; esac
done
echo "[07/01/2026-10:00:00] [I] Throughput: 412.5 qps"
echo "[07/01/2026-10:00:00] [I] Latency: min = 2.1 ms, max = 3.9 ms, mean = 2.4 ms, median = 2.35 ms, percentile(99%) = 3.1 ms"
"""  # noqa: E501


def test_engines_are_built_and_timed_by_trtexec(jetson, tmp_path, monkeypatch, capsys):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"onnx")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(FileNotFoundError, match="comes with TensorRT"):
        jetson.run([model], ["fp32"], tmp_path / "engines")
    trtexec = tmp_path / "trtexec"
    trtexec.write_text(TRTEXEC)
    trtexec.chmod(0o755)
    jetson.run([model], ["fp32", "fp16"], tmp_path / "engines")
    with (tmp_path / "engines/benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["precision"], row["median_ms"], row["images_per_second"]) for row in rows] == [
        ("fp32", "2.35", "412.5"),
        ("fp16", "2.35", "412.5"),
    ]
    assert (tmp_path / "engines/model-fp16.engine").exists()
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(ValueError, match=r"could not build an engine: \[E\] no"):
        jetson.run([model], ["fp16"], tmp_path / "again")
    assert not list((tmp_path / "again").iterdir())
    assert "2.35 ms" in capsys.readouterr().out


def test_files_that_are_there_need_no_keras(measured, tmp_path):
    """In a process from which Keras is hidden; beside no Keras model there is no accuracy to draw."""
    files = [str(measured / f"small-{precision}-poses.tflite") for precision in ("float32", "float16")]
    code = ["import sys", "for name in ('keras', 'tensorflow', 'jax', 'matplotlib'): sys.modules[name] = None"]
    code += ["from keras_ehrnet.cli import main", f"main(['benchmark', *{files}, '--repeats', '2', '-o', 'out'])"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / f"out/benchmark-{benchmark.device()}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["precision"], row["decode"]) for row in rows] == [
        (files[0], "float32", "poses"),
        (files[1], "float16", "poses"),
    ]
    assert all(float(row["median_ms"]) > 0 and not row["lost"] for row in rows)
    assert not list(tmp_path.glob("out/*.png"))


def test_a_file_is_measured_beside_a_model(measured, model, tmp_path, reference):
    data = reference / "data/lspet/val.json"
    options = ["-p", "float32", "-d", "poses", "--repeats", "1", "--limit", "2"]
    options += ["--data", str(data), "-o", str(tmp_path)]
    command_line_without_exit(["benchmark", str(measured / "small-float16-poses.tflite"), str(model), *options])
    with (tmp_path / f"benchmark-{benchmark.device()}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["precision"] for row in rows] == ["float16", "float32"]
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    assert list(tmp_path.glob("*.png"))
