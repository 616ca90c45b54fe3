"""One test from questions to result files: generate, grade by both rules, write, print (mode `--test`)."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sorsa.errors import UsageError
from sorsa.evaluation import find_benchmark
from sorsa.evaluation.benchmark import (
    ERROR,
    NO_ANSWER,
    OPINIONS,
    RULES,
    TIMEOUT,
    UNJUDGED,
    UNREADABLE,
    Item,
    Question,
    Verdict,
)
from sorsa.evaluation.completions import Completion, CompletionStore
from sorsa.evaluation.statistics import wilson_interval
from sorsa.files import json_text, write_together

if TYPE_CHECKING:
    from sorsa.config import RunConfig


_COUNTED = ("no_answer", "unreadable", "errors", "timeouts")  # wrong answers of another kind than a wrong value


def run_test(config: RunConfig) -> None:
    """Test a merged run, or with `config.base` the base model; see `sorsa.evaluation.test`."""
    from sorsa.evaluation.generate import Job, generate, settings
    from sorsa.evaluation.processes import join_processes
    from sorsa.evaluation.subject import find_subject
    from sorsa.run_folder import RunFolder, environment

    module = find_benchmark(config.test_dataset)
    require_consent(module.RUNS_CODE, config.test_dataset, config.allow_code_execution)
    folder = RunFolder(config.run_path, config.name)
    rule = getattr(module, "complete", None) if config.stop_at_answer else None
    # found out before hours of generation
    level = sandbox_level(config.allow_unsandboxed) if module.RUNS_CODE else None
    subject = find_subject(config)
    from sorsa.evaluation.engines import check_engine  # imports torch: after what can be refused at once

    check_engine(config, subject)
    name = subject.result_name(config.test_dataset)
    questions = module.load(config)
    _check_questions(questions, config)
    max_new_tokens = config.max_new_tokens or module.MAX_NEW_TOKENS

    job = Job(config, questions, max_new_tokens, subject, rule)
    facts = settings(job)
    processes, begin = join_processes(), time.monotonic()
    store = CompletionStore(folder.completions(name), facts, config.overwrite, processes.rank)
    reused = generate(job, store, processes)
    if processes.rank > 0:
        return
    generated, graded_from = time.monotonic() - begin, time.monotonic()

    items = [Item(store.done[one.id].completion, one.gold) for one in questions]
    verdicts = list(tqdm(module.grade_all(items), total=len(items), desc="grading", unit="answer"))
    result = {
        "dataset": config.test_dataset,
        "source": config.test_file or module.HUB_ID,
        "model": subject.name,
        "kind": subject.kind,
        "rule": config.grading_rule,
        **summary(verdicts, config.grading_rule),
        **_generation_facts(store, reused, generated),
        "max_new_tokens": max_new_tokens,
        "engine": config.engine,
        "decoding": config.decoding,
        "precision": config.test_precision,
        "processes": processes.world,
        "grading_seconds": round(time.monotonic() - graded_from, 2),
        "sandbox": level,
        "fingerprint": store.fingerprint,
        "settings": facts,
        "config": dataclasses.asdict(config),
        "environment": environment(),
    }
    rows = question_rows(questions, store.done, verdicts, config.grading_rule)
    write_together({folder.questions(name): rows, folder.result(name): json_text(result)})
    print_summary(name, result["rules"], result["graded"], config.grading_rule)
    print(f"results: {folder.result(name)}")


def _generation_facts(store: CompletionStore, reused: frozenset[str], seconds: float) -> dict[str, Any]:
    """Return what the record says of the answers as they were generated."""
    answers = store.done.values()
    new_tokens = sum(one.tokens for one in answers if one.id not in reused)
    return {
        "truncated": sum(one.truncated for one in answers),
        "stopped_at_answer": sum(one.ended == "answer" for one in answers),
        "batch_size": store.batch_size,
        "reused_completions": len(reused),
        "generation_seconds": round(seconds, 2),
        "tokens_per_second": round(new_tokens / seconds, 1) if new_tokens and seconds else None,
    }


def require_consent(runs_code: bool, dataset: str, allowed: bool) -> None:
    """Refuse to run code written by a model unless the user said so.

    Raises:
        UsageError: The benchmark runs code and consent is missing.
    """
    if runs_code and not allowed:
        raise UsageError(
            f"{dataset} runs code written by a model on this machine (in a sandbox): add --allow-code-execution, "
            "or allow_code_execution: true in the config, to agree"
        )


def _check_questions(questions: list[Question], config: RunConfig) -> None:
    if not questions:
        raise UsageError(f"no questions in {config.test_file or config.test_dataset}; nothing to test")
    if len({one.id for one in questions}) < len(questions):
        raise UsageError(f"two questions in {config.test_file} have the same task_id; make them unique")


def sandbox_level(allow_unsandboxed: bool) -> str:
    """Return the sandbox level that runs on this machine, for records, such as `bwrap, filtered`."""
    from sorsa.evaluation.sandbox import describe, require_level

    return describe(require_level(allow_unsandboxed))


def summary(verdicts: list[dict[str, Verdict]], headline: str) -> dict[str, Any]:
    """Return accuracy, 95% interval and counts of each rule; the number graded is the denominator.

    Args:
        verdicts: Per answer, rule -> verdict.
        headline: The rule whose accuracy stands on top.
    """
    rules = {rule: _rule_summary([one[rule] for one in verdicts]) for rule in RULES}
    top = {key: rules[headline][key] for key in ("accuracy", "interval_95")}
    disagree = _disagreements(verdicts, *RULES)
    opinions = {name: _opinion(verdicts, name) for name in OPINIONS}
    return {**top, "graded": len(verdicts), "rules": rules, "rules_disagree": disagree, "opinions": opinions}


def _opinion(verdicts: list[dict[str, Verdict]], name: str) -> dict[str, Any] | None:
    """Return what a third opinion says and its version; None where it was not asked. It never is the headline."""
    if not all(name in one for one in verdicts):
        return None
    against = {rule: _disagreements(verdicts, rule, name) for rule in RULES}
    said = _rule_summary([one[name] for one in verdicts])
    return {"version": importlib.metadata.version(name), **said, "disagrees_with": against}


def _disagreements(verdicts: list[dict[str, Verdict]], one: str, other: str) -> int:
    return sum(each[one].correct != each[other].correct for each in verdicts)


def _rule_summary(verdicts: list[Verdict]) -> dict[str, Any]:
    correct = sum(one.correct for one in verdicts)
    low, high = wilson_interval(correct, len(verdicts))
    wrong = [one.reason for one in verdicts if not one.correct]
    return {
        "accuracy": correct / len(verdicts) if verdicts else None,
        "interval_95": [low, high],
        "correct": correct,
        "no_answer": wrong.count(NO_ANSWER),
        "unreadable": wrong.count(UNREADABLE),
        "timeouts": wrong.count(TIMEOUT),
        "errors": sum(reason.startswith(ERROR) for reason in wrong),
        "not_judged": sum(reason.startswith(UNJUDGED) for reason in wrong),
    }


def print_summary(name: str, rules: dict[str, Any], graded: int, headline: str) -> None:
    """Print one line per rule, the headline first."""
    for rule in sorted(RULES, key=lambda rule: rule != headline):
        facts = rules[rule]
        low, high = (100 * bound for bound in facts["interval_95"])
        accuracy = 100 * (facts["accuracy"] or 0.0)
        counts = ", ".join(f"{facts[key]} {key.replace('_', ' ')}" for key in _COUNTED)
        if facts.get("not_judged"):
            counts += f", {facts['not_judged']} not judged"
        print(
            f"{name}, rule {rule}: {accuracy:.2f}% ({facts['correct']}/{graded}, "
            f"95% interval {low:.2f} to {high:.2f}; {counts})"
        )


def as_columns(verdict: dict[str, Verdict]) -> dict[str, Any]:
    """Return what every rule and opinion says about one answer, as a column of its row."""
    return {"verdicts": {rule: dataclasses.asdict(said) for rule, said in verdict.items()}}


def question_rows(
    questions: Iterable[Question],
    answers: Mapping[str, Completion],
    verdicts: list[dict[str, Verdict]],
    headline: str,
) -> str:
    """Return one JSON row per question, in the order of the data set (`results/DATASET.jsonl`).

    Args:
        questions: All of them.
        answers: Question id -> its completion.
        verdicts: Per question, rule -> verdict.
        headline: The rule whose verdict stands on top of each row.
    """
    rows = []
    for index, (one, verdict) in enumerate(zip(questions, verdicts, strict=True)):
        answer = answers[one.id]
        row = {
            "index": index,
            "id": one.id,
            "prompt": one.prompt,
            "completion": answer.completion,
            "gold": one.gold,
            **dataclasses.asdict(verdict[headline]),
            "tokens": answer.tokens,
            "truncated": answer.truncated,
            "ended": answer.ended,
            **as_columns(verdict),
        }
        rows.append(json.dumps(row, ensure_ascii=False))
    text = "\n".join(rows) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair must not lose the rest
