"""llm-comply: requests of four protocols, and the vendors' published OpenAPI files over the answers."""

import json
import subprocess

import install as installing
from problem import CHANGED, Problem
from results import Case
from suite import CONTROL, OVER, Suite
from subjects import KEY

NAME = "llm-comply"
SUITES = (
    Suite("Messages", "messages"),
    Suite("Chat", "chat"),
    Suite("Responses", "responses"),
    Suite("Gemini", "gemini", (*CONTROL, *OVER)),
)
FORMATS = {"messages": "anthropic", "chat": "openai-chat", "responses": "open-responses", "gemini": "google-genai"}


def install(pin):
    return installing.python("llm-comply", [f"llm-comply=={pin['version']}"]) / "llm-comply"


def run(program, suite, subject):
    command = [str(program), "run", "--json", "--format", FORMATS[suite.protocol], "--base-url", f"{subject.url}/v1"]
    command += ["--api-key", KEY, "--model", subject.model(suite.protocol), "--header", "anthropic-version:2023-06-01"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        given = json.loads(ran.stdout[ran.stdout.index("{") :])["results"]
        words = {"passed": "pass", "failed": "fail", "skipped": "skip"}
        return [
            Case(one["id"], words[one["status"]], "; ".join(one.get("errors") or one.get("warnings") or []))
            for one in given
        ]
    except (ValueError, KeyError) as error:
        last = (ran.stderr.strip() or ran.stdout.strip())[-200:]
        raise Problem(CHANGED, f"{NAME} at {subject.name} gave no report that can be read ({error!r}): {last}")
