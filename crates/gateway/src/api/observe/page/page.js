const EVERY = 2000;
// What is older than this, in milliseconds, is not shown as how it is.
const OLD = 10000;
// So many switches are shown at once.
const LATEST = 6;
// The requests that a state is about, if they are not those of all chains.
function whose({ chains = [], chain: id }) {
  const chain = chains.find((other) => other.id === id);
  return chains.length > 1 && chain ? ` For ${requestsOf(chain)}.` : "";
}
const requestsOf = ({ first, names }) => names.join(", ") || `requests that begin at ${first} otherwise`;
const WORDS = {
  untried: ["…", "No request yet", (status) => [status.primaryModel, "No request has ended since the start: nothing is known of the tiers."]],
  primary: ["✓", "Primary", (status) => [status.activeModel,
    (status.chains || []).length > 1 ? "The first tier of each chain serves." : "The primary serves."]],
  fallback: ["!", "Fallback", (status) =>
    [status.activeModel, `Running on fallback, quality may differ. The primary is ${status.primaryModel}.${whose(status)}`]],
  degraded: ["!", "Reduced answers", (status) =>
    [status.activeModel, `Running on fallback, quality may differ: answers are reduced. The primary is ${status.primaryModel}.${whose(status)}`]],
  people: ["✕", "People take requests", (status) =>
    ["No model answers", `Callers get a task, which a person is to answer. The primary is ${status.primaryModel}.${whose(status)}`]],
  failing: ["!", "Requests fail", (status) => [status.activeModel,
    `${number(status.requests.failed)} of ${counted(status.requests.ended, "request")} within the last minute failed. The primary is ${status.primaryModel}.${whose(status)}`]],
  unavailable: ["✕", "Unavailable", (status) => ["No tier answers", `Requests fail, and none is answered. The primary is ${status.primaryModel}.`]],
};
const COLORS = { people: "#c5281c", primary: "#1d8a44", fallback: "#d99a00", degraded: "#d99a00", failing: "#d99a00", unavailable: "#c5281c", connecting: "#7a8594" };
function badge(state, sign, name, title, notice) {
  $("badge").dataset.state = state;
  say($("sign"), sign);
  say($("state"), name);
  say($("title"), title);
  say($("notice"), notice);
  document.title = `steadfast: ${name.toLowerCase()}`;
  const color = encodeURIComponent(COLORS[state] || COLORS.connecting);
  const icon = `data:image/svg+xml,<svg xmlns="${SVG}" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${color}"/></svg>`;
  if ($("icon").getAttribute("href") !== icon) $("icon").setAttribute("href", icon);
}

// Why the tier before did not serve, by an error kind's name.
const REASONS = {
  auth: "the key was refused", bulkhead_full: "too many in flight", connect: "no connection", other: "another error",
  rate_limited: "rate limited", server: "server error", stream_broken: "the stream broke off", timeout: "timed out",
};
const reason = (kind) => REASONS[kind] || kind.replaceAll("_", " ");

function facts(status, hour, cost) {
  const away = status.timeOnFallback;
  const calls = sum(hour.map(all)), failed = sum(hour.map((minute) => minute.failed));
  const rows = [
    ["Requests, 1 min", number(status.requests.ended), status.requests.failed ? `${number(status.requests.failed)} failed` : ""],
    ["Calls to tiers, 1 h", number(calls), failed ? `${number(failed)} failed` : ""],
    ["Switches, 1 h", number(status.failoversLastHour)],
    ["Time on fallback", span(away.totalSeconds)],
    ["Last recovery took", status.lastRecoverySeconds === null ? "–" : span(status.lastRecoverySeconds)],
    ["Cost since the start", dollars(cost)],
  ];
  if (status.handoff) rows.push(["Waiting for a person", number(status.handoff.waiting), status.handoff.oldestWaitingSeconds
    ? `the oldest for ${span(status.handoff.oldestWaitingSeconds)}` : ""]);
  if (status.pinnedLevel) rows.push(["Level, by hand", `${status.pinnedLevel} of 5`]);
  if (status.cache) {
    const { hits, shared, misses, answers } = status.cache, asked = hits + shared + misses;
    rows.push(["From the cache", percent(asked ? (hits + shared) / asked : 0), `${number(answers)} kept`]);
  }
  if (status.lostEvents) rows.push(["Events lost", number(status.lostEvents)]);
  fill($("facts"), rows.map(([name, value, more]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value, more ? make("small", {}, more) : ""))));
}

