// The badge on pages of other origins. The gateway asks its callers for keys; a badge has none.
import { createServer } from "node:http";
import { ask, check, clean, looks, opened, run, sleeps, wish, within } from "./driver.mjs";

// A server of somebody else.
async function elsewhere(html, policy) {
  const headers = { "content-type": "text/html; charset=utf-8", ...(policy && { "content-security-policy": policy }) };
  const server = createServer((request, response) => response.writeHead(request.url === "/" ? 200 : 204, headers).end(html));
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
const page = (gateway, body) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Somebody's page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><script src="${gateway}/badge.js" defer></script><body>${body}`;

await run(async (context, gateway) => {
  // Nothing is allowed here but the script and what it asks.
  const strict = `default-src 'none'; script-src ${gateway}; connect-src ${gateway}; img-src data:`;
  const somebody = await elsewhere(page(gateway, "<p>Ask me anything. <steadfast-badge></steadfast-badge></p>"), strict);
  await context.addInitScript(() => {
    window.told = [];
    addEventListener("steadfast-change", (event) => told.push({ ...event.detail, from: event.target.localName }));
  });
  const origins = [new URL(somebody.url).origin, gateway];
  const one = await opened(context, somebody.url, origins);
  const badge = one.locator("steadfast-badge");
  const label = one.locator("steadfast-badge [part=badge]");
  const state = (wanted) => one.waitForSelector(`steadfast-badge[data-state=${wanted}]`);
  const asked = [];
  one.on("request", (request) => request.url().endsWith("/status") && asked.push({ at: Date.now(), headers: request.headers() }));

  await state("untried");
  check(await label.innerText() === "no request yet", await label.innerText());
  await ask(gateway, "chat", 2);
  await state("primary");
  check(await label.innerText() === "claude-sonnet-4-5" && await label.getAttribute("role") === "status", "it names who serves");
  await wish("fail primary");
  await ask(gateway, "chat", 8);
  await state("fallback");
  check(await label.innerText() === "gpt-4o: running on fallback, quality may differ", await label.innerText());
  clean(one);
  await wish("kill");
  await state("connecting");
  check(await label.innerText() === "connecting", "nothing is shown that may be old");
  await wish("heal primary");
  await wish("start");
  await state("untried");
  const told = (await one.evaluate(() => window.told)).map(({ state, activeModel, activeTier, primaryTier, from }) => [state, activeModel, activeTier, primaryTier, from].join(" "));
  check(told.join() === ["untried claude-sonnet-4-5 sonnet sonnet", "primary claude-sonnet-4-5 sonnet sonnet", "fallback gpt-4o gpt sonnet", "connecting   ",
      "untried claude-sonnet-4-5 sonnet sonnet"]
    .map((change) => `${change} steadfast-badge`).join(), `each change is told once: ${told}`);
  const waits = asked.slice(1).map(({ at }, place) => at - asked[place].at);
  check(waits.length >= 2 && waits.every((wait) => wait > 4500), `it asks every 5 s, not after ${waits} ms`);
  check(asked.every(({ headers }) => !headers.cookie && !headers.authorization), "it shows nobody who it is");
  one.errors = one.errors.filter((error) => !error.includes("ERR_CONNECTION"));
  clean(one);

  await sleeps(context, one, gateway, state, "untried");

  // Taken away, it asks no more.
  await badge.evaluate((element) => element.remove());
  const before = asked.length;
  await new Promise((resolve) => setTimeout(resolve, 6000));
  check(asked.length === before, "it goes on asking");
  somebody.close();

  // Gateways below a path, with and without a stroke at the end; states that others are in; answers that are none.
  const answers = {
    "/primary/status": { state: "primary", activeModel: "claude-sonnet", primaryModel: "claude-sonnet" },
    "/fallback/status": { state: "fallback", activeModel: "gpt-4o", primaryModel: "claude-sonnet" },
    "/failing/status": { state: "failing", activeModel: "claude-sonnet", primaryModel: "claude-sonnet" },
    "/degraded/status": { state: "degraded", activeModel: "canned", primaryModel: "claude-sonnet" },
    "/unavailable/status": { state: "unavailable", activeModel: "gpt-4o", primaryModel: "claude-sonnet" },
    "/people/status": { state: "people", activeModel: "people", primaryModel: "claude-sonnet" },
    "/untried/status": { state: "untried", activeModel: "claude-sonnet", primaryModel: "claude-sonnet" },
    "/none/status": { error: { message: "no such thing" } },
  };
  await context.route("http://gateway.test/**", (route) => {
    const body = answers[new URL(route.request().url()).pathname];
    const status = !body ? 404 : body.state === "unavailable" ? 503 : 200;
    return route.fulfill({ status, headers: { "access-control-allow-origin": "*" }, contentType: "application/json",
      body: JSON.stringify(body ?? {}) });
  });
  const all = Object.keys(answers).map((path, at) =>
    `<p><steadfast-badge gateway="http://gateway.test${path.replace("/status", at % 2 ? "/" : "")}"></steadfast-badge></p>`).join("");
  const other = await elsewhere(page(gateway, all));
  const many = await opened(context, other.url, [new URL(other.url).origin, gateway, "http://gateway.test"]);
  const states = () => many.locator("steadfast-badge").evaluateAll((all) => all.map((one) => one.dataset.state).join());
  await within(`each is in its state: ${await states()}`, async () => (await states()) === "primary,fallback,failing,degraded,unavailable,people,untried,connecting");
  clean(many);
  await looks(many, "13-badges");
  // The attribute may change.
  await many.locator("steadfast-badge").first().evaluate((element) => element.setAttribute("gateway", "http://gateway.test/fallback"));
  await many.waitForSelector("steadfast-badge[gateway$=fallback][data-state=fallback]");
  other.close();
});
