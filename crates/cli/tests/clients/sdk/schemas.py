"""Holds every answer of a gateway against the vendors' published OpenAPI files. `schemas.py ADDRESS`.

llm-comply carries the files, and what makes schemas of them. What a provider of the caller's own protocol says is its own,
and passes.
"""

import http.client
import json
import pathlib
import sys
import tempfile

import llm_comply
from llm_comply.schema import SSE_EVENT_TO_SCHEMA, SpecLoader

address = sys.argv[1]
specs = pathlib.Path(llm_comply.__file__).parent / "specs"



def nullable(schema):
    """Spells `nullable` out where the loader leaves it: beside an enumeration, or a reference."""
    if isinstance(schema, list):
        return [nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: nullable(part) for name, part in schema.items()}
    if schema.get("nullable") is not True:
        return schema
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    if "type" in schema:
        return schema
    del schema["nullable"]
    return {"anyOf": [schema, {"type": "null"}]}


def load(name):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(nullable(json.loads((specs / f"{name}.json").read_text())), file)
        file.flush()
        return SpecLoader(file.name)


TOOL = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
MESSAGES_EVENTS = {
    "message_start": "MessageStartEvent",
    "message_delta": "MessageDeltaEvent",
    "message_stop": "MessageStopEvent",
    "content_block_start": "ContentBlockStartEvent",
    "content_block_delta": "ContentBlockDeltaEvent",
    "content_block_stop": "ContentBlockStopEvent",
}


def messages(tools, reasons):
    body = {"model": "any", "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}]}
    if tools:
        body["tools"] = [{"name": "weather", "input_schema": TOOL}]
    if reasons:
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return body


def chat(tools, reasons):
    body = {"model": "any", "messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": True}}
    if tools:
        body["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]
    if reasons:
        body["reasoning_effort"] = "low"
    return body


def responses(tools, reasons):
    body = {"model": "any", "input": "hi"}
    if tools:
        body["tools"] = [{"type": "function", "name": "weather", "parameters": TOOL, "strict": False}]
    if reasons:
        body["reasoning"] = {"effort": "low", "summary": "auto"}
    return body


# The path and the body of each protocol, the schema of a whole answer, and of an event.
CALLERS = {
    "messages": (
        "/v1/messages", messages, load("anthropic"), "Message", lambda event: MESSAGES_EVENTS.get(event["type"])
    ),
    "chat": (
        "/v1/chat/completions",
        chat,
        load("openai_chat"),
        "CreateChatCompletionResponse",
        lambda _: "CreateChatCompletionStreamResponse",
    ),
    "responses": (
        "/v1/responses",
        responses,
        load("openresponses"),
        "ResponseResource",
        lambda event: SSE_EVENT_TO_SCHEMA.get(event["type"]),
    ),
}


def ask(path, body, feature):
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-steadfast-feature": feature,
    }
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text


answers = events = failed = 0
for caller, (path, body_of, spec, whole, schema_of) in CALLERS.items():
    for upstream in {"responses", "chat", "messages", "gemini"} - {caller}:
        for provider in ["healthy", "tools", "reasoning"]:
            body = body_of(provider == "tools", provider == "reasoning")
            problems = []
            text = ask(path, {**{k: v for k, v in body.items() if k != "stream_options"}}, f"{upstream}-{provider}")
            problems += spec.validate(json.loads(text), whole)
            answers += 1
            for line in ask(path, {**body, "stream": True}, f"{upstream}-{provider}").splitlines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                name = schema_of(event)
                events += 1
                if name is None or name not in spec.schema_names:
                    # An event that is newer than the file.
                    continue
                problems += [f"{name}: {problem}" for problem in spec.validate(event, name)]
            if problems:
                failed += 1
                print(f"FAIL {caller} at {upstream}-{provider}: {len(problems)}")
                for problem in sorted(set(problem[:300] for problem in problems))[:12]:
                    print(f"     {problem}")
print(f"{answers} answers and {events} events")
sys.exit(failed > 0)
