// Chromium, what a script wishes of the test behind it, and what every page must hold to.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { CHROMIUM, MODULES, SHOTS } = process.env;
const { chromium } = createRequire(join(MODULES, "here.js"))("playwright-core");

export const ADMIN = "sk-of-an-administrator";
export const DESKTOP = { width: 1280, height: 900 }, PHONE = { width: 390, height: 844 }, NARROW = { width: 320, height: 640 };
// A status is `unavailable` until 10 s after the last answer at the earliest.
export const SOON = 40_000;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function wish(text) {
  console.log(`@${text}`);
  return (await answers.next()).value;
}

export function check(holds, what) {
  if (!holds) throw new Error(what);
}
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export async function within(what, holds) {
  for (const end = Date.now() + SOON; Date.now() < end; await pause(100)) if (await holds()) return;
  throw new Error(`it never came to pass: ${what}`);
}

// Runs a test with a browser of its own, which is gone after it.
export async function run(test) {
  const profile = mkdtempSync(join(tmpdir(), "steadfast-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    viewport: DESKTOP,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  context.setDefaultTimeout(SOON);
  try {
    await test(context, `http://${await wish("address")}`);
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
    // Whatever still listens.
    process.exit();
  }
}
// No browser keeps anybody waiting for ever.
setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, 300_000).unref();

// A page whose errors and whose requests are written down. What it is forbidden to do would be among its errors.
export async function opened(context, url, origins = [new URL(url).origin]) {
  const page = await context.newPage();
  page.errors = [];
  page.foreign = [];
  // A status with this code is an answer: nothing serves.
  const isStatus = (message) => message.text().includes("503") && message.location().url.endsWith("/status");
  page.on("console", (message) => message.type() === "error" && !isStatus(message) && page.errors.push(`${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => page.errors.push(String(error.stack)));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && !origins.includes(origin)) page.foreign.push(request.url());
  });
  await page.goto(url);
  return page;
}
export function clean(page) {
  check(!page.errors.length, `the console has errors: ${page.errors.join("\n")}`);
  check(!page.foreign.length, `it asked elsewhere: ${page.foreign}`);
}

// Sends requests to the gateway, several at once; gives the tiers that answered.
export async function ask(origin, feature, count) {
  const body = JSON.stringify({ model: "claude-sonnet-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }] });
  const headers = { "content-type": "application/json", "x-api-key": "sk-of-a-caller", "x-steadfast-feature": feature };
  const one = async () => {
    const response = await fetch(`${origin}/v1/messages`, { method: "POST", headers, body });
    await response.text();
    return response.headers.get("x-steadfast-tier") ?? response.status;
  };
  const tiers = [];
  for (let left = count; left > 0; left -= 4) tiers.push(...await Promise.all(Array.from({ length: Math.min(4, left) }, one)));
  return tiers;
}

// That nobody has to scroll sideways: as narrow as WCAG 2.2 asks for (1.4.10), on a phone, and on a desk.
async function fits(page, viewport) {
  await page.setViewportSize(viewport);
  // Two frames: the plots are drawn again for their new size.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const wide = await page.evaluate(widest);
  check(wide.content <= viewport.width, `at ${viewport.width} pixels it is ${wide.content} wide, by ${wide.by}`);
}
export async function fitsEverywhere(page) {
  for (const viewport of [NARROW, PHONE, DESKTOP]) await fits(page, viewport);
}

// In light and dark, wide and narrow: that it fits and can be read; and a picture of each.
export async function looks(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await fits(page, NARROW);
  for (const [size, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    await fits(page, viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const faint = await page.evaluate(unreadable);
      check(!faint.length, `${name}, ${size}, ${colorScheme}: too little contrast: ${faint.join("; ")}`);
      const path = join(SHOTS, `${name}-${size}-${colorScheme}.png`);
      await page.screenshot({ path, fullPage: true });
      console.log(path);
    }
  }
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({ colorScheme: "light" });
}

function widest() {
  const content = document.documentElement.scrollWidth;
  const over = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
  return { content, by: over.slice(0, 5).map((one) => `${one.localName}#${one.id}.${one.getAttribute("class")}`).join(" ") };
}

// Text whose contrast is below what WCAG 2.2 asks for at level AA (1.4.3): 4.5, and 3 for large text.
function unreadable() {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((all, value, at) => all + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement ?? one.getRootNode().host) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      if (color[3] === 255) return color;
    }
    // The page's own ground, which is light or dark as its color scheme is.
    const ground = document.body.appendChild(document.createElement("div"));
    ground.style.backgroundColor = "Canvas";
    const color = rgba(getComputedStyle(ground).backgroundColor);
    ground.remove();
    return color;
  };
  const everything = (root) => [...root.querySelectorAll("*")].flatMap((one) => [one, ...(one.shadowRoot ? everything(one.shadowRoot) : [])]);
  const faint = [];
  for (const element of everything(document.body)) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || !element.checkVisibility() || element.matches("script, style, option, :disabled")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(rgba(element instanceof SVGElement ? style.fill : style.color)), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) faint.push(`"${text.slice(0, 40)}" ${contrast.toFixed(2)}`);
  }
  return faint;
}

// Goes through the page with Tab: every control is reached, in the order in which they stand, and where one is can be seen.
export async function keyboard(page, least = 5, tries = 3) {
  const controls = await page.evaluate(() => {
    // From the top, wherever the focus was.
    getSelection().removeAllRanges();
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
    return [...document.querySelectorAll("a[href], button, input, select, summary, textarea, [tabindex='0']")]
      .filter((one) => one.checkVisibility() && !one.disabled && !one.closest("dialog"))
      .map((one, at) => (one.dataset.control = String(at)));
  });
  const reached = [];
  for (let at = 0; at < controls.length; at++) {
    await page.keyboard.press("Tab");
    const { control, ring, html } = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      const ring = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
      return { control: document.activeElement.dataset.control, ring, html: document.activeElement.outerHTML.slice(0, 120) };
    });
    check(ring, `no focus can be seen on ${html}`);
    reached.push(control);
  }
  // What was drawn anew meanwhile, as news come, has lost its number.
  if (tries > 1 && reached.includes(undefined)) return keyboard(page, least, tries - 1);
  check(controls.join() === reached.join(), `Tab reaches ${reached} in place of ${controls}`);
  check(controls.length >= least, `only ${controls.length} controls`);
  await page.evaluate(() => document.querySelectorAll("[data-control]").forEach((one) => delete one.dataset.control));
}

/** A page that has slept shows nothing old, while it asks how it is now. */
export async function sleeps(context, page, gateway, state, wanted = "primary") {
  let answer;
  await context.route(`${gateway}/status`, (route) => { answer = () => route.continue(); });
  await page.evaluate(() => {
    const now = Date.now;
    Date.now = () => now() + 60_000;
    document.dispatchEvent(new Event("visibilitychange"));
    Date.now = now;
  });
  await state("connecting");
  await within("it asks", () => answer);
  answer();
  await context.unroute(`${gateway}/status`);
  await state(wanted);
}
