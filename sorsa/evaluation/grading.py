"""Grading a file of completions made elsewhere (mode `--grade`): no run, no model."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sorsa.errors import UsageError, did_you_mean
from sorsa.evaluation import find_graded
from sorsa.evaluation.benchmark import RULES, Item
from sorsa.evaluation.questions import read_jsonl
from sorsa.evaluation.results import as_columns, print_summary, require_consent, sandbox_level, summary
from sorsa.files import write_whole


def grade_rows(
    source: Path,
    dataset: str,
    output: Path,
    rule: str,
    allow_code_execution: bool,
    allow_unsandboxed: bool,
    test_file: str | None,
) -> None:
    """Grade every row of `source` and write `output` whole or not at all; see `sorsa.evaluation.grade_file`."""
    if rule not in RULES:
        raise UsageError(f"unknown grading rule {rule!r}.{did_you_mean(rule, RULES)}")
    module = find_graded(dataset, "--grade")
    require_consent(module.RUNS_CODE, dataset, allow_code_execution)
    read = module.item
    if test_file is not None:
        if not module.RUNS_CODE:
            raise UsageError(f"--test-file does not go with --grade and {dataset}, whose rows carry their gold answers")
        read = functools.partial(module.item, test_file=test_file)
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a .jsonl file")
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"--output {output} is the file to grade; name another file")
    rows: list[dict[str, Any]] = []
    items: list[Item] = []
    for number, row in read_jsonl(source):
        try:
            items.append(read(row))
        except UsageError as error:
            raise UsageError(f"{source}, line {number}: {error}") from error
        rows.append(row)
    level = sandbox_level(allow_unsandboxed) if module.RUNS_CODE else None
    verdicts = list(tqdm(module.grade_all(items), total=len(items), desc="grading", unit="answer"))
    lines: list[str] = []
    for row, verdict in zip(rows, verdicts, strict=True):
        one = verdict[rule]
        facts = {"correct": one.correct, "extracted": one.extracted, "reason": one.reason}
        lines.append(json.dumps({**row, **facts, **({"how": one.how} if one.how else {}), **as_columns(verdict)}))
    write_whole(output, "\n".join(lines) + "\n")
    facts = summary(verdicts, rule)
    print_summary(dataset, facts["rules"], facts["graded"], rule)
    if level:
        print(f"sandbox: {level}")
    print(f"graded rows: {output}")
