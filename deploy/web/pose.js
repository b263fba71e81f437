// People from the files that keras_ehrnet exports, in a browser: LiteRT.js runs them, this reads and writes around it.
//
//     import { PoseModel } from "./pose.js";
//     const model = await PoseModel.load("people.tflite");
//     const { people } = await model.find(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
//     people[0].keypoints[0];   // { name: "nose", x, y, score }, in pixels of the canvas

const RUNTIME = "./node_modules/@litertjs/core/wasm/";
let runtime = null;

/** What a file says about itself: JSON in a zip archive behind the model. Throws a sentence for what is no such file. */
export function readMetadata(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ofUs = "export it with keras_ehrnet, with decode='poses'";
  if (bytes.length < 8) throw new Error(`The model file is empty or cut short: ${ofUs}. Received: ${bytes.length} bytes`);
  let end = bytes.length - 22;
  while (end >= Math.max(0, bytes.length - 65557) && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50)
    throw new Error(`The model does not say how its outputs become people, or its end is missing: ${ofUs}`);
  // Archives behind other data count from the beginning of the file or of themselves; the directory's size tells.
  let entry = end - view.getUint32(end + 12, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (entry < 0 || view.getUint32(entry, true) !== 0x02014b50) break;
    const [method, size] = [view.getUint16(entry + 10, true), view.getUint32(entry + 20, true)];
    const [name, extra, comment] = [28, 30, 32].map((place) => view.getUint16(entry + place, true));
    const text = new TextDecoder();
    if (method === 0 && text.decode(bytes.subarray(entry + 46, entry + 46 + name)) === "metadata.json") {
      const local = view.getUint32(entry + 42, true);
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      const metadata = JSON.parse(text.decode(bytes.subarray(start, start + size)));
      if (metadata.decode !== "poses")
        throw new Error(`The model gives ${metadata.decode === "none" ? "maps" : metadata.decode}: ${ofUs}`);
      return metadata;
    }
    entry += 46 + name + extra + comment;
  }
  throw new Error(`The model does not say how its outputs become people: ${ofUs}`);
}

// --8<-- [start:letterbox]
/** Halves go to the even neighbour, as OpenCV has it: the network gets the same bytes. */
function rounded(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below & 1) : Math.round(value);
}

/** RGBA pixels fitted into an input, black where there is none: RGB, and the way back to the image's pixels. */
export function letterbox({ data, width, height }, inputWidth, inputHeight) {
  const factor = Math.min(inputWidth / width, inputHeight / height);
  const left = (inputWidth - factor * width) / 2;
  const top = (inputHeight - factor * height) / 2;
  const at = (x, y, channel) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : data[4 * (y * width + x) + channel];
  const input = new Uint8Array(inputWidth * inputHeight * 3);
  for (let row = 0; row < inputHeight; row++) {
    const y = (row + 0.5 - top) / factor - 0.5;
    const y0 = Math.floor(y);
    for (let column = 0; column < inputWidth; column++) {
      const x = (column + 0.5 - left) / factor - 0.5;
      const x0 = Math.floor(x);
      for (let channel = 0; channel < 3; channel++) {
        const above = at(x0, y0, channel) * (1 - x + x0) + at(x0 + 1, y0, channel) * (x - x0);
        const below = at(x0, y0 + 1, channel) * (1 - x + x0) + at(x0 + 1, y0 + 1, channel) * (x - x0);
        input[3 * (row * inputWidth + column) + channel] = rounded(above * (1 - y + y0) + below * (y - y0));
      }
    }
  }
  return { input, toImage: (x, y) => [(x - left) / factor, (y - top) / factor] };
}
// --8<-- [end:letterbox]

/** The people of an output, in pixels of the image: rows of one person (K x 3) or of several (3K + 5). */
export function readPeople(values, metadata, toImage, minScore) {
  const names = metadata.skeleton.joint_names;
  const several = metadata.outputs[0].shape.length === 3;
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
    if (score > 0 && score >= minScore) people.push({ score, keypoints });
  }
  return people;
}

/** A network in the browser. */
export class PoseModel {
  constructor(compiled, metadata, litert) {
    Object.assign(this, { compiled, metadata, litert });
  }

  /** From an address or the bytes of a file. `accelerator`: "wasm" or "webgpu"; `threads`: whether wasm may use several. */
  static async load(source, { accelerator = "wasm", threads = false, runtimePath = RUNTIME } = {}) {
    let bytes = source;
    if (!(source instanceof Uint8Array)) {
      const answer = await fetch(source);
      if (!answer.ok) throw new Error(`The model could not be loaded (${answer.status}). Received: ${source}`);
      bytes = new Uint8Array(await answer.arrayBuffer());
    }
    const metadata = readMetadata(bytes);
    const litert = await import("@litertjs/core");
    runtime ??= litert.loadLiteRt(runtimePath, { threads });
    await runtime;
    try {
      return new PoseModel(await litert.loadAndCompile(bytes, { accelerator }), metadata, litert);
    } catch (error) {
      throw new Error(`The model could not be opened; export or copy it again (${error.message})`);
    }
  }

  /** People in an image, as `getImageData` gives it, the best first; and how long that took. */
  async find(image, minScore = this.metadata.min_score) {
    const started = performance.now();
    const { height, width, dtype, name } = this.metadata.input;
    const { input, toImage } = letterbox(image, width, height);
    const pixels = dtype === "uint8" ? input : Float32Array.from(input);
    const tensor = new this.litert.Tensor(pixels, [1, height, width, 3]);
    const ready = performance.now();
    const results = await this.compiled.run({ [name]: tensor });
    const values = await results.poses.data();
    const done = performance.now();
    const people = readPeople(values, this.metadata, toImage, minScore);
    tensor.delete();
    for (const result of Object.values(results)) result.delete();
    return { people, milliseconds: { fit: ready - started, network: done - ready } };
  }
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
