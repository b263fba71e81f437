// People from the files that keras_ehrnet exports, in a browser: LiteRT.js or ONNX Runtime runs them, this reads and writes
// around it.
//
//     import { PoseModel } from "./pose.js";
//     const model = await PoseModel.load("people.tflite");
//     const { people } = await model.find(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
//     people[0].keypoints[0];   // { name: "nose", x, y, score }, in pixels of the canvas

import { readMetadata } from "./metadata.js";
import { refined } from "./refine.js";

// --8<-- [start:letterbox]
const single = Math.fround;

/** Where the pixels of one side of an input come from, in single precision as OpenCV has it: the same bytes follow. */
function places(count, step, start, isFused) {
  const first = new Int32Array(count);
  const part = new Float32Array(count);
  for (let index = 0; index < count; index++) {
    const place = single((isFused ? step * index : single(step * index)) + start);
    first[index] = Math.floor(place);
    part[index] = place - first[index];
  }
  return { first, part };
}

const between = (from, to, part) => single(from + part * single(to - from));

/** Halves go to the even neighbour. */
function rounded(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below & 1) : Math.round(value);
}

/**
 * RGBA pixels fitted into an input, black where there is none: RGB, and the way back to the image's pixels. `region` is
 * what of the image is to be seen, { x, y, width, height } about its middle (x, y); all of it where nothing is said.
 */
export function letterbox({ data, width, height }, inputWidth, inputHeight, region) {
  const shown = region ?? { x: width / 2, y: height / 2, width, height };
  const factor = Math.min(inputWidth / shown.width, inputHeight / shown.height);
  const left = inputWidth / 2 - factor * shown.x;
  const top = inputHeight / 2 - factor * shown.y;
  const step = single(1 / factor);
  const columns = places(inputWidth, step, single((0.5 - left) / factor - 0.5), true);
  const rows = places(inputHeight, step, single((0.5 - top) / factor - 0.5), false);
  const at = (x, y, channel) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : data[4 * (y * width + x) + channel];
  const input = new Uint8Array(inputWidth * inputHeight * 3);
  for (let row = 0; row < inputHeight; row++) {
    const y = rows.first[row];
    for (let column = 0; column < inputWidth; column++) {
      const x = columns.first[column];
      for (let channel = 0; channel < 3; channel++) {
        const above = between(at(x, y, channel), at(x + 1, y, channel), columns.part[column]);
        const below = between(at(x, y + 1, channel), at(x + 1, y + 1, channel), columns.part[column]);
        input[3 * (row * inputWidth + column) + channel] = rounded(between(above, below, rows.part[row]));
      }
    }
  }
  return { input, toImage: (x, y) => [(x - left) / factor, (y - top) / factor] };
}
// --8<-- [end:letterbox]

/** The people of an output, in pixels of the image: rows of one person (K x 3) or of several (3K + 5). */
export function readPeople(values, metadata, toImage, minScore) {
  const names = metadata.skeleton.joint_names;
  const several = givesSeveral(metadata);
  const stride = several ? 3 * names.length + 5 : 3 * names.length;
  const people = [];
  for (let start = 0; start + stride <= values.length; start += stride) {
    const keypoints = names.map((name, joint) => {
      const [y, x, score] = values.subarray(start + 3 * joint, start + 3 * joint + 3);
      const [imageX, imageY] = toImage(x * metadata.input.width, y * metadata.input.height);
      return { name, x: imageX, y: imageY, score };
    });
    const mean = keypoints.reduce((sum, point) => sum + point.score, 0) / names.length;
    const score = several ? values[start + stride - 1] : mean;
    if (score >= minScore && (!several || score > 0)) people.push({ score, keypoints });
  }
  return people;
}

const givesSeveral = ({ outputs }) => outputs[0].shape.length === 3;

const USUAL_SIGMA = 0.08;

/** What opens the bytes of a model, and gives a function from pixels to the values of its output, by the runtime's name. */
const RUNTIMES = {
  async litert(bytes, { input }, { accelerator, threads, runtimePath }) {
    const litert = await import("@litertjs/core");
    started.litert ??= litert.loadLiteRt(runtimePath ?? "./node_modules/@litertjs/core/wasm/", { threads });
    await started.litert;
    const compiled = await litert.loadAndCompile(bytes, { accelerator });
    return async (pixels, shape) => {
      const tensor = new litert.Tensor(pixels, shape);
      const results = await compiled.run({ [input.name]: tensor });
      const values = await results.poses.data();
      tensor.delete();
      for (const result of Object.values(results)) result.delete();
      return values;
    };
  },

  async onnxruntime(bytes, { input }, { accelerator, threads, runtimePath }) {
    const ort = await import("onnxruntime-web");
    const path = runtimePath ?? "./node_modules/onnxruntime-web/dist/";
    ort.env.wasm.wasmPaths = new URL(path, document.baseURI).href;
    ort.env.wasm.numThreads = threads ? navigator.hardwareConcurrency : 1;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [accelerator] });
    return async (pixels, shape) => {
      const results = await session.run({ [input.name]: new ort.Tensor(input.dtype, pixels, shape) });
      return results.poses.data;
    };
  },
};
const started = {};

