// The page in a real browser: people as Python finds them, mistakes as sentences. node test.mjs FOLDER_OF_EXPECTED

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { opened } from "./browser.mjs";
import { NUMBERS, refined } from "./refine.js";

const FOLDER = process.argv[2];
const NEAR_PIXELS = 1;
/** Crops follow joints, so that what differs in the last digits is cut out a little differently the next time. */
const NEAR_AGAIN = 1.5;
// What stays in float is rounded otherwise by other processors, which 8 bits make more of: one joint of 20 may be further off.
const INT8 = { near: 3, farther: 0.05 };
const FEWEST_JOINTS = 5;
const SEEN = 0.2;

const { page, address, close } = await opened();
const failures = [];
page.on("pageerror", (error) => failures.push(error.message));

/** Opens the page, with the pictures at hand. */
async function open(images) {
  await page.goto(`${address}/`);
  const encoded = Object.entries(images).map(([name, bytes]) => [name, `data:image/png;base64,${bytes.toString("base64")}`]);
  await page.evaluate(async (encoded) => {
    [self.pixels, self.networks] = [{}, {}];
    for (const [name, address] of encoded) {
      const picture = await createImageBitmap(await (await fetch(address)).blob());
      const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
      context.drawImage(picture, 0, 0);
      self.pixels[name] = context.getImageData(0, 0, picture.width, picture.height);
    }
  }, encoded);
}

/** People that `pose.js` finds in a picture, on the page. */
async function find({ network, refine }, name, minScore, threads) {
  return page.evaluate(
    async ([network, refine, name, minScore, threads]) => {
      const { PoseModel } = await import("./pose.js");
      const options = { refine: refine && `networks/${refine}`, threads };
      self.networks[network + refine] ??= await PoseModel.load(`networks/${network}`, options);
      return self.networks[network + refine].find(self.pixels[name], minScore);
    },
    [network, refine, name, minScore, threads],
  );
}

/** A person of the goldens, as `readPeople` gives them. */
function person({ keypoints, score }) {
  const joints = Array.from({ length: keypoints.length / 3 }, (_, joint) => keypoints.slice(3 * joint, 3 * joint + 3));
  return { score, keypoints: joints.map(([x, y, score]) => ({ x, y, score })) };
}

/** The second look without a network: the same places are looked at, and the same people are left, as in Python. */
async function compareRefining({ numbers, size: [width, height], min_score: minScore, sigmas, cases }) {
  assert.deepEqual(NUMBERS, numbers);
  for (const [number, { people, looks, refined: expected }] of cases.entries()) {
    const left = [...looks];
    const look = async ({ x, y, width, height }, mirrored) => {
      const near = (region) => [x, y, width, height].every((value, index) => Math.abs(value - region[index]) < 1e-2);
      const at = left.findIndex((its) => its.mirrored === mirrored && near(its.region));
      assert.ok(at >= 0, `case ${number}: Python does not look at ${[x, y, width, height]}`);
      return person(left.splice(at, 1)[0]);
    };
    const found = await refined(people.map(person), look, [width, height], sigmas, minScore, true);
    assert.equal(left.length, 0, `case ${number}: looks that were not taken`);
    assert.equal(found.length, expected.length, `case ${number}: people`);
    expected.map(person).forEach(({ score, keypoints }, row) => {
      assert.ok(Math.abs(score - found[row].score) < 1e-6, `case ${number}: score of ${row}`);
      keypoints.forEach(({ x, y }, joint) => {
        const own = found[row].keypoints[joint];
        assert.ok(Math.hypot(x - own.x, y - own.y) < 1e-3, `case ${number}: joint ${joint} of ${row}`);
      });
    });
  }
  console.log(`${cases.length} cases of looking again are those of Python.`);
}

async function said(act) {
  await page.evaluate(() => (document.getElementById("said").className = ""));
  await page.evaluate(act);
  await page.waitForFunction(() => document.getElementById("said").className === "wrong");
  return page.textContent("#said");
}

