// Drives a gateway with Google's Node SDK, as it is. `gemini.mjs ADDRESS FOLDER`.
import assert from "node:assert";
import { SAID, apiKey, check, end, feature, person, require, throws } from "./checks.mjs";

const { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } = require("@google/genai");

const g = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `http://${process.argv[2]}` } });
const asked = (name, contents, config) => ({ model: "any", contents, config: { httpOptions: feature(name), ...config } });
const create = (name, contents = "hello", config = {}) => g.models.generateContent(asked(name, contents, config));
const events = (name, contents = "hello", config = {}) => g.models.generateContentStream(asked(name, contents, config));

// The parts of all answers of a stream, and the last reason.
async function stream(name, contents, config) {
  const content = { role: "model", parts: [] };
  let finishReason, usageMetadata;
  for await (const piece of await events(name, contents, config)) {
    content.parts.push(...(piece.candidates[0].content?.parts ?? []));
    finishReason = piece.candidates[0].finishReason ?? finishReason;
    usageMetadata = piece.usageMetadata ?? usageMetadata;
  }
  return { candidates: [{ content, finishReason }], usageMetadata };
}

const partsOf = (response) => response.candidates[0].content.parts;
const textOf = (response) => partsOf(response).map((part) => (part.thought ? "" : (part.text ?? ""))).join("");
const parameters = { type: Type.OBJECT, properties: { city: { type: Type.STRING }, days: { type: Type.INTEGER } } };
const tools = [{ functionDeclarations: [{ name: "weather", description: "d", parameters }] }];
const data =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

for (const up of ["gemini", "responses", "chat", "messages"]) {
  for (const [way, ask] of [["whole", create], ["streamed", stream]]) {
    await check(`${up}, ${way}`, async () => {
      const response = await ask(`${up}-healthy`, "hello", { systemInstruction: "Be brief.", maxOutputTokens: 100 });
      assert.deepEqual([textOf(response), response.candidates[0].finishReason], [SAID, "STOP"]);
      assert(response.usageMetadata.candidatesTokenCount > 0);
    });

    await check(`${up}, ${way}, after one that is down`, async () => {
      assert.equal(textOf(await ask(`${up}-after-overloaded`)), SAID);
    });

    await check(`${up}, ${way}, tools`, async () => {
      const response = await ask(`${up}-tools`, "hello", { tools });
      const { functionCall } = partsOf(response).find((part) => part.functionCall);
      assert.deepEqual([functionCall.name, functionCall.args], ["weather", { city: "Paris", days: 3 }]);
      const functionResponse = { id: functionCall.id, name: "weather", response: { result: "sunny" } };
      const contents = [
        { role: "user", parts: [{ text: "hello" }] },
        response.candidates[0].content,
        { role: "user", parts: [{ functionResponse }] },
      ];
      assert.equal(textOf(await ask(`${up}-tools`, contents, { tools })), SAID);
      const functionCallingConfig = { mode: FunctionCallingConfigMode.ANY };
      const forced = await ask(`${up}-tools`, "hello", { tools, toolConfig: { functionCallingConfig } });
      assert(partsOf(forced).some((part) => part.functionCall));
    });

    await check(`${up}, ${way}, a picture`, async () => {
      const parts = [{ text: "What is it?" }, { inlineData: { mimeType: "image/png", data } }];
      assert.equal(textOf(await ask(`${up}-healthy`, [{ role: "user", parts }])), SAID);
    });
  }

  await check(`${up}, a shape`, async () => {
    const shape = { responseMimeType: "application/json", responseJsonSchema: person };
    const response = await create(`${up}-healthy`, "hello", shape);
    assert.deepEqual(Object.keys(JSON.parse(response.text)).sort(), ["age", "name"]);
  });

  await check(`${up}, a chat`, async () => {
    const chat = g.chats.create({ model: "any", config: { httpOptions: feature(`${up}-healthy`) } });
    assert.equal((await chat.sendMessage({ message: "hello" })).text, SAID);
    let said = "";
    for await (const piece of await chat.sendMessageStream({ message: "and?" })) said += piece.text ?? "";
    assert.equal(said, SAID);
  });

  for (const [name, statuses] of [
    ["overloaded", [503]],
    ["server_error", [500]],
    ["bad_request", [400]],
    ["unauthorized", [401, 500, 502]],
    ["rate_limited", [429]],
    ["context_length", [400]],
  ]) {
    await check(`${up}, ${name}`, async () => {
      for (const ask of [create, stream]) {
        const error = await throws(ApiError, () => ask(`${up}-${name}`));
        assert(statuses.includes(error.status) && error.message, error.message);
      }
    });
  }

  for (const name of ["cut", "truncated", "error_event"]) {
    await check(`${up}, ${name} in the middle`, async () => {
      let said = "";
      const error = await throws(ApiError, async () => {
        for await (const piece of await events(`${up}-${name}`)) {
          said += piece.text ?? "";
          assert.equal(piece.candidates[0].finishReason, undefined);
        }
      });
      assert(error.status >= 500 && said && SAID.startsWith(said) && said !== SAID, said);
    });
  }

  await check(`${up}, abort`, async () => {
    const abort = new AbortController();
    const left = await events(`${up}-slow`, "hello", { abortSignal: abort.signal });
    for await (const piece of left) if (piece.candidates) break;
    abort.abort();
  });

  await check(`${up}, tokens`, async () => {
    assert((await g.models.countTokens({ model: "any", contents: "hello" })).totalTokens > 0);
  });
}

await check("the models", async () => {
  const names = [];
  for await (const model of await g.models.list()) names.push(model.name);
  assert(names.includes("models/gemini-2.5-flash"), names.join(", "));
  assert.equal((await g.models.get({ model: "gpt-4o" })).displayName, "gpt-4o");
  // A request may name any model.
  assert.equal((await g.models.get({ model: "gemini-of-tomorrow" })).name, "models/gemini-of-tomorrow");
});

end();
