"""Installs judges into `target/conformance`, at the versions of pins.toml, once for each version."""

import os
import shutil
import subprocess
import sys

from problem import ABSENT, Problem
from subjects import FOLDER, ROOT


def run(what, command, environment=None):
    """Runs a step of an installation."""
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, **(environment or {})}
        )
    except FileNotFoundError:
        raise Problem(ABSENT, f"{what} does not install: there is no program `{command[0]}`; install it and run again")
    if ran.returncode != 0:
        last = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-1:]
        raise Problem(
            ABSENT,
            f"{what} does not install: {' '.join(last) or 'it says nothing'}. It needs the network once; run again where "
            "there is one, or leave it out with --only and the names of the others",
        )


def once(folder, wanted, make):
    """Makes a folder unless it is there as wanted."""
    mark = folder / "installed.txt"
    if not (mark.is_file() and mark.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        mark.write_text(wanted)
    return folder


def python(name, packages):
    """Returns the bin folder of an environment with these packages."""

    def make(folder):
        run(name, [sys.executable, "-m", "venv", str(folder / "venv")])
        pip = [str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        uv = ROOT / "target/uv/bin/uv"
        if uv.is_file():
            # .ci/installs has brought it: a quarter of pip's time.
            pip = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "venv")]
        run(name, [*pip, *packages])

    return once(FOLDER / name, "\n".join(packages), make) / "venv/bin"


def node(name, packages, before=lambda folder: None):
    """Returns the folder of commands of these npm packages; `before` lays other files into the folder."""

    def make(folder):
        before(folder)
        (folder / "package.json").write_text('{ "private": true }\n')
        quiet = ["--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        run(name, ["npm", "install", *quiet, *(package for package in packages)])

    return once(FOLDER / name, "\n".join(packages), make) / "node_modules/.bin"
