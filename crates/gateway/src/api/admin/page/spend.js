// The month so far, as its owner asks for it. The figures are sums of the gateway's; nothing is added up here.
const EVERY = 30000;
let timer = 0;

const NO_TEAM = "keys without a team";

// A month's bars: one for each day that has begun.
function byDay(days) {
  const most = Math.max(...days);
  if (!most) return "";
  // As wide as a plot of minutes.
  const width = MINUTES / days.length;
  const shapes = days.map((value, at) => {
    const height = value ? Math.max((value / most) * 20, 0.75) : 0;
    return shape("rect", { class: "primary", x: at * width + width * 0.1, width: width * 0.8, y: 20 - height, height });
  });
  return spark(`By day: ${days.map((value, at) => `${at + 1}: ${dollars(value)}`).join(", ")}`, `max ${dollars(most)}`, shapes);
}

function teamRow({ team, todayDollars, monthDollars, requests, days }, caps) {
  const name = team ?? NO_TEAM;
  const own = caps.filter((cap) => team !== null && cap.team === team);
  const limits = own.map((cap) => make("div", { class: "small" }, `${percent(cap.used)} of ${dollars(cap.limitDollars)} ${each(cap)}`));
  return make("tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row" }, name, ...limits),
    cell("Today", "number", dollars(todayDollars)), cell("This month", "number", dollars(monthDollars)),
    cell("Requests", "number", number(requests)), cell("By day", "wide", byDay(days)));
}

const each = ({ period }) => `${period === "hour" ? "an" : "a"} ${period}`;

function capBar(cap) {
  const whose = [cap.key && `of ${cap.key}`, cap.feature && `for ${cap.feature}`].filter(Boolean).map((one) => ` ${one}`).join("");
  const reserved = cap.reservedDollars ? ` and ${dollars(cap.reservedDollars)} reserved` : "";
  const text = `${dollars(cap.spentDollars)}${reserved} of ${dollars(cap.limitDollars)} ${each(cap)}, ${cap.atCap}; again in ${
    span(cap.resetsInSeconds)}`;
  return bar(cap.cap + whose, text, cap.limitDollars ? cap.spentDollars + cap.reservedDollars : 1, cap.limitDollars || 1, true);
}

function failoverSaid({ requests, costDollars, extraDollars, savedDollars, unknownRequests }) {
  if (!requests) return "Every answer of this month came from the first tier of its chain.";
  const differences = [extraDollars && `${dollars(extraDollars)} more`, savedDollars && `${dollars(savedDollars)} less`].filter(Boolean);
  const known = differences.length ? `: ${differences.join(" and ")} than the same tokens at the first tier` : "";
  const unknown = unknownRequests ? ` Of ${counted(unknownRequests, "answer")} the first tier's price is not known.` : "";
  return `${counted(requests, "answer")} of this month came from a later tier, for ${dollars(costDollars)}${known}.${unknown}`;
}

function laterTier({ tier, insteadOf, requests, costDollars, thereDollars }) {
  const there = thereDollars === null ? "not known there" : `${dollars(thereDollars)} there`;
  return make("li", {}, make("div", {}, make("strong", {}, tier), " in place of ", make("strong", {}, insteadOf)),
    make("div", { class: "small" }, make("span", {}, counted(requests, "answer")), make("span", {}, `${dollars(costDollars)}, ${there}`)));
}

function show({ spend, problem, caps, capsInAll }) {
  const facts = spend ? [["Today", dollars(spend.todayDollars)], ["This month", dollars(spend.monthDollars)],
    ["Requests", number(spend.requests), spend.unpricedRows ? `${number(spend.unpricedRows)} without a known cost` : ""],
    ["Came from later tiers", number(spend.failover.requests)]] : [];
  fill($("facts"), facts.map(([name, value, note]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value, ...(note ? [make("small", {}, note)] : [])))));
  $("of-teams").hidden = $("of-failover").hidden = !spend;
  if (spend) {
    fill($("teams"), spend.teams.map((team) => teamRow(team, caps)));
    say($("failover"), failoverSaid(spend.failover));
    fill($("later-tiers"), spend.failover.tiers.map(laterTier));
  }
  list("caps", caps.map(capBar), "No cap is set.");
  say($("more-caps"), capsInAll > caps.length ? `${number(capsInAll)} caps in all; those above are the nearest to their ends.` : "");
  say($("said"), problem ?? "");
}

async function refresh() {
  clearTimeout(timer);
  if (key === null) return;
  try {
    const summary = await asked("/admin/spend/summary");
    if (key === null) return;
    show(summary);
    live(`As of ${new Date().toLocaleTimeString("en", { hour12: false })}`, true);
  } catch (error) {
    live("What stands here may be old", false);
    say($("said"), error.message);
  }
  timer = setTimeout(refresh, EVERY);
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  try {
    show(await asked("/admin/spend/summary"));
  } catch (error) {
    key = null;
    say($("said"), error.message);
    return $("key").focus();
  }
  $("locked").hidden = true;
  $("spend").hidden = false;
  $("lock").focus();
  refresh();
});
$("lock").addEventListener("click", () => {
  key = null;
  clearTimeout(timer);
  for (const id of ["facts", "teams", "caps", "later-tiers"]) fill($(id), []);
  for (const id of ["failover", "more-caps"]) say($(id), "");
  $("spend").hidden = true;
  $("locked").hidden = false;
  say($("said"), "The key is forgotten.");
  live("Locked", false);
  $("key").focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
