"""People over HTTP: an image in, JSON out. FastAPI does the work, and uvicorn runs it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from typing import Any

import numpy as np
from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request

from keras_ehrnet.images import read_image
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.predictor import PosePredictor
from keras_ehrnet.support.errors import ImageError
from keras_ehrnet.support.messages import is_whole
from keras_ehrnet.support.version import __version__

MAX_BYTES = 20_000_000
MAX_WAITING = 32
MAX_BATCH = 8
_CLIENTS = 10_000  # Whose requests are counted; the one who was silent longest makes room.


def make_app(
    predictor: PosePredictor,
    *,
    max_bytes: int = MAX_BYTES,
    max_waiting: int = MAX_WAITING,
    max_batch: int = MAX_BATCH,
    max_rate: float | None = None,
) -> FastAPI:
    """An ASGI application that finds people.

    `POST /people` takes an encoded image as its body and gives `Poses.to_dict`; `GET /health` says what is served.
    Images that come while the network works wait for each other, and are then looked at together. Mistakes have a
    `"detail"` in a sentence: 413 for an image of too many bytes, 415 for a form or JSON instead of an image, 422 for
    what is no intact image, 429 for a client that asks too often, 503 where too many wait already; the last two say in
    `Retry-After` when to come back.

    Args:
        predictor: `PosePredictor`.
        max_bytes: int. Larger bodies are refused before they are read.
        max_waiting: int. At most so many requests at a time, those that are worked on included.
        max_batch: int. At most so many images are looked at together.
        max_rate: float or None. At most so many requests per second of one client, by its address; None: any number.
            For one second's worth, they may come at once.

    Returns:
        `fastapi.FastAPI`, for uvicorn and other ASGI servers.

    Raises:
        ValueError: if a limit is no positive number.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.prediction.serving import make_app  # doctest: +SKIP
        >>> app = make_app(ke.PosePredictor.load())  # doctest: +SKIP
    """
    for name, limit in (("max_bytes", max_bytes), ("max_waiting", max_waiting), ("max_batch", max_batch)):
        if not is_whole(limit):
            raise ValueError(f"{name} is a whole number, 1 or more. Received: {name}={limit!r}")
    if max_rate is not None and not 0 < max_rate < math.inf:
        raise ValueError(f"max_rate is a number above 0, or None for no limit. Received: max_rate={max_rate!r}")
    app = FastAPI(title="keras-ehrnet", version=__version__, description="People in pictures.")
    together = _Together(predictor, max_batch)
    allowance = None if max_rate is None else _Allowance(max_rate)
    present = 0

    @app.get("/health", summary="Whether the service is up, and what it serves")
    async def health() -> dict[str, Any]:
        network = predictor.network
        return {"status": "ok", "model": network.name, "skeleton": network.skeleton.name, "version": __version__}

    body = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}

    @app.post("/people", summary="People in an image", openapi_extra={"requestBody": body})
    async def people(request: Request) -> dict[str, Any]:
        nonlocal present
        _check_kind(request)
        if allowance:
            allowance.take(request.client.host if request.client else "")
        if present >= max_waiting:
            raise HTTPException(503, "Too many images wait: try again in a second.", {"Retry-After": "1"})
        present += 1
        try:
            image = await to_thread.run_sync(read_image, await _body(request, max_bytes))
            found = await together.people(image)
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        finally:
            present -= 1
        return found.to_dict()

    return app


class _Together:
    """Images that come while the network works are looked at together when it is free."""

    def __init__(self, predictor: PosePredictor, most: int) -> None:
        self._predictor, self._most = predictor, most
        self._waiting: list[tuple[np.ndarray, asyncio.Future[Poses]]] = []
        self._work: asyncio.Task | None = None

    async def people(self, image: np.ndarray) -> Poses:
        answer: asyncio.Future[Poses] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            # Who hung up does not wait any more.
            batch = [(image, answer) for image, answer in batch if not answer.done()]
            found = await self._found([image for image, _ in batch])
            for (_, answer), one in zip(batch, found, strict=True):
                if answer.done():
                    continue
                if isinstance(one, Exception):
                    answer.set_exception(one)
                else:
                    answer.set_result(one)

    async def _found(self, images: list[np.ndarray]) -> list[Poses | Exception]:
        """People in each image, or what is wrong with it."""
        try:
            return [*await to_thread.run_sync(self._predictor, images)]
        except Exception as error:  # Handed to whom it concerns.
            if len(images) == 1:
                return [error]
            return [one for image in images for one in await self._found([image])]


class _Allowance:
    """Requests that every client has left: as many as a second brings, and at least one."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(rate, 1.0)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Raises an `HTTPException` (429) if a client has none left."""
        now = time.monotonic()
        left, since = self._left.pop(client, (self._most, now))
        left = min(left + (now - since) * self._rate, self._most)
        enough = left >= 1
        self._left[client] = (left - enough, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if not enough:
            wait = math.ceil((1 - left) / self._rate)
            limit = f"{self._rate:g} per second are answered here"
            raise HTTPException(429, f"Too many requests: {limit}. Try again in {wait} s.", {"Retry-After": str(wait)})


def _check_kind(request: Request) -> None:
    """Forms and JSON are not images, whatever is inside; those who send nothing of the kind are believed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/") or kind == "application/json":
        raise HTTPException(
            415, f"The body is the image itself, as with curl --data-binary @photo.jpg. Received: {kind}"
        )


async def _body(request: Request, max_bytes: int) -> bytes:
    """What was sent; it may be longer than it says, and is read no further than allowed."""
    parts, size = [], 0
    announced = request.headers.get("content-length", "")
    async for part in request.stream():
        size += len(part)
        if size > max_bytes or (announced.isdigit() and int(announced) > max_bytes):
            received = announced or f"more than {max_bytes}"
            raise HTTPException(413, f"An image may have {max_bytes} bytes here. Received: {received} bytes")
        parts.append(part)
    return b"".join(parts)
