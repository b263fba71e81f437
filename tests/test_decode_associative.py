"""Associative embedding: every stage against the published implementation's, and known people out of perfect maps."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from keras_ehrnet import decode, skeletons
from keras_ehrnet.decode.grouping import add_missing, match, peak_tags, place
from keras_ehrnet.decode.peaks import find_peaks

CASES = (
    "close_tags", "crowd_30", "eight_people_noisy_tags", "empty", "one_person", "three_people", "three_people_flip",
)  # fmt: skip


@pytest.fixture(params=CASES)
def golden(request, reference):
    with np.load(reference / "reference" / f"ae_{request.param}.npz") as file:
        values = {name: file[name].astype(np.float32) for name in file.files}
    values["heatmaps"] = values["heatmaps"].transpose(1, 2, 0)
    values["tags"] = values["tags"].transpose(1, 2, 0, 3)
    return values


def golden_match(golden):
    peaks = find_peaks(golden["heatmaps"], 30, 0.1)
    return match(peaks, peak_tags(peaks, golden["heatmaps"], golden["tags"]))


def test_peaks_are_the_thirty_best(golden):
    heatmaps, tags = golden["heatmaps"], golden["tags"]
    peaks = find_peaks(heatmaps, 30)
    everything = find_peaks(heatmaps)
    tags_there = peak_tags(peaks, heatmaps, tags)
    for joint in range(17):
        own = peaks.of(joint)
        np.testing.assert_allclose(peaks.scores[own], golden["topk_val"][joint], atol=1e-4)
        # The maps are float16, so peaks may be equally high: then the order is free, and who comes last.
        x, y = golden["topk_loc"][joint].T.astype(int)
        all_own = everything[everything.of(joint)]
        assert set(zip(x, y, strict=True)) <= set(zip(all_own.columns, all_own.rows, strict=True))
        unique = np.array([np.sum(all_own.scores == score) == 1 for score in peaks.scores[own]])
        np.testing.assert_array_equal(
            np.stack([peaks.columns, peaks.rows], -1)[own][unique], np.stack([x, y], -1)[unique]
        )
        np.testing.assert_allclose(tags_there[own][unique], golden["topk_tag"][joint][unique], atol=1e-4)


# Of the crowd two assignments are optimal; the reference takes the other one: see test_tie_of_the_crowd.
without_ties = pytest.mark.parametrize("golden", [case for case in CASES if case != "crowd_30"], indirect=True)


@without_ties
def test_matched(golden):
    matched = golden_match(golden)
    np.testing.assert_allclose(matched, golden["matched"].reshape(matched.shape), atol=1e-4)


def test_tie_of_the_crowd(reference):
    """In the crowd one joint goes to another person than the reference's, at exactly the same total cost."""
    with np.load(reference / "reference" / "ae_crowd_30.npz") as file:
        golden = {name: file[name].astype(np.float32) for name in ("heatmaps", "tags", "matched")}
    heatmaps, tags = golden["heatmaps"].transpose(1, 2, 0), golden["tags"].transpose(1, 2, 0, 3)
    matched, expected = golden_match({"heatmaps": heatmaps, "tags": tags}), golden["matched"]
    person, joint = np.nonzero(np.abs(matched - expected).max(axis=-1) > 1e-4)
    assert len(person) == 2
    assert len(set(joint)) == 1
    joint = joint[0]
    np.testing.assert_allclose(matched[person, joint], expected[person[::-1], joint])  # the two are exchanged

    # Up to this joint everything was equal, so both chose on the same costs.
    before = list(skeletons.COCO_17.grouping_order)[: skeletons.COCO_17.grouping_order.index(joint)]
    present = [number for number in range(30) if (expected[number, before, 2] > 0).any()]
    earlier = expected[np.ix_(present, before)].astype(float)
    means = np.array([joints[joints[:, 2] > 0, 3:].mean(axis=0) for joints in earlier])
    peaks = find_peaks(heatmaps, 30, 0.1)
    peaks = peaks[peaks.of(joint)]
    distance = np.linalg.norm(peak_tags(peaks, heatmaps, tags)[:, None].astype(float) - means, axis=-1)
    cost = np.round(distance) * 100 - peaks.scores[:, None]

    def least_cost_with(people):
        """The least total cost if the joint in question must go to the person it has in `people`."""
        owner = next(number for number in person if people[number, joint, 2] > 0)
        xy = people[owner, joint, :2]
        (candidate,) = np.flatnonzero((peaks.columns == xy[0]) & (peaks.rows == xy[1]))
        forced = cost.copy()
        forced[candidate, np.arange(len(present)) != present.index(owner)] = 1e6
        return forced[linear_sum_assignment(forced)].sum()

    optimum = cost[linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose([least_cost_with(matched), least_cost_with(expected)], optimum, atol=1e-4)


def test_adjusted(golden):
    adjusted = place(golden["matched"].reshape(-1, 17, 3 + golden["tags"].shape[-1]), golden["heatmaps"])
    np.testing.assert_allclose(adjusted, golden["adjusted"].reshape(adjusted.shape), atol=1e-4)


def test_refined(golden):
    adjusted = golden["adjusted"].reshape(-1, 17, 3 + golden["tags"].shape[-1])
    refined = add_missing(adjusted, golden["heatmaps"], golden["tags"])
    np.testing.assert_allclose(refined, golden["refined"].reshape(refined.shape), atol=1e-4)


@without_ties
def test_people_and_scores(golden):
    poses = decode.associative(golden["heatmaps"], golden["tags"])
    expected = golden["refined"].reshape(len(poses), 17, 3 + golden["tags"].shape[-1])[..., :3]
    np.testing.assert_allclose(poses.keypoints, expected, atol=1e-4)
    np.testing.assert_allclose(poses.scores, golden["scores"], atol=1e-4)


@pytest.mark.parametrize("golden", ["crowd_30"], indirect=True)
def test_people_of_the_crowd_but_for_the_tie(golden):
    poses = decode.associative(golden["heatmaps"], golden["tags"])
    same = (np.abs(poses.keypoints - golden["refined"][..., :3]) <= 1e-4).all(axis=-1)
    people, joints = np.nonzero(~same)
    assert len(people) <= 2
    assert len(set(joints)) == 1
    assert np.sum(np.abs(poses.scores - golden["scores"]) > 1e-4) <= 2


def test_channels_first_views_give_the_same_people(golden):
    heatmaps, tags = (np.ascontiguousarray(golden[name]) for name in ("heatmaps", "tags"))
    np.testing.assert_array_equal(
        decode.associative(heatmaps, tags).keypoints, decode.associative(golden["heatmaps"], golden["tags"]).keypoints
    )


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("ratio", [1, 2])
def test_search_for_missing_joints_is_exact(channels, ratio):
    """The bounded search agrees with looking at every pixel, on sizes that blocks do not divide."""
    rng = np.random.default_rng(channels)
    heatmaps = 0.01 + np.round(rng.random((37 * ratio, 43 * ratio, 17), np.float32), 2)  # rounded: many equal values
    tags = np.cumsum(rng.standard_normal((37, 43, 17, channels), np.float32), axis=1)
    people = np.zeros((6, 17, 3 + channels), np.float32)
    people[:, ::2, 2] = 0.5
    people[:, :, 3:] = rng.standard_normal((6, 1, channels)) * 5
    people[:, 1::2, 3:] = 0
    refined = add_missing(people, heatmaps, tags, subpixel="none")
    fine = tags.repeat(ratio, axis=0).repeat(ratio, axis=1)
    for person in range(6):
        distance = np.sqrt(((fine - people[person, ::2, 3:].mean(axis=0)) ** 2).sum(axis=-1))
        value = heatmaps - np.round(distance)
        row, column = np.divmod(value.reshape(-1, 17).argmax(axis=0), value.shape[1])
        np.testing.assert_array_equal(refined[person, 1::2, :2], np.stack([column, row], -1)[1::2] + 0.5)


def brute_force_peaks(heatmaps, threshold, kernel):
    radius = kernel // 2
    padded = np.pad(heatmaps, ((radius, radius), (radius, radius), (0, 0)), constant_values=-np.inf)
    window = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(0, 1)).max(axis=(-1, -2))
    return np.argwhere((heatmaps == window) & (heatmaps > threshold))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(1, 1), (4, 9), (31, 46)])
