"""Runs tests of the project that hand on what a judge said, in lines that begin with `conformance`."""

import json
import os
import subprocess

from problem import ABSENT, CHANGED, Problem
from results import Case
from subjects import ROOT


def said(name, package, test, arguments, environment=None):
    """Returns the objects of these lines. STEADFAST_BUILT says that the test is built (`.ci/built`)."""
    command, folder = ["cargo", "test", "--quiet", "-p", package, "--test", test, "--"], ROOT
    if os.environ.get("STEADFAST_BUILT"):
        built = (line.split("\t") for line in (ROOT / "target/built.txt").read_text().splitlines())
        folder, binary = next((at, path) for kind, of, at, path in built if (kind, of) == ("test", test))
        command = [binary]
    ran = subprocess.run(
        [*command, "--nocapture", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    objects = [
        json.loads(line.split(" ", 1)[1]) for line in ran.stdout.splitlines() if line.startswith("conformance {")
    ]
    if not objects:
        last = " / ".join((ran.stdout + ran.stderr).strip().splitlines()[-3:])
        raise Problem(
            ABSENT if ran.returncode else CHANGED,
            f"{name} said nothing: `{' '.join(command)} {arguments[0]}` ends with {last}",
        )
    return objects


def cases(of):
    return [Case(case["name"], case["result"], case["why"]) for case in of["cases"]]
