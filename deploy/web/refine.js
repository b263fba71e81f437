// A second look at everyone who was found, each in a crop of their own: what PosePredictor.load() does in Python.

/** The numbers of keras_ehrnet/prediction/refining.py and keras_ehrnet/geometry.py, which say what they mean. */
export const NUMBERS = {
  SEEN: 0.1,
  FOUND_MARGIN: 0.3,
  PLACED_MARGIN: 0.15,
  LEFT_MARGIN: 1.2,
  LEFT_SEEN: 0.05,
  FEWEST_LEFT: 2,
  EXPLAINED: 0.1,
  SMALLEST_REFINED: 8,
  SURE_ENOUGH: 0.3,
  ROUNDS: 2,
  HOPELESS: 0.5,
  AT_REST: 0.9,
  SAME_PERSON: 0.7,
  DOUBTED: 0.4,
  BOX_MARGIN: 1.25,
  SMALLEST_REGION: 16,
};
const { SEEN, FOUND_MARGIN, PLACED_MARGIN, SMALLEST_REFINED, SURE_ENOUGH, ROUNDS, AT_REST, SAME_PERSON } = NUMBERS;
const { LEFT_MARGIN, FEWEST_LEFT, EXPLAINED, HOPELESS, DOUBTED, BOX_MARGIN, SMALLEST_REGION } = NUMBERS;
// In single precision, as scores are: guesses have exactly this score.
const LEFT_SEEN = Math.fround(NUMBERS.LEFT_SEEN);

/**
 * Everyone placed anew in their own crop, where that leaves them sure enough, and nobody twice; the best first. Whoever was
 * taken together with another is found around the joints that are left over.
 * `look` gives the one person in a region of the image, see `letterbox`, and as the mirror image shows them if its second
 * argument is true; `size`: the image's width and height; `mirror`: whether left and right are known, so that the mirror image
 * can be looked at. Where nobody of at least `minScore` is found, the whole image may be one person.
 */
export async function refined(people, look, [width, height], sigmas, minScore, mirror) {
  const least = Math.fround(HOPELESS * minScore);
  const placed = distinct(await followed(people, look, FOUND_MARGIN, SEEN, least), sigmas);
  const rest = leftOver(people, placed, sigmas);
  let everyone = distinct([...placed, ...(await followed(rest, look, LEFT_MARGIN, LEFT_SEEN, least))], sigmas);
  if (mirror) everyone = distinct(await mirrored(everyone, look, sigmas, least), sigmas);
  if (everyone.some(({ score }) => score >= minScore)) return everyone;
  const whole = await followed([await look(regionOf([0, 0, width, height]), false)], look, FOUND_MARGIN, SEEN, least);
  return mirror ? mirrored(whole, look, sigmas, least) : whole;
}

/** Joints that nobody who is placed explains, as people of whom nothing else is known: any other is surer. */
function leftOver(people, placed, sigmas) {
  const rest = people.map(({ keypoints }) => {
    const alike = placed.map((other) => jointSimilarity(other.keypoints, keypoints, sigmas));
    const isLeft = ({ score }, joint) => score > LEFT_SEEN && !alike.some((likeness) => likeness[joint] > EXPLAINED);
    return { keypoints: keypoints.map((point, joint) => (isLeft(point, joint) ? point : { x: 0, y: 0, score: 0 })), score: 0 };
  });
  return rest.filter(
    ({ keypoints }) =>
      keypoints.filter(({ score }) => score > 0).length >= FEWEST_LEFT &&
      isLargeEnough(boxOfJoints(keypoints, LEFT_MARGIN, LEFT_SEEN)),
  );
}

/** Each person as the crop shows them that follows their joints, beginning with the box around those that are seen. */
async function followed(people, look, margin, seen, least) {
  const placed = [];
  for (let person of people) {
    let box = boxOfJoints(person.keypoints, margin, seen);
    for (let round = 0; round < ROUNDS && isLargeEnough(box); round++) {
      const anew = await look(regionOf(box), false);
      if (!(anew.score >= SURE_ENOUGH * person.score)) break;
      person = anew;
      const moved = boxOfJoints(person.keypoints, PLACED_MARGIN, SEEN);
      if (overlap(moved, box) >= AT_REST || person.score < least) break;
      box = moved;
    }
    placed.push(person);
  }
  return placed;
}

/** Everyone by the image and its mirror image together: errors of the one are seldom those of the other. */
async function mirrored(people, look, sigmas, least) {
  const seen = [];
  for (const once of people) {
    const box = boxOfJoints(once.keypoints, PLACED_MARGIN, SEEN);
    const twice = isLargeEnough(box) && once.score >= least ? await look(regionOf(box), true) : null;
    seen.push(twice && twice.score >= SURE_ENOUGH * once.score ? together(once, twice, sigmas) : once);
  }
  return seen;
}

function together(once, twice, sigmas) {
  const likeness = jointSimilarity(once.keypoints, twice.keypoints, sigmas);
  const keypoints = once.keypoints.map((first, joint) => {
    const second = twice.keypoints[joint];
    const surer = first.score >= second.score ? first : second;
    const both = Math.max(first.score + second.score, 1e-9);
    const mixed = (mean, doubted) => likeness[joint] * mean + (1 - likeness[joint]) * doubted;
    const between = (from, to) => (first.score * from + second.score * to) / both;
    return {
      ...first,
      x: mixed(between(first.x, second.x), surer.x),
      y: mixed(between(first.y, second.y), surer.y),
      score: mixed(both / 2, DOUBTED * surer.score),
    };
  });
  return { keypoints, score: keypoints.reduce((sum, { score }) => sum + score, 0) / keypoints.length };
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
  const shared = first.filter(({ score }, joint) => score > 0 && second[joint].score > 0).length;
  return jointSimilarity(first, second, sigmas).reduce((sum, value) => sum + value, 0) / Math.max(shared, 1);
}

/** What each joint adds to it; 0 where one of the two lacks the joint. */
function jointSimilarity(first, second, sigmas) {
  const [left, top, right, bottom] = extent(first.filter(({ score }) => score > 0));
  const area = Math.max(0.5 * (right - left) * (bottom - top), 1);
  return first.map(({ x, y, score }, joint) => {
    const other = second[joint];
    if (!(score > 0 && other.score > 0)) return 0;
    return Math.exp(-((x - other.x) ** 2 + (y - other.y) ** 2) / (2 * area * (2 * sigmas[joint]) ** 2));
  });
}

function extent(points) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  return points.length ? [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] : [0, 0, 0, 0];
}

/** The box around a person: joints end before heads, hands and feet do. */
function boxOfJoints(keypoints, margin, least) {
  const seen = keypoints.filter(({ score }) => score > least);
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
