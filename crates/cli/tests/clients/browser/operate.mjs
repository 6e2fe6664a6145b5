// What an administrator does from the page, and what becomes of the key.
import { ADMIN, check, clean, keyboard, looks, opened, pause, run, within } from "./driver.mjs";

// The gateway's API for administrators, as far as the page uses it.
function admin() {
  const tiers = ["sonnet", "gpt"].map((name) => ({ name, circuit: "closed", forced: null, drained: false, inFlight: 0 }));
  const state = { tiers, pinnedLevel: null, pinnedFeatures: {} };
  const answer = (path, method, key, body) => {
    const refused = (status, message) => [status, { error: { type: "error", message } }];
    if (key !== `Bearer ${ADMIN}`) return refused(401, "the gateway does not know this key, or it has expired");
    if (method === "GET") return [200, state];
    const [, name, what] = path.match(/^\/admin\/tiers\/([^/]+)\/(circuit|drain)$/) ?? [];
    const tier = tiers.find((one) => one.name === name);
    if (what === "circuit") {
      tier.forced = { open: "open", close: "closed", auto: null }[body.action];
      tier.circuit = tier.forced ?? "closed";
    } else if (what === "drain") tier.drained = body.drained;
    else if (path !== "/admin/level") return refused(404, "no such path");
    else if (body.level > 1) return refused(400, `no tier has level ${body.level} or worse; the tiers are sonnet (1), gpt (1)`);
    else if (body.feature) state.pinnedFeatures = body.level ? { [body.feature]: body.level } : {};
    else state.pinnedLevel = body.level;
    return [200, {}];
  };
  return async (route) => {
    const request = route.request(), body = request.postData();
    const [status, json] = answer(new URL(request.url()).pathname, request.method(), await request.headerValue("authorization"), body && JSON.parse(body));
    await route.fulfill({ status, contentType: "application/json", body: JSON.stringify(json) });
  };
}

await run(async (context, origin) => {
  if ((await fetch(`${origin}/admin/tiers`)).status === 404) await context.route(`${origin}/admin/**`, admin());
  const page = await opened(context, origin);
  const keys = [], asked = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (JSON.stringify(request.headers()).includes(ADMIN) && !pathname.startsWith("/admin/")) keys.push(pathname);
    if (request.url().includes(ADMIN)) keys.push(request.url());
    if (request.method() === "POST") asked.push([pathname, JSON.parse(request.postData())]);
  });
  const says = (wanted) => within(`it says "${wanted}"`, async () => (await page.locator("#operated").innerText()).includes(wanted));
  const button = (name) => page.getByRole("button", { name, exact: true });
  const confirmed = async (question) => {
    check((await page.locator("#sure-what").innerText()).includes(question), await page.locator("#sure-what").innerText());
    await button("Yes, do it").click();
  };
  const clear = (wanted) => {
    const done = JSON.stringify(asked.splice(0));
    check(done === JSON.stringify(wanted), `it asked for ${done}`);
  };

  await page.waitForSelector("#badge[data-state=untried]");
  check(!(await page.locator("#unlock").isVisible()), "it is closed");
  await page.click("#operate > summary");
  await keyboard(page);

  await page.fill("#key", "sk-of-nobody");
  await page.keyboard.press("Enter");
  await says("the gateway does not know this key");
  check(await page.locator("#key").inputValue() === "" && !(await page.locator("#actions").isVisible()), "it stays locked");
  page.errors = page.errors.filter((error) => !error.includes("401"));
  await looks(page, "10-refused");

  await page.fill("#key", ADMIN);
  await page.keyboard.press("Enter");
  await says("Unlocked");
  check(await page.locator("#unlock").isHidden(), "it asks for the key again");
  check(await page.evaluate(() => document.activeElement.id) === "lock", "the focus goes on");
  await keyboard(page);

  // With the keyboard alone, and not at once: whoever changes their mind has done nothing.
  await button("Force open sonnet").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#sure[open]");
  check(await page.evaluate(() => document.activeElement.innerText) === "Cancel", "Enter again does no harm");
  await looks(page, "11-confirm");
  await page.keyboard.press("Escape");
  await pause(100);
  clear([]);
  check(await page.evaluate(() => document.activeElement.ariaLabel) === "Force open sonnet", "the focus is where it was");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await says("Done: Circuit of sonnet: force open.");
  clear([["/admin/tiers/sonnet/circuit", { action: "open" }]]);
  await page.waitForSelector("#action-rows [data-circuit=open]");
  check(await page.evaluate(() => document.activeElement.ariaLabel) === "Force open sonnet", "the focus is where it was");

  await button("Drain gpt").click();
  await confirmed("Drain gpt?");
  await page.waitForSelector("#action-rows th:has-text('drained')");
  await button("Take back gpt").click();
  await confirmed("Take back gpt?");
  await says("Done: Take back gpt.");
  clear([["/admin/tiers/gpt/drain", { drained: true }], ["/admin/tiers/gpt/drain", { drained: false }]]);
  await button("Automatic sonnet").click();
  await confirmed("Circuit of sonnet: automatic?");
  await says("Done: Circuit of sonnet: automatic.");
  clear([["/admin/tiers/sonnet/circuit", { action: "auto" }]]);

  await page.selectOption("#level-at", "1");
  await page.selectOption("#level-for", "chat");
  await pause(2500);
  await button("Set the level").click();
  await confirmed("Level 1 for chat?");
  await says("Done: Level 1 for chat.");
  await page.selectOption("#level-at", "");
  await page.selectOption("#level-for", "");
  await button("Set the level").click();
  await confirmed("Automatic level for every feature?");
  await says("Done: Automatic level");
  clear([["/admin/level", { level: 1, feature: "chat" }], ["/admin/level", { level: null }]]);
  check((await page.locator("#pins").innerText()) === "By hand: 1 for chat.", "what is pinned is told");
  clean(page);
  await page.selectOption("#level-at", "5");
  await button("Set the level").click();
  await confirmed("Level 5 for every feature?");
  await says("no tier has level 5 or worse");
  page.errors = page.errors.filter((error) => !error.includes("400"));
  await looks(page, "12-operate");

  // The key is nowhere, and after a reload it is gone.
  check(!keys.length, `the key went to ${keys}`);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, history.state, name,
    document.documentElement.outerHTML, [...document.querySelectorAll("input")].map((input) => input.value)]));
  check(!kept.includes(ADMIN), "the key can be found");
  await button("Forget the key").click();
  check(await page.locator("#actions").isHidden() && await page.locator("#action-rows tr").count() === 0, "it is locked again");
  await page.fill("#key", ADMIN);
  await page.keyboard.press("Enter");
  await says("Unlocked");
  await page.reload();
  await page.click("#operate > summary");
  check(await page.locator("#actions").isHidden(), "it is locked again");
  clean(page);
});
