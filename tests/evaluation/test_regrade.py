"""`--regrade`: new verdicts for old answers, both files or neither, and one line for whatever is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli
from sorsa.errors import UsageError
from sorsa.evaluation import gsm8k, regrade
from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.completions import Completion as Answer
from sorsa.evaluation.completions import CompletionStore, fingerprint
from sorsa.evaluation.questions import prompts_fingerprint

# text of the answer, gold: the authors' rule rounds, ours reads boxed answers and does not
ANSWERS = (("The answer is: 17.8", "#### 18"), (r"so \boxed{7}", "#### 7"), ("The answer is: 3", "#### 3"))


@pytest.fixture
def tested(tiny_config: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A run whose test left answers and a record, graded by nobody knows what: `tested(**fields)` is its config."""
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"{n} ducks?", "answer": gold} for n, (_, gold) in enumerate(ANSWERS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**fields: Any) -> Any:
        return tiny_config(**{"test_dataset": "gsm-8k", "test_file": str(file)} | fields)

    questions = gsm8k.load(make())
    settings = {"questions": len(questions), "prompts": prompts_fingerprint(questions), "precision": "bf16"}
    path = results(make(), "gsm-8k.completions.jsonl")
    store = CompletionStore(path, settings, overwrite=False)
    store.begin([], None)
    store.append(Answer(one.id, text, 5, False, "end token") for one, (text, _) in zip(questions, ANSWERS, strict=True))
    record = {"accuracy": 0.0, "rules": {"ours": {"correct": 0}}, "fingerprint": fingerprint(settings)}
    record |= {"generation_seconds": 12.5, "source": "hub", "config": {"test_file": str(file), "limit": None}}
    results(make(), "gsm-8k.json").write_text(json.dumps(record))
    return make


def results(config: Any, name: str) -> Path:
    return Path(config.run_path) / config.name / "results" / name


def test_new_verdicts_old_answers(tested: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    before = results(tested(), "gsm-8k.completions.jsonl").read_text()
    regrade(tested(), show_disagreements=True)
    record = json.loads(results(tested(), "gsm-8k.json").read_text())
    assert (record["rules"]["ours"]["correct"], record["rules"]["authors"]["correct"]) == (2, 2)
    assert record["graded"] == 3 and record["accuracy"] == pytest.approx(2 / 3) and record["rules_disagree"] == 2
    assert record["generation_seconds"] == 12.5 and record["regraded"].keys() == {"time", "git", "versions", "command"}
    assert set(record["opinions"]) == {"math-verify"}  # None without the package, never missing
    rows = [json.loads(line) for line in results(tested(), "gsm-8k.jsonl").read_text().splitlines()]
    assert [row["correct"] for row in rows] == [False, True, True] and rows[0]["completion"] == ANSWERS[0][0]
    assert results(tested(), "gsm-8k.completions.jsonl").read_text() == before
    out = capsys.readouterr().out
    assert "0  gold: #### 18" in out and "2  gold" not in out
    assert re.search(r"ours +wrong  different +read: 17.8\n  authors +right  equal +read: 18", out)
    assert "2 of 3 answers are judged differently" in out and "right answers: ours 0 -> 2, authors 0 -> 2" in out
    regrade(tested(grading_rule="authors"))
    assert json.loads(results(tested(), "gsm-8k.json").read_text())["rule"] == "authors"


def test_the_record_names_the_questions_used(
    tested: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regrade(tested())
    assert "gold answers changed" not in capsys.readouterr().out
    other = tmp_path / "corrected.jsonl"
    other.write_text(Path(tested().test_file).read_text().replace("#### 7", "#### 8"))
    regrade(tested(test_file=str(other), grading_rule="authors"))
    record = json.loads(results(tested(), "gsm-8k.json").read_text())
    assert record["source"] == record["config"]["test_file"] == str(other)
    assert record["config"]["grading_rule"] == "authors" and record["config"]["limit"] is None
    assert "; 1 gold answers changed\n" in capsys.readouterr().out


def test_answers_of_a_version_without_ended(tested: Callable[..., Any]) -> None:
    path = results(tested(), "gsm-8k.completions.jsonl")
    header, *rows = map(json.loads, path.read_text().splitlines())
    rows = [{key: value for key, value in row.items() if key != "ended"} for row in rows]
    rows[0]["truncated"] = True
    path.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))
    regrade(tested())
    found = [json.loads(line)["ended"] for line in results(tested(), "gsm-8k.jsonl").read_text().splitlines()]
    assert found == ["length", "", ""]
    for key, value, message in (
        ("completion", 5, r"completions\.jsonl, line 4: 'completion' must be of type str, got int; run python"),
        ("id", [1], r"line 4: 'id' must be of type str, got list"),
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows[:2], rows[2] | {key: value})))
        with pytest.raises(UsageError, match=message):
            regrade(tested())
    del header["settings"]["prompts"]
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(UsageError, match=r"is no file of completions \(its header has no prompts\)"):
        regrade(tested())
    record = results(tested(), "gsm-8k.json")
    for text, message in (
        ("5", "expected a JSON object, got int"),
        ('{"config": []}', "'config' must be of type dict"),
    ):
        record.write_text(text)
        with pytest.raises(UsageError, match=message):
            regrade(tested())


