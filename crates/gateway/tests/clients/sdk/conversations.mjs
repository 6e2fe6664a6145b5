// Drives a gateway that keeps responses with OpenAI's Node SDK.
// `conversations.mjs ADDRESS KEY OTHER_KEY ADMIN_KEY FOLDER`.
import { createRequire } from "node:module";
import assert from "node:assert";

const [address, apiKey, other, admin, folder] = process.argv.slice(2);
// The packages are where the test says, not beside this file.
const require = createRequire(folder + "/");
const { default: OpenAI } = require("openai");

const baseURL = `http://${address}/v1`;
const [FIRST, SECOND] = ["I am the first of them", "I am another one"];
const client = (key) => new OpenAI({ baseURL, apiKey: key, logLevel: "off", maxRetries: 0 });
const [o, two] = [client(apiKey), client(other)];
const options = (feature) => ({ headers: { "x-steadfast-feature": feature } });
const create = (feature, more, by = o) => by.responses.create({ model: "any", ...more }, options(feature));
let failed = 0;

// Forces a tier's circuit open, or lets it go.
async function circuit(tier, action) {
  const response = await fetch(`http://${address}/admin/tiers/${tier}/circuit`, {
    method: "POST",
    headers: { authorization: `Bearer ${admin}`, "content-type": "application/json" },
    body: JSON.stringify({ action }),
  });
  assert.equal(response.status, 200);
}

async function check(name, run) {
  const begun = Date.now();
  try {
    await run();
    console.log(`ok   ${name} (${(Date.now() - begun) / 1000} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.constructor.name}: ${error.message}`);
  }
}

async function texts(id, query) {
  const found = [];
  for await (const item of o.responses.inputItems.list(id, query)) found.push(item.content[0].text);
  return found;
}

for (const up of ["responses", "chat", "messages", "gemini"]) {
  await check(`${up}: a conversation over a failover and back`, async () => {
    const feature = `to-${up}`;
    const one = await create(feature, { input: "one" });
    assert.deepEqual([one.output_text, one.id.startsWith("resp_sf_")], [FIRST, true]);
    await circuit("first", "open");
    let second, third;
    try {
      const stream = o.responses.stream(
        { model: "any", input: "two", previous_response_id: one.id },
        options(feature),
      );
      second = await stream.finalResponse();
      assert.deepEqual([second.output_text, second.previous_response_id], [SECOND, one.id]);
      third = await create(feature, { input: "three", previous_response_id: second.id });
      assert.equal(third.output_text, SECOND);
    } finally {
      await circuit("first", "auto");
    }
    const fourth = await create(feature, { input: "four", previous_response_id: third.id });
    assert.deepEqual([fourth.output_text, fourth.previous_response_id], [FIRST, third.id]);

    const again = await o.responses.retrieve(fourth.id);
    assert.deepEqual([again.id, again.output_text, again.status], [fourth.id, FIRST, "completed"]);
    const said = ["one", FIRST, "two", SECOND, "three", SECOND, "four"];
    assert.deepEqual(await texts(fourth.id, { order: "asc", limit: 2 }), said);
    assert.deepEqual(await texts(fourth.id, { limit: 3 }), said.toReversed());

    await assert.rejects(two.responses.retrieve(fourth.id), OpenAI.NotFoundError);
    await assert.rejects(
      create(feature, { input: "five", previous_response_id: fourth.id }, two),
      (error) => error instanceof OpenAI.BadRequestError && error.code === "previous_response_not_found",
    );
    await o.responses.delete(fourth.id);
    await assert.rejects(o.responses.retrieve(fourth.id), OpenAI.NotFoundError);
    await assert.rejects(
      create(feature, { input: "five", previous_response_id: fourth.id }),
      (error) => error instanceof OpenAI.BadRequestError && error.code === "previous_response_not_found",
    );
    assert.equal((await create(feature, { input: "five", previous_response_id: third.id })).output_text, FIRST);
  });
}

await check("what is not stored is not there", async () => {
  const answer = await create("to-messages", { input: "one", store: false });
  assert.equal(answer.id.startsWith("resp_sf_"), false);
  await assert.rejects(o.responses.retrieve(answer.id), OpenAI.NotFoundError);
});

await check("nothing is cancelled, and no events are repeated", async () => {
  const answer = await create("to-messages", { input: "one" });
  await assert.rejects(o.responses.cancel(answer.id), OpenAI.BadRequestError);
  await assert.rejects(o.responses.retrieve(answer.id, { stream: true }), OpenAI.BadRequestError);
});

process.exit(failed > 0 ? 1 : 0);
