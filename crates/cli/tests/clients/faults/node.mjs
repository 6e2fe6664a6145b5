// Goes through the cases with the official Node SDKs of OpenAI, Anthropic and Google, as they are.
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { apiKey, feature, require } from "../sdk/checks.mjs";

const { default: Anthropic } = require("@anthropic-ai/sdk");
const { default: OpenAI } = require("openai");
const { ApiError, GoogleGenAI } = require("@google/genai");

// A client for each server.
const clients = new Map();
function at(make, { address, limit }) {
  const name = make.name + address;
  if (!clients.has(name)) clients.set(name, make("http://" + address, limit * 1000));
  return clients.get(name);
}
const a = (baseURL, timeout) => new Anthropic({ baseURL, apiKey, timeout, logLevel: "off" });
const o = (base, timeout) => new OpenAI({ baseURL: base + "/v1", apiKey, timeout, logLevel: "off" });
const g = (baseUrl, timeout) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl, timeout } });

// The gateway knows a request that has just failed: each case has one of its own.
function words(request) {
  return `Sixty words, please, for ${request.feature}.`;
}

function messagesOf(request) {
  const begun = request.prefill ? [{ role: "assistant", content: "word-1" }] : [];
  return [{ role: "user", content: words(request) }, ...begun];
}

async function askMessages(request, options, seen) {
  const body = { model: "any", max_tokens: 1000, messages: messagesOf(request) };
  const stream = at(a, request).messages.stream(body, options);
  stream.on("text", (text) => (seen.text += text));
  const message = await stream.finalMessage();
  Object.assign(seen, { model: message.model, finish: message.stop_reason });
  Object.assign(seen, { input_tokens: message.usage.input_tokens, output_tokens: message.usage.output_tokens });
}

async function askChat(request, options, seen) {
  const body = { model: "any", messages: messagesOf(request), stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await at(o, request).chat.completions.create(body, options)) {
    seen.model = chunk.model || seen.model;
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
    if (chunk.usage)
      Object.assign(seen, { input_tokens: chunk.usage.prompt_tokens, output_tokens: chunk.usage.completion_tokens });
  }
}

// An SDK's own limit ends with the head of an answer: a silence behind it has none.
class Hung extends Error {}

async function hangs(limit) {
  await sleep(6 * limit * 1000, undefined, { ref: false });
  throw new Hung(`nothing for ${6 * limit} s`);
}

// A response that says of itself that it failed: the SDK has no error of its own for it.
class Failed extends Error {}

function finish(response, seen) {
  Object.assign(seen, { model: response.model, finish: response.status });
  if (response.status === "failed") throw new Failed(`${response.error.code}: ${response.error.message}`);
  const { input_tokens, output_tokens } = response.usage;
  Object.assign(seen, { input_tokens, output_tokens });
}

const responsesOf = (request) => ({ model: "any", input: messagesOf(request) });

async function askCreate(request, options, seen) {
  const response = await at(o, request).responses.create(responsesOf(request), options);
  seen.text = response.output_text;
  finish(response, seen);
}

async function askStream(request, options, seen) {
  const stream = at(o, request).responses.stream(responsesOf(request), options);
  stream.on("response.output_text.delta", (event) => (seen.text += event.delta));
  finish(await stream.finalResponse(), seen);
}

async function askRaw(request, options, seen) {
  let last;
  for await (const event of await at(o, request).responses.create({ ...responsesOf(request), stream: true }, options)) {
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    if (["response.completed", "response.incomplete", "response.failed"].includes(event.type)) last = event.response;
  }
  finish(last, seen);
}

function contentsOf(request) {
  const turn = (role, text) => ({ role, parts: [{ text }] });
  const begun = request.prefill ? [turn("model", "word-1")] : [];
  const contents = [turn("user", words(request)), ...begun];
  return { model: "any", contents, config: { httpOptions: feature(request.feature) } };
}

function piece(response, seen) {
  const [candidate] = response.candidates;
  for (const part of candidate.content?.parts ?? []) seen.text += part.text ?? "";
  seen.model = response.modelVersion ?? seen.model;
  seen.finish = candidate.finishReason ?? seen.finish;
  const used = response.usageMetadata;
  if (used) Object.assign(seen, { input_tokens: used.promptTokenCount, output_tokens: used.candidatesTokenCount });
}

async function askGenerate(request, _, seen) {
  piece(await at(g, request).models.generateContent(contentsOf(request)), seen);
}

async function askGemini(request, _, seen) {
  for await (const response of await at(g, request).models.generateContentStream(contentsOf(request))) piece(response, seen);
}

const ASK = {
  messages: [askMessages, Anthropic.AnthropicError],
  chat: [askChat, OpenAI.OpenAIError],
  create: [askCreate, OpenAI.OpenAIError],
  stream: [askStream, OpenAI.OpenAIError],
  raw: [askRaw, OpenAI.OpenAIError],
  generate: [askGenerate, ApiError],
  gemini: [askGemini, ApiError],
};

async function outcome(caller, request) {
  const seen = { text: "", error: null, own: true, status: null, message: "", model: null, finish: null };
  Object.assign(seen, { input_tokens: null, output_tokens: null });
  const [ask, own] = ASK[caller];
  const begun = performance.now();
  try {
    await Promise.race([ask(request, feature(request.feature), seen), hangs(request.limit)]);
  } catch (error) {
    const isOwn = error instanceof own || error instanceof Failed;
    const told = { error: error.constructor.name, own: isOwn, message: String(error.message) };
    Object.assign(seen, told, { status: error.status ?? null });
  }
  return { ...seen, took_ms: Math.round(performance.now() - begun) };
}

async function run({ case: name, caller, requests, gap_ms }) {
  const outcomes = [];
  for (const [at, request] of requests.entries()) {
    if (at) await sleep(gap_ms);
    outcomes.push(await outcome(caller, request));
  }
  return [name, outcomes];
}

const cases = JSON.parse(await text(process.stdin));
async function work() {
  for (let next; (next = cases.shift()); ) console.log(JSON.stringify(await run(next)));
}
await Promise.all(Array.from({ length: 32 }, work));
// What hangs is still open.
process.exit(0);
