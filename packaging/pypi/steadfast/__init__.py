"""The gateway that keeps language-model calls alive, run from Python."""

import contextlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time

__all__ = ["program", "serve"]


def program():
    """Returns the path of the program that this package carries."""
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        path = os.path.join(sysconfig.get_path("scripts", scheme), "steadfast" + (sysconfig.get_config_var("EXE") or ""))
        if os.path.isfile(path):
            return path
    if path := shutil.which("steadfast"):
        return path
    raise FileNotFoundError(
        "the program steadfast is neither beside this Python nor on the path: pip install --force-reinstall steadfast-gateway"
    )


@contextlib.contextmanager
def serve(config=None, *, port=0, patience=30, env=None):
    """Runs `steadfast serve`, and yields the gateway's base URL.

    Serves the models of the file `config`; without one, those of STEADFAST_CONFIG, or simulated ones. Listens on this machine
    alone, on a free port unless one is named. `env` adds to the environment. Raises a RuntimeError with the program's words
    if the gateway is not ready within `patience` seconds. At the end, streams under way may finish.
    """
    command = [program(), "serve", "--listen", f"127.0.0.1:{port}", "--log-format", "text"]
    command += [] if config is None else ["--config", os.fspath(config)]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as log:
        environment = {**os.environ, **(env or {})}
        gateway = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=log, env=environment)
        try:
            yield _url(gateway, said, log, time.monotonic() + patience)
        finally:
            gateway.terminate()
            gateway.wait()


def _url(gateway, said, log, deadline):
    """Returns the gateway's URL once it is ready."""
    while gateway.poll() is None and time.monotonic() < deadline:
        said.seek(0)
        first = said.readline()
        if first.endswith("\n"):
            url = first.split()[-1]
            if subprocess.run([gateway.args[0], "health", "--url", url + "/readyz"], capture_output=True).returncode == 0:
                return url
        time.sleep(0.02)
    log.seek(0)
    words = log.read().strip() or "it said nothing"
    if "cannot listen" in words:
        words += "; without `port` it takes a free one"
    end = "is not ready in time" if gateway.poll() is None else f"ended with exit code {gateway.returncode}"
    raise RuntimeError(f"steadfast {end}: {words}")
