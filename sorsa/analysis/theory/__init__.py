"""The theory checks, `run.py --theory`: do the statements of the paper's section 5 hold on random problems, in FP64?

lemma_5_1.py      the regularizer's gradient and its Lipschitz bound
theorem_5_4.py    linear convergence of gradient descent;  hessians.py: its assumptions on exact Hessians
lemma_5_5.py      singular values after one regularized step
theorem_5_6.py    condition numbers with and without regularizer;  runs.py: the trainings;  counts_5_6.py: the counting
tally.py          counting, and the thresholds that turn counts into verdicts
layers.py         real SORSA layers in batches: the gradients checked are those of the code that trains
spectrum.py       singular values and condition numbers of Wp from its factors
draw.py           random problems
report.py         theory.md and the printed table, from theory.json alone;  figures.py: the figures, likewise

DIR/ (`--output`, default ./theory)
    theory.json             everything, written whole
    theory.md               the report
    STATEMENT.svg           the figures, and the same as .png
    theory.unfinished.json  the statements that are done, until all are: an interrupted check goes on after them

theory.json:
    schema, seed, problems, versions, git, command, host
    statements [    key, title, seconds, claims [see `tally.Tally.as_json`], and what only its figure needs ]
For a seed, everything but `seconds`, `git`, `command` and `host` is the same to the byte on the same machine.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.files import json_text, write_json, write_together

SCHEMA = 1
PROBLEMS = 40  # trainings per setting by default: two to three minutes on one thread
DIGITS = 6  # significant ones that are recorded; what rounding errors change is beyond them


def check_theory(output: Path, seed: int, problems: int = PROBLEMS) -> dict[str, Any]:
    """Check every statement, write record, report and figures, and print a table.

    Args:
        output: The folder to write to; made where it is missing.
        seed: Seed of the random problems, 0 or more.
        problems: Trainings per setting, 1 or more; `draw.POINTS` times as many single points.

    Returns:
        The content of theory.json.

    Raises:
        UsageError: A number is out of its range, or the folder cannot be written to.
    """
    if problems < 1:
        raise UsageError(f"--problems {problems}: must be at least 1")
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise UsageError(f"--output {output}: not a folder to write to ({error.strerror}); name another one") from error
    from sorsa.analysis.theory.figures import draw_figures
    from sorsa.analysis.theory.report import as_markdown, as_table
    from sorsa.run_folder import environment

    record = {"schema": SCHEMA, "seed": seed, "problems": problems, **environment()}
    unfinished = output / "theory.unfinished.json"
    record["statements"] = _check_statements(record, unfinished)
    draw_figures(record, output)
    write_together({output / "theory.json": json_text(record), output / "theory.md": as_markdown(record)})
    unfinished.unlink(missing_ok=True)
    print(as_table(record))
    print(f"record, report and figures: {output}")
    return record


def _check_statements(record: dict[str, Any], unfinished: Path) -> list[dict[str, Any]]:
    """Return what was found about each statement; those of an interrupted check are not repeated.

    Args:
        record: The record to be, without its statements.
        unfinished: The file that keeps finished statements until all are.
    """
    from tqdm import tqdm

    from sorsa.analysis.theory import lemma_5_1, lemma_5_5, theorem_5_4, theorem_5_6

    statements = (lemma_5_1, theorem_5_4, lemma_5_5, theorem_5_6)
    found = _finished_before(unfinished, record)
    with tqdm(total=sum(len(one.SETTINGS) for one in statements), unit="setting", desc="theory") as bar, _one_thread():
        for number, one in enumerate(statements):
            if number < len(found):
                bar.update(len(one.SETTINGS))
                continue
            bar.set_postfix_str(one.KEY)
            started = time.perf_counter()
            result = one.check(record["seed"], record["problems"], bar.update)
            found.append(rounded({"seconds": round(time.perf_counter() - started, 1)} | result))
            write_json(unfinished, record | {"statements": found})
    return found


def _finished_before(unfinished: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements that an interrupted check by the same code with the same numbers has finished."""
    if record["git"]["dirty"]:  # the code may have changed since
        return []
    try:
        before = json.loads(unfinished.read_text(encoding="utf-8"))
        same = all(before[key] == record[key] for key in ("schema", "seed", "problems", "versions", "git"))
        return list(before["statements"]) if same else []
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours: all is checked
        return []


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: sums are then always made in the same order, and more threads gain nothing here."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def rounded(value: Any) -> Any:
    """Return a JSON value with its floats cut to `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value