/** A network in the browser, and perhaps a second one that looks at everyone whom it finds. */
export class PoseModel {
  constructor(run, metadata, refine) {
    Object.assign(this, { run, metadata, refine });
  }

  /**
   * From the address or the bytes of a .tflite or .onnx file. `refine`: a second such file for one person at a time, which
   * places everyone anew; `accelerator`: "wasm" or "webgpu"; `threads`: whether wasm may use several.
   */
  static async load(source, { refine = null, accelerator = "wasm", threads = false, runtimePath } = {}) {
    let bytes = source;
    if (!(source instanceof Uint8Array)) {
      const answer = await fetch(source);
      if (!answer.ok) throw new Error(`The model could not be loaded (${answer.status}). Received: ${source}`);
      bytes = new Uint8Array(await answer.arrayBuffer());
    }
    const { metadata, runtime } = readMetadata(bytes);
    let run;
    try {
      run = await RUNTIMES[runtime](bytes, metadata, { accelerator, threads, runtimePath });
    } catch (error) {
      throw new Error(`The model could not be opened; export or copy it again (${error.message})`);
    }
    const second = refine && (await PoseModel.load(refine, { accelerator, threads, runtimePath }));
    if (second) checkRefining(metadata, second.metadata);
    return new PoseModel(run, metadata, second);
  }

  /** People in an image, as `getImageData` gives it, the best first; and how long that took. */
  async find(image, minScore = this.metadata.min_score) {
    const times = { fit: 0, network: 0 };
    let people = await this.look(image, null, this.refine ? 0 : minScore, times);
    if (this.refine) {
      const { skeleton } = this.metadata;
      const look = async (region, mirrored) => (await this.refine.look(image, region, -1, times, mirrored))[0];
      const sigmas = skeleton.sigmas ?? skeleton.joint_names.map(() => USUAL_SIGMA);
      const size = [image.width, image.height];
      const knowsSides = (skeleton.flip_permutation ?? []).some((other, joint) => other !== joint);
      people = await refined(people, look, size, sigmas, minScore, knowsSides);
      people = people.filter(({ score }) => score >= minScore);
    }
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    for (const { keypoints } of people)
      for (const point of keypoints) [point.x, point.y] = [inside(point.x, image.width), inside(point.y, image.height)];
    return { people, milliseconds: times };
  }

  /** People in a region of an image, or in all of it, as they are or as the mirror image shows them; adds what it takes. */
  async look(image, region, minScore, times, mirrored = false) {
    const begun = performance.now();
    const { height, width, dtype } = this.metadata.input;
    const { input, toImage } = letterbox(image, width, height, region);
    if (mirrored) mirror(input, width);
    const pixels = dtype === "uint8" ? input : Float32Array.from(input);
    const ready = performance.now();
    const values = await this.run(pixels, [1, height, width, 3]);
    times.fit += ready - begun;
    times.network += performance.now() - ready;
    const people = readPeople(values, this.metadata, mirrored ? (x, y) => toImage(width - x, y) : toImage, minScore);
    return mirrored ? people.map((person) => upright(person, this.metadata.skeleton)) : people;
  }
}

/** Throws a sentence for a model that cannot look at people whom another one found. */
function checkRefining({ skeleton }, second) {
  if (givesSeveral(second))
    throw new Error(`The second model must be for one person at a time. Received: ${second.name}`);
  if (second.skeleton.joint_names.join() !== skeleton.joint_names.join())
    throw new Error(
      `Both models must have the same joints. Received: ${skeleton.name}, and ${second.name} with ${second.skeleton.name}`,
    );
}

/** Rows of pixels, three values each, from right to left. */
function mirror(input, width) {
  for (let row = 0; row < input.length; row += 3 * width)
    for (let [left, right] = [row, row + 3 * (width - 1)]; left < right; left += 3, right -= 3)
      for (let color = 0; color < 3; color++)
        [input[left + color], input[right + color]] = [input[right + color], input[left + color]];
}

/** Somebody seen in the mirror image, left and right as they are. */
function upright({ keypoints, ...person }, { flip_permutation: permutation }) {
  return { ...person, keypoints: keypoints.map(({ name }, joint) => ({ ...keypoints[permutation[joint]], name })) };
}

/** Limbs and joints of people over a canvas; lines as wide as suits its size. */
export function draw(context, people, metadata, threshold = 0.2) {
  const size = Math.max(2, Math.round(Math.max(context.canvas.width, context.canvas.height) / 200));
  context.lineWidth = size;
  for (const { keypoints } of people) {
    for (const [start, end] of metadata.skeleton.limbs) {
      const [a, b] = [keypoints[start], keypoints[end]];
      if (Math.min(a.score, b.score) < threshold) continue;
      context.strokeStyle = a.name.startsWith("left") || b.name.startsWith("left") ? "#ff8c1a" : "#1a8cff";
      context.beginPath();
      context.moveTo(a.x, a.y);
      context.lineTo(b.x, b.y);
      context.stroke();
    }
    context.fillStyle = "#ffffff";
    for (const { x, y, score } of keypoints) {
      if (score < threshold) continue;
      context.beginPath();
      context.arc(x, y, size, 0, 2 * Math.PI);
      context.fill();
    }
  }
}
