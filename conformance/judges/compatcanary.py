"""CompatCanary: probes of what calls itself compatible with OpenAI's API. A warning of its is a fail here."""

import json
import subprocess

import install as installing
from problem import CHANGED, Problem
from results import Case
from suite import Suite
from subjects import KEY

NAME = "CompatCanary"
SUITES = (Suite("", "chat"),)


def install(pin):
    return installing.node("compatcanary", [f"compatcanary@{pin['version']}"]) / "compatcanary"


def run(program, suite, subject):
    command = [str(program), "scan", "--format", "json", "--fail-on", "never", "--base-url", f"{subject.url}/v1"]
    command += ["--api-key", KEY, "--model", subject.models[0]]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        given = json.loads(ran.stdout)["results"]
        return [Case(one["id"], "pass" if one["status"] == "pass" else "fail", one["summary"]) for one in given]
    except (ValueError, KeyError) as error:
        last = (ran.stderr.strip() or ran.stdout.strip())[-200:]
        raise Problem(CHANGED, f"{NAME} at {subject.name} gave no report that can be read ({error!r}): {last}")
