"""Tests of the page's assembly and of what bad input is told. They need no network and start no judge."""

import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import tomllib
import unittest
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import install
import problem
import results
import subjects
import table
from judges import ALL, open_responses
from results import Case, Result


def loaded(path):
    """Loads the command, whose file has no ending."""
    loader = importlib.machinery.SourceFileLoader("conformance_run", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("conformance_run", loader))
    loader.exec_module(module)
    return module


run = loaded(HERE / "run")
PINS = tomllib.loads((HERE / "pins.toml").read_text())
DAY = {"A": "2026-01-02"}


def result(subject, failed=(), judge="A", passed=2):
    return Result(judge, "1", subject, passed, (), {name: f"{name} is wrong" for name in failed}, ())


def explanation(case, subject="steadfast *", whose="policy", why="so it is"):
    return table.Explanation("A", subject, case, whose, why)


class Held(unittest.TestCase):
    def assertProblem(self, code, words, call, *arguments):
        with self.assertRaises(problem.Problem) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertIn(words, str(caught.exception))


class Assembly(Held):
    def test_a_row_has_all_kinds_of_subjects(self):
        found = [
            result("upstream", ["x"]),
            result("steadfast over chat"),
            result("steadfast over gemini", ["x"]),
            result("Portkey"),
        ]
        self.assertEqual(table.judge_rows(found, DAY), ["| A | 1 | 2026-01-02 | 2/3 | 4/5 |  | 2/2 |\n"])

    def test_what_was_told_or_skipped_is_counted_apart(self):
        told = Result("A", "1", "steadfast", 3, ("t",), {"f": ""}, ("s", "r"))
        self.assertEqual(table.cell([told]), "3/5, 1 told, 2 skipped")

    def test_a_fail_is_told_beside_the_controls(self):
        found = [
            result("upstream", ["x", "y"]),
            result("steadfast over chat", ["x", "y"]),
            result("LiteLLM", ["x", "z|<z>"]),
        ]
        rows = table.fail_rows(found, [explanation("[xy]", "*")])
        self.assertEqual(rows[0], "| A | x | upstream, steadfast over chat, LiteLLM | policy | so it is |\n")
        self.assertEqual(rows[1], "| A | y | upstream, steadfast over chat | policy | so it is |\n")
        self.assertEqual(rows[2], "| A | z\\|&lt;z> | LiteLLM |  | “z\\|&lt;z> is wrong” |\n")

    def test_cases_with_the_same_places_and_reason_share_a_row(self):
        found = [result("steadfast over chat", ["x", "y"]), result("steadfast over gemini", ["x", "y"])]
        self.assertEqual(
            table.fail_rows(found, [explanation("*")]),
            ["| A | x, y | steadfast over chat, gemini | policy | so it is |\n"],
        )

    def test_a_fail_without_an_explanation_is_a_finding(self):
        found = [result("steadfast over chat", ["x"]), result("upstream", ["y"]), result("LiteLLM", ["z"])]
        self.assertProblem(problem.FINDING, "A, x, fails at steadfast over chat", table.hold, found, [])
        # Those of others need none.
        table.hold(found, [explanation("x")])

    def test_an_explanation_without_a_fail_is_a_finding(self):
        self.assertProblem(
            problem.FINDING, "A, gone, at steadfast *", table.hold, [result("steadfast")], [explanation("gone")]
        )

    def test_the_first_explanation_that_covers_a_fail_is_its_reason(self):
        both = [explanation("x", whose="ours"), explanation("*", whose="theirs")]
        found = table.fails([result("steadfast over chat", ["x", "y"])], both)
        self.assertEqual([fail.explanation.whose for fail in found], ["ours", "theirs"])

    def test_an_explanation_that_is_not_whole_is_named(self):
        whole = {"judge": "A", "subject": "*", "case": "x", "whose": "ours", "why": "so"}
        self.assertEqual(len(table.explanations([whole])), 1)
        self.assertProblem(
            problem.CHANGED, "entry 1: 'mine' is none of", table.explanations, [{**whole, "whose": "mine"}]
        )
        part = {name: whole[name] for name in whole if name != "why"}
        self.assertProblem(problem.CHANGED, "entry 2: missing 1 required", table.explanations, [whole, part])

    def test_the_same_results_give_the_same_bytes(self):
        cases = [Case("b", "fail", "no"), Case("a", "fail", "no"), Case("c", "pass")]
        made = []
        for given in (cases, cases[::-1]):
            found = [results.read(results.given("A", "1", "steadfast over chat", given), "here")]
            explained = [explanation("*")]
            made.append((results.kept(found), table.page(found, explained, DAY), table.badge(found)))
        self.assertEqual(made[0], made[1])
        self.assertEqual(results.keep(made[0][0]), found)

    def test_new_results_take_the_place_of_old_ones(self):
        old = [result("upstream"), result("steadfast"), result("gone")]
        order = [("A", "upstream"), ("A", "steadfast"), ("A", "LiteLLM")]
        merged = table.merged(old, [result("LiteLLM"), result("steadfast", ["x"])], order)
        self.assertEqual(
            [(one.subject, len(one.failed)) for one in merged], [("upstream", 0), ("steadfast", 1), ("LiteLLM", 0)]
        )

    def test_another_result_is_a_difference(self):
        self.assertEqual(table.differences([result("upstream")], [result("upstream")]), [])
        other_words = Result("A", "1", "upstream", 2, (), {"x": "in other words"}, ())
        self.assertEqual(table.differences([result("upstream", ["x"])], [other_words]), [])
        lines = table.differences([result("upstream", ["x"])], [result("upstream", ["y"]), result("steadfast")])
        self.assertEqual(
            lines,
            ["A at upstream: 2/3 became 2/3; y fails: y is wrong; x fails no more", "A at steadfast is new"],
        )

    def test_the_badge_counts_what_ran_at_steadfast(self):
        badge = table.badge(
            [result("upstream", ["x"]), result("steadfast over chat", ["x"]), result("steadfast over gemini")]
        )
        self.assertIn(">4 of 5<", badge)


