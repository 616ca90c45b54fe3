"""The rows of a test: where they come from, and that nothing after `--limit` is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sorsa.config import RunConfig
from sorsa.errors import UsageError
from sorsa.evaluation import find_benchmark, math, questions

CODE = {"task_id": "T/0", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(f): assert f(1)"}
ROWS = {
    "gsm-8k": {"question": "1 + 1?", "answer": "#### 2"},
    "math": {"problem": "1 + 1?", "solution": r"$\boxed{2}$"},
    "math-500": {"problem": "1 + 1?", "answer": "2"},
    "humaneval": CODE,
    "humaneval+": CODE,
}


@pytest.mark.parametrize("dataset", ROWS)
def test_nothing_after_the_limit_is_read(dataset: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(2 * (json.dumps(ROWS[dataset]) + "\n") + "no JSON\n")
    load = find_benchmark(dataset).load
    assert len(load(RunConfig(test_file=str(file), limit=2))) == 2
    for limit in (3, None):
        with pytest.raises(UsageError, match="line 3: not JSON"):
            load(RunConfig(test_file=str(file), limit=limit))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub whose splits have two rows each; which were asked for is noted."""
    names: list[str] = []

    def split(config: RunConfig, hub_id: str, subset: str) -> Iterator[dict[str, Any]]:
        names.append(subset)
        yield from ({"problem": f"{subset} {number}?", "solution": "2", "answer": number} for number in range(2))

    monkeypatch.setattr(questions, "_hub_split", split)
    return names


def test_no_split_after_the_limit_is_loaded(asked: list[str]) -> None:
    found = math.load(RunConfig(limit=3))
    assert [one.id for one in found] == ["0", "1", "2"] and asked == list(math.SUBJECTS[:2])
    assert "counting_and_probability 0?" in found[2].prompt
    assert len(math.load(RunConfig())) == 2 * len(math.SUBJECTS)


@pytest.mark.usefixtures("asked")
def test_a_bad_row_of_the_hub_is_named() -> None:
    with pytest.raises(UsageError, match=r"^openai/gsm8k row 0: the column 'question' must hold text"):
        find_benchmark("gsm-8k").load(RunConfig())
    with pytest.raises(UsageError, match=r"^HuggingFaceH4/MATH-500 row 0: the column 'answer'"):
        find_benchmark("math-500").load(RunConfig())
    assert [where for where, _ in questions.hub_rows(RunConfig(), "a/b", "c", "d")] == [
        "a/b c row 0", "a/b c row 1", "a/b d row 0", "a/b d row 1",
    ]  # fmt: skip
