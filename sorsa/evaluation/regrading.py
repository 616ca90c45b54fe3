"""Grading the answers of an earlier test again with today's graders (mode `--regrade`): no model is loaded.

`results/DATASET.json` and `.jsonl` are written anew, both or neither. What says how the answers came about (model,
settings, fingerprint, times of generation) stays as it was; `regraded` says when and by which code they were judged.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sorsa.errors import UsageError
from sorsa.evaluation import find_graded
from sorsa.evaluation.benchmark import Item, Question, Verdict
from sorsa.evaluation.completions import Completion
from sorsa.evaluation.questions import prompts_fingerprint, read_jsonl
from sorsa.evaluation.result_files import read_answers, read_record
from sorsa.evaluation.results import print_summary, question_rows, require_consent, sandbox_level, summary
from sorsa.evaluation.terminal import gold_text, readable
from sorsa.files import json_text, write_together

if TYPE_CHECKING:
    from sorsa.config import RunConfig

_QUESTIONS_AND_RULE = ("test_file", "limit", "grading_rule")  # the settings that are this command's, not the test's


def run_regrade(config: RunConfig, show_disagreements: bool) -> None:
    """Grade again; see `sorsa.evaluation.regrade`."""
    from sorsa.evaluation.subject import Subject, subject_kind
    from sorsa.run_folder import RunFolder, environment

    dataset, folder = config.test_dataset, RunFolder(config.run_path, config.name)
    module = find_graded(dataset, "--regrade")
    require_consent(module.RUNS_CODE, dataset, config.allow_code_execution)
    level = sandbox_level(config.allow_unsandboxed) if module.RUNS_CODE else None
    name = Subject(config, subject_kind(config)).result_name(dataset)
    test_again = f"run {folder.command('test')} --test-dataset {dataset} first"
    if not folder.result(name).is_file():
        raise UsageError(f"nothing to grade again: no {folder.result(name)}; {test_again}")
    before = read_record(folder.result(name), test_again)
    settings, answers = read_answers(folder.completions(name), test_again)
    if settings.get("fingerprint") != before.get("fingerprint"):
        raise UsageError(f"{folder.result(name)} is not of the answers in {folder.completions(name)}; {test_again}")
    used = _as_tested(config, before)
    questions = module.load(used)
    _check_questions(questions, answers, settings["settings"], folder.completions(name), before)

    begin = time.monotonic()
    items = [Item(answers[one.id].completion, one.gold) for one in questions]
    verdicts = list(tqdm(module.grade_all(items), total=len(items), desc="grading", unit="answer"))
    facts = {key: environment()[key] for key in ("git", "versions", "command")}
    result = before | {
        "rule": config.grading_rule,
        "source": used.test_file or before.get("source") or module.HUB_ID,
        "config": before.get("config", {}) | {key: getattr(used, key) for key in _QUESTIONS_AND_RULE},
        **summary(verdicts, config.grading_rule),
        "grading_seconds": round(time.monotonic() - begin, 2),
        "sandbox": level,
        "regraded": {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **facts},
    }
    rows = question_rows(questions, answers, verdicts, config.grading_rule)
    golds = _changed_golds(folder.questions(name), questions)
    write_together({folder.questions(name): rows, folder.result(name): json_text(result)})
    if show_disagreements:
        print_disagreements(questions, verdicts)
    print_summary(name, result["rules"], result["graded"], config.grading_rule)
    print(_change(before, result) + (f"; {golds} gold answers changed" if golds else ""))
    print(f"results: {folder.result(name)}")


def _as_tested(config: RunConfig, before: dict[str, Any]) -> RunConfig:
    """Return the settings with the earlier test's question file and limit, where the command names none."""
    then = before.get("config", {})
    found = {key: getattr(config, key) or then.get(key) for key in ("test_file", "limit")}
    return dataclasses.replace(config, **found)


def _changed_golds(path: Path, questions: list[Question]) -> int:
    """Return on how many questions the earlier rows had another gold answer; 0 where they do not tell."""
    try:
        before = {row.get("id"): row["gold"] for _, row in read_jsonl(path) if "gold" in row}
    except (UsageError, TypeError):  # not there, or damaged: they are about to be written anew
        return 0
    now = {one.id: json.loads(json.dumps(one.gold)) for one in questions}
    return sum(key in before and before[key] != gold for key, gold in now.items())


def _check_questions(
    questions: list[Question],
    answers: dict[str, Completion],
    settings: dict[str, Any],
    path: Path,
    before: dict[str, Any],
) -> None:
    """Refuse to judge answers by the gold answers of other questions."""
    if prompts_fingerprint(questions) != settings["prompts"] or any(one.id not in answers for one in questions):
        then = before.get("config", {})
        source = then.get("test_file") or before.get("source")
        limit = f" --limit {then['limit']}" if then.get("limit") else ""
        raise UsageError(
            f"{path} answers other questions than the {len(questions)} that were read now: it was made with "
            f"{settings['questions']} of {source}{limit}; give those with --test-file and --limit"
        )


def print_disagreements(questions: Iterable[Question], verdicts: list[dict[str, Verdict]]) -> None:
    """Print every question on which two rules, or a rule and a third opinion, differ.

    Args:
        questions: All of them.
        verdicts: Per question, rule -> verdict.
    """
    found = 0
    for question, said in zip(questions, verdicts, strict=True):
        if len({verdict.correct for verdict in said.values()}) < 2:
            continue
        found += 1
        print(f"\n{question.id}  gold: {gold_text(question.gold)}")
        width = max(map(len, said))
        for rule, verdict in said.items():
            word = "right" if verdict.correct else "wrong"
            print(f"  {rule.ljust(width)}  {word}  {readable(verdict.reason):<12}  read: {readable(verdict.extracted)}")
    print(f"\n{found} of {len(verdicts)} answers are judged differently by {', '.join(verdicts[0])}")


def _change(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return how the number of right answers changed by each rule."""
    changes = []
    for rule, facts in after["rules"].items():
        old = before.get("rules", {}).get(rule, {}).get("correct", 0)
        changes.append(f"{rule} {old} -> {facts['correct']}")
    disagree = [f"ours and authors {after['rules_disagree']}"]
    for name, facts in after["opinions"].items():
        if facts:
            disagree += [f"{rule} and {name} {facts['version']} {n}" for rule, n in facts["disagrees_with"].items()]
    return f"right answers: {', '.join(changes)}; judged differently: {', '.join(disagree)}"
