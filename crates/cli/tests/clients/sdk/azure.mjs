// Drives a gateway with OpenAI's Node client for Azure, as it is.
import assert from "node:assert";
import { SAID, apiKey, check, end, feature, require, throws } from "./checks.mjs";

const { default: OpenAI, AzureOpenAI } = require("openai");

const endpoint = "http://" + process.argv[2];
const more = { endpoint, apiVersion: "2025-04-01-preview", logLevel: "off" };
const hello = [{ role: "user", content: "hello" }];
const clients = {
  "a key": new AzureOpenAI({ ...more, apiKey }),
  "a token": new AzureOpenAI({ ...more, azureADTokenProvider: async () => apiKey }),
  "a deployment": new AzureOpenAI({ ...more, apiKey, deployment: "gpt-of-azure" }),
};
const o = clients["a key"];

const create = (route, more = {}, client = o) =>
  client.chat.completions.create({ model: "gpt-4o", messages: hello, ...more }, feature(route));

async function streamed(route, client = o) {
  let [text, finish] = ["", null];
  for await (const chunk of await create(route, { stream: true }, client)) {
    text += chunk.choices[0]?.delta?.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  return [text, finish];
}

for (const [kind, client] of Object.entries(clients)) {
  for (const route of ["o-healthy", "a-healthy", "o-overloaded-then-a"]) {
    await check(`${kind}, whole and streamed, ${route}`, async () => {
      assert.equal((await create(route, {}, client)).choices[0].message.content, SAID);
      assert.deepEqual(await streamed(route, client), [SAID, "stop"]);
    });
  }
  await check(`${kind}, responses and models`, async () => {
    const said = await client.responses.create({ model: "gpt-4o", input: "hello" }, feature("a-healthy"));
    assert.equal(said.output_text, SAID);
    assert.equal((await client.models.retrieve("meta/llama-3")).id, "meta/llama-3");
  });
}

for (const route of ["o-tools", "a-tools"]) {
  await check(`tools, ${route}`, async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
    const call = (await create(route, { tools })).choices[0].message.tool_calls[0].function;
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
]) {
  for (const stream of [false, true]) {
    await check(`${name}, stream: ${stream}`, async () => {
      assert.ok((await throws(OpenAI[kind], () => create("o-" + name, { stream }))).requestID);
    });
  }
}

for (const name of ["cut", "truncated", "error_event"]) {
  await check(`${name} in the middle`, () => throws(OpenAI.OpenAIError, () => streamed("o-" + name)));
}

await check("abort", async () => {
  const stream = await create("o-slow", { stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) break;
  stream.controller.abort();
});

end();
