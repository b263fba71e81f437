"""People over HTTP: an image in, JSON out. FastAPI does the work, and uvicorn runs it."""

from __future__ import annotations

from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request

from keras_ehrnet.prediction.predictor import PosePredictor
from keras_ehrnet.support.errors import ImageError
from keras_ehrnet.support.messages import is_whole
from keras_ehrnet.support.version import __version__

MAX_BYTES = 20_000_000
MAX_WAITING = 32


def make_app(predictor: PosePredictor, *, max_bytes: int = MAX_BYTES, max_waiting: int = MAX_WAITING) -> FastAPI:
    """An ASGI application that finds people.

    `POST /people` takes an encoded image as its body and gives `Poses.to_dict`; `GET /health` says what is served.
    Requests wait for each other: the network takes one image at a time, on all cores. Mistakes have a `"detail"` in a
    sentence: 413 for an image of too many bytes, 422 for what is no intact image, 503 where too many wait already.

    Args:
        predictor: `PosePredictor`.
        max_bytes: int. Larger bodies are refused before they are read.
        max_waiting: int. At most so many requests at a time, the one that is worked on included.

    Returns:
        `fastapi.FastAPI`, for uvicorn and other ASGI servers.

    Raises:
        ValueError: if a limit is no positive whole number.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.prediction.serving import make_app  # doctest: +SKIP
        >>> app = make_app(ke.PosePredictor.load())  # doctest: +SKIP
    """
    for name, limit in (("max_bytes", max_bytes), ("max_waiting", max_waiting)):
        if not is_whole(limit):
            raise ValueError(f"{name} is a whole number, 1 or more. Received: {name}={limit!r}")
    app = FastAPI(title="keras-ehrnet", version=__version__, description="People in pictures.")
    one_at_a_time = CapacityLimiter(1)
    present = 0

    @app.get("/health", summary="Whether the service is up, and what it serves")
    async def health() -> dict[str, Any]:
        network = predictor.network
        return {"status": "ok", "model": network.name, "skeleton": network.skeleton.name, "version": __version__}

    body = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}

    @app.post("/people", summary="People in an image", openapi_extra={"requestBody": body})
    async def people(request: Request) -> dict[str, Any]:
        nonlocal present
        if present >= max_waiting:
            raise HTTPException(503, "Too many images wait: try again in a second.", {"Retry-After": "1"})
        present += 1
        try:
            image = await _body(request, max_bytes)
            found = await to_thread.run_sync(predictor.one, image, limiter=one_at_a_time)
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        finally:
            present -= 1
        return found.to_dict()

    return app


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
