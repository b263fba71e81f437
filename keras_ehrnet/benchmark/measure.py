"""How fast an exported file is here, measured in a process of its own: `python -m keras_ehrnet.benchmark.measure FILE`.

A process that does nothing else tells the memory of this file alone, and starts as cold as a device's program does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.support.terminal import run

if TYPE_CHECKING:
    from keras_ehrnet.runtime import Network

_WARM_UP = 3


@dataclass(frozen=True)
class Measurement:
    """What one exported file costs on this machine.

    Args:
        median_ms: float. Median time from an image that fits to the file's outputs, in milliseconds.
        p95_ms: float. 95th percentile of it.
        people_ms: float. Median time from an image to `Poses`: fitting, network, and whatever decoding is left.
        first_result_ms: float. From the start of loading to the first outputs.
        memory_mb: float. Most memory that the process held, in 10^6 bytes.
        idle_memory_mb: float. What it held before the file was loaded.
        operations: dict from operation to its number in the file; empty where that cannot be told.
        delegated: float or None. Share of the operations that a delegate (XNNPACK, a GPU) runs.
    """

    median_ms: float
    p95_ms: float
    people_ms: float
    first_result_ms: float
    memory_mb: float
    idle_memory_mb: float
    operations: dict[str, int]
    delegated: float | None


def measure(path: str | Path, image: np.ndarray, *, repeats: int = 50, threads: int | None = None) -> Measurement:
    """Times a file in this process.

    Args:
        path: path of a `.tflite` or `.onnx` file of this package.
        image: uint8 array of shape `(H, W, 3)`, RGB.
        repeats: int. Runs that are timed, after a few that are not.
        threads: int, or None for the runtime's choice.

    Returns:
        `Measurement`.

    Raises:
        ValueError: if the file cannot be run.

    Example:
        >>> from keras_ehrnet.benchmark.measure import measure
        >>> measure("model.tflite", photo).median_ms  # doctest: +SKIP
        8.7
    """
    from keras_ehrnet import runtime
    from keras_ehrnet.prediction import PosePredictor

    idle = _peak_memory()
    started = time.perf_counter()
    network = runtime.load(path, threads)
    fitting = np.ascontiguousarray(np.resize(image, (1, *network.input_size, 3)))
    network(fitting)
    first = time.perf_counter() - started
    times = _timed(lambda: network(fitting), repeats)
    predictor = PosePredictor(network, protocol="fast")
    people = _timed(lambda: predictor(image), max(repeats // 3, 1))
    operations, delegated = _operations(network)
    return Measurement(
        median_ms=1e3 * float(np.median(times)),
        p95_ms=1e3 * float(np.percentile(times, 95)),
        people_ms=1e3 * float(np.median(people)),
        first_result_ms=1e3 * first,
        memory_mb=_peak_memory(),
        idle_memory_mb=idle,
        operations=operations,
        delegated=delegated,
    )


def measure_apart(path: str | Path, image: np.ndarray, *, repeats: int = 50, threads: int | None = None) -> Measurement:
    """Times a file in a process of its own; arguments and result as of `measure`.

    Raises:
        ValueError: if the file cannot be run; the message is that process's.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "image.npy"
        np.save(picture, image)
        command = [sys.executable, "-m", "keras_ehrnet.benchmark.measure", str(path), str(picture), str(repeats)]
        command += [] if threads is None else ["--threads", str(threads)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()
        raise ValueError(told[-1].removeprefix("Error: ") if told else f"{path} cannot be run here.")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _timed(call: Callable[[], Any], repeats: int) -> np.ndarray:
    for _ in range(min(_WARM_UP, repeats)):
        call()
    times = np.empty(repeats)
    for index in range(repeats):
        started = time.perf_counter()
        call()
        times[index] = time.perf_counter() - started
    return times


def _peak_memory() -> float:
    """Most memory of this process so far, in 10^6 bytes; 0 on systems that do not tell."""
    with suppress(OSError):
        # What getrusage tells includes the process that started this one.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
    return 0.0


def _operations(network: Network) -> tuple[dict[str, int], float | None]:
    """Operations of a TFLite file, and the share of them that a delegate took."""
    interpreter = getattr(getattr(getattr(network, "raw", None), "_engine", None), "interpreter", None)
    if interpreter is None or not hasattr(interpreter, "_get_ops_details"):
        return {}, None
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    given = {tensor for node in delegates for tensor in node["outputs"]}

    def is_kept(tensor: int) -> bool:
        # What lies between operations of one delegate has no memory of its own.
        try:
            interpreter.get_tensor(tensor)
        except ValueError:
            return False
        return True

    taken = sum(all(tensor in given or not is_kept(tensor) for tensor in node["outputs"]) for node in own)
    return dict(Counter(node["op_name"] for node in own).most_common()), taken / max(len(own), 1)


def main() -> int:
    parser = argparse.ArgumentParser("python -m keras_ehrnet.benchmark.measure", description="Time an exported file.")
    parser.add_argument("model", type=Path, help="a .tflite or .onnx file of keras-ehrnet export")
    parser.add_argument("image", type=Path, help="RGB image as .npy")
    parser.add_argument("repeats", type=int, help="runs to time")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    return run(lambda: _print_measurement(options))


def _print_measurement(options: argparse.Namespace) -> None:
    result = measure(options.model, np.load(options.image), repeats=options.repeats, threads=options.threads)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
