// Drives the lane of a gateway with OpenAI's and Google's Node SDKs and the AI SDK, as they are.
import assert from "node:assert";
import { apiKey, check, end, load, require, throws } from "./checks.mjs";

const { default: OpenAI, AzureOpenAI, toFile } = require("openai");
const { GoogleGenAI } = await load("@google/genai");
const ai = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");

const base = "http://" + process.argv[2];
const texts = ["a keel", "a crew that knows the ropes", "sømand"];
const sound = Buffer.alloc(5000, 7);
const speech = Buffer.from(Array.from({ length: 4000 }, (_, at) => at % 251));

// The provider's vector of a text.
function vector(text, numbers = 8) {
  const total = Buffer.from(text).reduce((sum, byte) => sum + byte, 0);
  return Array.from({ length: numbers }, (_, at) => ((total + 7 * at) % 128) / 64 - 1);
}
const vectors = texts.map((text) => vector(text));

const clients = {
  openai: new OpenAI({ apiKey, baseURL: base + "/v1", logLevel: "off" }),
  azure: new AzureOpenAI({ apiKey, endpoint: base, apiVersion: "2025-04-01-preview", logLevel: "off" }),
};
for (const [name, client] of Object.entries(clients)) {
  for (const more of [{}, { encoding_format: "float" }]) {
    await check(`${name}, embeddings, ${JSON.stringify(more)}`, async () => {
      const made = await client.embeddings.create({ model: "small", input: texts, ...more });
      assert.deepEqual(made.data.map((one) => one.embedding), vectors);
      const wide = await client.embeddings.create({ model: "wide", input: texts[0], ...more });
      assert.deepEqual(wide.data[0].embedding, vector(texts[0], 5));
    });
  }
  await check(`${name}, a model that is not there`, async () => {
    const error = await throws(OpenAI.NotFoundError, () => client.embeddings.create({ model: "none", input: "a" }));
    assert.match(error.message, /wide/);
  });
  await check(`${name}, audio and images`, async () => {
    const file = await toFile(sound, "sound.mp3");
    const heard = await client.audio.transcriptions.create({ model: "whisper-1", file });
    assert.equal(heard.text, "5000 bytes, whisper-1: true");
    const spoken = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "ahoy" });
    assert.deepEqual(Buffer.from(await spoken.arrayBuffer()), speech);
    const made = await client.images.generate({ model: "gpt-image-1", prompt: "a ship", n: 2 });
    assert.deepEqual(made.data.map((one) => atob(one.b64_json)), ["a ship", "a ship"]);
    const image = await toFile(sound, "ship.png", { type: "image/png" });
    const changed = await client.images.edit({ model: "gpt-image-1", prompt: "a ship", image });
    assert.equal(atob(changed.data[0].b64_json), "5000 bytes, gpt-image-1: true");
  });
}

await check("completions and moderations", async () => {
  const more = { model: "gpt-3.5-turbo-instruct", prompt: "a", max_tokens: 5 };
  assert.equal((await clients.openai.completions.create(more)).choices[0].text, "calm sea");
  let text = "";
  for await (const chunk of await clients.openai.completions.create({ ...more, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, "calm sea");
  const made = await clients.openai.moderations.create({ model: "omni-moderation-latest", input: "a bad word" });
  assert.equal(made.results[0].flagged, true);
});

await check("google's embeddings", async () => {
  const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: base } });
  const made = await client.models.embedContent({ model: "gemini-embedding-001", contents: texts });
  assert.deepEqual(made.embeddings.map((one) => one.values), vectors);
});

await check("the AI SDK", async () => {
  const provider = createOpenAI({ apiKey, baseURL: base + "/v1" });
  const many = await ai.embedMany({ model: provider.embeddingModel("small"), values: texts, maxRetries: 0 });
  assert.deepEqual(many.embeddings, vectors);
  const image = await ai.generateImage({ model: provider.image("gpt-image-1"), prompt: "a ship", maxRetries: 0 });
  assert.equal(atob(image.image.base64), "a ship");
  const spoken = await ai.generateSpeech({ model: provider.speech("tts-1"), text: "ahoy", maxRetries: 0 });
  assert.deepEqual(Buffer.from(spoken.audio.uint8Array), speech);
  const heard = await ai.transcribe({ model: provider.transcription("whisper-1"), audio: sound, maxRetries: 0 });
  assert.match(heard.text, /^5000 bytes/);
});

end();
