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

for (const up of ["responses", "chat", "messages", "gemini"]) {
  await check(`${up}: a response in the background, over a failover`, async () => {
    const feature = `to-${up}`;
    for (const [words, action] of [[FIRST, "auto"], [SECOND, "open"]]) {
      await circuit("first", action);
      try {
        let answer = await create(feature, { input: `${words}?`, background: true });
        assert.deepEqual([answer.status, answer.background], ["queued", true]);
        while (["queued", "in_progress"].includes(answer.status)) {
          await new Promise((done) => setTimeout(done, 20));
          answer = await o.responses.retrieve(answer.id);
        }
        assert.deepEqual([answer.status, answer.output_text], ["completed", words]);
        // A reader that lost its connection comes back with the number of its last event.
        for (let seen = 1; seen < 6; seen += 1) {
          const stream = await create(feature, { input: `${words} ${seen}`, background: true, stream: true });
          const events = [];
          for await (const event of stream) if (events.push(event) === seen) break;
          const { id } = events[0].response;
          const rest = await o.responses.retrieve(id, { stream: true, starting_after: seen - 1 });
          for await (const event of rest) events.push(event);
          assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
          const deltas = events.filter((event) => event.type === "response.output_text.delta");
          assert.equal(deltas.map((event) => event.delta).join(""), words);
          assert.equal(events.at(-1).type, "response.completed");
        }
        // The SDK's own reader of a stream that goes on puts the answer together.
        const begun = await create(feature, { input: `${words}.`, background: true, stream: true });
        let id;
        for await (const event of begun) {
          id = event.response.id;
          break;
        }
        const whole = await o.responses.stream({ response_id: id }).finalResponse();
        assert.equal(whole.output_text, words);
      } finally {
        await circuit("first", "auto");
      }
    }
  });
}

await check("a response in the background is cancelled, once and again", async () => {
  const answer = await create("stalls", { input: "one", background: true });
  for (let turn = 0; turn < 2; turn += 1) {
    assert.equal((await o.responses.cancel(answer.id)).status, "cancelled");
  }
  assert.equal((await o.responses.retrieve(answer.id)).status, "cancelled");
});

await check("nothing else is cancelled, and no events are repeated", async () => {
  const answer = await create("to-messages", { input: "one" });
  await assert.rejects(o.responses.cancel(answer.id), OpenAI.BadRequestError);
  await assert.rejects(o.responses.retrieve(answer.id, { stream: true }), OpenAI.BadRequestError);
});

process.exit(failed > 0 ? 1 : 0);
