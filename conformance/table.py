"""Makes the page and the badge out of results and explanations. It asks nobody, and reads no clock."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from problem import CHANGED, FINDING, Problem

CONTROL = "upstream"
OURS = "steadfast"
KINDS = (CONTROL, OURS, "LiteLLM", "Portkey")
WHOSE = ("ours", "theirs", "policy")
HEAD = """# Conformance

Other people's suites at steadfast, and at last one of our own (`steadfast conformance`), each with a control: the same
suite straight at the simulated provider behind it. A cell has the passes of the cases that ran, at steadfast over providers
of all four protocols; every fail is below. `conformance/run` makes this page, and [its README](conformance/README.md) says
how.

| judge | version | pinned | provider alone | steadfast | LiteLLM | Portkey |
|---|---|---|---|---|---|---|
"""
FAILS = """
## Every fail

*Ours* is a fault of steadfast's, *theirs* one of the judge's or of the provider's behind it, *policy* a decision.
`upstream` is the provider alone: a case that fails there, too, is no work of a gateway's. For what fails elsewhere only,
the judge's own words. *Told* is a fault that its caller hears of as an error, which is the best end once the first words
are out; only judges of faults count it.

| judge | cases | fail at | whose | why |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Explanation:
    """Says why cases fail; the judge, the subject and the case are patterns."""

    judge: str
    subject: str
    case: str
    whose: str
    why: str

    def covers(self, judge, subject, case):
        of = ((judge, self.judge), (subject, self.subject), (case, self.case))
        return all(fnmatchcase(name, pattern) for name, pattern in of)


def explanations(entries):
    """Reads the entries of explanations.toml."""
    read = []
    for place, entry in enumerate(entries, 1):
        try:
            explanation = Explanation(**entry)
        except TypeError as error:
            raise Problem(
                CHANGED, f"explanations.toml, entry {place}: {str(error).removeprefix('Explanation.__init__() ')}"
            )
        if explanation.whose not in WHOSE:
            whose = ", ".join(WHOSE)
            raise Problem(CHANGED, f"explanations.toml, entry {place}: '{explanation.whose}' is none of {whose}")
        read.append(explanation)
    return read


@dataclass(frozen=True)
class Fail:
    judge: str
    subject: str
    case: str
    words: str
    explanation: Explanation | None


def is_of(subject, kind):
    """Returns true if a subject is of this kind: `steadfast over chat` is of `steadfast`."""
    return subject == kind or subject.startswith(f"{kind} ")


def fails(results, explained):
    """Returns each fail with the first explanation that covers it."""
    found = []
    for result in results:
        for case, words in result.failed.items():
            why = next((one for one in explained if one.covers(result.judge, result.subject, case)), None)
            found.append(Fail(result.judge, result.subject, case, words, why))
    return found


def hold(results, explained):
    """Raises a problem if a fail of steadfast's has no explanation, or an explanation no fail."""
    found = fails(results, explained)
    lines = [
        f"{fail.judge}, {fail.case}, fails at {fail.subject}, and explanations.toml does not say why: {fail.words}"
        for fail in found
        if is_of(fail.subject, OURS) and fail.explanation is None
    ]
    used = {fail.explanation for fail in found}
    lines += [
        f"explanations.toml has {one.judge}, {one.case}, at {one.subject}, which does not fail: take it out"
        for one in explained
        if one not in used
    ]
    if lines:
        raise Problem(FINDING, "\n".join(lines))


def merged(old, new, order):
    """Puts new results in place of old ones, in the order of judges and subjects. What has no place is dropped."""
    by = {(result.judge, result.subject): result for result in (*old, *new)}
    return [by[key] for key in order if key in by]


def differences(old, new):
    """Returns a line for each result that is not the one before. A judge's words may be others."""
    was = {(result.judge, result.subject): result for result in old}
    lines = []
    for result in new:
        before = was.get((result.judge, result.subject))
        at = f"{result.judge} at {result.subject}"
        if before is None:
            lines.append(f"{at} is new")
        elif before.outcome() != result.outcome():
            words = [f"{cell([before])} became {cell([result])}"]
            words += [f"{case} fails: {why}" for case, why in result.failed.items() if case not in before.failed]
            words += [f"{case} fails no more" for case in before.failed if case not in result.failed]
            words += [f"version {before.version} became {result.version}"] * (before.version != result.version)
            lines.append(f"{at}: {'; '.join(words)}")
    return lines


def cell(results):
    """Returns the passes of the cases that ran, and the numbers of those told as errors and skipped."""
    if not results:
        return ""
    passed, told, failed, skipped = (
        sum(result.passed for result in results),
        *(sum(len(getattr(result, name)) for result in results) for name in ("told", "failed", "skipped")),
    )
    more = [f"{count} {word}" for count, word in ((told, "told"), (skipped, "skipped")) if count]
    return ", ".join([f"{passed}/{passed + told + failed}", *more])


def escaped(text):
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def row(*cells):
    return "| " + " | ".join(cells) + " |\n"


def judge_rows(results, pinned):
    """Returns a row for each judge. `pinned` has the day of each."""
    rows = []
    for judge in dict.fromkeys(result.judge for result in results):
        own = [result for result in results if result.judge == judge]
        cells = (cell([result for result in own if is_of(result.subject, kind)]) for kind in KINDS)
        rows.append(row(judge, own[0].version, pinned[judge], *cells))
    return rows


def fail_rows(results, explained):
    """Returns a row for the cases of a judge that fail at the same places for the same reason."""
    places = {}
    for fail in fails(results, explained):
        words = "" if fail.explanation else fail.words
        places.setdefault((fail.judge, fail.case, fail.explanation, words), []).append(fail.subject)
    cases = {}
    for (judge, case, explanation, words), subjects in places.items():
        cases.setdefault((judge, tuple(subjects), explanation, words), []).append(case)
    rows = []
    for (judge, subjects, explanation, words), names in cases.items():
        whose, why = (explanation.whose, explanation.why) if explanation else ("", f"“{words}”")
        rows.append(row(judge, escaped(", ".join(names)), short(subjects), whose, escaped(why)))
    return rows


def short(subjects):
    """Lists subjects: `steadfast over chat, messages` for two of steadfast's."""
    over = f"{OURS} over "
    ours = [subject.removeprefix(over) for subject in subjects if subject.startswith(over)]
    listed = [subject for subject in subjects if not subject.startswith(over)]
    place = sum(subject == CONTROL for subject in listed)
    return ", ".join(listed[:place] + ([over + ", ".join(ours)] if ours else []) + listed[place:])


def page(results, explained, pinned):
    failed = fail_rows(results, explained)
    rows = HEAD + "".join(judge_rows(results, pinned))
    return rows + (FAILS + "".join(failed) if failed else "\nNothing fails.\n")


def badge(results):
    """Returns an SVG with the passes at steadfast, as badges look."""
    own = [result for result in results if is_of(result.subject, OURS)]
    passed = sum(result.passed for result in own)
    ran = passed + sum(len(result.told) + len(result.failed) for result in own)
    text = f"{passed} of {ran}"
    label = f"conformance: {text} cases of other people's suites pass"
    left, right = 82, 12 + 7 * len(text)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{label}">
<title>{label}</title>
<rect width="{left + right}" height="20" rx="3" fill="#555"/>
<path fill="#2c7a3f" d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left / 2:g}" y="14">conformance</text>
<text x="{left + right / 2:g}" y="14">{text}</text>
</g>
</svg>
"""
