"""How well are people followed? Photographed people walk over photographs of places; identities against the truth.

    python training/benchmark_tracking.py ANNOTATIONS IMAGES PLACES [--walks 8] [--sweep]

ANNOTATIONS and IMAGES are COCO's, with outlines, of which whole people are cut out; PLACES is a folder of photographs
without people. There are walks of three kinds: people cross each other's way; somebody walks behind a wall; somebody
is gone at once, and another person comes to the same place later. The package's own weights look for people in every
frame, so that they miss some and see some who are not there, and every way of following gets what was found.

Told are MOTA and IDF1 (`motmetrics`), switches (somebody gets another identity than before) and passes (an identity
belonged to one person for 10 frames or more, and to another as well). With `--sweep` the thresholds of `Tracker` are
tried one by one.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import motmetrics
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_ehrnet import PosePredictor, Poses
from keras_ehrnet.data import Person, read_coco
from keras_ehrnet.decode.assignment import assign
from keras_ehrnet.images import list_images, read_image
from keras_ehrnet.prediction.tracking import Tracker, similarity
from keras_ehrnet.skeletons import COCO_17

WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 25, 5
_WHOLE = 13  # Joints of somebody who is cut out.
_SEEN = 0.4  # Of somebody's outline: who is covered more need not be found.
_LASTING = 10  # Frames after which an identity belongs to somebody: people who overlap may be taken for each other.
_SAME = 0.3  # Similarity of what was found to the truth, above which it is that person.

Follow = Callable[[Poses, float, np.ndarray], Poses]


@dataclass(frozen=True, eq=False)
class Cutout:
    """Somebody cut out of a photograph, 1 pixel high for every pixel of `size`."""

    pixels: np.ndarray
    mask: np.ndarray
    joints: np.ndarray

    def sized(self, height: int) -> Cutout:
        factor = height / len(self.mask)
        size = (max(round(self.mask.shape[1] * factor), 1), height)
        pixels, mask = (cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (self.pixels, self.mask))
        return Cutout(pixels, mask, self.joints * (factor, factor, 1))


@dataclass(frozen=True, eq=False)
class Walker:
    """Who is where, and when."""

    cutout: Cutout
    start: float  # Place of the left edge at second 0, in pixels.
    speed: float  # In pixels per second.
    since: float = 0.0
    until: float = np.inf

    def place(self, seconds: float) -> tuple[int, int] | None:
        if not self.since <= seconds < self.until:
            return None
        bob = 3 * np.sin(2 * np.pi * 1.8 * seconds + self.start) * np.sign(abs(self.speed))
        return round(self.start + self.speed * seconds), round(HEIGHT - 8 - len(self.cutout.mask) + bob)


@dataclass(frozen=True, eq=False)
class Walk:
    """A short film: people, those in front last, before a picture of a place, and maybe a wall before them all."""

    place: np.ndarray
    walkers: tuple[Walker, ...]
    wall: tuple[int, int] | None = None

    def frames(self) -> Iterator[tuple[float, np.ndarray, Poses]]:
        """Time and picture, and everybody: their numbers are `ids`, their visible parts `scores`."""
        for index in range(RATE * SECONDS):
            seconds = index / RATE
            image = self.place.copy()
            front = np.zeros((HEIGHT, WIDTH), int)
            placed = [(number, walker, walker.place(seconds)) for number, walker in enumerate(self.walkers, 1)]
            present = [(number, walker, corner) for number, walker, corner in placed if corner]
            for number, walker, (left, top) in present:
                _paste(image, front, number, walker.cutout, left, top)
            if self.wall:
                image[:, slice(*self.wall)], front[:, slice(*self.wall)] = (150, 140, 130), -1
            numbers = np.array([number for number, *_ in present], int)
            joints = [walker.cutout.joints + np.array((*corner, 0)) for _, walker, corner in present]
            seen = [
                np.count_nonzero(front == number) / np.count_nonzero(walker.cutout.mask > 127)
                for number, walker, _ in present
            ]
            yield seconds, image, Poses(np.array(joints), np.array(seen), COCO_17, ids=numbers)


def _paste(image: np.ndarray, front: np.ndarray, number: int, cutout: Cutout, left: int, top: int) -> None:
    height, width = cutout.mask.shape
    inside = slice(max(top, 0), min(top + height, HEIGHT)), slice(max(left, 0), min(left + width, WIDTH))
    if inside[1].start >= inside[1].stop:
        return
    own = tuple(slice(part.start - edge, part.stop - edge) for part, edge in zip(inside, (top, left), strict=True))
    alpha = cutout.mask[own][..., None] / 255
    image[inside] = np.rint(alpha * cutout.pixels[own] + (1 - alpha) * image[inside])
    front[inside][cutout.mask[own] > 127] = number


def cutouts(annotations: Path, images: Path) -> list[Cutout]:
    """Whole people who stand or walk, by their outlines."""
    dataset = read_coco(annotations, images)
    return [
        _cut(read_image(sample.source), person)
        for sample in dataset.samples
        for person in sample.persons
        if isinstance(person.segmentation, list) and _is_whole(person)
    ]


def _is_whole(person: Person) -> bool:
    left, top, right, bottom = person.box
    return person.num_labelled >= _WHOLE and bottom - top > max(130, 1.4 * (right - left))


def _cut(image: np.ndarray, person: Person) -> Cutout:
    mask = np.zeros(image.shape[:2], np.uint8)
    for polygon in person.segmentation or ():
        cv2.fillPoly(mask, [np.rint(np.reshape(polygon, (-1, 2))).astype(np.int32)], 255, cv2.LINE_AA)
    left, top = np.floor(person.box[:2]).astype(int)
    right, bottom = np.ceil(person.box[2:]).astype(int)
    joints = np.where(person.joints[:, 2:] > 0, person.joints - (left, top, 0), 0)
    return Cutout(image[top:bottom, left:right], mask[top:bottom, left:right], joints)


def crossing(random: np.random.Generator, people: list[Cutout], place: np.ndarray) -> Walk:
    """Two or three people cross each other's way."""
    walkers = []
    for index, who in enumerate(random.permutation(len(people))[: random.integers(2, 4)]):
        person = people[who].sized(int(random.uniform(170, 300)))
        direction = 1 if index % 2 else -1
        speed = direction * random.uniform(60, 150)
        walkers.append(Walker(person, WIDTH / 2 - speed * random.uniform(1.5, 3.5) - person.mask.shape[1] / 2, speed))
    return Walk(place, tuple(walkers))