// The file's first tier, whatever chain the state is about.
const home = (status) => status.tiers[0]?.name ?? status.primaryTier;
const all = (minute) => minute.primary + minute.others + minute.failed;
// What was called in each minute of the hour, over these tiers.
function hourOf(tiers, primary) {
  return Array.from({ length: MINUTES }, (_, at) => {
    const minute = { primary: 0, others: 0, failed: 0 };
    for (const tier of tiers) {
      minute[tier.tier === primary ? "primary" : "others"] += tier.calls[at] - tier.failures[at];
      minute.failed += tier.failures[at];
    }
    return minute;
  });
}
const SERVED = { primary: "by the primary", others: "by other tiers", failed: "failed" };
function told(minute) {
  const parts = Object.entries(SERVED).filter(([kind]) => minute[kind]).map(([kind, words]) => `${number(minute[kind])} ${words}`);
  return parts.join(", ") || "no calls";
}
function legend(id, entries) {
  fill($(id), entries.map(([name, ...shapes]) => make("li", {}, shape("svg", { viewBox: "0 0 20 12" }, ...shapes), name)));
}

function plots(status, histories) {
  const primary = home(status), chosen = $("shown").value;
  const shown = histories.filter((tier) => !chosen || tier.tier === chosen);
  const hour = hourOf(shown, primary), calls = hour.map(all);
  const kinds = Object.keys(SERVED).filter((kind) => hour.some((minute) => minute[kind]));
  const sums = Object.fromEntries(Object.keys(SERVED).map((kind) => [kind, sum(hour.map((minute) => minute[kind]))]));
  plot($("calls"), {
    label: sum(calls) ? `${counted(sum(calls), "call")} within the last hour: ${told(sums)}.` : "No calls within the last hour.",
    said: $("calls-said"),
    most: Math.max(...calls),
    least: 4,
    tick: (value) => value.toLocaleString("en", value < 10_000 ? {} : { notation: "compact" }),
    none: histories.length ? "No requests within the last hour" : "No requests yet",
    draw: (x, y, each) => bars(hour, x, y, each),
    tell: (at) => told(hour[at]),
  });
  legend("calls-legend", kinds.map((kind) =>
    [SERVED[kind].replace(/^./, (first) => first.toUpperCase()), shape("rect", { class: kind, x: 2, y: 1, width: 16, height: 10 })]));

  const measured = shown.filter((tier) => known(tier.latencyMs).length);
  const drawn = measured.slice(0, LINES);
  const style = (tier) => `s${chosen ? 0 : drawn.indexOf(tier)}`;
  const most = Math.max(0, ...drawn.flatMap((tier) => known(tier.latencyMs)));
  const slowest = drawn.find((tier) => tier.latencyMs.includes(most));
  plot($("latency"), {
    label: slowest ? `At most ${milliseconds(most)} (${slowest.tier}). Of a stream: to its first token.` : "No answers within the last hour.",
    said: $("latency-said"),
    most,
    least: 4,
    tick: (value) => (value === 0 ? "0" : milliseconds(value).replace(".0 ", " ")),
    none: histories.length ? "No answers within the last hour" : "No answers yet",
    draw: (x, y, each) => drawn.flatMap((tier) => line(tier.latencyMs, (at) => x(at) + each / 2, y, style(tier))),
    tell: (at) => drawn.filter((tier) => tier.latencyMs[at] !== null)
      .map((tier) => `${tier.tier} ${milliseconds(tier.latencyMs[at])}`).join(", ") || "no answers",
  });
  const more = measured.length - drawn.length;
  legend("latency-legend", [
    ...drawn.map((tier) => [tier.tier, shape("path", { class: `line ${style(tier)}`, d: "M1 6H19" })]),
    ...(more ? [[`and ${counted(more, "tier")} more: choose one to see it`]] : []),
  ]);
  if ($("minutes").open) minuteRows(hour, shown);
}

function minuteRows(hour, shown) {
  const rows = hour.map((minute, at) => {
    if (!all(minute)) return null;
    // Weighed by the answers of each tier, as far as they are known.
    const tiers = shown.filter((tier) => tier.latencyMs[at] !== null);
    const answers = tiers.map((tier) => Math.max(1, tier.calls[at] - tier.failures[at]));
    const mean = sum(tiers.map((tier, place) => tier.latencyMs[at] * answers[place])) / sum(answers);
    const cells = [minute.primary, minute.others, minute.failed].map(number).concat(tiers.length ? milliseconds(mean) : "–");
    return make("tr", {}, make("th", { scope: "row" }, ago(at)), ...cells.map((text) => make("td", {}, text)));
  });
  fill($("minute-rows"), rows.filter(Boolean).reverse());
}

