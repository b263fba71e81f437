// A second look at everyone who was found, each in a crop of their own: what PosePredictor.load() does in Python.

/** The numbers of keras_ehrnet/prediction/refining.py and keras_ehrnet/geometry.py, which say what they mean. */
export const NUMBERS = {
  SEEN: 0.1,
  FOUND_MARGIN: 0.3,
  PLACED_MARGIN: 0.15,
  SMALLEST_REFINED: 8,
  SURE_ENOUGH: 0.5,
  ROUNDS: 3,
  AT_REST: 0.9,
  SAME_PERSON: 0.7,
  BOX_MARGIN: 1.25,
  SMALLEST_REGION: 16,
};
const { SEEN, FOUND_MARGIN, PLACED_MARGIN, SMALLEST_REFINED, SURE_ENOUGH, ROUNDS, AT_REST, SAME_PERSON } = NUMBERS;
const { BOX_MARGIN, SMALLEST_REGION } = NUMBERS;

/**
 * Everyone placed anew in their own crop, where that leaves them sure enough, and nobody twice; the best first.
 * `look` gives the one person in a region of the image, see `letterbox`; `size`: the image's width and height. Where nobody
 * of at least `minScore` is left, the whole image may be one person.
 */
export async function refined(people, look, [width, height], sigmas, minScore) {
  const placed = distinct(await followed(people, look), sigmas);
  if (placed.some(({ score }) => score >= minScore)) return placed;
  const whole = await look(regionOf([0, 0, width, height]));
  return distinct(await followed([whole], look), sigmas);
}

/** Each person as the crop shows them that follows their joints. */
async function followed(people, look) {
  const placed = [];
  for (let person of people) {
    let box = boxOfJoints(person.keypoints, FOUND_MARGIN);
    for (let round = 0; round < ROUNDS && isLargeEnough(box); round++) {
      const anew = await look(regionOf(box));
      if (!(anew.score >= SURE_ENOUGH * person.score)) break;
      person = anew;
      const moved = boxOfJoints(person.keypoints, PLACED_MARGIN);
      if (overlap(moved, box) >= AT_REST) break;
      box = moved;
    }
    placed.push(person);
  }
  return placed;
}

/** The people without those who are the same as a surer one. */
export function distinct(people, sigmas) {
  const kept = [];
  for (const person of [...people].sort((a, b) => b.score - a.score))
    if (!kept.some((other) => similarity(other.keypoints, person.keypoints, sigmas) > SAME_PERSON)) kept.push(person);
  return kept;
}

/** Object keypoint similarity (OKS) of two people, over the joints that both have. */
function similarity(first, second, sigmas) {
  const [left, top, right, bottom] = extent(first.filter(({ score }) => score > 0));
  const area = Math.max(0.5 * (right - left) * (bottom - top), 1);
  let [sum, count] = [0, 0];
  first.forEach(({ x, y, score }, joint) => {
    const other = second[joint];
    if (!(score > 0 && other.score > 0)) return;
    sum += Math.exp(-((x - other.x) ** 2 + (y - other.y) ** 2) / (2 * area * (2 * sigmas[joint]) ** 2));
    count++;
  });
  return sum / Math.max(count, 1);
}

function extent(points) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  return points.length ? [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] : [0, 0, 0, 0];
}

/** The box around a person: joints end before heads, hands and feet do. */
function boxOfJoints(keypoints, margin) {
  const seen = keypoints.filter(({ score }) => score > SEEN);
  const [left, top, right, bottom] = extent(seen.length > 1 ? seen : keypoints);
  const [width, height] = [right - left, bottom - top];
  const [aside, above] = [width, height].map((side) => margin * Math.max(side, Math.max(width, height) / 3));
  return [left - aside, top - above, right + aside, bottom + above];
}

const isLargeEnough = ([left, top, right, bottom]) =>
  right - left >= SMALLEST_REFINED && bottom - top >= SMALLEST_REFINED;

/** What is shown of a person: the box, a little larger. */
function regionOf([left, top, right, bottom]) {
  const [width, height] = [right - left, bottom - top].map((side) => Math.max(BOX_MARGIN * side, SMALLEST_REGION));
  return { x: (left + right) / 2, y: (top + bottom) / 2, width, height };
}

/** Intersection over union of two boxes. */
function overlap(first, second) {
  const side = (from, to) => Math.max(Math.min(first[to], second[to]) - Math.max(first[from], second[from]), 0);
  const shared = side(0, 2) * side(1, 3);
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  return shared / Math.max(area(first) + area(second) - shared, 1e-9);
}