class Reading(Held):
    def test_words_that_differ_from_run_to_run_are_left_out(self):
        words = "at http://127.0.0.1:41235/v1: resp_0000000000000000000123 of 1796067688\n <obj at 0x7f79dc1fa4d0>, af723c3f87ce2306"
        self.assertEqual(results.steady(words), "at ADDRESS/v1: .. of .. <obj at ..>, ..")
        self.assertEqual(len(results.steady("word " * 100)), 160)

    def test_a_changed_form_is_told(self):
        read = lambda said: results.read(said, "the judge")
        self.assertProblem(problem.CHANGED, "the judge is no judge's result", read, "Traceback ..")
        self.assertProblem(problem.CHANGED, "no judge's result (KeyError('cases'))", read, '{"judge": "A"}')
        good = {"judge": "A", "version": "1", "subject": "upstream", "cases": [{"name": "x", "result": "maybe"}]}
        self.assertProblem(problem.CHANGED, "'x' has the result 'maybe'", read, json.dumps(good))
        good["cases"] = [{"name": "x", "result": "pass"}] * 2
        self.assertProblem(problem.CHANGED, "two cases 'x'", read, json.dumps(good))


class Running(Held):
    """The whole command, with a judge that is no outside one."""

    @contextmanager
    def judge(self, cases, pinned=2, explained=""):
        """Stands in for the judges, the pins, the servers and the places of what is written."""
        suite = mock.Mock(subjects=("upstream", "steadfast over chat"), title=lambda judge: judge)
        suite.name = ""
        judge = mock.Mock(NAME="A", SUITES=(suite,), run=lambda *_: cases)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "pins.toml").write_text(f'[a]\nversion = "1"\npinned = 2026-01-02\ncases = {{ "" = {pinned} }}\n')
            (folder / "explanations.toml").write_text(explained)
            places = {"HERE": folder, "ROOT": folder, "FOLDER": folder, "ALL": {"a": judge}}
            places |= {"KEPT": folder / "results.json", "PAGE": folder / "page.md", "BADGE": folder / "badge.svg"}
            started = lambda: (nullcontext(), lambda name: name)
            with mock.patch.multiple(run, started=started, **places), mock.patch("builtins.print"):
                yield folder

    def test_a_judge_of_another_size_is_a_changed_judge(self):
        with self.judge([Case("x", "pass")]):
            self.assertProblem(problem.CHANGED, "A at upstream has 1 cases, and pins.toml has 2", run.main, [])

    def test_a_second_run_is_the_same_and_a_check_finds_another_result(self):
        cases = [Case("x", "pass"), Case("y", "pass")]
        with self.judge(cases) as folder:
            run.main([])
            first = (folder / "page.md").read_bytes()
            run.main([])
            self.assertEqual((folder / "page.md").read_bytes(), first)
            self.assertIn(b"| A | 1 | 2026-01-02 | 2/2 | 2/2 |", first)
            run.main(["--check", "--subjects", "upstream"])
            cases[1] = Case("y", "fail", "broken")
            self.assertProblem(
                problem.DIFFERENT, "A at upstream: 2/2 became 1/2; y fails: broken", run.main, ["--check"]
            )
            self.assertEqual((folder / "page.md").read_bytes(), first)
            self.assertProblem(problem.FINDING, "A, y, fails at steadfast over chat", run.main, [])

    def test_a_command_line_that_is_wrong_ends_with_2(self):
        with mock.patch("sys.stderr"), self.assertRaises(SystemExit) as ended:
            run.main(["--only", "nobody"])
        self.assertEqual(ended.exception.code, problem.USAGE)


