// Debian's chromium on a page of this folder, for tests.

import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

/** A page of a browser, the address that this folder is served at, and what closes both. */
export async function opened() {
  const server = await serve();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
  });
  const page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
  const close = async () => {
    await browser.close();
    server.close();
  };
  return { page, address: `http://localhost:${server.address().port}`, close };
}
