"""A client of the name in its first argument. It calls the model `MODEL` once by what that client reads, and prints its
arguments, its environment and the answers' statuses; `STATUS` is its exit code."""

import json
import os
import re
import sys
import urllib.error
import urllib.request

NAME, *ARGUMENTS = sys.argv[1:]
ENVIRONMENT = dict(os.environ)
MODEL = os.environ.get("MODEL", "m")


def ask(url, headers, body):
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def messages(base, headers):
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return ask(f"{base}/messages", headers, body)


def chat(base, key):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    return ask(f"{base}/chat/completions", {"authorization": f"Bearer {key}"}, body)


def responses(base, key):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return ask(f"{base}/responses", headers, {"model": MODEL, "input": "hi"})


def generate(base, key):
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    return ask(f"{base}/models/{MODEL}:generateContent", {"x-goog-api-key": key}, body)


def claude():
    headers = {"authorization": f"Bearer {os.environ['ANTHROPIC_AUTH_TOKEN']}"}
    return [messages(f"{os.environ['ANTHROPIC_BASE_URL']}/v1", headers)]


def codex():
    assert ARGUMENTS[0] == "-c" and ARGUMENTS[1] == 'model_provider="steadfast"' and ARGUMENTS[2] == "-c"
    provider = re.match(r"model_providers\.steadfast=\{ (.*) \}$", ARGUMENTS[3])[1]
    fields = dict(re.findall(r'(\w+) = "([^"]*)"', provider))
    assert fields["wire_api"] == "responses"
    return [responses(fields["base_url"], os.environ.get(fields.get("env_key", "")))]


def gemini():
    return [generate(f"{os.environ['GOOGLE_GEMINI_BASE_URL']}/v1beta", os.environ["GEMINI_API_KEY"])]


def opencode():
    providers = json.loads(os.environ["OPENCODE_CONFIG_CONTENT"])["provider"]
    anthropic, openai, google = (providers[name]["options"] for name in ("anthropic", "openai", "google"))
    return [
        messages(anthropic["baseURL"], {"x-api-key": anthropic["apiKey"]}),
        responses(openai["baseURL"], openai["apiKey"]),
        generate(google["baseURL"], google["apiKey"]),
    ]


def aider():
    anthropic = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    return [
        messages(f"{os.environ['ANTHROPIC_API_BASE']}/v1", anthropic),
        chat(os.environ["OPENAI_API_BASE"], os.environ["OPENAI_API_KEY"]),
    ]


def other():
    anthropic = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    return [
        messages(f"{os.environ['ANTHROPIC_BASE_URL']}/v1", anthropic),
        chat(os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]),
        *gemini(),
    ]


clients = {"claude": claude, "codex": codex, "gemini": gemini, "opencode": opencode, "aider": aider}
answers = clients.get(NAME, other)() if NAME != "idle" else []
print(json.dumps({"arguments": ARGUMENTS, "environment": ENVIRONMENT, "answers": answers}))
sys.exit(int(os.environ.get("STATUS", "0")))
