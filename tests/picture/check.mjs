// Checks pages with axe-core in headless Chromium: light and dark, at 1280 and 390 pixels, and printed.
// node check.mjs [--shots DIR] PAGE.html...
// CHROMIUM is the browser; /usr/bin/chromium without it. Ends with 1 if a rule is violated, if the body is wider
// than the window, or if the page asks for anything but itself.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const pages = process.argv.slice(2);
let shots;
if (pages[0] === "--shots") {
  shots = pages[1];
  pages.splice(0, 2);
  mkdirSync(shots, { recursive: true });
}
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
  protocolTimeout: 600_000,
});
let failures = 0;
const fail = (text) => {
  failures += 1;
  console.error(text);
};
for (const path of pages) {
  const name = basename(path, ".html");
  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const what = `${name}, ${scheme}, ${width} px`;
      const page = await browser.newPage();
      const url = pathToFileURL(resolve(path)).href;
      page.on("request", (request) => request.url() === url || fail(`${what}: asks for ${request.url()}`));
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.setViewport({ width, height: 1000 });
      await page.goto(url);
      const body = await page.evaluate(() => document.documentElement.scrollWidth);
      if (body > width) fail(`${what}: the body is ${body} px wide`);
      if (shots) {
        const height = await page.evaluate(() => document.documentElement.scrollHeight);
        await page.screenshot({ path: `${shots}/${name}-${scheme}-${width}.png`, clip: { x: 0, y: 0, width, height: Math.min(height, 6000) } });
      }
      // What is closed is checked too, where that takes seconds rather than hours.
      const all = await page.$$eval("details", (details) => {
        details.slice(0, 12).forEach((one) => (one.open = true));
        return details.length;
      });
      await page.evaluate(axe);
      const result = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      console.log(`${what}: ${result.violations.length} violations, ${result.passes.length} rules passed, ${all} details`);
      for (const { id, help, nodes } of result.violations) {
        fail(`${what}: ${id}: ${help}: ${nodes.length} times, such as ${nodes[0].html.slice(0, 200)}\n  ${nodes[0].failureSummary}`);
      }
      await page.close();
    }
  }
  if (shots && name !== "many") {
    const page = await browser.newPage();
    await page.goto(pathToFileURL(resolve(path)).href);
    await page.pdf({ path: `${shots}/${name}.pdf`, format: "A4", printBackground: true });
    await page.close();
  }
}
await browser.close();
process.exit(failures === 0 ? 0 : 1);
