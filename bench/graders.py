r"""The graders on real data: gold answers against themselves, against rewritings, against others; and hostile text.

    python bench/graders.py --gsm8k gsm8k_test.jsonl --math math500.jsonl [--limit N] [--report FILE]
    python bench/graders.py --fuzz 200                     # hostile texts, a fixed seed: worst time and memory

gsm8k: columns question, answer. math: columns problem, solution, answer. A false negative is a rewriting of the gold
answer (grader_rewritings.py) that a rule calls wrong; a false positive is another question's answer, or a near miss
(grader_near_misses.py), that it calls right. The report lists each, and each disagreement with math-verify where it is
installed.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import grader_near_misses as near_misses
import grader_rewritings as rewritings
from grader_fuzz import fuzz
from tqdm import tqdm

from sorsa.evaluation import gsm8k, math
from sorsa.evaluation.benchmark import Item, Verdict
from sorsa.evaluation.exact import OutOfBounds, exact_value
from sorsa.evaluation.latex import parse
from sorsa.evaluation.latex_tokens import Unreadable

SEED = 0
SHUFFLES = 3  # each gold answer meets this many others
Case = tuple[str, bool, Item]  # kind, is it right, what to grade


def completion(kind: str, answer: str) -> str:
    """Return a plausible completion that ends in this answer."""
    if kind.startswith("whole: "):
        return f"Let's think step by step. First we add 3 and 4 to get 7.\n{answer}"
    return f"Let's think step by step. First we add 3 and 4 to get 7.\nThe answer is: {answer}"


def same_text(a: str, b: str) -> bool:
    """Tell whether two gold answers are really equal, by a reading independent of the rules: values, or the text."""
    values = []
    for text in (a, b):
        try:
            values.append(exact_value(parse(text)))
        except (Unreadable, OutOfBounds, ValueError):
            values.append(None)
    if values[0] is not None and values[0] == values[1]:
        return True
    return "".join(a.split()) == "".join(b.split())


def cases(
    answers: list[str],
    golds: list[str],
    rewrite: Callable[[str], rewritings.Pairs],
    miss: Callable[[str], rewritings.Pairs],
) -> Iterator[Case]:
    """Yield everything that is graded for one data set.

    Args:
        answers: The short gold answers.
        golds: What the grader gets as gold: the whole solutions.
        rewrite: Other ways to write an answer.
        miss: Answers that are nearly right.
    """
    for answer, gold in zip(answers, golds, strict=True):
        yield "itself", True, Item(completion("", answer), gold)
        for kind, text in rewrite(answer):
            yield kind, True, Item(completion(kind, text), gold)
        for kind, text in miss(answer):
            yield f"near: {kind}", False, Item(completion(kind, text), gold)
    order, chance, equal = list(range(len(answers))), random.Random(SEED), 0
    for _ in range(SHUFFLES):
        chance.shuffle(order)
        for other, gold, right in zip((answers[i] for i in order), golds, answers, strict=True):
            if same_text(other, right):
                equal += 1
            else:
                yield "shuffled", False, Item(completion("", other), gold)
    print(f"shuffled pairs left out because they are equal: {equal} of {SHUFFLES * len(answers)}")


def audit(name: str, module: ModuleType, every: list[Case], report: list[str]) -> None:
    """Grade all cases, print the counts, and add every fault and disagreement to the report."""
    begin = time.monotonic()
    verdicts = list(tqdm(module.grade_all(item for _, _, item in every), total=len(every), desc=name, unit="answer"))
    seconds = time.monotonic() - begin
    print(f"{name}: {len(every)} answers, {1000 * seconds / len(every):.2f} ms each")
    for rule in verdicts[0]:
        for group, wanted in (("itself", True), ("rewritings", True), ("near misses", False), ("shuffled", False)):
            rows = [(c, v[rule]) for c, v in zip(every, verdicts, strict=True) if _group(c) == group]
            wrong = [(c, v) for c, v in rows if v.correct != wanted]
            fault = "false negatives" if wanted else "false positives"
            print(f"{name}, {rule}, {group}: {len(wrong)} {fault} of {len(rows)}")
            report.extend(_lines(f"{name} {rule} {fault}", wrong))
    reasons = collections.Counter(f"{rule}: {v.reason[:60]}" for one in verdicts for rule, v in one.items())
    print(f"{name}, reasons: {dict(reasons.most_common(20))}")
    differ = [
        (c, v["ours"])
        for c, v in zip(every, verdicts, strict=True)
        if "math-verify" in v and v["ours"].correct != v["math-verify"].correct
    ]
    print(f"{name}: ours and math-verify differ on {len(differ)} of {len(every)}")
    kinds = collections.Counter(f"{c[0]} (ours {v.correct}, right would be {c[1]})" for c, v in differ)
    for kind, count in kinds.most_common():
        print(f"    {count:6d}  {kind}")
    report.extend(_lines(f"{name} math-verify differs", differ))


def _group(case: Case) -> str:
    kind, right, _ = case
    if kind in ("itself", "shuffled"):
        return kind
    return "rewritings" if right else "near misses"


def _lines(title: str, rows: list[tuple[Case, Verdict]]) -> list[str]:
    return [
        f"{title} | {kind} | {item.text.split('step by step.')[1][43:]!r} | gold {item.gold[-60:]!r} | ours: {v.reason}"
        for (kind, _, item), v in rows
    ]


def main() -> None:
    """Read the arguments and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path)
    parser.add_argument("--math", type=Path)
    parser.add_argument("--limit", type=int, help="first N questions of each")
    parser.add_argument("--report", type=Path, help="where to write every fault and disagreement")
    parser.add_argument("--fuzz", type=int, help="how many random hostile texts, besides the fixed ones")
    arguments = parser.parse_args()
    report: list[str] = []
    if arguments.gsm8k:
        golds = [json.loads(line)["answer"] for line in arguments.gsm8k.open(encoding="utf-8")][: arguments.limit]
        answers = [gold.split("####")[1].strip() for gold in golds]
        audit("gsm8k", gsm8k, list(cases(answers, golds, rewritings.gsm8k, near_misses.gsm8k)), report)
    if arguments.math:
        rows = [json.loads(line) for line in arguments.math.open(encoding="utf-8")][: arguments.limit]
        answers, golds = [row["answer"] for row in rows], [row["solution"] for row in rows]
        audit("math", math, list(cases(answers, golds, rewritings.math, near_misses.math)), report)
    if arguments.fuzz is not None:
        fuzz(arguments.fuzz)
    (arguments.report.write_text if arguments.report else sys.stdout.write)("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
