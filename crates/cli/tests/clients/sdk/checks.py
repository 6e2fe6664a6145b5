"""What the scripts of this folder share: checks that run at once and are counted, and words that both sides know."""

import asyncio
import sys
import time

import pydantic

KEY = "sk-of-the-caller"
SAID = "Hello from afar, and all is well"
LOOP = asyncio.new_event_loop()
failed = 0


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def feature(name):
    """The headers of a call to this feature."""
    return {"x-steadfast-feature": name}


def vector(text, numbers=8):
    """The vector of a text, as the lane's provider computes it."""
    total = sum(text.encode())
    return [(total + 7 * at) % 128 / 64 - 1 for at in range(numbers)]


def check(name):
    """Runs a check at once, and says how it went."""

    def run(function):
        global failed
        begun = time.time()
        try:
            result = function()
            if asyncio.iscoroutine(result):
                LOOP.run_until_complete(result)
            print(f"ok   {name} ({time.time() - begun:.2f} s)", flush=True)
        except BaseException as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)

    return run


def raises(kind, function, within=5):
    """The error of a call, which is of this class and comes without a long wait: after two short repeats at most."""
    begun = time.time()
    try:
        function()
    except kind as error:
        assert time.time() - begun < within, "it took a long wait"
        return error
    raise AssertionError("no error")


def end():
    """Ends the script, with a failure if a check failed."""
    sys.exit(1 if failed else 0)