// What went wrong at a tier last: a status, words, when, and whose record has the rest.
function failure(last) {
  if (!last) return "";
  const what = [last.status && `HTTP ${last.status}`, reason(last.kind), last.message && `“${last.message}”`].filter(Boolean).join(", ");
  return make("div", { class: "small", title: last.requestId ? `request ${last.requestId}` : last.at }, `${what}, ${span(Math.round(last.secondsAgo))} ago`);
}
const STATES = { untried: "no request yet", primary: "first tier", fallback: "fallback", degraded: "reduced", people: "people", failing: "requests fail", unavailable: "unavailable" };
function chains(status) {
  const rows = (status.chains || []).map((chain) => make("tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row" }, chain.first, make("div", { class: "small" }, requestsOf(chain))),
    cell("State", "", make("span", { class: "tag", "data-chain": chain.state }, STATES[chain.state] || chain.state)),
    cell("Serves", "", ["untried", "unavailable"].includes(chain.state) ? "–" : chain.activeTier),
    cell("For", "number", span(chain.sinceSeconds)),
    cell("Requests, 1 min", "number", chain.failed ? `${number(chain.failed)} of ${number(chain.ended)} failed` : number(chain.ended)),
    cell("On fallback", "number", span(chain.fallbackSeconds))));
  fill($("chains"), rows);
  $("all-chains").hidden = !rows.length;
}
function tiers(status, histories) {
  fill($("tiers"), status.tiers.map((tier, place) => {
    const history = histories.find((one) => one.tier === tier.name);
    const why = tier.circuitReason ? make("div", { class: "small" }, tier.circuitReason) : "";
    const latency = tier.latency ? `${milliseconds(tier.latency.p50Ms)} / ${milliseconds(tier.latency.p95Ms)}` : "–";
    const serves = !["unavailable", "untried"].includes(status.state) && tier.name === status.activeTier;
    return make("tr", { role: "row" },
      make("th", { role: "rowheader", scope: "row" }, tier.name,
        ...[!place && "primary", serves && "serves", tier.drained && "drained"].filter(Boolean).flatMap((tag) => [" ", make("span", { class: "tag" }, tag)]),
        ...(tier.health === "failing" ? [" ", make("span", { class: "tag", "data-health": "failing" }, "failing")] : []),
        tier.model && tier.model !== tier.name ? make("div", { class: "small" }, tier.model) : "",
        ...(tier.deployments || []).map((one) => make("div", { class: "small" }, `${one.name}: ${one.availability}`))),
      cell("Circuit", "", make("span", { class: "tag", "data-circuit": tier.circuit }, tier.circuit), why, failure(tier.lastFailure)),
      cell("Calls, 5 min", "number", number(tier.calls)),
      cell("Failed, 5 min", "number", tier.calls ? percent(tier.failureRate) : "–"),
      cell("Latency p50 / p95", "number", latency),
      sparkCell("Calls and failures, 1 h", history && callsSpark(tier.name, history, !place)),
      sparkCell("Latency, 1 h", history && latencySpark(history)));
  }));
}
const sparkCell = (label, spark) => cell(label, spark ? "wide" : "wide empty", spark || "–");
function callsSpark(name, history, primary) {
  const hour = hourOf([history], primary ? name : null), most = Math.max(...hour.map(all));
  if (!most) return null;
  const shapes = bars(hour, (at) => at, (value) => 20 - (value / most) * 20, 1, 0.75);
  return spark(`${counted(sum(history.calls), "call")}, ${number(sum(history.failures))} failed`, `max ${number(most)}`, shapes);
}
function latencySpark(history) {
  const values = known(history.latencyMs);
  if (!values.length) return null;
  const most = Math.max(...values) || 1;
  const shapes = line(history.latencyMs, (at) => at + 0.5, (value) => 19 - (value / most) * 18, "s0");
  return spark(`Mean latency by the minute: at most ${milliseconds(most)}`, `max ${milliseconds(most)}`, shapes);
}

