// An owner reads who spends what, what failover costs, and who is near a limit.
import { ADMIN, ask, check, clean, fitsEverywhere, keyboard, looks, opened, run, wish, within } from "./driver.mjs";

const TEAM = "<b>search</b>";

await run(async (context, origin) => {
  await ask(origin, "chat", 8);
  await wish("fail primary");
  const tiers = await ask(origin, "chat", 8);
  check(tiers.every((tier) => tier === "gpt"), tiers);

  const page = await opened(context, `${origin}/spend`);
  const text = (selector) => page.locator(selector).innerText();
  const says = (wanted) => within(`it says "${wanted}"`, async () => (await text("#said")).includes(wanted));
  const unlock = async (key) => {
    await page.fill("#key", key);
    await page.keyboard.press("Enter");
  };
  check(await page.locator("#spend").isHidden(), "it is locked");
  await keyboard(page, 3);
  await unlock("sk-of-nobody");
  await says("the gateway does not know this key");
  await unlock("sk-of-a-caller");
  await says("not an administrator's");
  check(await page.locator("#spend").isHidden() && await page.locator("#teams tr").count() === 0, "it stays locked");
  page.errors = page.errors.filter((error) => !/40[13]/.test(error));

  await unlock(ADMIN);
  await page.waitForSelector("#teams tr");
  // The judge is the bill that a program gets.
  const bill = async (by) => {
    const response = await fetch(`${origin}/admin/spend?by=${by}`, { headers: { "x-api-key": ADMIN } });
    return (await response.json()).groups;
  };
  const [team] = await bill("team");
  check(team.team === TEAM && team.requests === 16 && team.costDollars > 0, JSON.stringify(team));
  const later = (await bill("tier")).find((group) => group.tier === "gpt");
  check(later.requests === 8, JSON.stringify(later));
  const amount = (said) => Number(said.replace(/[^0-9.]/g, ""));
  const near = (said, dollars) => Math.abs(amount(said) - dollars) <= 0.0006;
  const facts = await page.locator("#facts dd").allInnerTexts();
  check(near(facts[0], team.costDollars) && near(facts[1], team.costDollars) && facts[2] === "16" && facts[3] === "8", facts);
  const cells = await page.locator("#teams tr td").allInnerTexts();
  check(near(cells[0], team.costDollars) && near(cells[1], team.costDollars) && cells[2] === "16", cells);
  check((await text("#teams tr th")).startsWith(TEAM), "a team's name is text");
  check(await page.locator("#teams b").count() === 0, "and never markup");
  const days = await page.locator("#teams svg rect").count();
  check(days === new Date().getUTCDate(), `${days} days`);
  const failover = await text("#failover");
  check(failover.startsWith("8 answers of this month came from a later tier, for $"), failover);
  check(/: \$[0-9.]+ less than the same tokens at the first tier\.$/.test(failover), failover);
  check((await text("#later-tiers")).includes("gpt in place of sonnet"), await text("#later-tiers"));
  const caps = await page.locator("#caps li").allInnerTexts();
  check(caps.length === 2 && caps[0].startsWith("search, monthly") && caps[0].includes("of $0.050 a month, warns; again in"), caps);
  await fitsEverywhere(page);
  await looks(page, "40-spend");

  // What others spend meanwhile shows by itself, or when the tab is looked at again.
  await ask(origin, "chat", 4);
  await within("it follows", async () => {
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    return (await page.locator("#facts dd").nth(2).innerText()) === "20";
  });
  await page.getByRole("button", { name: "Forget the key" }).click();
  await says("The key is forgotten.");
  check(await page.locator("#spend").isHidden() && await page.locator("#teams tr, #facts div, #caps li").count() === 0, "nothing stays");
  clean(page);
});
