"""Decoders inside TensorFlow Lite and ONNX files give what the NumPy decoders give, and consist of plain operations."""

from __future__ import annotations

import collections

import numpy as np
import oracle
import pytest
from decoder_files import KINDS, OnnxDecoder, TfliteDecoder
from oracle import OraclePredictor

from keras_ehrnet import decode, evaluation, skeletons
from keras_ehrnet.data import read_coco
from keras_ehrnet.decode import graph
from keras_ehrnet.decode.peaks import SUBPIXEL, find_peaks
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import COCO_17, MPII_16

tf = pytest.importorskip("tensorflow")

WIDTH, HEIGHT, PEOPLE = 384, 256, 30  # of the network's input, for one decoder that serves most tests
# Those with one tag per pixel: more come of mirrored images, which a decoder inside a file does not see.
GOLDENS = ("close_tags", "crowd_30", "empty", "one_person", "three_people")


def fast(maps, max_people=PEOPLE):
    """The people that the NumPy decoder finds, best first."""
    heatmaps = decode.average_strides(maps["heatmaps_4"], maps["heatmaps_2"])
    people = decode.associative(heatmaps, maps["tags_4"], protocol="fast", max_people=max_people)
    return people[np.argsort(-people.scores, kind="stable")]


def people_of(table, size=(WIDTH, HEIGHT), skeleton=COCO_17):
    """The rows of `poses` as `Poses` in pixels of an input of `size` (width, height)."""
    keypoints = table[:, : 3 * skeleton.num_joints].reshape(len(table), -1, 3)
    people = table[:, -1] > 0
    assert not table[~people].any()
    return Poses(keypoints[people][..., [1, 0, 2]] * (*size, 1), table[people, -1], skeleton)


def assert_same(poses, expected, pixels=0.5):
    assert len(poses) == len(expected)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-4)
    # People whose scores differ by rounding errors only may have changed places.
    difference = np.abs(expected.keypoints[:, None] - poses.keypoints).sum(axis=(-2, -1))
    poses = poses[difference.argmin(axis=1) if len(poses) else slice(0)]
    np.testing.assert_allclose(poses.confidence, expected.confidence, atol=1e-4)
    np.testing.assert_array_equal(poses.confidence > 0, expected.confidence > 0)
    found = expected.confidence > 0
    assert np.abs(poses.xy - expected.xy)[found].max(initial=0) < pixels


