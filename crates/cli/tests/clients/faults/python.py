"""Goes through the cases with the official Python SDKs of OpenAI, Anthropic and Google, as they are."""

import functools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
from google import genai
from google.genai import errors, types

KEY = "sk-of-the-caller"
making = threading.Lock()


# A client for each server.
@functools.cache
def anthropic_at(address, limit):
    return anthropic.Anthropic(base_url=f"http://{address}", api_key=KEY, timeout=limit)


@functools.cache
def openai_at(address, limit):
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key=KEY, timeout=limit)


@functools.cache
def genai_at(address, limit):
    options = types.HttpOptions(base_url=f"http://{address}", timeout=limit * 1000)
    return genai.Client(api_key=KEY, http_options=options)


def at(sdk, request):
    # One that another thread has made as well would be closed under its caller.
    with making:
        return sdk(request["address"], request["limit"])


# The gateway knows a request that has just failed: each case has one of its own.
def words(request):
    return f"Sixty words, please, for {request['feature']}."


def messages_of(request):
    begun = [{"role": "assistant", "content": "word-1"}] if request["prefill"] else []
    return [{"role": "user", "content": words(request)}] + begun


def ask_messages(request, seen):
    more = {"model": "any", "max_tokens": 1000, "messages": messages_of(request)}
    more["extra_headers"] = {"x-steadfast-feature": request["feature"]}
    with at(anthropic_at, request).messages.stream(**more) as stream:
        for text in stream.text_stream:
            seen["text"] += text
        message = stream.get_final_message()
    seen.update(model=message.model, finish=message.stop_reason)
    seen.update(input_tokens=message.usage.input_tokens, output_tokens=message.usage.output_tokens)


def ask_chat(request, seen):
    more = {"model": "any", "messages": messages_of(request), "stream_options": {"include_usage": True}}
    headers = {"x-steadfast-feature": request["feature"]}
    for chunk in at(openai_at, request).chat.completions.create(stream=True, extra_headers=headers, **more):
        seen["model"] = chunk.model or seen["model"]
        if chunk.choices:
            seen["text"] += chunk.choices[0].delta.content or ""
            seen["finish"] = chunk.choices[0].finish_reason or seen["finish"]
        if chunk.usage:
            seen.update(input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens)


class Failed(Exception):
    """A response that says of itself that it failed: the SDK has no error of its own for it."""


def finish(response, seen):
    seen.update(model=response.model, finish=response.status)
    if response.status == "failed":
        raise Failed(f"{response.error.code}: {response.error.message}")
    seen.update(input_tokens=response.usage.input_tokens, output_tokens=response.usage.output_tokens)


def responses_of(request):
    headers = {"x-steadfast-feature": request["feature"]}
    return {"model": "any", "input": messages_of(request), "extra_headers": headers}


def ask_create(request, seen):
    response = at(openai_at, request).responses.create(**responses_of(request))
    seen["text"] = response.output_text
    finish(response, seen)


def ask_stream(request, seen):
    failed = None
    with at(openai_at, request).responses.stream(**responses_of(request)) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                seen["text"] += event.delta
            elif event.type == "response.failed":
                failed = event.response
        try:
            finish(stream.get_final_response(), seen)
        except RuntimeError:
            if failed is None:
                raise
            # It has no final response after a failure.
            finish(failed, seen)


def ask_raw(request, seen):
    last = None
    for event in at(openai_at, request).responses.create(stream=True, **responses_of(request)):
        if event.type == "response.output_text.delta":
            seen["text"] += event.delta
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            last = event.response
    finish(last, seen)


def contents_of(request):
    begun = [types.Content(role="model", parts=[types.Part(text="word-1")])] if request["prefill"] else []
    contents = [types.Content(role="user", parts=[types.Part(text=words(request))])] + begun
    options = types.HttpOptions(headers={"x-steadfast-feature": request["feature"]})
    return {"model": "any", "contents": contents, "config": types.GenerateContentConfig(http_options=options)}


def piece(response, seen):
    candidate = response.candidates[0]
    for part in (candidate.content and candidate.content.parts) or []:
        seen["text"] += part.text or ""
    seen["model"] = response.model_version or seen["model"]
    seen["finish"] = (candidate.finish_reason and candidate.finish_reason.value) or seen["finish"]
    if response.usage_metadata:
        seen["input_tokens"] = response.usage_metadata.prompt_token_count
        seen["output_tokens"] = response.usage_metadata.candidates_token_count


def ask_generate(request, seen):
    piece(at(genai_at, request).models.generate_content(**contents_of(request)), seen)


def ask_gemini(request, seen):
    for response in at(genai_at, request).models.generate_content_stream(**contents_of(request)):
        piece(response, seen)


ASK = {
    "messages": (ask_messages, anthropic.APIError),
    "chat": (ask_chat, openai.APIError),
    "create": (ask_create, openai.APIError),
    "stream": (ask_stream, openai.APIError),
    "raw": (ask_raw, openai.APIError),
    "generate": (ask_generate, errors.APIError),
    "gemini": (ask_gemini, errors.APIError),
}


def outcome(caller, request):
    names = ["error", "status", "model", "finish", "input_tokens", "output_tokens"]
    seen = {**dict.fromkeys(names), "text": "", "own": True, "message": ""}
    ask, own = ASK[caller]
    begun = time.monotonic()
    try:
        ask(request, seen)
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        status = status if isinstance(status, int) else None
        own = isinstance(error, (own, Failed))
        seen.update(error=type(error).__name__, own=own, status=status, message=str(error))
    seen["took_ms"] = int((time.monotonic() - begun) * 1000)
    return seen


def run(case):
    outcomes = []
    for at, request in enumerate(case["requests"]):
        if at:
            time.sleep(case["gap_ms"] / 1000)
        outcomes.append(outcome(case["caller"], request))
    return [case["case"], outcomes]


with ThreadPoolExecutor(max_workers=32) as pool:
    for done in pool.map(run, json.load(sys.stdin)):
        print(json.dumps(done))
