// The page with what one gateway in a test would not have: a full hour, many tiers, names of any length, words of later versions.
import { check, clean, fitsEverywhere, keyboard, looks, opened, pause, run, within } from "./driver.mjs";

// The same numbers on each run.
let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const hour = (of) => Array.from({ length: 60 }, (_, at) => of(at));

function history(tier, calls, failures, latencyMs, costDollars) {
  return { tier, costDollars, calls: hour(calls), failures: hour(failures), latencyMs: hour(latencyMs) };
}
function tier(name, circuit, circuitReason, calls, failures, p50Ms, health = circuit === "closed" ? "ok" : "down") {
  const latency = p50Ms && { meanMs: p50Ms * 1.1, p50Ms, p95Ms: p50Ms * 2.4 };
  const circuitSince = circuitReason && "2026-03-01T10:00:00Z";
  return { name, model: `${name}-2026-01-01`, health, circuit, circuitSince, circuitReason, calls, failures, failureRate: calls ? failures / calls : 0, latency };
}
function status(over) {
  return {
    state: "primary", activeModel: "claude-sonnet", activeTier: "claude-sonnet", primaryModel: "claude-sonnet",
    primaryTier: "claude-sonnet", requests: { ended: 240, failed: 0 }, since: "2026-03-01T10:00:00Z", sinceSeconds: 1340,
    tiers: [], recentSwitches: [], failoversLastHour: 0, timeOnFallback: { totalSeconds: 0, currentSeconds: 0 }, lastRecoverySeconds: null,
    lostEvents: 0, ...over,
  };
}
const switched = (from, to, reason, secondsAgo) => ({ from, to, reason, at: "2026-03-01T10:00:00Z", secondsAgo });

// An outage of the primary half an hour ago.
const down = (at) => at > 24 && at < 37;
const story = [
  status({
    tiers: [tier("claude-sonnet", "closed", "the probe succeeded", 1210, 3, 820), tier("gpt-4o", "closed", null, 0, 0, null),
      tier("canned", "closed", null, 0, 0, null)],
    recentSwitches: [switched("gpt-4o", "claude-sonnet", "recovered", 1340), switched("claude-sonnet", "gpt-4o", "overloaded", 2130)],
    failoversLastHour: 1, timeOnFallback: { totalSeconds: 790, currentSeconds: 0 }, lastRecoverySeconds: 790,
  }),
  {
    tiers: [
      history("claude-sonnet", (at) => (down(at) ? 3 : 220 + Math.round(random() * 60)), (at) => (down(at) ? 3 : Math.round(random() * 2)),
        (at) => (down(at) ? null : 780 + random() * 160 + (at > 20 && at < 25 ? (at - 20) * 400 : 0)), 41.2831),
      history("gpt-4o", (at) => (down(at) ? 215 + Math.round(random() * 50) : 0), (at) => (down(at) ? Math.round(random() * 3) : 0),
        (at) => (down(at) ? 1050 + random() * 240 : null), 6.9412),
    ],
    features: [{ feature: "chat", inFlight: 14, limit: 40, queued: 0 }, { feature: "summaries", inFlight: 9, limit: 10, queued: 0 },
      { feature: "search", inFlight: 20, limit: 20, queued: 7 }, { feature: "all others", inFlight: 0, limit: 100, queued: 0 }],
    budgets: [{ cap: "a day", spentDollars: 48.2243, reservedDollars: 1.25, limitDollars: 250 },
      { cap: "each key an hour", spentDollars: 4.6, reservedDollars: 0, limitDollars: 5 }],
  },
];

// Twelve tiers, some with names that nobody would give them.
const LONG = "anthropic-eu-central-1-claude-sonnet-4-5-20250929-through-the-private-endpoint-of-the-second-account";
const HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>";
const names = [LONG, HOSTILE, ...Array.from({ length: 10 }, (_, at) => `tier-${at + 3}`)];
const circuits = [["open", "failures"], ["half-open", "the cooldown is over"], ["closed", "the probe succeeded"], ["closed", null]];
const many = [
  status({
    state: "degraded", activeModel: names[11], activeTier: names[11], primaryModel: LONG, primaryTier: LONG, sinceSeconds: 200_000,
    tiers: names.map((name, at) => tier(name, ...circuits[at % 4], 12_345_678 >> at, 345_678 >> at, 9.4 * (at + 1) ** 3)),
    recentSwitches: Array.from({ length: 20 }, (_, at) => switched(names[at % 12], names[(at + 1) % 12], "some_later_reason", at * 9000 + 4)),
    failoversLastHour: 1234, timeOnFallback: { totalSeconds: 1_000_000, currentSeconds: 200_000 }, lastRecoverySeconds: 0.034, lostEvents: 17,
  }),
  {
    tiers: names.map((name, at) => history(name, () => Math.round(random() * 90_000) >> at, () => Math.round(random() * 900) >> at,
      (minute) => (minute % (at + 2) === 1 ? null : (at + 1) ** 2 * 80 * (1 + random())), 98_765.4321 / 4 ** at)),
    features: names.map((feature, at) => ({ feature, inFlight: at * 100, limit: 1000, queued: at === 11 ? 12_000 : 0 })),
    budgets: [{ cap: LONG, spentDollars: 1_234_567.891, reservedDollars: 98_765.432, limitDollars: 1_000_000 },
      { cap: "none", spentDollars: 0, reservedDollars: 0, limitDollars: 0 }],
  },
];

