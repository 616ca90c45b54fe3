"""Checks that could not be made: the machine's failure ends the work, a candidate's own doing only its own check."""

from __future__ import annotations

from typing import Any

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import humaneval
from sorsa.evaluation.benchmark import Item
from sorsa.evaluation.results import print_summary, summary
from sorsa.evaluation.sandbox import Candidate, Outcome, check_all, helper

TEST = "def check(candidate):\n    assert candidate(2) == 4\n"
GOOD = Candidate(("def f(x): return x * x",), "f", "", TEST)
EVIL = Candidate(("def f(x): return 'evil'",), "f", "", TEST)


def test_a_machine_that_fails_ends_the_grading(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(helper, "_start", full)
    with pytest.raises(
        UsageError, match=r"sandbox \(level limits\) stopped working: .*temporarily unavail.* have run out"
    ):
        list(check_all([GOOD], 1, "limits"))


def test_a_folder_that_cannot_be_made_is_the_machines_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(helper.tempfile, "mkdtemp", full)
    with pytest.raises(UsageError, match=r"stopped working: .*No space left"):
        list(check_all([GOOD], 1, "limits"))


def breaks(monkeypatch: pytest.MonkeyPatch, word: str, times: int) -> list[str]:
    """Let checks of programs with a word in them break, that many times."""
    real, broken = helper.Helper._try, []

    def attempt(self: helper.Helper, candidate: Candidate, level: str) -> Outcome:
        if word in candidate.programs[0] and len(broken) < times:
            broken.append(candidate.programs[0])
            return helper._NO_VERDICT
        return real(self, candidate, level)

    monkeypatch.setattr(helper.Helper, "_try", attempt)
    return broken


def test_a_candidate_that_breaks_its_check_ends_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = breaks(monkeypatch, "evil", 99)
    outcomes = list(check_all([EVIL, GOOD, EVIL], 1, "limits"))
    assert [one.verdict for one in outcomes] == ["broken", "passed", "broken"]
    assert len(broken) == 8  # each was tried again, and once more when the harmless program had passed


def test_what_broke_for_a_while_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch, "x * x", 2)
    assert [one.verdict for one in check_all([GOOD], 1, "limits")] == ["passed"]


def test_what_was_not_judged_is_counted_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks(monkeypatch, "evil", 99)
    problem = {"task_id": "T/0", "prompt": "def f(x):\n    '''Square.'''\n", "entry_point": "f", "test": TEST}
    answers = ("    return 'evil'\n", "    return x * x\n", "    return 3\n")
    verdicts = list(humaneval.grade_all([Item(answer, problem) for answer in answers]))
    assert verdicts[0]["ours"].reason == "not judged: the check ended without a verdict"
    found = summary(verdicts, "ours")
    assert (found["rules"]["ours"]["not_judged"], found["rules"]["ours"]["errors"]) == (1, 0)
    print_summary("humaneval", found["rules"], 3, "ours")
    assert "33.33% (1/3, " in (out := capsys.readouterr().out) and "0 timeouts, 1 not judged)" in out
    print_summary("humaneval", summary(verdicts[1:], "ours")["rules"], 2, "ours")
    assert "not judged" not in capsys.readouterr().out