def test_peaks_are_exactly_those_of_max_pooling(kernel, size):
    heatmaps = np.round(np.random.default_rng(kernel).random((*size, 3), np.float32), 1)
    peaks = find_peaks(heatmaps, threshold=0.25, kernel=kernel)
    found = np.stack([peaks.rows, peaks.columns, peaks.joints], -1)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, brute_force_peaks(heatmaps, 0.25, kernel).tolist()))


def test_equal_neighbours_count_once_if_asked():
    heatmaps = np.zeros((8, 9, 3), np.float32)
    heatmaps[2:4, 3:5, 0] = heatmaps[:2, :2, 1] = heatmaps[6:, 7:, 2] = 0.5
    assert len(find_peaks(heatmaps, threshold=0.1)) == 12
    peaks = find_peaks(heatmaps, threshold=0.1, first_of_equals=True)
    np.testing.assert_array_equal(np.stack([peaks.rows, peaks.columns], -1), [(2, 3), (0, 0), (6, 7)])


def perfect_maps(people, size, stride, sigma):
    """Gaussians at the joints, and tags that number the people around them."""
    rows, columns = (np.arange(length // stride) + 0.5 for length in size)
    heatmaps = np.zeros((len(rows), len(columns), 17), np.float32)
    tags = np.zeros_like(heatmaps)
    for number, person in enumerate(people):
        for joint, (x, y, visible) in enumerate(person):
            if visible:
                square = (rows[:, None] - y / stride) ** 2 + (columns - x / stride) ** 2
                gaussian = np.exp(-square / (2 * sigma**2)).astype(np.float32)
                tags[..., joint] = np.where(gaussian > heatmaps[..., joint], 3 * number, tags[..., joint])
                heatmaps[..., joint] = np.maximum(heatmaps[..., joint], gaussian)
    return heatmaps, tags


def spread_people(count, size, rng, visible=1.0):
    """People of which no two joints of one kind are near each other: each stays in a column of its own."""
    height, width = size
    x = (np.arange(count) + 0.5)[:, None] * width / count + rng.uniform(-8, 8, (count, 17))
    y = rng.uniform(12, height - 12, (count, 17))
    seen = rng.uniform(size=(count, 17)) < visible
    seen[:, 0] = True
    return np.stack([x, y, seen], axis=-1)


@pytest.mark.parametrize("protocol", ["paper", "fast"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_perfect_maps_give_the_people_back(protocol, count):
    size, rng = (192, 320), np.random.default_rng(count)
    people = spread_people(count, size, rng, visible=0.8)
    if protocol == "paper":
        heatmaps, tags = perfect_maps(people, size, 1, 4.0)
    else:
        heatmaps, _ = perfect_maps(people, size, 2, 2.0)
        _, tags = perfect_maps(people, size, 4, 2.0)
    poses = decode.associative(heatmaps, tags, protocol=protocol, refine=False)
    assert len(poses) == count
    order = [int(np.abs(poses.xy[:, 0] - person[0, :2]).sum(axis=-1).argmin()) for person in people]
    assert sorted(order) == list(range(count))
    seen = people[..., 2] > 0
    np.testing.assert_array_equal(poses.confidence[order] > 0, seen)
    assert np.abs(poses.xy[order] - people[..., :2])[seen].max() < 0.5


def test_fast_protocol_finds_the_place_between_pixels():
    people = spread_people(1, (128, 128), np.random.default_rng(0))
    heatmaps, _ = perfect_maps(people, (128, 128), 2, 2.0)
    _, tags = perfect_maps(people, (128, 128), 4, 2.0)
    poses = decode.associative(heatmaps, tags, protocol="fast")
    assert np.abs(poses.xy - people[..., :2]).max() < 0.01
    half = decode.associative(heatmaps, tags, protocol="fast", stride=1)
    np.testing.assert_allclose(half.xy * 2, poses.xy, rtol=1e-6)


def test_average_of_strides_keeps_the_place():
    people = spread_people(2, (128, 192), np.random.default_rng(0))
    heatmaps_2, _ = perfect_maps(people, (128, 192), 2, 2.0)
    heatmaps_4, tags = perfect_maps(people, (128, 192), 4, 2.0)
    poses = decode.associative(decode.average_strides(heatmaps_4, heatmaps_2), tags, protocol="fast")
    order = np.argsort(poses.xy[:, 0, 0])
    assert np.abs(poses.xy[order] - people[..., :2]).max() < 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    heatmaps, tags = perfect_maps(spread_people(2, (64, 96), np.random.default_rng(1)), (64, 96), 1, 3.0)
    assert len(decode.associative(heatmaps.astype(dtype), tags.astype(dtype))) == 2


@pytest.mark.parametrize("protocol", ["paper", "fast"])
def test_nobody(protocol):
    poses = decode.associative(np.zeros((32, 48, 17)), np.zeros((32, 48, 17)), protocol=protocol, image_size=(48, 32))
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, 17, 3)
    assert poses.image_size == (48, 32)


def test_more_people_than_the_maximum_keeps_the_best():
    rng = np.random.default_rng(0)
    heatmaps, tags = perfect_maps(spread_people(6, (96, 240), rng), (96, 240), 1, 2.0)
    everyone = decode.associative(heatmaps, tags)
    weights = np.repeat([0.5, 0.9, 0.6, 0.8, 0.7, 0.4], 40).astype(np.float32)  # by the columns people stand in
    poses = decode.associative(heatmaps * weights[:, None], tags, max_people=3)
    assert len(everyone) == 6
    assert len(poses) == 3
    few = decode.associative(heatmaps * weights[:, None], tags)
    assert few.scores.max() == poses.scores.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bad", ["heatmaps", "tags"])
def test_values_that_are_not_finite_are_named(bad, value):
    maps = {"heatmaps": np.zeros((16, 16, 17), np.float32), "tags": np.zeros((16, 16, 17, 2), np.float32)}
    maps[bad][3, 4, 5] = value
    with pytest.raises(ValueError, match=f"`{bad}` must be finite"):
        decode.associative(**maps)


def test_huge_finite_values_are_not_called_infinite():
    assert len(decode.associative(np.zeros((16, 16, 17)), np.full((16, 16, 17), 1e30))) == 0


@pytest.mark.parametrize(
    ("heatmaps", "tags"),
    [
        ((16, 16), (16, 16, 17)),
        ((16, 16, 16), (16, 16, 16)),
        ((16, 16, 17), (16, 16, 16)),
        ((16, 16, 17), (5, 5, 17)),
        ((16, 16, 17), (8, 4, 17)),
        ((16, 16, 17), (32, 32, 17)),
        ((0, 16, 17), (0, 16, 17)),
    ],
)
def test_shapes_that_do_not_fit(heatmaps, tags):
    with pytest.raises(ValueError, match="Received"):
        decode.associative(np.zeros(heatmaps), np.zeros(tags))


def test_unknown_protocol():
    with pytest.raises(ValueError, match=r"'paper', 'fast'\. Received: 'quick'"):
        decode.associative(np.zeros((8, 8, 17)), np.zeros((8, 8, 17)), protocol="quick")