try {
  const { min_score: minScore, pictures, expected, refining } = JSON.parse(
    await readFile(join(FOLDER, "expected.json"), "utf-8"),
  );
  await compareRefining(refining);
  const images = Object.fromEntries(
    await Promise.all(pictures.map(async (name) => [name, await readFile(join(FOLDER, `${name}.png`))])),
  );
  for (const threads of [false, true]) {
    await open(images);
    for (const way of expected) {
      const [distances, times] = [[], []];
      for (const name of pictures) {
        const { people } = await find(way, name, minScore, threads);
        assert.equal(people.length, way.people[name].length, `people in ${name}, ${way.way}`);
        people.forEach(({ keypoints }, row) =>
          keypoints.forEach(({ x, y, score }, joint) => {
            const [ownX, ownY, ownScore] = way.people[name][row].keypoints[joint];
            if (Math.min(score, ownScore) >= SEEN) distances.push(Math.hypot(x - ownX, y - ownY));
          }),
        );
        for (let turn = 0; turn < 3; turn++)
          times.push((await find(way, name, minScore, threads)).milliseconds.network);
      }
      const median = times.sort((a, b) => a - b)[times.length >> 1];
      console.log(
        `${way.way}, ${threads ? "several threads" : "one thread"}: ${median.toFixed(0)} ms; ` +
          `${distances.length} joints, the farthest ${Math.max(...distances).toFixed(2)} pixels off`,
      );
      const usual = { near: way.refine ? NEAR_AGAIN : NEAR_PIXELS, farther: 0 };
      const { near, farther } = way.network.includes("int8") ? INT8 : usual;
      const far = distances.filter((distance) => distance > near);
      assert.ok(distances.length >= FEWEST_JOINTS, way.way);
      assert.ok(far.length <= farther * distances.length, `${way.way}: ${far}`);
    }
  }

  await page.goto(`${address}/`);
  const picture = images[pictures.at(-1)];
  await page.setInputFiles("#file", { name: "picture.png", mimeType: "image/png", buffer: picture });
  await page.waitForFunction(() => self.latest() !== null);
  assert.ok((await page.evaluate(() => self.latest().people.length)) > 0, "the page finds people");
  await writeFile(join(FOLDER, "page.png"), await page.screenshot());

  // Loaded once, it works without a network.
  await page.context().setOffline(true);
  await page.reload();
  await page.setInputFiles("#file", { name: "picture.png", mimeType: "image/png", buffer: picture });
  await page.waitForFunction(() => self.latest?.() !== null);
  assert.ok((await page.evaluate(() => self.latest().people.length)) > 0, "the page finds people without a network");
  await page.context().setOffline(false);

  assert.match(await said(() => self.showPicture(new Blob([]))), /not a picture that the browser can read. Received: 0/);
  assert.match(await said(() => document.getElementById("camera").click()), /camera was refused, or there is none/);
  for (const [bytes, sentence] of [
    [[], /empty or cut short/],
    [new Array(4000).fill(7), /does not say how its outputs become people/],
  ]) {
    const message = await page.evaluate(async (bytes) => {
      const { PoseModel } = await import("./pose.js");
      return PoseModel.load(new Uint8Array(bytes)).then(() => "", (error) => error.message);
    }, bytes);
    assert.match(message, sentence);
  }
  const several = expected.find(({ way }) => way === "several people").network;
  for (const [refine, sentence] of [
    [`networks/${several}`, /second model must be for one person at a time. Received: efficientpose-rt-people/],
    ["networks/none.tflite", /^The model could not be loaded \(404\). Received: networks\/none.tflite/],
  ]) {
    const message = await page.evaluate(async ([address, refine]) => {
      const { PoseModel } = await import("./pose.js");
      return PoseModel.load(address, { refine }).then(() => "", (error) => error.message);
    }, [`networks/${several}`, refine]);
    assert.match(message, sentence);
  }

  // A browser that keeps nothing for later finds people all the same.
  await page.addInitScript(() => {
    ServiceWorkerContainer.prototype.register = () => Promise.reject(new Error("not here"));
  });
  await page.goto(`${address}/`);
  await page.setInputFiles("#file", { name: "picture.png", mimeType: "image/png", buffer: picture });
  await page.waitForFunction(() => self.latest?.() !== null);
  assert.deepEqual(failures, []);
  console.log("The page works.");
} finally {
  await close();
}
