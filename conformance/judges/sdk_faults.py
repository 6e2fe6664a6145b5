"""The vendors' SDKs before sixteen faults, those of failoverbench: `crates/cli/tests/clients/faults` runs them.

Alone, a client hears of a fault at best, unless a retry mends it. Through steadfast, `told` is a stream whose first
words the caller had seen.
"""

import functools
import os
import re

import cargo
import install as installing
from results import Case
from suite import Suite
from subjects import FOLDER, ROOT

NAME = "SDKs, sixteen faults"
# The mixes of the test.
SUBJECTS = {
    "upstream": "the provider alone",
    "steadfast over the caller's protocol": "providers of the caller's dialect",
    "steadfast over another, then the caller's": "a primary of another dialect",
    "steadfast over the caller's, then another": "a fallback of another dialect",
}
SUITES = (
    Suite("Python", "", tuple(SUBJECTS)),
    Suite("Node", "", tuple(subject for subject in SUBJECTS if "over another" not in subject)),
)
SDKS = ROOT / "crates/cli/tests/clients/sdk"


def install(pin):
    """Returns the variables that name the SDKs, of which `ci/clients` sets its own."""
    given = {name: os.environ.get(name) for name in ("STEADFAST_SDK_PYTHON", "STEADFAST_SDK_NODE")}
    if all(given.values()):
        return tuple(given.items())
    packages = [line for line in (SDKS / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    python = installing.python("sdk-python", packages) / "python"
    manifest = (SDKS / "package.json").read_text()

    def make(folder):
        (folder / "package.json").write_text(manifest)
        installing.run(NAME, ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)])

    node = installing.once(FOLDER / "sdk-node", manifest, make)
    return (("STEADFAST_SDK_PYTHON", str(python)), ("STEADFAST_SDK_NODE", str(node)))


def run(variables, suite, subject):
    key = (f"{suite.name.lower()} SDKs", SUBJECTS[subject])
    cases = next(cargo.cases(one) for one in reported(variables) if (one["suite"], one["subject"]) == key)
    # Alone there is no setting, and so no name for one.
    setting = " default" if subject == "upstream" else ""
    return [Case(case.name.removesuffix(setting), case.result, short(case.why)) for case in cases]


def short(why):
    """Returns what came of a case: what the test says of it has times, and the whole answer."""
    error = re.search(r"error: (?:Some\(\"(\w+)|None)", why)
    if not error:
        return why
    return (
        f"{error[1]}, which is no error of the SDK's own"
        if error[1]
        else "an answer that is not whole, taken for whole"
    )


@functools.cache
def reported(variables):
    return cargo.said(NAME, "steadfast-gateway", "clients", ["sdks_survive"], dict(variables))