def drawn_maps(count, seed, size=(WIDTH, HEIGHT), tag_noise=0.0):
    """Maps of people whose joints are anywhere."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(12, np.array([*size, 24]) - 12, (count, 17, 3))
    joints[..., 2] = rng.uniform(size=(count, 17)) < 0.7
    maps = oracle.DRAWERS["efficienthrnet"](joints, size, COCO_17)
    noise = tag_noise * rng.standard_normal(maps["tags_4"].shape)
    return {**maps, "tags_4": (maps["tags_4"] + noise).astype(np.float32)}


def maps_of(make):
    """The maps for EfficientHRNet's decoder, made by a function of their shapes."""
    shapes = {"heatmaps_4": 4, "heatmaps_2": 2, "tags_4": 4}
    return {name: make((HEIGHT // stride, WIDTH // stride, 17)) for name, stride in shapes.items()}


@pytest.fixture(scope="module", params=KINDS)
def grouping(request):
    return KINDS[request.param]("efficienthrnet", "poses", maps_of(np.zeros), max_people=PEOPLE)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("case", GOLDENS)
def test_people_of_the_published_maps(case, pooled, grouping, reference):
    with np.load(reference / "reference" / f"ae_{case}.npz") as file:
        heatmaps = file["heatmaps"].astype(np.float32).transpose(1, 2, 0)
        tags = file["tags"].astype(np.float32).transpose(1, 2, 0, 3)
    missing = ((0, HEIGHT // 2 - heatmaps.shape[0]), (0, WIDTH // 2 - heatmaps.shape[1]), (0, 0))
    heatmaps, tags = np.pad(heatmaps, missing), np.pad(tags, (*missing, (0, 0)))
    coarse = heatmaps.reshape(HEIGHT // 4, 2, WIDTH // 4, 2, 17).mean(axis=(1, 3))
    if pooled:
        maps = {"heatmaps_4": coarse, "heatmaps_2": heatmaps, "tags_4": tags[::2, ::2, :, 0]}
    else:
        maps = {"heatmaps_4": 0 * coarse, "heatmaps_2": 2 * heatmaps, "tags_4": tags[::2, ::2, :, 0]}
    assert_same(people_of(grouping(maps)), fast(maps))


@pytest.mark.parametrize("count", [*range(1, 21), 30])
def test_drawn_people(count, grouping):
    maps = drawn_maps(count, seed=count)
    table = grouping(maps)
    poses = people_of(table)
    assert_same(poses, fast(maps), pixels=0.01)
    left, top, right, bottom = (poses.boxes() / (WIDTH, HEIGHT, WIDTH, HEIGHT)).T
    np.testing.assert_allclose(table[: len(poses), -5:-1], np.stack([top, left, bottom, right], axis=-1), atol=1e-6)


@pytest.mark.parametrize(("tag_step", "tag_noise"), [(1.0, 0.4), (0.5, 0.4), (0.5, 0.0)])
def test_tags_that_contradict_each_other(tag_step, tag_noise, grouping, monkeypatch):
    """Where joints compete for people, the assignment must be optimal, and among equals the same."""
    monkeypatch.setattr(oracle, "TAG_STEP", tag_step)
    for seed in range(3):
        maps = drawn_maps(12, seed, tag_noise=tag_noise)
        assert_same(people_of(grouping(maps)), fast(maps))


def test_noise_fills_every_row(grouping):
    rng = np.random.default_rng(0)
    maps = maps_of(lambda shape: rng.standard_normal(shape, np.float32))
    poses = people_of(grouping(maps))
    assert len(poses) == PEOPLE
    assert_same(poses, fast(maps))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_nobody(value, grouping):
    assert not grouping(maps_of(lambda shape: np.full(shape, value))).any()


@pytest.mark.parametrize("kind", KINDS)
def test_more_people_than_fit(kind):
    """The best stay; joints of people beyond the maximum gather no others."""
    size = 128, 96
    maps = drawn_maps(9, seed=3, size=size)
    decoder = KINDS[kind]("efficienthrnet", "poses", maps, max_people=4)
    assert_same(people_of(decoder(maps), size), fast(maps, 4))


def test_equally_high_neighbours_are_one_person(grouping):
    """Coarsely quantised maps have plateaus."""
    maps = drawn_maps(4, seed=1)
    maps = {name: values if name == "tags_4" else np.round(values * 16) / 16 for name, values in maps.items()}
    found, expected = people_of(grouping(maps)), fast(maps)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


class Recorder(oracle.OracleNetwork):
    """Keeps the maps that it drew last."""

    def _maps(self, geometry, image):
        self.maps = super()._maps(geometry, image)
        return self.maps


class InGraphPredictor(OraclePredictor):
    """Finds people by the decoder in a file, from the maps that were drawn for the one in NumPy."""

    decoder: TfliteDecoder | OnnxDecoder

    def __call__(self, image, boxes=None):
        super().__call__(image, boxes)
        geometry = decode.letterbox_geometry(image.shape[1], image.shape[0], WIDTH, HEIGHT)
        poses = people_of(self.decoder(self.network.maps))
        return poses.resized((1 / geometry.factor,) * 2, tuple(geometry.inverse[:, 2]))


def test_average_precision(grouping, reference):
    folder = reference / "data/coco_samples"
    images, annotations = folder / "images", folder / "person_keypoints.json"
    dataset = read_coco(annotations, images)
    scores = []
    for kind in (OraclePredictor, InGraphPredictor):
        predictor = kind(dataset, "efficienthrnet", (HEIGHT, WIDTH), any_size=False, protocol="fast")
        predictor.network = Recorder("efficienthrnet", dataset.skeleton, (HEIGHT, WIDTH), any_size=False)
        predictor.decoder = grouping
        scores.append(evaluation.coco(predictor, images, annotations, progress=False).ap)
    print(f"AP {scores[0]:.4f} NumPy, {scores[1]:.4f} file")
    assert scores[0] > 0.8
    assert abs(scores[0] - scores[1]) <= 0.01


@pytest.mark.parametrize(
    ("family", "kernel", "subpixel"),
    [("efficienthrnet", 3, "parabola"), ("efficientpose", 5, "parabola"), ("efficientpose_nas", 3, "quarter")],
)
def test_peaks(family, kernel, subpixel):
    rng = np.random.default_rng(0)
    shapes = {"heatmaps": (48, 64, 17), "heatmaps_4": (24, 32, 17), "heatmaps_2": (48, 64, 17), "tags_4": (24, 32, 17)}
    maps = {name: rng.standard_normal(shapes[name], np.float32) for name in graph.maps_needed(family)}
    # Many equal heights: with eighths, upsampling does not round.
    maps = {name: np.round(values * 8) / 8 for name, values in maps.items()}
    decoder = TfliteDecoder(family, "peaks", maps, max_peaks=7, threshold=0.8)
    table = decoder(maps)
    heatmaps = (
        maps["heatmaps"] if "heatmaps" in maps else decode.average_strides(maps["heatmaps_4"], maps["heatmaps_2"])
    )
    peaks = find_peaks(heatmaps, 7, 0.8, kernel, first_of_equals=True)
    xy = (
        np.stack([peaks.columns, peaks.rows], -1)
        + 0.5
        + SUBPIXEL[subpixel](heatmaps, peaks.rows, peaks.columns, peaks.joints)
    )
    tags = maps["tags_4"][peaks.rows // 2, peaks.columns // 2, peaks.joints] if "tags_4" in maps else 0 * peaks.scores
    rank = np.arange(len(peaks)) - np.searchsorted(peaks.joints, peaks.joints)
    expected = np.zeros((17, 7, 4))
    expected[peaks.joints, rank] = np.column_stack([xy[:, 1] / 48, xy[:, 0] / 64, peaks.scores, tags])
    np.testing.assert_allclose(table, expected, atol=1e-4)


def test_fewer_pixels_than_peaks():
    maps = {"heatmaps": np.zeros((4, 4, 17), np.float32)}
    maps["heatmaps"][2, 1] = 0.5
    table = TfliteDecoder("efficientpose_nas", "peaks", maps, max_peaks=30)(maps)
    assert table.shape == (17, 30, 4)
    np.testing.assert_allclose(table[:, 0, 2], 0.5)
    assert not table[:, 1:].any()


@pytest.mark.parametrize(
    ("family", "skeleton", "subpixel"),
    [("efficientpose", MPII_16, "parabola"), ("efficientpose_nas", COCO_17, "quarter")],
)
def test_one_person(family, skeleton, subpixel):
    rng = np.random.default_rng(0)
    maps = {"heatmaps": np.round(rng.standard_normal((40, 56, skeleton.num_joints), np.float32), 1)}
    maps["heatmaps"][..., 3] = -0.5  # nowhere
    table = TfliteDecoder(family, "poses", maps, skeleton)(maps)
    expected = decode.single_person(maps["heatmaps"], skeleton=skeleton, subpixel=subpixel)
    found = expected.confidence[0] > 0
    assert not table[0, ~found].any()
    np.testing.assert_allclose(table[0, :, 2], expected.confidence[0], atol=1e-5)
    np.testing.assert_allclose((table[0, :, 1::-1] * (56, 40))[found], expected.xy[0, found], atol=1e-4)


def test_one_person_of_the_published_maps(reference):
    with np.load(reference / "reference/efficientpose_RT.npz") as file:
        heatmaps = next(file[name] for name in file.files if file[name].shape[1:] == (224, 224, 16))
    decoder = TfliteDecoder("efficientpose", "poses", {"heatmaps": heatmaps[0]}, MPII_16)
    for maps in heatmaps:
        expected = decode.single_person(maps, skeleton=MPII_16, subpixel="parabola")
        table = decoder({"heatmaps": maps})
        np.testing.assert_allclose(table[0, :, 1::-1] * 224, expected.xy[0], atol=1e-4)
        np.testing.assert_allclose(table[0, :, 2], expected.confidence[0], atol=1e-5)


@pytest.mark.parametrize(("batch", "opset"), [(None, 13), (3, 18), (None, 21)])
def test_onnx_files_of_several_images(batch, opset):
    """Every image has its own people, and as many turns of the loops as it needs."""
    size = 128, 96
    images = [drawn_maps(count, seed=count, size=size) for count in (5, 0, 2)]
    decoder = OnnxDecoder("efficienthrnet", "poses", images[0], max_people=6, batch=batch, opset=opset)
    for maps, table, count in zip(images, decoder.batch(images), (5, 0, 2), strict=True):
        assert (table[:, -1] > 0).sum() == count
        assert_same(people_of(table, size), fast(maps, 6), pixels=0.01)


def test_files_need_nothing_but_built_in_operations():
    """Neither custom operations nor GATHER_ND nor 64-bit numbers, which delegates for GPUs refuse."""
    schema = pytest.importorskip("tensorflow.lite.python.schema_py_generated")
    maps = {"heatmaps": np.zeros((32, 32, 17), np.float32)}
    files = [TfliteDecoder("efficienthrnet", "poses", maps_of(np.zeros), max_people=PEOPLE).file]
    files += [TfliteDecoder("efficientpose", name, maps).file for name in ("peaks", "poses")]
    forbidden = {schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.GATHER_ND}
    for file in files:
        model = schema.ModelT.InitFromPackedBuf(file, 0)
        codes = collections.Counter(max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes)
        assert not forbidden & set(codes)
        tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors]
        kinds = schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.BOOL
        assert {tensor.type for tensor in tensors} <= set(kinds)
        assert all(min(tensor.shape, default=1) > 0 and tensor.shapeSignature is None for tensor in tensors)
        (signature,) = model.signatureDefs
        assert signature.signatureKey == b"serving_default"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "efficientpose-rt"}, r"Did you mean 'efficientpose'\?.*Received: 'efficientpose-rt'"),
        ({"decode": "pose"}, r"Did you mean 'poses'\?.*Received: decode='pose'"),
        ({"max_people": 0}, "Received: max_people=0"),
        ({"threshold": -0.1}, "Received: .*threshold=-0.1"),
        ({"skeleton": skeletons.MPII_16}, r"\(1, H, W, 16\)"),
        ({"map_shapes": {"heatmaps": (1, 33, 32, 17)}}, "Received: .*33"),
        ({"map_shapes": {"heatmaps": (None, 32, 32, 17)}}, "Received: .*None"),
        ({"map_shapes": {"pafs": (1, 32, 32, 17)}}, "needs heatmaps of .*Received: .*pafs"),
        ({"family": "efficienthrnet"}, "needs heatmaps_4, heatmaps_2, tags_4"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    fitting = {
        "family": "efficientpose",
        "decode": "poses",
        "map_shapes": {"heatmaps": (1, 32, 32, 17)},
        "skeleton": COCO_17,
    }
    with pytest.raises(ValueError, match=message):
        graph.decoder_tflite(**{**fitting, **change})
