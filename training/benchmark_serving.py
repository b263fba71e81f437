"""How much does `keras-ehrnet serve` take? Starts it on this machine, and sends it one photograph again and again.

    python training/benchmark_serving.py PHOTO [--seconds 5] [--clients 1,2,4,8,16,64] [OPTION ...]

Every client sends its next request when it has the answer to the last one. Other options, such as `--model` and
`--max-batch`, go to the server. Told are answers per second, the time of half and of 95 % of them, and how many
requests were refused because too many waited.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table


@contextmanager
def served(options: list[str]) -> Iterator[str]:
    """A server in a process of its own; its address."""
    command = [sys.executable, "-m", "keras_ehrnet", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            address = None
            while address is None:
                line = server.stderr.readline()
                if not line:
                    raise SystemExit("The server did not start.")
                address = re.search(r"http://[\d.]+:\d+", line)
            yield address[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)


async def load(address: str, photo: bytes, clients: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """Times of the answers, and how many there were of every status."""
    times, codes = [], Counter()
    end = time.perf_counter() + seconds

    async def ask(client: httpx.AsyncClient) -> None:
        while (started := time.perf_counter()) < end:
            answer = await client.post("/people", content=photo)
            codes[answer.status_code] += 1
            if answer.status_code == 200:
                times.append(time.perf_counter() - started)
            else:
                await asyncio.sleep(float(answer.headers.get("retry-after", 0)))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        await asyncio.gather(*(ask(client) for _ in range(clients)))
    return times, codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", default="1,2,4,8,16,64")
    arguments, options = parser.parse_known_args()
    photo = arguments.photo.read_bytes()
    table = Table("clients", "answers/s", "median ms", "95 % ms", "refused", "failed")
    with served(options) as address:
        asyncio.run(load(address, photo, 1, 1))  # The first request makes the network ready.
        for clients in map(int, arguments.clients.split(",")):
            started = time.perf_counter()
            times, codes = asyncio.run(load(address, photo, clients, arguments.seconds))
            passed = time.perf_counter() - started
            refused, failed = codes[503], sum(codes.values()) - codes[200] - codes[503]
            middle, late = (f"{1000 * value:.0f}" for value in np.percentile(times, (50, 95)))
            table.add_row(str(clients), f"{len(times) / passed:.1f}", middle, late, str(refused), str(failed))
    Console().print(table)


if __name__ == "__main__":
    main()