function switched(one) {
  return make("li", {}, make("div", {}, make("strong", {}, one.from), " → ", make("strong", {}, one.to)),
    make("div", { class: "small" }, make("span", {}, reason(one.reason), one.failure?.status ? `, HTTP ${one.failure.status}` : ""),
      make("time", { datetime: one.at, title: one.at }, `${span(Math.round(one.secondsAgo))} ago`)));
}
function choices(status) {
  const names = status.tiers.map((tier) => tier.name);
  const options = [make("option", { value: "" }, "All tiers"), ...names.map((name) => make("option", { value: name }, name))];
  const was = $("shown").value;
  fill($("shown"), options);
  $("shown").value = names.includes(was) ? was : "";
  $("choice").hidden = names.length < 2;
}

let last = null;
function show(status, overview) {
  const words = WORDS[status.state] || ["?", status.state, () => [status.activeModel, ""]];
  badge(status.state, words[0], words[1], ...words[2](status));
  say($("since"), `for ${span(status.sinceSeconds)}`);
  const place = (tier) => (status.tiers.findIndex((one) => one.name === tier.tier) + 1 || status.tiers.length + 1);
  const histories = overview.tiers.toSorted((one, other) => place(one) - place(other));
  const cost = sum(histories.map((tier) => tier.costDollars));
  choices(status);
  facts(status, hourOf(histories, home(status)), cost);
  plots(status, histories);
  chains(status);
  tiers(status, histories);
  const switches = status.recentSwitches.map(switched);
  list("switches", switches.slice(0, LATEST), status.state === "untried" ? "No request yet." : "No switches yet.");
  fill($("earlier-switches"), switches.slice(LATEST));
  $("earlier").hidden = switches.length <= LATEST;
  list("features", overview.features.map((one) => bar(one.feature,
    `${number(one.inFlight)} of ${number(one.limit)}${one.queued ? `, ${number(one.queued)} waiting` : ""}`, one.inFlight, one.limit, true)),
  "No feature has a limit.");
  const paid = histories.filter((tier) => tier.costDollars > 0);
  list("costs", paid.map((tier) => bar(tier.tier, `${dollars(tier.costDollars)} (${percent(tier.costDollars / cost)})`, tier.costDollars,
    cost, false)), "No cost is known yet.");
  list("budgets", overview.budgets.map((one) => bar(one.cap, `${dollars(one.spentDollars)} spent${
    one.reservedDollars ? ` and ${dollars(one.reservedDollars)} reserved` : ""} of ${dollars(one.limitDollars)}`,
  one.spentDollars + one.reservedDollars, one.limitDollars, true)), "No cap is set.");
  say($("instance"), status.instance ? `Of ${status.instance} alone` : "");
  operable(overview);
  last = [status, overview];
}

async function fetched(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  // The status of a gateway where nothing serves has that code.
  if (!response.ok && response.status !== 503) throw new Error(`${path}: ${response.status}`);
  return response.json();
}
let paused = false, timer = 0, answered = null;
const clock = (date) => date.toLocaleTimeString("en", { hour12: false });
// Nobody answers: nothing is shown as how it is.
function stale() {
  document.querySelector("main").toggleAttribute("data-stale", true);
  badge("connecting", "…", "Connecting", answered ? "The gateway does not answer" : "Waiting for the gateway",
    answered ? "What stands below may be old." : "It has not answered yet.");
  say($("since"), "");
  live(answered ? `As of ${clock(answered)}` : "Not connected yet", false);
}
async function poll() {
  clearTimeout(timer);
  // The page may have slept.
  if (answered && Date.now() - answered > OLD) stale();
  const came = await Promise.all([fetched("/status"), fetched("/overview")]).catch(() => null);
  if (paused) return;
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, EVERY);
  if (!came) return stale();
  try {
    show(...came);
  } catch (error) {
    // Somebody else answers in its place, or another version of it.
    console.error(error);
    return stale();
  }
  answered = new Date();
  document.querySelector("main").toggleAttribute("data-stale", false);
  live(`Live, ${clock(answered)}`, true);
}
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  clearTimeout(timer);
  if (paused) live(answered ? `Paused, ${clock(answered)}` : "Paused", false);
  else poll();
});
$("shown").addEventListener("change", () => last && show(...last));
$("minutes").addEventListener("toggle", () => last && show(...last));
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) poll(); });
say($("embed"), `<script src="${location.origin}/badge.js" defer><\/script>\n<steadfast-badge></steadfast-badge>`);
