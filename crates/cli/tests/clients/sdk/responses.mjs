// Drives a gateway with OpenAI's Node SDK and the AI SDK's OpenAI provider over Responses, as they are.
// `responses.mjs ADDRESS FOLDER`.
import assert from "node:assert";
import { SAID, apiKey, check, end, feature, load, person, require } from "./checks.mjs";

const { default: OpenAI } = require("openai");
const { generateText, streamText, tool, jsonSchema, Output, isStepCount, stepCountIs } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");

const baseURL = `http://${process.argv[2]}/v1`;
const o = new OpenAI({ baseURL, apiKey, logLevel: "off", maxRetries: 0 });
const create = (name, more = {}) => o.responses.create({ model: "any", input: "hello", ...more }, feature(name));
const weather = {
  type: "function",
  name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
  strict: false,
};

for (const up of ["responses", "chat", "messages", "gemini"]) {
  await check(`${up}, whole`, async () => {
    const response = await create(`${up}-healthy`);
    assert.deepEqual([response.output_text, response.status], [SAID, "completed"]);
  });

  await check(`${up}, streamed`, async () => {
    const stream = o.responses.stream({ model: "any", input: "hello" }, feature(`${up}-healthy`));
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const response = await stream.finalResponse();
    assert.deepEqual([text, response.output_text, response.status], [SAID, SAID, "completed"]);
  });

  await check(`${up}, tools`, async () => {
    const stream = o.responses.stream(
      { model: "any", input: "hello", tools: [weather] },
      feature(`${up}-tools`),
    );
    const response = await stream.finalResponse();
    const call = response.output.find((item) => item.type === "function_call");
    assert.deepEqual([call.name, JSON.parse(call.arguments)], ["weather", { city: "Paris", days: 3 }]);
    const output = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    // The SDK's stream adds a field of its own, which OpenAI refuses.
    const items = response.output.map(({ parsed_arguments: _, ...item }) => item);
    const input = [{ role: "user", content: "hello" }, ...items, output];
    assert.equal((await create(`${up}-tools`, { tools: [weather], input })).output_text, SAID);
  });

  await check(`${up}, a shape`, async () => {
    const format = { type: "json_schema", name: "person", schema: person, strict: true };
    const response = await o.responses.parse(
      { model: "any", input: "hello", text: { format } },
      feature(`${up}-healthy`),
    );
    assert.deepEqual(Object.keys(JSON.parse(response.output_text)).sort(), ["age", "name"]);
  });

  for (const [name, kind] of [
    ["overloaded", OpenAI.InternalServerError],
    ["bad_request", OpenAI.BadRequestError],
    ["unauthorized", OpenAI.InternalServerError],
    ["rate_limited", OpenAI.RateLimitError],
    ["context_length", OpenAI.BadRequestError],
  ]) {
    await check(`${up}, ${name}`, async () => {
      await assert.rejects(create(`${up}-${name}`), kind);
      await assert.rejects(create(`${up}-${name}`, { stream: true }), kind);
    });
  }

  for (const name of ["cut", "truncated", "error_event"]) {
    await check(`${up}, ${name} in the middle`, async () => {
      let failure = null;
      try {
        for await (const event of await create(`${up}-${name}`, { stream: true })) {
          assert(!["response.completed", "response.incomplete"].includes(event.type), event.type);
          if (event.type === "response.failed") failure = event.response.error.code;
        }
      } catch (error) {
        if (!(error instanceof OpenAI.APIError)) throw error;
        failure = error;
      }
      assert(failure);
    });
  }

  await check(`${up}, abort`, async () => {
    const stream = await create(`${up}-slow`, { stream: true });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    stream.controller.abort();
  });

  // `openai(model)` is the model of Responses.
  const model = (name) => createOpenAI({ baseURL, apiKey, ...feature(name) })("any");

  await check(`${up}, the AI SDK`, async () => {
    assert.equal((await generateText({ model: model(`${up}-healthy`), prompt: "hello" })).text, SAID);
    const run = streamText({ model: model(`${up}-healthy`), prompt: "hello" });
    let text = "";
    for await (const piece of run.textStream) text += piece;
    assert.deepEqual([text, await run.finishReason], [SAID, "stop"]);
  });

  await check(`${up}, the AI SDK's tools`, async () => {
    const asked = [];
    const inputSchema = jsonSchema(weather.parameters);
    const execute = (input) => (asked.push(input), "sunny");
    const run = await generateText({
      model: model(`${up}-tools`),
      prompt: "hello",
      tools: { weather: tool({ inputSchema, execute }) },
      stopWhen: (isStepCount ?? stepCountIs)(3),
    });
    assert.deepEqual([run.text, asked], [SAID, [{ city: "Paris", days: 3 }]]);
  });

  await check(`${up}, the AI SDK's shape`, async () => {
    const output = Output.object({ schema: jsonSchema(person) });
    const run = await generateText({ model: model(`${up}-healthy`), prompt: "hello", output });
    assert.deepEqual(Object.keys(run.output).sort(), ["age", "name"]);
  });
}

end();
