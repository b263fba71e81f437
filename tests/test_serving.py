"""People over HTTP: the predictor's answers as JSON, limits kept, and every mistake a sentence with its code."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke

pytest.importorskip("fastapi", reason="pip install 'keras-ehrnet[serve]'")
testclient = pytest.importorskip("fastapi.testclient", reason="needs httpx")
from keras_ehrnet.cli.serve import serve  # noqa: E402
from keras_ehrnet.prediction.serving import make_app  # noqa: E402

PHOTO = Path(__file__).parents[1] / "docs/pictures/astronaut.jpg"


@pytest.fixture(scope="module")
def predictor():
    return ke.PosePredictor.load("efficientpose-rt-coco")


@pytest.fixture(scope="module")
def client(predictor):
    return testclient.TestClient(make_app(predictor, max_bytes=len(PHOTO.read_bytes())))


def test_people_are_those_of_the_predictor(client, predictor):
    answer = client.post("/people", content=PHOTO.read_bytes())
    assert answer.status_code == 200
    assert answer.json() == predictor(PHOTO).to_dict()
    assert len(answer.json()["persons"]) == 1


def test_health_says_what_is_served(client):
    answer = client.get("/health").json()
    assert (answer["status"], answer["model"], answer["skeleton"]) == ("ok", "efficientpose-rt-coco", "coco_17")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 422, "The image file is empty"),
        (b"hello", 422, "not an image of a known format. Received: 5 bytes"),
        (PHOTO.read_bytes()[:2000], 422, "cut short or damaged"),
        (PHOTO.read_bytes() + b"more", 413, r"An image may have \d+ bytes here. Received: \d+ bytes"),
    ],
)
def test_mistakes_are_sentences(client, content, code, message):
    answer = client.post("/people", content=content)
    assert answer.status_code == code
    assert re.search(message, answer.json()["detail"])


def test_bodies_of_unknown_length_are_limited_too(client):
    answer = client.post("/people", content=(bytes(10_000) for _ in range(1000)))
    assert answer.status_code == 413 and "Received: more than" in answer.json()["detail"]


def test_other_ways_in_are_closed(client):
    assert client.get("/people").status_code == 405
    assert client.post("/person").status_code == 404


class Slow:
    """A predictor that waits to be let go, and notes how many images it is given at a time."""

    def __init__(self, predictor):
        self.predictor, self.network = predictor, predictor.network
        self.entered, self.leave = threading.Event(), threading.Event()
        self.together = []

    def __call__(self, images):
        self.together.append(len(images))
        self.entered.set()
        assert self.leave.wait(20)
        return self.predictor(images)


def test_only_so_many_wait(predictor):
    slow = Slow(predictor)
    with testclient.TestClient(make_app(slow, max_waiting=1)) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/people", content=PHOTO.read_bytes())
        assert slow.entered.wait(20)
        refused = client.post("/people", content=PHOTO.read_bytes())
        slow.leave.set()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert first.result().status_code == 200
        assert client.post("/people", content=PHOTO.read_bytes()).status_code == 200


def test_images_that_wait_are_looked_at_together(predictor):
    """While the first is looked at four more come, and one that is none: it spoils nothing."""
    slow = Slow(predictor)
    whole, damaged = PHOTO.read_bytes(), PHOTO.read_bytes()[:2000]
    with testclient.TestClient(make_app(slow, max_batch=3)) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.post, "/people", content=whole)
        assert slow.entered.wait(20)
        others = [pool.submit(client.post, "/people", content=content) for content in [whole] * 4 + [damaged]]
        assert others[-1].result().status_code == 422
        time.sleep(0.5)
        slow.leave.set()
        answers = [one.result() for one in (first, *others[:-1])]
    assert slow.together == [1, 3, 1]
    expected = predictor(PHOTO).to_dict()
    assert [answer.json() for answer in answers] == [expected] * 5


def test_a_failure_is_told_to_everybody_who_waits(predictor):
    def broken(images):
        raise RuntimeError("out of memory")

    broken.network = predictor.network
    with testclient.TestClient(make_app(broken), raise_server_exceptions=False) as client:
        assert [client.post("/people", content=PHOTO.read_bytes()).status_code for _ in range(2)] == [500, 500]
        assert client.get("/health").status_code == 200


def test_clients_may_ask_only_so_often(predictor):
    with testclient.TestClient(make_app(predictor, max_rate=2)) as client:
        answers = [client.post("/people", content=b"none") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [422, 422, 429]
        assert answers[-1].headers["retry-after"] == "1"
        assert "2 per second are answered here" in answers[-1].json()["detail"]
        time.sleep(0.6)
        assert client.post("/people", content=b"none").status_code == 422


@pytest.mark.parametrize("sent", [{"files": {"image": PHOTO.read_bytes()}}, {"json": {"image": "aGVsbG8="}}])
def test_forms_are_told_what_to_send(client, sent):
    answer = client.post("/people", **sent)
    assert answer.status_code == 415
    assert "The body is the image itself" in answer.json()["detail"]


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ValueError, match=r"pip install 'keras-ehrnet\[serve\]'"):
        serve()


def test_limits_are_numbers(predictor):
    with pytest.raises(ValueError, match="max_waiting is a whole number, 1 or more. Received: max_waiting=0"):
        make_app(predictor, max_waiting=0)
    with pytest.raises(ValueError, match="max_rate is a number above 0, or None for no limit. Received: max_rate=nan"):
        make_app(predictor, max_rate=float("nan"))


def test_command_serves_on_loopback(predictor):
    command = [sys.executable, "-m", "keras_ehrnet", "serve", "--model", "efficientpose-rt-coco", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stderr.readline, "")
            address = next(found[0] for line in lines if (found := re.search(r"http://127.0.0.1:\d+", line)))
            with urllib.request.urlopen(f"{address}/people", PHOTO.read_bytes(), timeout=30) as answer:
                assert b'"persons"' in answer.read()
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)


def test_what_is_wrong_with_an_image_is_told_to_whom_it_belongs(predictor):
    """Two that are looked at together, of which one cannot be."""

    def picky(images):
        if any(image.shape[1] > 16 * image.shape[0] for image in images):
            raise ke.images.ImageError("This is too wide.")
        return predictor(images)

    picky.network = predictor.network
    slow = Slow(picky)
    wide = cv2.imencode(".png", np.zeros((10, 200, 3), np.uint8))[1].tobytes()
    with testclient.TestClient(make_app(slow)) as client, ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.post, "/people", content=PHOTO.read_bytes())
        assert slow.entered.wait(20)
        others = [pool.submit(client.post, "/people", content=content) for content in (PHOTO.read_bytes(), wide)]
        time.sleep(0.5)
        slow.leave.set()
        codes = [answer.result().status_code for answer in (first, *others)]
    assert slow.together == [1, 2, 1, 1]
    assert codes == [200, 200, 422]
