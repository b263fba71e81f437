// The page in a real browser: people as Python finds them, mistakes as sentences. node test.mjs FOLDER_OF_EXPECTED

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { opened } from "./browser.mjs";

const FOLDER = process.argv[2];
const NEAR_PIXELS = 1;
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

async function said(act) {
  await page.evaluate(() => (document.getElementById("said").className = ""));
  await page.evaluate(act);
  await page.waitForFunction(() => document.getElementById("said").className === "wrong");
  return page.textContent("#said");
}

try {
  const { min_score: minScore, pictures, expected } = JSON.parse(await readFile(join(FOLDER, "expected.json"), "utf-8"));
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
      assert.ok(distances.length >= FEWEST_JOINTS && Math.max(...distances) <= NEAR_PIXELS, way.way);
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
  assert.deepEqual(failures, []);
  console.log("The page works.");
} finally {
  await close();
}
