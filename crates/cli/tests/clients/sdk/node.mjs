// Drives a gateway with the official Node SDKs of OpenAI and Anthropic, as they are.
import assert from "node:assert";
import { SAID, apiKey, check, end, feature, require, throws } from "./checks.mjs";

const { default: Anthropic } = require("@anthropic-ai/sdk");
const { default: OpenAI } = require("openai");

const base = "http://" + process.argv[2];
const hello = [{ role: "user", content: "hello" }];
const a = new Anthropic({ baseURL: base, apiKey, logLevel: "off" });
const o = new OpenAI({ baseURL: base + "/v1", apiKey, logLevel: "off" });

const aCreate = (route, more = {}) =>
  a.messages.create({ model: "any", max_tokens: 100, messages: hello, ...more }, feature(route));
const oCreate = (route, more = {}) =>
  o.chat.completions.create({ model: "any", messages: hello, ...more }, feature(route));
const aStream = (route, more = {}) =>
  a.messages.stream({ model: "any", max_tokens: 100, messages: hello, ...more }, feature(route));

async function oStream(route) {
  let [text, finish] = ["", null];
  for await (const chunk of await oCreate(route, { stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  return [text, finish];
}

// An answer that says of itself that it is less than what was asked for is an answer like any other.
await check("anthropic, a fixed sentence", async () => {
  const message = await aCreate("overloaded-then-sorry");
  assert.equal(message.content[0].text, "Please try again.");
  assert.equal(message.steadfast.degraded.level, 5);
});

await check("openai, a fixed sentence", async () => {
  const answer = await oCreate("overloaded-then-sorry");
  assert.equal(answer.choices[0].message.content, "Please try again.");
  assert.equal(answer.steadfast.degraded.level, 5);
});

// A program that asks for notices reads from its SDK who answers.
for (const route of ["a-overloaded-then-o", "o-overloaded-then-a"]) {
  const headers = { ...feature(route).headers, "x-steadfast-notices": "1" };
  const asks = { model: "any", stream: true };
  const told = async (stream, text) => {
    let [said, notices] = ["", []];
    for await (const event of stream) {
      said += text(event) ?? "";
      notices.push(...(event.steadfast ? [event.steadfast.notice] : []));
    }
    assert.equal(said, SAID);
    assert.equal(notices.length, 1);
    assert.equal(notices[0].first, route.split("-then-")[0]);
    assert.equal(notices[0].reason, "overloaded");
  };
  await check(`anthropic, told who answers, ${route}`, async () =>
    told(await a.messages.create({ max_tokens: 100, messages: hello, ...asks }, { headers }), (e) => e.delta?.text));
  await check(`openai, told who answers, ${route}`, async () =>
    told(await o.chat.completions.create({ messages: hello, ...asks }, { headers }), (e) => e.choices[0].delta.content));
  await check(`openai's responses, told who answers, ${route}`, async () =>
    told(await o.responses.create({ input: "hello", ...asks }, { headers }), (e) =>
      e.type === "response.output_text.delta" ? e.delta : ""));
}

for (const route of ["a-healthy", "o-healthy", "a-overloaded-then-o", "o-overloaded-then-a"]) {
  await check(`anthropic, whole, ${route}`, async () => {
    const message = await aCreate(route);
    assert.equal(message.content[0].text, SAID);
    assert.equal(message.stop_reason, "end_turn");
  });
  await check(`openai, whole, ${route}`, async () => {
    const completion = await oCreate(route);
    assert.equal(completion.choices[0].message.content, SAID);
  });
  await check(`anthropic, streamed, ${route}`, async () => {
    const message = await aStream(route).finalMessage();
    assert.equal(message.content[0].text, SAID);
    assert.ok(message.usage.output_tokens > 0);
  });
  await check(`openai, streamed, ${route}`, async () => assert.deepEqual(await oStream(route), [SAID, "stop"]));
}

const schema = { type: "object", properties: { city: { type: "string" } } };
for (const route of ["a-tools", "o-tools"]) {
  await check(`anthropic, tools streamed, ${route}`, async () => {
    const message = await aStream(route, { tools: [{ name: "weather", input_schema: schema }] }).finalMessage();
    assert.deepEqual(message.content.at(-1).input, { city: "Paris", days: 3 });
    assert.equal(message.stop_reason, "tool_use");
  });
  await check(`openai, tools, ${route}`, async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
    const completion = await oCreate(route, { tools });
    const call = completion.choices[0].message.tool_calls[0].function;
    assert.equal(JSON.parse(call.arguments).city, "Paris");
  });
}

for (const [name, kind] of [
  ["overloaded", "InternalServerError"],
  ["server_error", "InternalServerError"],
  ["bad_request", "BadRequestError"],
  ["unauthorized", "InternalServerError"],
  ["rate_limited", "RateLimitError"],
  ["context_length", "BadRequestError"],
  ["refused", "InternalServerError"],
]) {
  for (const stream of [false, true]) {
    await check(`anthropic, ${name}, stream: ${stream}`, async () => {
      const error = await throws(Anthropic[kind], () => aCreate("a-" + name, { stream }));
      assert.ok(error.requestID);
    });
    await check(`openai, ${name}, stream: ${stream}`, async () => {
      const error = await throws(OpenAI[kind], () => oCreate("o-" + name, { stream }));
      assert.ok(error.requestID);
    });
  }
}

for (const name of ["cut", "truncated", "error_event"]) {
  await check(`anthropic, ${name} in the middle`, () =>
    throws(Anthropic.AnthropicError, () => aStream("a-" + name).finalMessage()));
  await check(`openai, ${name} in the middle`, () => throws(OpenAI.OpenAIError, () => oStream("o-" + name)));
}

await check("a model is found by any name that a request may have", async () => {
  assert.equal((await a.models.retrieve("claude-of-tomorrow")).id, "claude-of-tomorrow");
  assert.equal((await o.models.retrieve("meta/llama-3")).id, "meta/llama-3");
});

await check("anthropic, abort", async () => {
  const stream = await aCreate("a-slow", { stream: true });
  for await (const event of stream) if (event.type === "content_block_delta") break;
  stream.controller.abort();
});
await check("openai, abort", async () => {
  const stream = await oCreate("o-slow", { stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) break;
  stream.controller.abort();
});

end();
