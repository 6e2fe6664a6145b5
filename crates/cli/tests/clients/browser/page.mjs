// The status page from the primary over the fallback to nobody, and back; then without a gateway.
import { ask, check, clean, keyboard, looks, opened, pause, run, sleeps, wish, within } from "./driver.mjs";

await run(async (context, origin) => {
  const page = await opened(context, origin);
  const state = (wanted) => page.waitForSelector(`#badge[data-state=${wanted}]`);
  const text = async (selector) => (await page.locator(selector).innerText()).replace(/\s+/g, " ");
  const has = async (selector, wanted) => {
    await within(`"${wanted}" in ${selector}: ${await text(selector)}`, async () => (await text(selector)).includes(wanted));
  };
  const tier = (name) => `#tiers tr:has(th:has-text("${name}"))`;
  const color = () => page.locator("#badge").evaluate((badge) => getComputedStyle(badge).backgroundColor);
  const colors = {};

  await state("untried");
  await has("#notice", "nothing is known");
  check((await text("#switches")) === "No request yet.", "nothing is told of what was not asked");
  await has("#chains", "no request yet");
  await has("#calls", "No requests yet");
  await has("#latency", "No answers yet");
  await has("#costs", "No cost is known yet");
  clean(page);
  await looks(page, "1-empty");
  await keyboard(page);

  check((await ask(origin, "chat", 60)).every((name) => name === "sonnet"), "the primary serves");
  await ask(origin, "summaries", 12);
  await page.waitForSelector("#calls rect.primary", { state: "attached" });
  await page.waitForSelector("#latency path", { state: "attached" });
  await has("#calls-said", "72 calls within the last hour: 72 by the primary");
  await has("#features", "chat");
  await has("#costs", "sonnet");
  await has(`${tier("sonnet")}`, "closed");
  await state("primary");
  await has("#switches", "No switches yet");
  colors.primary = await color();
  clean(page);
  await looks(page, "2-primary");

  await wish("fail primary");
  await ask(origin, "chat", 24);
  await state("fallback");
  await has("#title", "gpt");
  await has("#notice", "Running on fallback, quality may differ");
  await has("#switches li:first-child", "sonnet → gpt");
  await has("#switches li:first-child", "HTTP 503");
  await has(tier("sonnet"), "HTTP 503");
  await has("#chains", "fallback");
  // It is looked at again and again; most of the time it is open.
  await within("the circuit is open", async () => {
    await ask(origin, "chat", 1);
    return (await text(tier("sonnet"))).includes("open");
  });
  await page.waitForSelector("#calls rect.others", { state: "attached" });
  await page.waitForSelector("#calls rect.failed", { state: "attached" });
  check(await page.title() === "steadfast: fallback", await page.title());
  colors.fallback = await color();
  clean(page);
  await looks(page, "3-fallback");

  await wish("fail backup");
  await within("nobody serves", async () => {
    await ask(origin, "chat", 4);
    return (await page.locator("#badge").getAttribute("data-state")) === "unavailable";
  });
  await has("#title", "No tier answers");
  await within("both circuits are open", async () => {
    await ask(origin, "chat", 4);
    return (await page.locator("#tiers [data-circuit=open]").count()) === 2;
  });
  colors.unavailable = await color();
  clean(page);
  await looks(page, "4-unavailable");

  await wish("heal primary");
  await wish("heal backup");
  await within("the primary serves again", async () => {
    await ask(origin, "chat", 8);
    return (await page.locator("#badge").getAttribute("data-state")) === "primary";
  });
  await has("#switches li:first-child", "recovered");
  await within("the circuits close", async () => {
    await ask(origin, "chat", 4);
    return (await text(tier("sonnet"))).includes("closed");
  });
  clean(page);
  await looks(page, "5-recovery");
  await keyboard(page);

  // What says the same is not read aloud again, and what is selected stays so.
  const said = await page.evaluate(async () => {
    let changes = 0;
    const observer = new MutationObserver((records) => { changes += records.length; });
    observer.observe(document.querySelector("#badge [role=status]"), { subtree: true, childList: true, characterData: true });
    getSelection().selectAllChildren(document.querySelector("#tiers th"));
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const selected = getSelection().toString();
    getSelection().removeAllRanges();
    return { changes, selected };
  });
  check(said.changes === 0, `${said.changes} announcements of nothing new`);
  check(said.selected.includes("sonnet"), `the selection is lost: ${said.selected}`);

  // Whoever pauses it reads in peace, and sees that it is no news.
  await page.click("#pause");
  await has("#live", "Paused, ");
  const before = await text("#facts");
  await ask(origin, "chat", 4);
  await pause(2500);
  check(before === await text("#facts"), "it goes on");
  await page.click("#pause");
  await has("#live", "Live");

  await sleeps(context, page, origin, state);
  clean(page);

  // States that these two tiers are never in: the gateway's own status, with another state.
  for (const [at, [other, title]] of [["degraded", "gpt"], ["people", "people"], ["failing", "sonnet"]].entries()) {
    await page.route("**/status", async (route) => {
      const status = await (await route.fetch()).json();
      const told = { state: other, activeTier: title, activeModel: title };
      await route.fulfill({ json: { ...status, ...told, chains: status.chains.map((chain) => ({ ...chain, ...told })) } });
    });
    await state(other);
    await has("#chains", { degraded: "reduced", people: "people", failing: "requests fail" }[other]);
    clean(page);
    await looks(page, `${7 + at}-${other}`);
    await page.unroute("**/status");
  }
  await state("primary");

  await wish("kill");
  await state("connecting");
  await has("#notice", "may be old");
  colors.connecting = await color();
  check(new Set(Object.values(colors)).size === 4, `each state has a color of its own: ${JSON.stringify(colors)}`);
  const circuits = await page.locator("#tiers .tag[data-circuit]").evaluateAll((tags) => tags.map((tag) => getComputedStyle(tag).backgroundColor));
  check(circuits.every((circuit) => circuit === colors.connecting), `a circuit looks as if it were known: ${circuits}`);
  check(!(await page.locator("#live").getAttribute("data-live")), "it does not look live");
  await page.emulateMedia({ reducedMotion: "reduce" });
  check(await page.locator("#sign").evaluate((sign) => getComputedStyle(sign).animationName) === "none", "it moves");
  await page.emulateMedia({ reducedMotion: "no-preference" });
  await looks(page, "6-connecting");
  page.errors = page.errors.filter((error) => !error.includes("ERR_CONNECTION"));
  clean(page);

  await wish("start");
  await state("untried");
  await has("#calls", "No requests yet");
});
