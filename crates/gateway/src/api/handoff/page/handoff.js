// What is kept for this tab: the key, and who uses it. A browser may keep nothing at all.
const KEPT = "steadfast-handoff";
// How often, in milliseconds, the list is asked for, and how often a claim is renewed.
const EVERY = 3000, RENEWED = 20000;
// So many tasks at first, and more of them each time.
const ROWS = 50;
const stored = {
  read() {
    try { return JSON.parse(sessionStorage.getItem(KEPT)) ?? {}; } catch { return {}; }
  },
  write(what) {
    try { what ? sessionStorage.setItem(KEPT, JSON.stringify(what)) : sessionStorage.removeItem(KEPT); } catch { /* Then not. */ }
  },
};

let name = "", open = null, seen = "", rows = ROWS, paused = false, timer = 0, renewing = 0, loads = 0;
// What was written and not sent yet, by task.
const drafts = new Map();

function told(text, failed = false) {
  say($("said"), text);
  $("said").toggleAttribute("data-failed", failed);
}
const date = (ms) => new Date(ms).toLocaleString("en", { hour12: false, dateStyle: "medium", timeStyle: "medium" });
const ago = (ms) => `${span(Math.max(0, (Date.now() - ms) / 1000))} ago`;
const of = (task) => `/handoff/tasks/${encodeURIComponent(task)}`;
const mine = (task) => task.claim?.by.kind === "person" && task.claim.by.name === name;
const tag = (state) => make("span", { class: "tag", "data-state": state }, state);

// The list.
const list = () => asked(`/handoff/tasks?order=oldest&limit=${rows}&state=${$("shown").value}`);
function listed({ tasks, next, stats, you }) {
  name = name || you;
  say($("as"), `You are ${name}.`);
  const counts = [[stats.waiting, "waiting"], [stats.claimed, "claimed"], [stats.redriving, "redriving"], [stats.answered, "answered"],
    [stats.expired, "expired"]].filter(([count]) => count).map(([count, state]) => `${number(count)} ${state}`);
  if (stats.oldest_waiting_ms) counts.push(`the oldest for ${span(stats.oldest_waiting_ms / 1000)}`);
  say($("counts"), counts.join(", ") || "Nothing has been handed over.");
  document.title = `${stats.waiting ? `(${stats.waiting}) ` : ""}steadfast: handoff`;
  fill($("tasks"), tasks.map((task) => make("li", {}, make("button", { type: "button", "data-task": task.id, "aria-current": String(task.id === open?.id) },
    make("span", { class: "preview" }, task.preview || "(no text)"),
    make("span", { class: "small" }, tag(task.state), task.feature ? make("span", {}, task.feature) : "", make("span", {}, words(task.reason)),
      make("span", {}, ago(task.created_at)), task.claim ? make("span", {}, `by ${claimant(task.claim.by)}`) : "")))));
  if (!tasks.length) fill($("tasks"), [make("li", {}, "None of these.")]);
  $("more").hidden = !next || rows >= 1000;
  return tasks;
}
const words = (reason) => reason.replaceAll("_", " ");
const claimant = (by) => (by.kind === "person" ? by.name : "a model that is asked again");
const changes = (task) => JSON.stringify([task.state, task.claim?.by, task.answered_at ?? task.answer?.at ?? null]);

// One task.
function shown(task) {
  const kept = open?.id === task.id;
  if (!kept) fill($("conversation"), []);
  open = task;
  seen = changes(task);
  $("task").hidden = false;
  say($("h-task"), task.id);
  const facts = [["State", task.state], ["Feature", task.feature], ["Asked by", task.tenant], ["Session", task.session],
    ["Why it is here", words(task.reason)], ["Since", date(task.created_at)], ["Until", date(task.expires_at)],
    ["Its caller's name for it", task.caller?.id], ["Belongs to", task.caller?.context && JSON.stringify(task.caller.context)],
    ...task.deliveries.map((told) => [told.kind === "callback" ? "Callback" : "Notification", told.state])];
  fill($("about"), facts.filter(([, value]) => value).map(([what, value]) => make("div", {}, make("dt", {}, what), make("dd", {}, value))));
  const { turns, model, tools, json, problem } = task.conversation;
  const notes = [model && `The model ${model} was asked for.`, tools.length && `Its tools: ${tools.join(", ")}.`, json && "The answer must be JSON.",
    problem && `It cannot be shown: ${problem}`];
  fill($("asked-notes"), notes.filter(Boolean).map((note) => make("li", {}, note)));
  fill($("conversation"), turns.map((turn) => make("li", { "data-role": turn.role }, make("span", { class: "role" }, turn.role),
    ...turn.parts.map((part) => (part.kind === "text" ? make("p", { class: "words" }, part.text)
      : make("p", { class: "words other" }, `${part.kind}: ${part.text}`))))));
  fill($("attempts"), task.attempts.map((step) => make("li", {},
    make("span", { class: "small" }, make("span", {}, step.tier ?? step.provider ?? "a tier"), make("span", {}, step.skipped ? "left out" : `${number(step.took_ms)} ms`)),
    make("p", { class: "words" }, [step.kind && words(step.kind), step.status, step.message].filter(Boolean).join(": ")))));
  $("tried").hidden = !task.attempts.length;
  const { answer, claim } = task;
  $("answered").hidden = !answer;
  if (answer) {
    say($("answered-by"), `By ${answer.model ? `the model ${answer.model}` : claimant(answer.by)}, ${date(answer.at)}`);
    say($("answered-text"), task.output ?? "");
  }
  const own = mine(task);
  $("answer").hidden = !own;
  $("claim").hidden = task.state !== "waiting";
  $("redrive").hidden = answer || own || task.state === "expired" || task.state === "redriving";
  $("open-actions").hidden = $("claim").hidden && $("redrive").hidden;
  say($("claimed"), own ? "You are at it. Nobody else can answer it as long as it is open here."
    : claim ? `${claimant(claim.by)} is at it, until ${date(claim.until)} if the claim is not renewed.` : "");
  if (own && !kept) $("text").value = drafts.get(task.id) ?? "";
  renew(own);
}
function closed() {
  loads += 1;
  keep();
  open = null;
  renew(false);
  $("task").hidden = true;
}
function keep() {
  if (open && !$("answer").hidden) drafts.set(open.id, $("text").value);
}

