"""How fast an ONNX model is as a TensorRT engine, measured by trtexec, which comes with TensorRT.

python deploy/jetson/benchmark.py rt.onnx --precisions fp32,fp16 --output engines/
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from keras_ehrnet.support import terminal
from keras_ehrnet.support.files import write_file

FLAGS = {"fp32": [], "fp16": ["--fp16"], "int8": ["--fp16", "--int8"]}
"""Flags of trtexec. Without a calibration int8 tells speed only, not accuracy."""

PLACES = ("trtexec", "/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")


@dataclass(frozen=True)
class Row:
    """One engine.

    Args:
        model: str. Name of the ONNX file.
        precision: str. Key of `FLAGS`.
        median_ms: float. Latency, transfers included.
        p99_ms: float. 99th percentile of it.
        images_per_second: float.
        size_mb: float. Of the engine, in 10^6 bytes.
    """

    model: str
    precision: str
    median_ms: float
    p99_ms: float
    images_per_second: float
    size_mb: float


def find_trtexec() -> str:
    """Path of trtexec.

    Raises:
        FileNotFoundError: if TensorRT is not installed.
    """
    for place in PLACES:
        found = shutil.which(place)
        if found:
            return found
    raise FileNotFoundError(
        "trtexec was not found. It comes with TensorRT: with JetPack on a Jetson (/usr/src/tensorrt/bin), or in the "
        f"container nvcr.io/nvidia/tensorrt. Received: none of {', '.join(PLACES)}"
    )


def measure(trtexec: str, model: Path, precision: str, folder: Path) -> Row:
    """Builds an engine and times it; the engine stays in the folder.

    Raises:
        ValueError: if trtexec fails, or tells no times.
    """
    engine = folder / f"{model.stem}-{precision}.engine"
    partial = engine.with_suffix(".part")
    command = [trtexec, f"--onnx={model}", f"--saveEngine={partial}", "--warmUp=500", "--duration=10"]
    done = subprocess.run([*command, *FLAGS[precision]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        partial.unlink(missing_ok=True)
        told = [line for line in done.stdout.splitlines() if "[E]" in line] or done.stdout.splitlines()[-1:]
        raise ValueError(f"trtexec could not build an engine: {' '.join(told[:2])} Received: {model}")
    partial.replace(engine)
    return Row(model.name, precision, *read_times(done.stdout), engine.stat().st_size / 1e6)


def read_times(report: str) -> tuple[float, float, float]:
    """Median and 99th percentile of the latency in milliseconds, and images per second, from what trtexec prints.

    Example:
        >>> read_times('''[I] Throughput: 412.5 qps
        ... [I] Latency: min = 2.1 ms, max = 3.9 ms, mean = 2.4 ms, median = 2.35 ms, percentile(99%) = 3.1 ms''')
        (2.35, 3.1, 412.5)
    """
    patterns = (
        r"\] Latency:.*?median = ([\d.]+) ms",
        r"\] Latency:.*?percentile\(99%\) = ([\d.]+) ms",
        r"Throughput: ([\d.]+) qps",
    )
    found = [re.search(pattern, report) for pattern in patterns]
    if not all(found):
        raise ValueError("trtexec told no times: its report has no lines 'Throughput' and 'Latency'.")
    median, p99, rate = (float(match.group(1)) for match in found)
    return median, p99, rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help=".onnx files of keras-ehrnet export")
    parser.add_argument("--precisions", default="fp32,fp16", help=f"of {', '.join(FLAGS)}; default: fp32,fp16")
    parser.add_argument("--output", type=Path, default=Path("engines"), help="folder for engines and table")
    options = parser.parse_args()
    return terminal.run(lambda: run(options.models, options.precisions.split(","), options.output))


def run(models: list[Path], precisions: list[str], folder: Path) -> None:
    """Measures every model at every precision, prints a table and writes it as CSV."""
    unknown = [name for name in precisions if name not in FLAGS]
    missing = [model for model in models if not model.is_file()]
    if unknown:
        raise ValueError(f"Precisions are {', '.join(FLAGS)}. Received: {unknown[0]!r}")
    if missing:
        raise FileNotFoundError(f"There is no such file. Received: {missing[0]}")
    trtexec = find_trtexec()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in models:
        for precision in precisions:
            rows.append(measure(trtexec, model, precision, folder))
            row = rows[-1]
            print(f"{row.model} {row.precision}: {row.median_ms:.2f} ms, {row.images_per_second:.0f} images/s")
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    write_file(folder / "benchmark.csv", text.getvalue())


if __name__ == "__main__":
    sys.exit(main())
