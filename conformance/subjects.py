"""Starts what is judged: a simulated provider, the control, and each gateway before it. All end with the run."""

import contextlib
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from problem import ABSENT, UNREADY, Problem

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target/conformance"
# The time for a server to listen: LiteLLM takes half a minute on a busy machine.
PATIENCE = 120
# The models of each protocol. Judges ask for the first, unless they say otherwise, and some look at the name for what
# to expect.
GPT = ("gpt-5", "gpt-4.1", "gpt-4.1-mini")
MODELS = {
    "chat": GPT,
    "responses": GPT,
    "messages": ("claude-sonnet-4-5", "claude-haiku-4-5"),
    "gemini": ("gemini-3-pro-preview", "gemini-2.5-flash"),
}
PROVIDERS = {
    "chat": "provider: openai, api: chat, base_url: '{url}/v1'",
    "responses": "provider: openai, api: responses, base_url: '{url}/v1'",
    "messages": "provider: anthropic, base_url: '{url}'",
    "gemini": "provider: gemini, base_url: '{url}'",
}
# The answer of the simulated provider, and the arguments of its calls where a tool takes them: a judge asks for a name
# in the letters of its prompt, and for a magic function of 3.
REPLY = "A closure keeps the values around it. 你好 こんにちは"
ARGUMENTS = '{"input": 3}'
KEY = "sk-judge"


@dataclass(frozen=True)
class Subject:
    """A server under judgement, at an address without a path."""

    name: str
    url: str
    models: tuple[str, ...] = GPT

    def model(self, protocol):
        """Returns the model that a judge of this protocol asks for."""
        return MODELS[protocol][0]


def program():
    """Returns the steadfast program: STEADFAST names it, or it is the last build."""
    path = Path(os.environ.get("STEADFAST", ROOT / "target/debug/steadfast"))
    if not path.is_file():
        raise Problem(
            ABSENT, f"there is no program {path}: `cargo build -p steadfast-cli` builds it, or STEADFAST names one"
        )
    return str(path)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def process(name, command, environment=None):
    """Runs a server with its words in a file, and ends it."""
    said = FOLDER / "logs" / (name.replace(" ", "-") + ".txt")
    said.parent.mkdir(parents=True, exist_ok=True)
    with open(said, "w") as file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
        )
    try:
        yield child, said
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def ready(name, child, said, look):
    """Waits for a server until `look` finds what it waits for."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        if child.poll() is not None:
            break
        time.sleep(0.05)
    last = said.read_text(errors="replace").strip().splitlines()[-3:]
    state = "does not listen" if child.poll() is None else "ended before it listened"
    raise Problem(
        UNREADY,
        f"{name} {state}; it said: {' / '.join(last) or 'nothing'}. If its port is taken, run again: "
        f"another free one is chosen. All that it said is in {said.relative_to(ROOT)}",
    )


@contextlib.contextmanager
def spoken(name, command, models=GPT, environment=None):
    """Runs a server that says its address."""
    with process(name, command, environment) as (child, said):
        find = lambda: re.search(r"http://127\.0\.0\.1:\d+", said.read_text(errors="replace"))
        yield Subject(name, ready(name, child, said, find)[0], models)


def upstream():
    """The simulated provider, which speaks every protocol on one port."""
    command = [program(), "simulate", "--listen", "127.0.0.1:0", "--reply", REPLY, "--call-tools", ARGUMENTS]
    return spoken("upstream", command)


def steadfast(protocol, provider):
    """Our gateway in front of a provider that speaks this protocol."""
    name = f"steadfast over {protocol}"
    config = FOLDER / f"{protocol}.yaml"
    models, settings = MODELS[protocol], PROVIDERS[protocol].format(url=provider.url)
    tier = "  - {{ name: {}, {}, model: {}, api_key: '${{PROVIDER_KEY}}' }}\n"
    config.write_text("tiers:\n" + "".join(tier.format(model, settings, model) for model in models))
    command = [program(), "serve", "--config", str(config), "--listen", "127.0.0.1:0", "--log", "error"]
    return spoken(name, command, models, {"PROVIDER_KEY": KEY})


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError):
        return False
    return True


@contextlib.contextmanager
def rival(name, provider, fallback=None):
    """Another gateway, with a primary and a fallback. Its script in `gateways/` installs it, too."""
    address = f"127.0.0.1:{free_port()}"
    hosts = [(server or provider).url.removeprefix("http://") for server in (provider, fallback)]
    script = ROOT / "conformance/gateways" / name.lower()
    with process(name, [str(script), address, *hosts]) as (child, said):
        url = f"http://{address}"
        ready(name, child, said, lambda: answers(url))
        yield Subject(name, url)


def started():
    """Returns a stack that ends subjects, and a function that starts each once, by its name."""
    stack, running = contextlib.ExitStack(), {}

    def start(name):
        if name not in running:
            if name == "upstream":
                opened = upstream()
            elif name.startswith("steadfast over "):
                opened = steadfast(name.removeprefix("steadfast over "), start("upstream"))
            else:
                opened = rival(name, start("upstream"))
            running[name] = stack.enter_context(opened)
        return running[name]

    return stack, start
