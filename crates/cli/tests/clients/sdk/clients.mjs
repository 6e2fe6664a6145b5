// Drives a gateway with the AI SDK, as it is. `clients.mjs PLACE ADDRESS FOLDER`: see `clients.py`.
import assert from "node:assert";
import { apiKey, check, end, feature, load, person } from "./checks.mjs";

const [place, address] = process.argv.slice(2);
const { generateText, streamText, tool, jsonSchema, Output, APICallError } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { createAnthropic } = await load("@ai-sdk/anthropic");

const base = "http://" + address;
const prompt = "Who is Ada?";

// What makes a call go where the test wants it: in an outage, first to a provider of either protocol that is down.
function headers(protocol, of) {
  if (of === "wrong") return { "x-steadfast-commit": "no such point" };
  return place === "nothing" ? {} : feature(`${protocol}-overloaded-then-${of}`).headers;
}

const compatible = (path) => (of) =>
  createOpenAICompatible({
    name: "steadfast",
    baseURL: base + path,
    apiKey,
    headers: headers("o", of),
    includeUsage: true,
    supportsStructuredOutputs: true,
  })("any");
const anthropic = (path) => (of) =>
  createAnthropic({ baseURL: base + path, apiKey, headers: headers("a", of) })("any");

const city = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });

for (const [name, model] of [
  ["compatible", compatible("/v1")],
  ["compatible without /v1", compatible("")],
  ["anthropic", anthropic("/v1")],
  ["anthropic without /v1", anthropic("")],
]) {
  await check(`ai sdk, ${name}, whole`, async () => {
    const answer = await generateText({ model: model("healthy"), prompt });
    assert.ok(answer.text && answer.finishReason === "stop", JSON.stringify(answer));
    assert.ok(answer.usage.outputTokens > 0);
  });
  await check(`ai sdk, ${name}, streamed`, async () => {
    const answer = streamText({ model: model("healthy"), prompt });
    let text = "";
    for await (const piece of answer.textStream) text += piece;
    assert.ok(text);
    assert.equal(await answer.finishReason, "stop");
    assert.ok((await answer.usage).outputTokens > 0);
  });
  await check(`ai sdk, ${name}, a tool that is required`, async () => {
    const tools = { weather: tool({ description: "d", inputSchema: city }) };
    const answer = await generateText({ model: model("tools"), prompt, tools, toolChoice: "required" });
    assert.equal(answer.toolCalls[0].toolName, "weather");
    assert.equal(typeof answer.toolCalls[0].input.city, "string");
  });
  await check(`ai sdk, ${name}, a schema`, async () => {
    const output = Output.object({ schema: jsonSchema(person) });
    const of = name.startsWith("anthropic") ? "person-tool" : "person";
    const answer = await generateText({ model: model(of), prompt, output });
    assert.equal(typeof answer.output.name, "string");
    if (place !== "nothing") assert.deepEqual(answer.output, { name: "Ada", age: 36 });
  });
  await check(`ai sdk, ${name}, an error`, async () => {
    const begun = Date.now();
    await assert.rejects(generateText({ model: model("wrong"), prompt }), (error) => {
      assert.ok(APICallError.isInstance(error) && error.statusCode === 400, `${error}`);
      return true;
    });
    assert.ok(Date.now() - begun < 1500, "it took a repeat");
  });
}

end();
