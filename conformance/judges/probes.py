"""Our own judge, `steadfast conformance`: what callers rely on, and the sixteen faults of failoverbench.

It asks every gateway the same. Silent providers are waited for, so that a gateway takes a quarter of an hour and more.
"""

import json
import subprocess

from problem import CHANGED, Problem
from results import Case
from subjects import ROOT, answers, free_port, process, program, ready, spoken
from suite import CONTROL, RIVALS, Suite

NAME = "steadfast conformance"
SUBJECTS = CONTROL + ("steadfast",) + RIVALS
SUITES = tuple(Suite(name, "", SUBJECTS) for name in ("Messages", "Chat", "Responses"))
# Models whose protocol it is, which takes a temperature.
MODELS = {"Messages": "claude-sonnet-4-5", "Chat": "gpt-4.1", "Responses": "gpt-4.1"}
# A whole answer is longer than the limit of tokens of one probe.
WORDS = " ".join(f"word-{number}" for number in range(1, 61))


def install(pin):
    return program()


def run(steadfast, suite, subject):
    caller = suite.name.lower()
    command = ["conformance", "--json", "--subject", subject, "--model", MODELS[suite.name]]
    command += ["--caller", f"{caller},{caller}-stream"]
    if subject == "upstream":
        with spoken("upstream of probes", [steadfast, "simulate", "--listen", "127.0.0.1:0", "--reply", WORDS]) as alone:
            return asked(steadfast, subject, [*command, alone.url])
    address, *providers = (f"127.0.0.1:{free_port()}" for _ in range(3))
    url = f"http://{address}"
    script = ROOT / "conformance/gateways" / subject.lower()
    with process(f"{subject} of probes", [str(script), address, *providers]) as (child, said):
        ready(subject, child, said, lambda: answers(url))
        return asked(steadfast, subject, [*command, "--primary", providers[0], "--backup", providers[1], url])


def asked(steadfast, subject, arguments):
    ran = subprocess.run([steadfast, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        return [Case(one["name"], one["result"], one["why"]) for one in json.loads(ran.stdout)["cases"]]
    except (ValueError, KeyError) as error:
        last = (ran.stderr.strip() or ran.stdout.strip())[-200:]
        raise Problem(CHANGED, f"{NAME} at {subject} gave no report that can be read ({error!r}): {last}")
