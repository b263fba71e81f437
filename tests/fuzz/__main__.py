"""Damaged files for every reader: `make fuzz MINUTES=5`, or `python tests/fuzz --minutes 1 --only tflite`.

Input `n` of a reader is always the same one, and every input that is not read, or refused in a sentence, is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATHS = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
SECONDS = 30
"""How long an input may take."""

STARTING = 600
"""How long a process may take to start, on a machine that has other work."""

FAULTS = ("escaped", "untold", "memory", "crashed", "hung")


@dataclass
class Findings:
    """What came of all inputs so far."""

    kept: Path
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, number: int, outcome: str, told: str, seconds: float) -> None:
        self.counts.setdefault(name, Counter())[outcome] += 1
        self.slowest = max(self.slowest, (seconds, f"{name} {number}"))
        if outcome in FAULTS:
            self.faults.append(f"{name} {number} {outcome}: {told}")

    @property
    def total(self) -> int:
        """Number of inputs."""
        return sum(counts.total() for counts in self.counts.values())

    def table(self) -> str:
        outcomes = ("read", "refused", *FAULTS)
        rows = [("", "inputs", *outcomes)]
        total = sum(self.counts.values(), Counter())
        for name, counts in [*self.counts.items(), ("all", total)]:
            rows.append((name, *map(str, (counts.total(), *(counts[outcome] for outcome in outcomes)))))
        return "\n".join(f"{name:<18}" + "".join(f"{cell:>9}" for cell in cells) for name, *cells in rows)


def environment() -> dict[str, str]:
    """For processes whose address space is limited: few arenas, few threads, no accelerator."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "OPENCV_LOG_LEVEL": "OFF"}
    few = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **quiet, **few, "PYTHONPATH": os.pathsep.join(PATHS)}


def make(folder: Path, names: list[str]) -> None:
    """Writes the whole files of some readers."""
    from readers import READERS

    for name in names:
        own = folder / name
        own.mkdir()
        READERS[name].make(own)
        (own / f"whole-{READERS[name].file}").write_bytes((own / READERS[name].file).read_bytes())


def run_batch(folder: Path, names: list[str], first: int, count: int, findings: Findings) -> None:
    """One batch; after a crash it goes on with the next inputs."""
    from batch import damaged
    from readers import READERS

    command = [sys.executable, str(HERE / "batch.py"), str(folder), ",".join(names), str(first), str(count)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True)
        begun: tuple[str, int] | None = None
        said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_listen, args=(process, said), daemon=True).start()
        hung = False
        while True:
            try:
                line = said.get(timeout=SECONDS if begun else STARTING)
            except queue.Empty:
                hung = True
                process.kill()
                break
            except KeyboardInterrupt:
                process.kill()
                raise
            if line is None:
                break
            name, number, outcome, told, seconds = json.loads(line)
            begun = (name, number) if outcome == "begun" else None
            if begun is None:
                findings.add(name, number, outcome, told, seconds)
                if outcome in FAULTS:
                    (findings.kept / f"{name}-{number}").write_bytes(damaged(READERS[name], folder / name, number))
        code = process.wait()
        if code == 0:
            return
        errors.seek(0)
        last = errors.read()[-1500:]
    if begun is None:
        raise SystemExit(f"The readers {', '.join(names)} do not read their whole files:\n{last}")
    name, number = begun
    (findings.kept / f"{name}-{number}").write_bytes(damaged(READERS[name], folder / name, number))
    findings.add(
        name, number, "hung" if hung else "crashed", f"exit code {code}: {last}", float(SECONDS if hung else 0)
    )
    after = number // READERS[name].share + 1
    if after < first + count:
        run_batch(folder, names, after, first + count - after, findings)


def _listen(process: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        said.put(line)
    said.put(None)


def main() -> int:
    """Runs batches of all readers, round after round, until time is over."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="the last round may take longer; 0: one round")
    parser.add_argument("--inputs", type=int, default=0, help="no fewer, however long it takes")
    parser.add_argument("--first", type=int, default=0, help="where to begin, in tens of inputs of a reader")
    parser.add_argument("--batch", type=int, default=5, help="tens of inputs of a reader in one round")
    parser.add_argument("--only", help="readers, separated by commas")
    parser.add_argument("--kept", type=Path, default=Path("build/fuzz"), help="folder for inputs that make trouble")
    options = parser.parse_args()
    sys.path[:0] = PATHS
    from readers import GROUPS, READERS

    chosen = options.only.split(",") if options.only else list(READERS)
    options.kept.mkdir(parents=True, exist_ok=True)
    findings, start, first = Findings(options.kept), time.monotonic(), options.first
    with tempfile.TemporaryDirectory() as scratch, suppress(KeyboardInterrupt):  # What was found until then is told.
        make(Path(scratch), chosen)
        until = start + 60 * options.minutes
        while first == options.first or findings.total < options.inputs or time.monotonic() < until:
            for group in GROUPS:
                names = [name for name in chosen if READERS[name].group == group]
                if names:
                    run_batch(Path(scratch), names, first, options.batch, findings)
            first += options.batch
    for fault in findings.faults:
        print(fault, end="\n\n")
    print(findings.table())
    seconds, slowest = findings.slowest
    print(f"{time.monotonic() - start:.0f} s; the slowest input took {seconds:.1f} s ({slowest})")
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
