"""Examples, their order, and the two pipelines that make batches of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_ehrnet.data import Dataset, Person, Sample, read_coco, synthetic
from keras_ehrnet.data.augment import Augmentation
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Batch, Examples
from keras_ehrnet.images import ImageError, write_image
from keras_ehrnet.skeletons import COCO_17, Skeleton

STRONG = Augmentation(rotation=40, scale=(0.7, 1.4), translation=10, flip=0.5, brightness=0.1, hue=20, mosaic=0.5)


@pytest.fixture(scope="module")
def people() -> Dataset:
    return synthetic.dataset(7, image_size=(96, 80), seed=2)


def assert_same(batch, other) -> None:
    for array, twin in zip(batch, other, strict=True):
        np.testing.assert_array_equal(array, twin)


def toy(num_people: int, **person: object) -> Dataset:
    """One gray image with people in a row."""
    persons = []
    for number in range(num_people):
        joints = np.full((17, 3), 2.0) * (5 + 2 * number, 10, 1)
        box = [10 * number, 10, 10 * number + 10, 40 + number]
        persons.append(Person(joints, box, float(100 + number), **person))
    return Dataset("toy", COCO_17, (Sample(1, np.full((64, 64, 3), 90, np.uint8), (64, 64), tuple(persons)),))


def test_examples_depend_on_seed_epoch_and_index_only(people: Dataset) -> None:
    examples = Examples(people, (64, 96), STRONG, max_people=8, seed=1)
    numbers = [(0, 3), (1, 3), (0, 5)]
    batch = examples.batch(numbers)
    assert batch.images.shape == (3, 64, 96, 3) and batch.joints.shape == (3, 8, 17, 3)
    assert batch.masks.shape == (3, 16, 24) and batch.images.dtype == batch.masks.dtype == np.uint8
    for row, number in enumerate(numbers):
        assert_same((array[row : row + 1] for array in batch), examples.batch([number]))
    assert (batch.images[0] != batch.images[1]).any(), "another epoch, another example"
    assert (replace(examples, seed=2).batch(numbers).images != batch.images).any()


def test_a_joint_without_its_twin_is_told_before_the_first_example() -> None:
    lame = Skeleton("dog", ("left_ear", *COCO_17.joint_names[1:2], *map(str, range(15))), ())
    dataset = replace(toy(1), skeleton=lame)
    for change in (STRONG, "efficienthrnet"):
        with pytest.raises(ValueError, match="Joint 'left_ear' of skeleton 'dog' has no counterpart on the right"):
            Examples(dataset, (64, 64), change)
    assert len(Examples(dataset, (64, 64), replace(STRONG, flip=0.0)).batch([(0, 0)]).images) == 1
    assert Examples(dataset, (64, 64)).batch([(0, 0)]).joints.any()


def test_mirroring_without_sides_is_told() -> None:
    names = ("lft_eye", "rgt_eye", "tail")
    persons = (Person(np.full((3, 3), 2.0), [0, 0, 9, 9], 81.0),)
    sample = Sample(1, np.zeros((64, 64, 3), np.uint8), (64, 64), persons)
    dataset = Dataset("toy", Skeleton("dog", names, ()), (sample,))
    told = "toy: mirrored images keep every joint in its place, as no name says left or right"
    assert Examples(dataset, (64, 64), STRONG).report().startswith(told)
    assert not Examples(dataset, (64, 64)).report()
    for pairs in ((), ((0, 1),)):
        named = replace(dataset, skeleton=replace(dataset.skeleton, flip_pairs=pairs))
        assert not Examples(named, (64, 64), STRONG).report()


def test_without_augmentation_the_joints_are_the_annotated_ones(people: Dataset) -> None:
    batch = Examples(people, (80, 96)).batch([(0, 2)])
    np.testing.assert_array_equal(batch.images[0], people[2].source)
    expected = np.stack([p.joints for p in sorted(people[2].targets, key=lambda person: -person.area)])
    np.testing.assert_allclose(batch.joints[0, : len(expected)], expected, atol=1e-4)
    assert not batch.joints[0, len(expected) :].any() and batch.masks.all()


def test_mosaic_shows_people_of_four_images(people: Dataset) -> None:
    examples = Examples(people, (96, 96), Augmentation(mosaic=1.0), max_people=30)
    batch = examples.batch([(0, index) for index in range(7)])
    labelled = batch.joints[..., 2] > 0
    assert labelled.any(axis=2).sum(axis=1).max() > 4
    assert (batch.joints[labelled][:, :2] >= 0).all() and (batch.joints[labelled][:, :2] < 96).all()
    small = Examples(people, (96, 96), Augmentation(mosaic=1.0), max_people=2).batch([(0, 0)])
    assert small.joints.shape[1] == 2


def test_more_people_than_there_is_room_for_are_masked_and_told() -> None:
    examples = Examples(toy(4), (64, 64), max_people=3)
    batch = examples.batch([(0, 0)])
    assert (batch.joints[0, :, 0, 2] > 0).sum() == 3
    assert not batch.masks[0, 4:9, 0:2].any() and batch.masks[0, :, 6:].all(), "the smallest is the first"
    assert "more than 3 persons, the smallest masked: 1 (1)" in examples.report()
    assert Examples(toy(3), (64, 64), max_people=3).report() == ""


def test_top_down_cuts_persons_out(people: Dataset) -> None:
    examples = Examples(people, (64, 48), "efficientpose_nas_coco", top_down=True)
    assert len(examples) == people.num_persons and examples.shapes().joints == (1, 17, 3)
    batch = Examples(people, (64, 48), top_down=True).batch([(0, 0)])
    labelled = batch.joints[0, 0][batch.joints[0, 0, :, 2] > 0]
    extent = labelled[:, :2].max(axis=0) - labelled[:, :2].min(axis=0)
    assert (extent > 0.5 * np.array((48, 64))).any(), "the person fills the picture"


def test_order_visits_everything_once_per_epoch_and_shards_add_up() -> None:
    order = Order(length=10, batch_size=4, seed=3)
    stream = np.concatenate([order.numbers(step) for step in range(10)])
    for epoch in range(4):
        members = stream[stream[:, 0] == epoch, 1]
        assert sorted(members) == list(range(10))
    first, second = (stream[stream[:, 0] == epoch, 1].tolist() for epoch in (0, 1))
    assert first != second and order.steps_per_epoch == 3
    halves = [Order(10, 2, seed=3, num_shards=2, shard=shard) for shard in (0, 1)]
    for step in (0, 4, 17):
        np.testing.assert_array_equal(np.concatenate([half.numbers(step) for half in halves]), order.numbers(step))
    once = Order(10, 4, shuffle=False, repeat=False)
    assert [len(once.numbers(step)) for step in range(4)] == [4, 4, 2, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_and_pipeline_make_the_same_batches(people: Dataset, workers: int) -> None:
    pytest.importorskip("tensorflow")
    from keras_ehrnet.data.pipeline import tf_batches

    examples, order = Examples(people, (64, 64), STRONG, seed=4), Order(len(people), 3, seed=4)
    from_tf = list(tf_batches(examples, order, threads=3).take(5).as_numpy_iterator())
    loader = numpy_batches(examples, order, workers=workers)
    from_numpy = [next(loader) for _ in range(5)]
    loader.close()
    for batch, other in zip(from_tf, from_numpy, strict=True):
        assert_same(batch, other)
    resumed = tf_batches(examples, order, start=3, outputs=["a", "b"])
    images, truth, masks = next(resumed.take(1).as_numpy_iterator())
    assert_same((images, truth["b"], masks["a"]), from_numpy[3])


def test_one_pass_ends_with_a_smaller_batch(people: Dataset) -> None:
    pytest.importorskip("tensorflow")
    from keras_ehrnet.data.pipeline import tf_batches

    examples, order = Examples(people, (32, 32)), Order(7, 3, shuffle=False, repeat=False)
    sizes = [len(images) for images, _, _ in tf_batches(examples, order)]
    assert sizes == [len(images) for images, _, _ in numpy_batches(examples, order, workers=2)] == [3, 3, 1]


def test_the_loader_does_without_tensorflow_and_keras() -> None:
    code = (
        "import sys\n"
        "from keras_ehrnet.data import synthetic\n"
        "from keras_ehrnet.data.loader import Order, numpy_batches\n"
        "from keras_ehrnet.data.targets import Examples\n"
        "examples = Examples(synthetic.dataset(2, image_size=(32, 32)), (32, 32), 'efficienthrnet')\n"
        "next(numpy_batches(examples, Order(2, 2), workers=0))\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.fixture
def damaged(tmp_path: Path) -> Dataset:
    """Two images in files, of which the second is cut short."""
    samples = []
    for index, sample in enumerate(synthetic.dataset(2, image_size=(64, 64))):
        path = tmp_path / f"{index}.jpg"
        write_image(path, sample.source)
        samples.append(replace(sample, source=path))
    path.write_bytes(path.read_bytes()[:-200])
    return Dataset("damaged", COCO_17, tuple(samples))


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_and_missing_images_are_named(damaged: Dataset, workers: int) -> None:
    examples, order = Examples(damaged, (32, 32)), Order(2, 1, shuffle=False)
    loader = numpy_batches(examples, order, workers=workers)
    next(loader)
    with pytest.raises(ImageError, match=r"cut short.*1\.jpg"):
        next(loader)
    damaged[0].source.unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.jpg"):
        next(numpy_batches(examples, order, workers=workers))


def test_damaged_images_are_named_by_tf_data(damaged: Dataset) -> None:
    tf = pytest.importorskip("tensorflow")
    from keras_ehrnet.data.pipeline import tf_batches

    with pytest.raises(tf.errors.OpError, match=r"cut short.*1\.jpg"):
        list(tf_batches(Examples(damaged, (32, 32)), Order(2, 1, shuffle=False)).take(2))


def test_an_image_of_another_size_than_annotated_is_named(damaged: Dataset) -> None:
    write_image(damaged[1].source, np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"1\.jpg must be of the annotated size"):
        Examples(damaged, (32, 32)).batch([(0, 1)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Examples(toy(0), (64, 64)), "nobody to train on"),
        (lambda: Examples(toy(2, is_crowd=True), (64, 64)), "nobody to train on"),
        (lambda: Examples(replace(toy(1), samples=(replace(toy(1)[0], source=None),)), (64, 64)), "without its images"),
        (lambda: Examples(toy(1), (64, 64), max_people=0), "max_people=0"),
        (lambda: Examples(toy(1), (64,)), "input_size"),
        (lambda: Examples(toy(1), (64, 64), "effcientpose"), "Did you mean 'efficientpose'"),
        (lambda: Order(0, 4), "length=0"),
        (lambda: Order(4, 4, num_shards=2, shard=2), "shard=2"),
        (lambda: numpy_batches(Examples(toy(1), (64, 64)), Order(5, 1)), "order must be of 1 samples"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_real_images_with_crowds(reference: Path) -> None:
    folder = reference / "data/coco_samples"
    dataset = read_coco(folder / "person_keypoints.json", folder / "images")
    examples = Examples(dataset, (128, 128), "efficienthrnet")
    batch = examples.batch([(0, index) for index in range(len(dataset))])
    with_ignored = np.array([bool(sample.ignored) for sample in dataset])
    assert (batch.masks[~with_ignored] == 1).all() and (batch.masks[with_ignored] == 0).any()
    labelled = batch.joints[..., 2] > 0
    assert labelled.any() and (batch.joints[labelled][:, :2] < 128).all() and batch.images.any(axis=(1, 2, 3)).all()


def test_batch_is_written_in_place(people: Dataset) -> None:
    examples = Examples(people, (32, 32))
    out = examples.empty(4)
    batch = examples.batch([(0, 0), (0, 1)], out)
    assert isinstance(batch, Batch) and len(batch.images) == 2 and np.shares_memory(batch.images, out.images)