def test_opinion_stands_beside_the_rules(tested: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from sorsa.evaluation import results as module
    from sorsa.evaluation.benchmark import Verdict

    real = gsm8k.grade_all

    def with_opinion(items: Any) -> Any:
        for said in real(items):
            yield {"ours": said["ours"], "authors": said["authors"], "math-verify": Verdict(True, "x", "equal")}

    monkeypatch.setattr(gsm8k, "grade_all", with_opinion)
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.9.0")
    regrade(tested())
    record = json.loads(results(tested(), "gsm-8k.json").read_text())
    opinion = record["opinions"]["math-verify"]
    assert opinion["version"] == "0.9.0" and opinion["correct"] == 3
    assert opinion["disagrees_with"] == {"ours": 1, "authors": 1}
    assert record["accuracy"] == pytest.approx(2 / 3) and "math-verify" not in record["rules"]


def test_all_or_nothing(tested: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from sorsa import files

    regrade(tested())
    paths = [results(tested(), name) for name in ("gsm-8k.json", "gsm-8k.jsonl")]
    old, synced = [path.read_text() for path in paths], []

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        regrade(tested(grading_rule="authors"))
    assert [path.read_text() for path in paths] == old
    assert not [name for name in os.listdir(paths[0].parent) if name.endswith(".tmp")]


def test_refusals(tested: Callable[..., Any], tmp_path: Path) -> None:
    path = results(tested(), "gsm-8k.completions.jsonl")
    with pytest.raises(UsageError, match=r"answers other questions than the 2 .* made with 3 of .*questions.jsonl;"):
        regrade(tested(limit=2))
    other = tmp_path / "other.jsonl"
    other.write_text('{"question": "x", "answer": "#### 1"}\n')
    with pytest.raises(UsageError, match="answers other questions than the 1 that were read now"):
        regrade(tested(test_file=str(other)))
    with pytest.raises(UsageError, match=r"nothing to grade again: no .*base-gsm-8k\.json; run python run.py --name"):
        regrade(tested(base=True))
    with pytest.raises(UsageError, match=r"humaneval runs code .* --allow-code-execution"):
        regrade(tested(test_dataset="humaneval"))
    with pytest.raises(UsageError, match="--regrade needs answers in words, and perplexity has none"):
        regrade(tested(test_dataset="perplexity"))
    whole = path.read_text()
    path.write_text(whole.replace("fingerprint", "x", 1))
    with pytest.raises(UsageError, match="is not of the answers in"):
        regrade(tested())
    path.write_text("[]\n")
    with pytest.raises(UsageError, match="is no file of completions"):
        regrade(tested())
    path.write_text(whole[:-5])  # kill -9 in the middle of the last answer
    with pytest.raises(UsageError, match=r"holds 2 of 3 answers: the test was interrupted; run python run.py --name"):
        regrade(tested())
    path.unlink()
    with pytest.raises(UsageError, match=r"nothing to grade again: no .*completions\.jsonl"):
        regrade(tested())
    results(tested(), "gsm-8k.json").write_text("{")
    with pytest.raises(UsageError, match=r"gsm-8k\.json: not JSON"):
        regrade(tested())


def test_command_line(tested: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    made = tested()
    words = ["--name", made.name, "--model", made.model, "--run-path", made.run_path, "--regrade"]
    assert cli.main([*words, "--test-dataset", "gsm-8k", "--test-file", made.test_file, "--show-disagreements"]) == 0
    assert "2 of 3 answers are judged differently" in capsys.readouterr().out
    assert cli.main(words) == 2
    assert "test_dataset is missing" in capsys.readouterr().err
    assert cli.main([word.replace("--regrade", "--merge") for word in words] + ["--show-disagreements"]) == 2
    assert "--show-disagreements belongs to --regrade, not to --merge" in capsys.readouterr().err


def test_the_printed_line_counts_what_could_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    from sorsa.evaluation.benchmark import ERROR, NO_ANSWER, UNREADABLE, Verdict
    from sorsa.evaluation.results import print_summary, summary

    reasons = [UNREADABLE] * 3 + [NO_ANSWER] * 2 + [ERROR]
    verdicts = [dict.fromkeys(("ours", "authors"), Verdict(False, None, reason)) for reason in reasons]
    print_summary("math", summary(verdicts, "ours")["rules"], 6, "ours")
    assert capsys.readouterr().out.count("; 2 no answer, 3 unreadable, 1 errors, 0 timeouts)") == 2


def test_shown_answers_are_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    from sorsa.evaluation.benchmark import Verdict
    from sorsa.evaluation.regrading import print_disagreements
    from sorsa.evaluation.terminal import gold_text, readable

    assert readable("a\n\x1b[2Jb\u202e") == "a \ufffd[2Jb\ufffd" and readable(None) == "nothing"
    assert len(readable("x" * 5000)) < 320
    assert gold_text("first\n#### 7\n") == "#### 7" and gold_text({"task_id": "H/1"}) == "H/1"
    assert gold_text("x" * 500 + " is 7", 20) == "... " + "x" * 15 + " is 7"
    same = {"ours": Verdict(True, "1", "equal"), "authors": Verdict(True, "1", "equal")}
    print_disagreements([Question("0", "", "1")], [same])
    reason = "failed: \x1b]0;title\x07\ud800 on\ntwo lines"  # an exception's text is the candidate's
    print_disagreements([Question("0", "", "1")], [same | {"ours": Verdict(False, "1", reason)}])
    shown = capsys.readouterr().out
    assert "failed: \ufffd]0;title\ufffd\ufffd on two lines" in shown and "\x1b" not in shown
