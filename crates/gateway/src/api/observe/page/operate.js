// What an administrator can do, behind a key that this page keeps in a variable and nowhere else.

const CIRCUITS = {
  open: ["Force open", "Its requests go to the next tiers, until you say otherwise."],
  close: ["Force closed", "Requests are sent to it however it fails, until you say otherwise."],
  auto: ["Automatic", "Its own failures decide again."],
};
const DRAINS = {
  true: ["Drain", "It gets no new requests; those in flight finish."],
  false: ["Take back", "It gets new requests again."],
};

function operated(text, failed = false) {
  say($("operated"), text);
  $("operated").toggleAttribute("data-failed", failed);
}

function actionRow({ name: tier, circuit, forced, drained, inFlight }) {
  const button = (words, attributes) =>
    make("button", { type: "button", "data-tier": tier, "aria-label": `${words} ${tier}`, ...attributes }, words);
  const state = make("span", { class: "tag", "data-circuit": circuit }, circuit);
  const drain = String(!drained);
  return make("tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row" }, tier,
      ...(drained ? [" ", make("span", { class: "tag" }, "drained")] : [])),
    cell("Circuit", "wide", make("div", { class: "row" }, state, forced ? make("span", { class: "small" }, "by hand") : "",
      ...Object.entries(CIRCUITS).map(([action, [words]]) => button(words, { "data-circuit-action": action })))),
    cell("Requests", "wide", make("div", { class: "row" }, make("span", { class: "number" }, `${number(inFlight)} in flight`),
      button(DRAINS[drain][0], { "data-drain": drain }))));
}
async function refresh() {
  const { tiers, pinnedLevel, pinnedFeatures } = await asked("/admin/tiers");
  if (key === null) return;
  fill($("action-rows"), tiers.map(actionRow));
  const pins = Object.entries(pinnedFeatures).map(([feature, level]) => `${level} for ${feature}`);
  if (pinnedLevel) pins.unshift(`${pinnedLevel} for every feature`);
  say($("pins"), pins.length ? `By hand: ${pins.join(", ")}.` : "Automatic for every feature.");
}

// Asks whether it is meant, does it, and says what came of it.
async function act(question, consequence, path, body) {
  say($("sure-what"), `${question} ${consequence}`);
  $("sure").returnValue = "no";
  $("sure").showModal();
  await new Promise((closed) => $("sure").addEventListener("close", closed, { once: true }));
  if ($("sure").returnValue !== "yes") return;
  try {
    const { scopeNote } = await asked(path, body);
    operated(`Done: ${question.replace(/\?$/, ".")} ${scopeNote ?? ""}`.trim());
    await refresh();
  } catch (error) {
    operated(error.message, true);
  }
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  try {
    await refresh();
    $("unlock").hidden = true;
    $("actions").hidden = false;
    operated("Unlocked.");
    $("lock").focus();
  } catch (error) {
    key = null;
    operated(error.message, true);
    $("key").focus();
  }
});
$("lock").addEventListener("click", () => {
  key = null;
  fill($("action-rows"), []);
  say($("pins"), "");
  $("unlock").hidden = false;
  $("actions").hidden = true;
  operated("The key is forgotten.");
  $("key").focus();
});
$("action-rows").addEventListener("click", (event) => {
  const { tier, circuitAction, drain } = event.target.closest("button")?.dataset ?? {};
  const path = `/admin/tiers/${encodeURIComponent(tier)}`;
  if (circuitAction) {
    const [words, consequence] = CIRCUITS[circuitAction];
    act(`Circuit of ${tier}: ${words.toLowerCase()}?`, consequence, `${path}/circuit`, { action: circuitAction });
  } else if (drain) {
    const [words, consequence] = DRAINS[drain];
    act(`${words} ${tier}?`, consequence, `${path}/drain`, { drained: drain === "true" });
  }
});
$("level").addEventListener("submit", (event) => {
  event.preventDefault();
  const level = $("level-at").value, feature = $("level-for").value;
  const [what, whom] = [level ? `Level ${level}` : "Automatic level", feature || "every feature"];
  const consequence = level ? "It stays so until you set it to automatic." : "The best tier that is well serves again.";
  act(`${what} for ${whom}?`, consequence, "/admin/level", { level: level ? Number(level) : null, ...(feature && { feature }) });
});

// Follows what the page has learned: the features that can be named, and, while it is open, each tier's circuit.
function operable(overview) {
  const named = overview.features.filter((one) => one.feature !== "all others");
  const options = named.map((one) => make("option", { value: one.feature }, one.feature));
  fill($("level-for"), [make("option", { value: "" }, "every feature"), ...options]);
  if (key !== null && $("operate").open && !$("actions").hidden) refresh().catch((error) => operated(error.message, true));
}