await run(async (context, origin) => {
  let now = story;
  const json = (at) => (route) => route.fulfill({ contentType: "application/json", body: JSON.stringify(now[at]) });
  await context.route(`${origin}/status`, json(0));
  await context.route(`${origin}/overview`, json(1));
  const page = await opened(context, origin);
  const text = (selector) => page.locator(selector).innerText();
  const shows = async (answer, selector, wanted) => {
    now = answer;
    await within(`${wanted} in ${selector}`, async () => (await text(selector)).includes(wanted));
  };

  await shows(story, "#title", "claude-sonnet");
  await looks(page, "7-story");
  // A minute under the pointer is told.
  const { x, y, width, height } = await page.locator("#calls").boundingBox();
  await page.mouse.move(x + width / 2, y + height / 2);
  await within("what happened in a minute is told", async () => /^\d+ min ago: .*by other tiers, .*failed/.test(await text("#calls-said")));
  await page.mouse.move(0, 0);
  check((await text("#calls-said")).includes("within the last hour"), "the hour is told again");
  // One tier alone.
  await page.selectOption("#shown", "gpt-4o");
  check(await page.locator("#calls rect.primary").count() === 0, "the others are left out");
  await pause(2500);
  check(await page.locator("#shown").inputValue() === "gpt-4o", "the choice outlives an update");
  await page.selectOption("#shown", "");
  await page.click("#minutes summary");
  await within("all minutes are in the table", async () => (await page.locator("#minute-rows tr").count()) === 60);
  check((await text("#minute-rows tr:first-child")).startsWith("This minute"), "the latest is first");
  await page.click("footer summary");
  check((await text("#embed")).includes(`<script src="${origin}/badge.js" defer></script>`), "how to show the badge");
  await fitsEverywhere(page);
  await page.click("footer summary");
  await page.click("#minutes summary");
  clean(page);

  await shows(many, "#title", names[11]);
  check(await page.locator("#tiers tr").count() === 12, "a row for each tier");
  check((await text("#tiers")).includes(HOSTILE) && await page.locator("img, b").count() === 0, "a name is text");
  check((await text("#latency-legend")).includes("and 6 tiers more"), "more lines than anybody can tell apart");
  check((await text("#switches")).includes("some later reason"), "a reason that is not known yet");
  check((await text("#facts")).includes("Events lost"), "what is missing is told");
  await page.click("#earlier summary");
  check(await page.locator(".switches li").count() === 20, "all switches");
  await keyboard(page);
  await looks(page, "8-many");
  clean(page);

  // Requests that fail turn it, whatever the circuits say; so does a tier's row.
  const failing = [tier("claude-sonnet", "closed", null, 40, 12, 820, "failing"), tier("gpt-4o", "closed", null, 0, 0, null)];
  await shows([status({ state: "failing", requests: { ended: 40, failed: 12 }, tiers: failing }), story[1]], "#notice", "12 of 40 requests");
  check((await text("#state")).toUpperCase() === "REQUESTS FAIL", await text("#state"));
  check(await page.locator("#tiers .tag[data-health=failing]").count() === 1, "one tier is not ok");
  await looks(page, "8-failing");
  clean(page);

  // Each state, with the chains that have it: none but the first tier's is green.
  const chain = (first, names, state, activeTier) => ({ first, names, state, activeTier, activeModel: activeTier, sinceSeconds: 94,
    askedSecondsAgo: 2, ended: 31, failed: ["failing", "unavailable"].includes(state) ? 31 : 0, fallbackSeconds: 512 });
  const rows = [{ ...tier("claude-sonnet", "closed", null, 40, 0, 820), lastFailure: { kind: "overloaded", status: 529, message: "Overloaded",
    requestId: "0f3c", at: "2026-03-01T10:00:00Z", secondsAgo: 94 } }, tier("gpt-4o", "closed", null, 31, 31, 900, "failing")];
  const colors = {};
  for (const state of ["untried", "primary", "fallback", "degraded", "people", "failing", "unavailable"]) {
    const away = ["fallback", "degraded", "people"].includes(state);
    const chains = [chain("claude-sonnet", ["default"], state === "untried" ? state : "primary", "claude-sonnet"),
      chain("gpt-4o", ["model gpt-*", "feature code"], state, away ? "claude-sonnet" : "gpt-4o")];
    const about = { activeModel: away ? "claude-sonnet" : "gpt-4o", activeTier: away ? "claude-sonnet" : "gpt-4o", primaryModel: "gpt-4o",
      primaryTier: "gpt-4o", requests: { ended: 62, failed: 31 }, instance: "gateway-7f9c, process 1" };
    await shows([status({ state, tiers: rows, chains, ...about }), story[1]], "#chains", "model gpt-*, feature code");
    await page.waitForSelector(`#badge[data-state=${state}]`);
    check((await text("#tiers")).includes("HTTP 529"), "the last failure is told");
    check((await text("#instance")).includes("gateway-7f9c"), "whose page it is");
    colors[state] = await page.locator("#badge").evaluate((badge) => getComputedStyle(badge).backgroundColor);
    await looks(page, `state-${state}`);
    clean(page);
  }
  const { primary, ...others } = colors;
  check(!Object.values(others).includes(primary), `only the first tiers are green: ${JSON.stringify(colors)}`);
  check(colors.people === colors.unavailable, "where people answer it is red");

  // A state of a later version is no state of ours: it has the gray of what is not known.
  await shows([{ ...story[0], state: "tired" }, story[1]], "#state", "TIRED");
  await shows([status({ tiers: [tier("alone", "closed", null, 0, 0, null)], activeModel: "alone", activeTier: "alone",
    primaryModel: "alone", primaryTier: "alone" }),
    { tiers: [], features: [], budgets: [] }], "#title", "alone");
  check((await text("#budgets")).includes("No cap is set") && !(await page.locator("#choice").isVisible()), "there is nothing to choose");
  await looks(page, "9-alone");
  clean(page);

  // What is no status is no status.
  now = ["<html>", "<html>"];
  await page.waitForSelector("#badge[data-state=connecting]");
});
