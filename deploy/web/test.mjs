// The page in a real browser: people as Python finds them, mistakes as sentences. node test.mjs FOLDER_OF_EXPECTED

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const FOLDER = process.argv[2];
// Bytes of the input differ by 1 here and there, so that where two places of a map are equally high the other is taken: a
// joint is then a pixel of the input away, which is several of a large picture.
const NEAR_PIXELS = 1;
const MOST_OTHERS = 0.03;
const MOST_INPUT_PIXELS = 1.5;
const SEEN = 0.2;

const server = await serve();
const address = `http://localhost:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
});
const page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
const failures = [];
page.on("pageerror", (error) => failures.push(error.message));

/** People that `pose.js` finds in a picture, on the page. */
async function find(model, picture, minScore, threads) {
  return page.evaluate(
    async ([model, picture, minScore, threads]) => {
      const { PoseModel } = await import("./pose.js");
      self.kept ??= {};
      const known = (self.kept[model] ??= await PoseModel.load(`networks/${model}.tflite`, { threads }));
      const blob = new Blob([new Uint8Array(picture)], { type: "image/png" });
      const bitmap = await createImageBitmap(blob);
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const { width, height } = known.metadata.input;
      const factor = Math.min(width / bitmap.width, height / bitmap.height);
      return { factor, ...(await known.find(context.getImageData(0, 0, bitmap.width, bitmap.height), minScore)) };
    },
    [model, [...picture], minScore, threads],
  );
}

async function said(act) {
  await page.evaluate(() => (document.getElementById("said").className = ""));
  await page.evaluate(act);
  await page.waitForFunction(() => document.getElementById("said").className === "wrong");
  return page.textContent("#said");
}

try {
  const { min_score: minScore, pictures } = JSON.parse(await readFile(join(FOLDER, "expected.json"), "utf-8"));
  const [distances, inputDistances] = [[], []];
  for (const threads of [false, true]) {
    await page.goto(`${address}/`);
    const times = {};
    for (const [picture, models] of Object.entries(pictures)) {
      const bytes = await readFile(join(FOLDER, `${picture}.png`));
      for (const [model, expected] of Object.entries(models)) {
        const { people, factor } = await find(model, bytes, minScore, threads);
        assert.equal(people.length, expected.length, `people in ${picture} by ${model}`);
        people.forEach(({ keypoints }, row) =>
          keypoints.forEach(({ x, y, score }, joint) => {
            const [ownX, ownY, ownScore] = expected[row].keypoints[joint];
            if (Math.min(score, ownScore) < SEEN) return;
            distances.push(Math.hypot(x - ownX, y - ownY));
            inputDistances.push(distances.at(-1) * factor);
          }),
        );
        for (let turn = 0; turn < 3; turn++) {
          const { milliseconds } = await find(model, bytes, minScore, threads);
          (times[model] ??= []).push(milliseconds.network);
        }
      }
    }
    for (const [model, own] of Object.entries(times)) {
      const median = own.sort((a, b) => a - b)[own.length >> 1];
      console.log(`${model}: wasm, ${threads ? "several threads" : "one thread"}: ${median.toFixed(0)} ms`);
    }
  }
  const others = distances.filter((distance) => distance > NEAR_PIXELS).length;
  const [farthest, inInput] = [Math.max(...distances), Math.max(...inputDistances)];
  console.log(
    `${distances.length} joints compared: ${others} more than ${NEAR_PIXELS} pixel off, the farthest ` +
      `${farthest.toFixed(2)} pixels of the picture, ${inInput.toFixed(2)} of the input`,
  );
  assert.ok(distances.length > 50 && others <= MOST_OTHERS * distances.length && inInput <= MOST_INPUT_PIXELS);

  await page.goto(`${address}/`);
  const picture = await readFile(join(FOLDER, `${Object.keys(pictures).at(-1)}.png`));
  await page.setInputFiles("#file", { name: "picture.png", mimeType: "image/png", buffer: picture });
  await page.waitForFunction(() => self.latest() !== null);
  assert.ok((await page.evaluate(() => self.latest().people.length)) > 0, "the page finds people");
  await writeFile(join(FOLDER, "page.png"), await page.screenshot());

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
  await browser.close();
  server.close();
}
