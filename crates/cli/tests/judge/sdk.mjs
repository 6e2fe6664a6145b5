// Follows plans with the official Node SDKs of Anthropic, OpenAI and Google, as they are, with their own repeats.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(process.argv.at(-1) + "/");
const apiKey = "sk-of-the-caller";

function ofAnthropic(base) {
  const { default: Anthropic } = require("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: base, apiKey, logLevel: "off" });
  return async (content, isStreamed, signal) => {
    const request = { model: "sonnet", max_tokens: 1000, messages: [{ role: "user", content }] };
    const message = isStreamed
      ? await client.messages.stream(request, { signal }).finalMessage()
      : await client.messages.create(request, { signal });
    return message.stop_reason === "end_turn";
  };
}

function ofOpenai(base) {
  const { default: OpenAI } = require("openai");
  const client = new OpenAI({ baseURL: base + "/v1", apiKey, logLevel: "off" });
  return async (content, stream, signal) => {
    const request = { model: "gpt-5.4", messages: [{ role: "user", content }], stream };
    const answer = await client.chat.completions.create(request, { signal });
    if (!stream) return answer.choices[0].finish_reason === "stop";
    let finish;
    for await (const chunk of answer) finish = chunk.choices[0]?.finish_reason ?? finish;
    return finish === "stop";
  };
}

function ofGemini(base) {
  const { GoogleGenAI } = require("@google/genai");
  // Without `retryOptions` it repeats nothing. These are its defaults for those who want repeats.
  const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: base, retryOptions: {} } });
  return async (contents, isStreamed, abortSignal) => {
    const request = { model: "gemini-2.5-flash", contents, config: { abortSignal } };
    if (!isStreamed) {
      const answer = await client.models.generateContent(request);
      return answer.candidates[0].finishReason === "STOP";
    }
    let finish;
    for await (const answer of await client.models.generateContentStream(request))
      finish = answer.candidates?.[0]?.finishReason ?? finish;
    return finish === "STOP";
  };
}

const SDKS = { anthropic: ofAnthropic, openai: ofOpenai, gemini: ofGemini };
const told = (error) => `${error?.constructor?.name}: ${error?.message}`.slice(0, 600);

async function outcome(ask, { stream, patience }, { at, prompt }) {
  await sleep(at * 1000);
  const begun = performance.now();
  const waiting = new AbortController();
  const asked = ask(prompt, stream, waiting.signal).then((isWhole) => (isWhole ? "" : "the answer has no end"), told);
  const over = sleep(patience * 1000, "the caller waits no longer", { signal: waiting.signal }).catch(() => "");
  const error = await Promise.race([asked, over]);
  waiting.abort();
  return { served: !error, seconds: (performance.now() - begun) / 1000, error };
}

async function follow({ run, sdk, base, plan }) {
  const say = (said) => console.log(JSON.stringify({ run, ...said }));
  const ask = SDKS[sdk](base);
  const broken = await ask("hello", plan.stream).then((isWhole) => (isWhole ? "" : "the answer has no end"), told);
  if (broken) return say({ broken });
  say({ begun: true });
  say({ outcomes: await Promise.all(plan.calls.map((call) => outcome(ask, plan, call))) });
}

for await (const line of createInterface({ input: process.stdin })) follow(JSON.parse(line));