class Absence(Held):
    def test_what_does_not_install_says_what_to_do(self):
        python = [sys.executable, "-c", "import sys; sys.exit('no route to host')"]
        self.assertProblem(
            problem.ABSENT,
            "judge does not install: no route to host. It needs the network",
            install.run,
            "judge",
            python,
        )
        self.assertProblem(problem.ABSENT, "there is no program `no-npm`", install.run, "judge", ["no-npm"])

    def test_what_half_installed_is_made_again(self):
        with tempfile.TemporaryDirectory() as folder:
            folder, made = Path(folder) / "judge", []

            def make(where):
                made.append(where)
                if len(made) == 1:
                    raise problem.Problem(problem.ABSENT, "cut off")

            self.assertProblem(problem.ABSENT, "cut off", install.once, folder, "1", make)
            for wanted in ("1", "1", "2"):
                install.once(folder, wanted, make)
            self.assertEqual(len(made), 3)

    def test_a_suite_that_is_another_is_a_changed_judge(self):
        with tempfile.TemporaryDirectory() as folder:
            with mock.patch.dict(os.environ, OPEN_RESPONSES=folder):
                self.assertProblem(
                    problem.ABSENT, "name the folder in OPEN_RESPONSES", open_responses.install, PINS["open-responses"]
                )
                (Path(folder) / "bin").mkdir()
                (Path(folder) / "bin/compliance-test.ts").write_text("new")
                self.assertProblem(
                    problem.CHANGED, "is not the pinned one", open_responses.install, PINS["open-responses"]
                )

    def test_a_program_that_is_not_built_is_named(self):
        with mock.patch.dict(os.environ, STEADFAST="/nowhere/steadfast"):
            self.assertProblem(problem.ABSENT, "cargo build -p steadfast-cli", subjects.program)

    def test_a_server_that_ends_says_so(self):
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.multiple(subjects, FOLDER=Path(folder), ROOT=Path(folder)),
        ):
            opened = subjects.spoken("gateway", [sys.executable, "-c", "print('cannot listen: taken')"])
            self.assertProblem(
                problem.UNREADY, "gateway ended before it listened; it said: cannot listen: taken", opened.__enter__
            )

    def test_a_port_that_is_taken_is_told_by_a_gateways_script(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            for gateway in ("steadfast", "litellm", "portkey"):
                ran = subprocess.run([HERE / "gateways" / gateway, *[address] * 3], capture_output=True, text=True)
                self.assertEqual(ran.returncode, problem.UNREADY, ran.stderr)
                self.assertIn(f"{address} is taken: end what listens there, or name another port", ran.stderr)
                ran = subprocess.run([HERE / "gateways" / gateway, "8080"], capture_output=True, text=True)
                self.assertEqual((ran.returncode, "HOST:PORT" in ran.stderr), (problem.USAGE, True), ran.stderr)


class Project(unittest.TestCase):
    """What is in the folder fits together."""

    def test_each_judge_is_pinned(self):
        self.assertEqual(list(PINS), list(ALL))
        for name, judge in ALL.items():
            self.assertEqual(list(PINS[name]["cases"]), [suite.name for suite in judge.SUITES], name)

    def test_the_page_is_made_of_what_is_kept(self):
        explained = table.explanations(tomllib.loads((HERE / "explanations.toml").read_text())["explanation"])
        found = results.keep(run.KEPT.read_text())
        pinned = {
            suite.title(judge.NAME): str(PINS[name]["pinned"]) for name, judge in ALL.items() for suite in judge.SUITES
        }
        self.assertEqual(run.PAGE.read_text(), table.page(found, explained, pinned))
        self.assertEqual(run.BADGE.read_text(), table.badge(found))
        table.hold(found, explained)
        for one in found:
            versions = {
                suite.title(judge.NAME): run.of_suite(PINS[name]["version"], suite)
                for name, judge in ALL.items()
                for suite in judge.SUITES
            }
            self.assertEqual(one.version, versions[one.judge], one.judge)

    def test_one_llm_comply_judges_here_and_in_the_gateways_tests(self):
        required = (run.ROOT / "crates/cli/tests/clients/sdk/requirements.txt").read_text().split()
        self.assertIn(f"llm-comply=={PINS['llm-comply']['version']}", required)


if __name__ == "__main__":
    unittest.main()