// A claim is renewed as long as its task is open here, whether or not anybody looks at the page.
function renew(own) {
  if (own === Boolean(renewing)) return;
  clearInterval(renewing);
  renewing = own ? setInterval(async () => {
    const task = open;
    try {
      await asked(`${of(task.id)}/renew`, { as: name });
    } catch (error) {
      if (open?.id === task.id) told(`Your claim was not renewed: ${error.message}`, true);
    }
  }, RENEWED) : 0;
}

async function load(task, focused) {
  const turn = ++loads;
  keep();
  try {
    const came = await asked(of(task));
    // Another was asked for in the meantime.
    if (key === null || turn !== loads) return;
    shown(came);
    for (const one of $("tasks").querySelectorAll("button")) one.setAttribute("aria-current", String(one.dataset.task === task));
    if (focused) $("h-task").focus();
  } catch (error) {
    told(error.message, true);
  }
}
// Does something to the open task and says what came of it.
async function act(what, body, done) {
  const task = open.id;
  try {
    const came = await asked(`${of(task)}/${what}`, body);
    told(done);
    if (open?.id === task) came?.conversation ? shown(came) : await load(task, false);
    return true;
  } catch (error) {
    told(error.message, true);
    if (open?.id === task) await load(task, false);
    return false;
  } finally {
    await poll();
  }
}

async function poll() {
  clearTimeout(timer);
  if (key === null || paused) return;
  const state = $("shown").value;
  try {
    const came = await list();
    if (key === null || paused || state !== $("shown").value) return;
    const tasks = listed(came);
    live(`Live, ${new Date().toLocaleTimeString("en", { hour12: false })}`, true);
    // The open one is asked for again only where something has become of it.
    const summary = open && tasks.find((task) => task.id === open.id);
    if (open && !open.answer && (summary ? changes(summary) !== seen : open.state === state && tasks.length < rows)) await load(open.id, false);
  } catch (error) {
    live(error.message.slice(0, 80), false);
  } finally {
    clearTimeout(timer);
    if (key !== null && !document.hidden && !paused) timer = setTimeout(poll, EVERY);
  }
}

async function unlock(theKey, theName) {
  [key, name] = [theKey, theName];
  try {
    listed(await list());
    stored.write({ key, name });
    $("locked").hidden = true;
    for (const id of ["desk", "pause"]) $(id).hidden = false;
    told("");
    await poll();
    return true;
  } catch (error) {
    lock(error.message, true);
    return false;
  }
}
function lock(text, failed = false) {
  if (open) closed();
  key = null;
  stored.write(null);
  drafts.clear();
  for (const id of ["tasks", "conversation", "attempts", "about", "asked-notes"]) fill($(id), []);
  for (const id of ["counts", "h-task", "claimed", "answered-by", "answered-text"]) say($(id), "");
  $("text").value = "";
  document.title = "steadfast: handoff";
  $("locked").hidden = false;
  for (const id of ["desk", "pause"]) $(id).hidden = true;
  live("Locked", false);
  told(text, failed);
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const typed = $("key").value.trim();
  $("key").value = "";
  (await unlock(typed, $("name").value.trim()) ? $("shown") : $("key")).focus();
});
$("lock").addEventListener("click", () => {
  lock("The key is forgotten.");
  $("key").focus();
});
$("tasks").addEventListener("click", (event) => {
  const { task } = event.target.closest("button")?.dataset ?? {};
  if (task) load(task, true);
});
$("close").addEventListener("click", () => {
  const task = open?.id;
  closed();
  ([...$("tasks").querySelectorAll("button")].find((one) => one.dataset.task === task) ?? $("shown")).focus();
});
$("claim").addEventListener("click", async () => {
  if (await act("claim", { as: name }, "You have it.")) $("text").focus();
});
$("release").addEventListener("click", async () => {
  if (await act("release", { as: name }, "It is given back.")) $("h-task").focus();
});
$("redrive").addEventListener("click", () => act("redrive", {}, "A model is asked again as soon as one works."));
$("answer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const task = open.id;
  $("send").disabled = true;
  const done = await act("answer", { as: name, text: $("text").value }, "It is answered.");
  $("send").disabled = false;
  if (!done) return;
  drafts.delete(task);
  $("text").value = "";
  $("h-task").focus();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("answer").requestSubmit();
});
$("shown").addEventListener("change", poll);
$("more").addEventListener("click", () => {
  rows += ROWS;
  poll();
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) live("Paused", false);
  else poll();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
const before = stored.read();
if (before.key) unlock(before.key, before.name ?? "");
