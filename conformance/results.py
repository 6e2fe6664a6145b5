"""Results of judges: as a judge gives them, case by case, and as `results.json` keeps them, with what did not pass."""

import json
import re
from dataclasses import dataclass

from problem import CHANGED, Problem

WORDS = ("pass", "told", "fail", "skip")


@dataclass(frozen=True)
class Case:
    name: str
    result: str
    why: str = ""


@dataclass(frozen=True)
class Result:
    """The outcome of one judge at one subject. `failed` has the judge's words for each case."""

    judge: str
    version: str
    subject: str
    passed: int
    told: tuple[str, ...]
    failed: dict[str, str]
    skipped: tuple[str, ...]

    def outcome(self):
        """Returns all but the judge's words."""
        return (self.version, self.passed, self.told, tuple(self.failed), self.skipped)


def given(judge, version, subject, cases):
    """Writes a result as a judge gives it."""
    cases = [{"name": case.name, "result": case.result, "why": case.why} for case in cases]
    return json.dumps(
        {"judge": judge, "version": version, "subject": subject, "cases": cases}, indent=1, ensure_ascii=False
    )


def read(text, origin):
    """Reads a result as a judge gives it; `origin` names where it is from."""
    try:
        said = json.loads(text)
        cases = [Case(str(case["name"]), case["result"], str(case.get("why", ""))) for case in said["cases"]]
        judge, version, subject = (str(said[name]) for name in ("judge", "version", "subject"))
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(CHANGED, f"{origin} is no judge's result ({error!r}): conformance/README.md has its form")
    names = [case.name for case in cases]
    for case in cases:
        if case.result not in WORDS:
            words = ", ".join(WORDS)
            raise Problem(CHANGED, f"{origin}: '{case.name}' has the result '{case.result}', which is none of {words}")
        if names.count(case.name) > 1:
            raise Problem(CHANGED, f"{origin} has two cases '{case.name}': the judge changed")
    # Some judges run their cases beside each other, and tell them in the order of their ends.
    of = lambda word: sorted((case for case in cases if case.result == word), key=lambda case: case.name)
    return Result(
        judge,
        version,
        subject,
        len(of("pass")),
        tuple(case.name for case in of("told")),
        {case.name: steady(case.why) for case in of("fail")},
        tuple(case.name for case in of("skip")),
    )


def steady(words):
    """Leaves out of a judge's words what differs from run to run, and cuts them."""
    words = re.sub(r"https?://[\w.:]+|\b(127\.0\.0\.1|localhost):\d+", "ADDRESS", words)
    words = re.sub(r"\b0x[0-9a-f]+|\b(?=[\w-]*\d)[\w-]{16,}|\b\d{5,}\b", "..", words)
    words = re.sub(r"\s+", " ", words).strip()
    return words if len(words) <= 160 else words[:157].rstrip() + " .."


def kept(results):
    """Writes results as `results.json` has them: a line for each."""
    lines = (
        json.dumps(
            {
                "judge": result.judge,
                "version": result.version,
                "subject": result.subject,
                "pass": result.passed,
                "told": result.told,
                "fail": result.failed,
                "skip": result.skipped,
            },
            ensure_ascii=False,
        )
        for result in results
    )
    return "[\n" + ",\n".join(lines) + "\n]\n"


def keep(text):
    """Reads what `kept` wrote."""
    return [
        Result(
            one["judge"],
            one["version"],
            one["subject"],
            one["pass"],
            tuple(one["told"]),
            one["fail"],
            tuple(one["skip"]),
        )
        for one in json.loads(text)
    ]
