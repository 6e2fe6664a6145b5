"""LangChain's standard tests of chat models, with its clients of OpenAI's and Anthropic's protocols."""

import functools
import os
import subprocess
import xml.etree.ElementTree as xml

import install as installing
from problem import CHANGED, Problem
from results import Case
from suite import Suite
from subjects import FOLDER, KEY, ROOT

NAME = "LangChain"
SUITES = (
    Suite("Messages", "messages"),
    Suite("Chat", "chat"),
    Suite("Responses", "responses"),
)
TESTS = ROOT / "conformance/suites/langchain.py"


def install(pin):
    packages = [f"langchain-tests=={pin['version']}", *pin["packages"]]
    return installing.python("langchain", packages) / "python"


def run(python, suite, subject):
    """Returns the cases of one client's tests. All clients' run at once: what they load takes longer than they do."""
    report = xml.fromstring(reported(python, subject))
    return [case(one) for one in report.iter("testcase") if one.get("classname").endswith(f".Test{suite.name}")]


@functools.cache
def reported(python, subject):
    """Returns pytest's report of all tests at a subject."""
    report = FOLDER / "langchain.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-B", "-m", "pytest", "--quiet", "--import-mode", "importlib", "-p", "no:cacheprovider"]
    # Clients outlive a test, and so must the loop that they are bound to.
    command += ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session", "-W", "ignore"]
    environment = {"SUBJECT_URL": subject.url, "SUBJECT_KEY": KEY, "LANGSMITH_TRACING": "false"}
    ran = subprocess.run(
        [*command, "--junitxml", str(report), str(TESTS)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if not report.is_file():
        last = (ran.stderr.strip() or ran.stdout.strip())[-300:]
        raise Problem(CHANGED, f"{NAME} at {subject.name} gave no report: {last}")
    return report.read_text()


def case(one):
    """Reads a test case of pytest's report."""
    for name, result in (("failure", "fail"), ("error", "fail"), ("skipped", "skip")):
        found = one.find(name)
        if found is not None:
            return Case(one.get("name"), result, found.get("message") or "")
    return Case(one.get("name"), "pass")
