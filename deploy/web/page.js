// The page: photographs, videos and the camera, with what `pose.js` finds in them.

import { PoseModel, draw } from "./pose.js";

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const models = new Map();
const kept = keepForLater();
let latest = null;
let playing = 0;

function say(text, isWrong = false) {
  element("said").textContent = text;
  element("said").className = isWrong ? "wrong" : "";
}

async function currentModel() {
  const { value: address, selectedOptions: [{ dataset: { refine } }] } = element("model");
  const accelerator = element("accelerator").value;
  const key = `${address} ${refine} ${accelerator}`;
  if (!models.has(key)) {
    say("Loading the model ...");
    await kept;
    models.set(key, await PoseModel.load(address, { refine, accelerator, threads: self.crossOriginIsolated }));
  }
  return models.get(key);
}

/** Until the worker that keeps what is loaded works, or it is known that none will. */
async function keepForLater() {
  try {
    const { installing } = (await navigator.serviceWorker?.register("offline.js")) ?? {};
    const isOver = () => ["activated", "redundant"].includes(installing.state);
    if (installing && !isOver())
      await new Promise((over) => installing.addEventListener("statechange", () => isOver() && over()));
  } catch {
    // Where the browser wants none, such as with a certificate that it does not trust, everything else works.
  }
}

/** What was found, and shown; null where another picture or video was chosen meanwhile. */
async function findIn(source, width, height, turn) {
  const model = await currentModel();
  if (turn !== playing) return null;
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(source, 0, 0, width, height);
  const { people, milliseconds } = await model.find(context.getImageData(0, 0, width, height));
  if (turn !== playing) return null;
  draw(context, people, model.metadata);
  latest = { width, height, skeleton: model.metadata.skeleton.name, people };
  element("save").disabled = false;
  const count = people.length === 1 ? "1 person" : people.length ? `${people.length} people` : "Nobody found";
  return `${count}, network ${milliseconds.network.toFixed(0)} ms`;
}

export async function showPicture(blob) {
  const turn = ++playing;
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    throw new Error(`This is not a picture that the browser can read. Received: ${blob.size} bytes`);
  }
  const told = await findIn(picture, picture.width, picture.height, turn);
  if (told) say(told);
  return latest;
}

async function play(video) {
  const turn = ++playing;
  await video.play();
  let [frames, since] = [0, performance.now()];
  while (turn === playing && !video.ended) {
    const told = await findIn(video, video.videoWidth, video.videoHeight, turn);
    if (!told) break;
    frames++;
    const seconds = (performance.now() - since) / 1000;
    say(`${told}, ${(frames / seconds).toFixed(1)} frames per second`);
    if (seconds > 2) [frames, since] = [0, performance.now()];
    await new Promise(requestAnimationFrame);
  }
  video.srcObject?.getTracks().forEach((track) => track.stop());
}

async function showFile(file) {
  if (!file.type.startsWith("video/")) return showPicture(file);
  const video = Object.assign(document.createElement("video"), { src: URL.createObjectURL(file), muted: true });
  await play(video);
}

async function showCamera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    throw new Error(`The camera was refused, or there is none (${error.name}).`);
  }
  await play(Object.assign(document.createElement("video"), { srcObject: stream, muted: true }));
}

function saveJson() {
  const blob = new Blob([JSON.stringify(latest, null, 2)], { type: "application/json" });
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "people.json" }).click();
}

const guarded = (act) => (event) => Promise.resolve(act(event)).catch((error) => say(error.message, true));
element("file").addEventListener("change", guarded(({ target }) => target.files[0] && showFile(target.files[0])));
element("camera").addEventListener("click", guarded(showCamera));
element("save").addEventListener("click", saveJson);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", guarded((event) => {
  event.preventDefault();
  return event.dataTransfer.files[0] && showFile(event.dataTransfer.files[0]);
}));
self.showPicture = guarded(showPicture);
self.latest = () => latest;
