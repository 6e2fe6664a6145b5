// Two people answer what was handed to them, from their pages.
import { check, clean, fitsEverywhere, keyboard, looks, opened, pause, run, within } from "./driver.mjs";

const REVIEWER = "sk-of-a-reviewer", CALLER = "sk-of-a-caller";
// What nobody's page may take for anything but text.
const HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script> & ${1} \u202eabc";

await run(async (context, origin) => {
  const asked = async (text) => {
    const response = await fetch(`${origin}/v1/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": CALLER, "x-steadfast-requires-human": "1", "x-steadfast-feature": "support" },
      body: JSON.stringify({ model: "claude-sonnet-4-5", max_tokens: 100, system: "Be kind.", messages: [{ role: "user", content: text }] }),
    });
    await response.text();
    return response.headers.get("x-steadfast-task-id");
  };
  const polled = async (task) => {
    const response = await fetch(`${origin}/handoff/answers/${task}`, { headers: { "x-api-key": CALLER } });
    return [response.status, (await response.json()).output];
  };
  const first = await asked(HOSTILE);
  const second = await asked(`A long question. ${"word ".repeat(400)}`);
  check(first && second, "both were handed over");

  const renewed = [], foreign = [];
  const desk = async (name) => {
    const page = await opened(context, `${origin}/handoff`);
    page.on("request", (request) => {
      if (request.url().endsWith("/renew")) renewed.push(request.postData());
      if (request.url().includes(REVIEWER) || (JSON.stringify(request.headers()).includes(REVIEWER) && !request.url().startsWith(`${origin}/handoff/`))) foreign.push(request.url());
    });
    page.says = (wanted) => within(`it says "${wanted}"`, async () => (await page.locator("#said").innerText()).includes(wanted));
    page.button = (words) => page.getByRole("button", { name: words, exact: true });
    page.task = (id) => page.locator(`#tasks button[data-task=${id}]`);
    page.unlock = async (key) => {
      await page.fill("#key", key);
      await page.fill("#name", name);
      await page.keyboard.press("Enter");
    };
    page.focused = () => page.evaluate(() => document.activeElement.id);
    return page;
  };
  const ana = await desk("Ana");
  check(await ana.locator("#desk").isHidden(), "it is locked");
  await looks(ana, "20-handoff-locked");
  await ana.unlock("sk-of-nobody");
  await ana.says("the gateway does not know this key");
  await ana.unlock(CALLER);
  await ana.says("not a reviewer's");
  check(await ana.locator("#desk").isHidden() && await ana.locator("#tasks li").count() === 0, "it stays locked");
  ana.errors = ana.errors.filter((error) => !/40[13]/.test(error));

  await ana.unlock(REVIEWER);
  await ana.waitForSelector(`#tasks button[data-task=${first}]`);
  check((await ana.locator("#counts").innerText()).startsWith("2 waiting"), await ana.locator("#counts").innerText());
  check((await ana.title()).startsWith("(2) "), await ana.title());
  check((await ana.task(first).innerText()).includes("<img src=x onerror="), "it is text");
  await fitsEverywhere(ana);
  await looks(ana, "21-handoff-list");

  // All by the keyboard.
  await ana.task(first).focus();
  await ana.keyboard.press("Enter");
  await ana.waitForSelector("#task:not([hidden])");
  await within("the focus is in the task", async () => await ana.focused() === "h-task");
  check((await ana.locator("#conversation").innerText()).includes(HOSTILE), "what was asked is shown as it is");
  check((await ana.locator("#conversation").innerText()).includes("Be kind."), "with the system prompt");
  check(await ana.locator("main img, main script, main iframe").count() === 0, "it is never markup");
  check(await ana.title() !== "taken", "it runs nothing");
  await ana.button("Claim").focus();
  await ana.keyboard.press("Enter");
  await ana.says("You have it.");
  await within("the focus is where the answer goes", async () => await ana.focused() === "text");
  await ana.keyboard.type("Hello from Ana");
  await pause(3500);
  check(await ana.locator("#text").inputValue() === "Hello from Ana", "what is written stays while the page is live");
  await keyboard(ana);

  const ben = await desk("Ben");
  await ben.unlock(REVIEWER);
  await ben.waitForSelector(`#tasks button[data-task=${second}]`);
  await ben.selectOption("#shown", "claimed");
  await ben.task(first).click();
  await within("Ben sees who is at it", async () => (await ben.locator("#claimed").innerText()).startsWith("Ana is at it"));
  check(await ben.button("Claim").isHidden() && await ben.locator("#answer").isHidden(), "and cannot answer it");
  const other = await fetch(`${origin}/handoff/tasks/${first}/answer`, {
    method: "POST", headers: { authorization: `Bearer ${REVIEWER}` }, body: JSON.stringify({ text: "no", as: "Ben" }),
  });
  check(other.status === 409, `somebody else's answer: ${other.status}`);

  // What was begun is there again after a look at another task.
  await ana.task(second).click();
  await within("the other task is open", async () => await ana.locator("#h-task").innerText() === second);
  check(await ana.locator("#answer").isHidden(), "it is not claimed");
  await ana.selectOption("#shown", "claimed");
  await ana.task(first).click();
  await within("what was begun is there", async () => await ana.locator("#text").inputValue() === "Hello from Ana");
  renewed.length = 0;
  await within("the claim is renewed", () => renewed.length > 0);
  check(renewed.every((body) => body === '{"as":"Ana"}'), `${renewed}`);
  await looks(ana, "22-handoff-task");
  check((await polled(first))[0] === 202, "the caller waits");
  await ana.focus("#text");
  await ana.keyboard.press("Control+Enter");
  await ana.says("It is answered.");
  await within("it is shown", async () => await ana.locator("#answered-text").innerText() === "Hello from Ana");
  check(JSON.stringify(await polled(first)) === '[200,"Hello from Ana"]', "the caller has it");
  await looks(ana, "23-handoff-answered");
  await within("Ben's page says so", async () => (await ben.locator("#answered-by").innerText()).includes("Ana"));

  // A task that is given back.
  await ben.selectOption("#shown", "waiting");
  await ben.task(second).click();
  await ben.button("Claim").click();
  await ben.says("You have it.");
  await ben.button("Give it back").click();
  await ben.says("It is given back.");
  await within("it can be claimed again", () => ben.button("Claim").isVisible());
  await ben.button("Back to the list").click();
  check(await ben.locator("#task").isHidden(), "the list is alone");
  await ben.button("Pause").click();
  check((await ben.locator("#live").innerText()) === "Paused", "it can be stopped");

  // Who looks at the status sees that somebody waits.
  const status = await opened(context, origin);
  await within("the status says that one waits", async () => /Waiting for a person\s+1(?!\d)/.test(await status.locator("#facts").innerText()));
  await fitsEverywhere(status);
  clean(status);

  // The key is kept for the tab and for nothing else.
  await ana.reload();
  await ana.waitForSelector("#desk:not([hidden])");
  check(!foreign.length, `the key went to ${foreign}`);
  check(!(await ana.evaluate(() => JSON.stringify([{ ...localStorage }, document.cookie, history.state, location.href]))).includes(REVIEWER), "the key is elsewhere");
  await ana.button("Forget the key").click();
  const left = await ana.evaluate(() => JSON.stringify([{ ...sessionStorage }, document.body.innerText, [...document.querySelectorAll("input, textarea")].map((one) => one.value)]));
  check(!left.includes(REVIEWER) && !left.includes("word word"), `something is left: ${left}`);
  await ana.reload();
  check(await ana.locator("#desk").isHidden(), "it is locked again");
  clean(ana);
  clean(ben);
});