def hiding(random: np.random.Generator, people: list[Cutout], place: np.ndarray) -> Walk:
    """Somebody walks behind a wall and comes out again, while another stands by."""
    first, second = (people[who].sized(int(random.uniform(170, 300))) for who in random.permutation(len(people))[:2])
    speed, width = random.uniform(80, 160), int(random.uniform(60, 140))
    wall = (240, 240 + width)
    return Walk(place, (Walker(second, 470, 0), Walker(first, 240 - 2 * speed - first.mask.shape[1], speed)), wall)


def relay(random: np.random.Generator, people: list[Cutout], place: np.ndarray) -> Walk:
    """Somebody is gone at once; a while later whoever stands most like them is in the same place."""
    height = int(random.uniform(200, 300))
    first, *others = (people[index].sized(height) for index in random.permutation(len(people)))
    left, until = random.uniform(100, 450), random.uniform(1, 2)
    placed = [(other, _aside(first.joints, other.joints)) for other in others]
    there = _pose(first.joints, 0)
    second, aside = max(placed, key=lambda one: similarity(there, _pose(one[0].joints, one[1])).item())
    later = until + random.uniform(0.2, 2)
    return Walk(place, (Walker(first, left, 0, 0, until), Walker(second, left + aside, 0, later)))


def _aside(first: np.ndarray, second: np.ndarray) -> float:
    """How far to the right somebody must stand to be in the place of another, in pixels."""
    both = (first[:, 2] > 0) & (second[:, 2] > 0)
    return float(np.mean(first[both, 0] - second[both, 0])) if both.any() else 0.0


def _pose(joints: np.ndarray, aside: float) -> Poses:
    return Poses((joints + np.array((aside, 0, 0)))[None], np.ones(1), COCO_17)


KINDS = {"crossing": crossing, "hiding": hiding, "relay": relay}


class PlainMatching:
    """The most alike of those last seen, whoever they are, for 30 frames: what following by OKS alone does."""

    def __init__(self) -> None:
        self.known: list[tuple[int, int, Poses]] = []
        self.frame = self.newest = 0

    def __call__(self, people: Poses, seconds: float, image: np.ndarray) -> Poses:
        self.frame += 1
        self.known = [one for one in self.known if self.frame - one[1] <= 30]
        ids = np.zeros(len(people), int)
        if self.known and len(people):
            alike = np.concatenate([similarity(pose, people) for *_, pose in self.known])
            while alike.max() >= 0.3:
                row, column = np.unravel_index(alike.argmax(), alike.shape)
                ids[column], alike[row, :], alike[:, column] = self.known[row][0], -1, -1
        for index in np.flatnonzero(ids == 0):
            self.newest += 1
            ids[index] = self.newest
        self.known = [one for one in self.known if one[0] not in ids]
        self.known += [(int(ids[index]), self.frame, people[index]) for index in range(len(people))]
        return replace(people, ids=ids)


