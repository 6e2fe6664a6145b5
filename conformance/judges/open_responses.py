"""The public Open Responses compliance suite, which no registry carries: run from a copy beside the project."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import install as installing
from problem import ABSENT, CHANGED, Problem
from results import Case
from suite import Suite
from subjects import FOLDER, KEY, ROOT

NAME = "Open Responses"
SUITES = (Suite("", "responses"),)
# Its packages, as the gateway's own test of the suite has them.
PACKAGES = ROOT / "crates/cli/tests/clients/open_responses_suite/package.json"


def digest(folder):
    """Returns a digest of the names and bytes of a folder's sources."""
    whole = hashlib.sha256()
    for path in sorted(path for part in ("bin", "src") for path in (folder / part).rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def install(pin):
    source = Path(os.environ.get("OPEN_RESPONSES", ROOT.parent / "shared/judges/openresponses"))
    if not (source / "bin/compliance-test.ts").is_file():
        raise Problem(
            ABSENT,
            f"{NAME} is not at {source}: clone github.com/openresponses/openresponses at {pin['version']} and name the "
            "folder in OPEN_RESPONSES",
        )
    found = digest(source)
    if found != pin["digest"]:
        raise Problem(
            CHANGED,
            f"{NAME} at {source} is not the pinned one: its digest is {found}, and pins.toml has {pin['digest']}. "
            f"Check out {pin['version']}, or pin what is there",
        )
    packages = PACKAGES.read_text()

    def make(folder):
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / "package.json").write_text(packages)
        installing.run(NAME, ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)])

    return installing.once(FOLDER / "open-responses", found + packages, make)


def run(folder, suite, subject):
    command = [str(folder / "node_modules/.bin/bun"), "run", "bin/compliance-test.ts", "--json"]
    command += ["--base-url", f"{subject.url}/v1", "--api-key", KEY, "--model", subject.model(suite.protocol)]
    ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        given = json.loads(ran.stdout)["results"]
        words = {"passed": "pass", "failed": "fail", "skipped": "skip"}
        return [Case(one["id"], words[one["status"]], "; ".join(map(str, one.get("errors") or []))) for one in given]
    except (ValueError, KeyError) as error:
        last = (ran.stderr.strip() or ran.stdout.strip())[-200:]
        raise Problem(CHANGED, f"{NAME} at {subject.name} gave no report that can be read ({error!r}): {last}")
