// People in pictures as the browser finds them, for tests/test_one_answer.py: node answers.mjs FOLDER. FOLDER/jobs.json is
// a list of { network, refine, picture }, paths of files, `refine` or null; FOLDER/browser.json receives the keypoints of
// the people in each.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { opened } from "./browser.mjs";

const FOLDER = process.argv[2];
const jobs = JSON.parse(await readFile(join(FOLDER, "jobs.json"), "utf-8"));
const { page, address, close } = await opened();
try {
  await page.goto(`${address}/`);
  const answers = [];
  for (const { network, refine, picture } of jobs) {
    const paths = [network, refine, picture];
    const [model, second, pixels] = await Promise.all(paths.map((path) => path && readFile(path, "base64")));
    answers.push(
      await page.evaluate(
        async ([network, model, second, pixels]) => {
          const { PoseModel } = await import("./pose.js");
          const bytes = async (encoded) => (await fetch(`data:application/octet-stream;base64,${encoded}`)).arrayBuffer();
          self.networks ??= {};
          const refine = second && new Uint8Array(await bytes(second));
          self.networks[network] ??= await PoseModel.load(new Uint8Array(await bytes(model)), { refine });
          const picture = await createImageBitmap(new Blob([await bytes(pixels)]));
          const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
          context.drawImage(picture, 0, 0);
          const { people } = await self.networks[network].find(context.getImageData(0, 0, picture.width, picture.height), 0);
          return people.map(({ keypoints }) => keypoints.map(({ x, y, score }) => [x, y, score]));
        },
        [network, model, second, pixels],
      ),
    );
  }
  await writeFile(join(FOLDER, "browser.json"), JSON.stringify(answers));
} finally {
  await close();
}