class Scores:
    """What `motmetrics` says of one way to follow people, film by film, and identities that were passed on."""

    def __init__(self, make: Callable[[], Follow]) -> None:
        self.make = make
        self.films: list[motmetrics.MOTAccumulator] = []
        self.owners: list[dict[int, Counter[int]]] = []  # Of every film, by identity: frames that persons had it.

    def begin(self) -> None:
        """The next film, with a new tracker."""
        self.follow = self.make()
        self.films.append(motmetrics.MOTAccumulator(auto_id=True))
        self.owners.append(defaultdict(Counter))

    def frame(self, seconds: float, image: np.ndarray, found: Poses, truth: Poses) -> None:
        """One frame: who was found, and who was there (`scores` are their visible parts)."""
        people = self.follow(found, seconds, image)
        alike = similarity(truth, people)
        needed = truth.scores >= _SEEN
        # Somebody who is hardly to be seen may be found, or not.
        best = np.where(alike >= _SAME, alike, 0)
        counted = best[needed].max(axis=0, initial=0) >= best[~needed].max(axis=0, initial=0)
        distances = np.where(alike >= _SAME, 1 - alike, np.nan)[needed][:, counted]
        self.films[-1].update(truth.ids[needed], people.ids[counted], distances)
        best, persons = best[needed], truth.ids[needed]
        for row, column in zip(*assign(1 - best), strict=True) if best.size else ():
            if best[row, column]:
                self.owners[-1][int(people.ids[column])][int(persons[row])] += 1

    @property
    def passes(self) -> int:
        """Identities that belonged to one person, and then to another."""
        each = (frames for film in self.owners for frames in film.values())
        return sum(max(sum(count >= _LASTING for count in frames.values()) - 1, 0) for frames in each)

    def row(self) -> list[str]:
        metrics = ["mota", "idf1", "num_switches"]
        summary = motmetrics.metrics.create().compute_many(self.films, metrics=metrics, generate_overall=True)
        mota, idf1, switches = summary.loc["OVERALL"]
        return [f"{mota:.3f}", f"{idf1:.3f}", f"{switches:.0f}", f"{self.passes}"]


def tracker(colors: bool = True, **options: float) -> Callable[[], Follow]:
    """Makes a `Tracker` with some options; without colors it is not shown the frames."""

    def make() -> Follow:
        following = Tracker(**options)
        return lambda people, seconds, image: following(people, seconds, image if colors else None)

    return make


def ways(sweep: bool) -> dict[str, Callable[[], Follow]]:
    """Ways to follow people; with `sweep` each of the tracker's thresholds on its own, too."""
    made = {"plain OKS matching": PlainMatching, "Tracker, by places": tracker(colors=False), "Tracker": tracker()}
    if sweep:
        for option, values in SWEPT.items():
            made |= {f"{option}={value:g}": tracker(**{option: value}) for value in values}
    return made


SWEPT = {
    "min_similarity": (0.15, 0.5),
    "max_color_difference": (8, 12, 24),
    "patience": (0.2, 0.8, 1.6),
    "patience_covered": (0.5, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("places", type=Path)
    parser.add_argument("--walks", type=int, default=12, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sweep", action="store_true", help="try the thresholds")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    people = cutouts(arguments.annotations, arguments.images)
    if len(people) < 3:
        parser.error(f"It takes 3 people with outlines of whom {_WHOLE} joints are to be seen. Received: {len(people)}")
    places = [cv2.resize(read_image(path), (WIDTH, HEIGHT)) for path in list_images(arguments.places)]
    predictor = PosePredictor.load()
    scores = {name: {kind: Scores(make) for kind in KINDS} for name, make in ways(arguments.sweep).items()}
    for kind, make_walk in KINDS.items():
        for _ in track(range(arguments.walks), kind):
            following = [one[kind] for one in scores.values()]
            for one in following:
                one.begin()
            for seconds, image, truth in make_walk(random, people, places[random.integers(len(places))]).frames():
                found = predictor.one(image)
                for one in following:
                    one.frame(seconds, image, found, truth)
    table = Table("followed by", "walks", "MOTA", "IDF1", "switches", "passes")
    for name, by_kind in scores.items():
        for kind, score in by_kind.items():
            table.add_row(name, kind, *score.row())
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
