"""Testing a model end to end on the tiny Llama: greedy answers, resume, fingerprints, result files, bad files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import test as run_benchmark
from sorsa.evaluation.completions import Completion, CompletionStore, model_fingerprint
from sorsa.evaluation.hf_engine import HfEngine

QUESTIONS = [{"question": "How many? " + "eggs " * n, "answer": f"so\n#### {n}"} for n in (3, 1, 7, 2, 5)]


@pytest.fixture
def config(tiny_config: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """A merged run of the tiny model and a file with five questions: `config(**fields)`."""
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))

    def make(**fields: Any) -> Any:
        fields = {"test_dataset": "gsm-8k", "test_file": str(file), "test_precision": "fp32", "valid_batch_size": 2,
                  "max_new_tokens": 8} | fields  # fmt: skip
        made = tiny_config(**fields)
        merged = Path(made.run_path) / made.name / "merged"
        if not merged.exists():
            shutil.copytree(tiny_model, merged)
        return made

    return make


def results(config: Any, name: str) -> Path:
    return Path(config.run_path) / config.name / "results" / name


def completions(config: Any) -> dict[str, str]:
    lines = results(config, "gsm-8k.completions.jsonl").read_text().splitlines()[1:]
    return {row["id"]: row["completion"] for row in map(json.loads, lines)}


def test_results_and_greedy_tokens(config: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sorsa.data.prompts import math_test_prompt

    made = config()
    run_benchmark(made)
    record = json.loads(results(made, "gsm-8k.json").read_text())
    assert record["graded"] == 5 and record["rules"]["ours"]["correct"] == 0
    assert record["interval_95"][0] == 0.0 and 0.4 < record["interval_95"][1] < 0.5
    assert {"fingerprint", "environment", "config", "tokens_per_second", "truncated"} <= record.keys()
    rows = [json.loads(line) for line in results(made, "gsm-8k.jsonl").read_text().splitlines()]
    assert [row["gold"] for row in rows] == [row["answer"] for row in QUESTIONS]
    assert set(rows[0]["verdicts"]) >= {"ours", "authors"}
    assert "gsm-8k, rule authors: 0.00% (0/5" in capsys.readouterr().out
    # the batched, left-padded answers are those of plain greedy decoding, one question at a time
    folder = results(made, "").parent / "merged"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for index, question in enumerate(QUESTIONS):
        ids = [tokenizer.bos_token_id, *tokenizer(math_test_prompt(question["question"]))["input_ids"]]
        output = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=8, pad_token_id=1)
        assert rows[index]["completion"] == tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)


def test_interrupted_run_continues(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sorsa.evaluation.waves.WAVE", 2)
    made = config()
    run_benchmark(made)
    path = results(made, "gsm-8k.completions.jsonl")
    whole = path.read_bytes()
    path.unlink()
    real, calls = HfEngine.answer, []

    def interrupted(engine: HfEngine, prompts: list[list[int]], *rest: Any) -> list[list[int]]:
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(engine, prompts, *rest)

    monkeypatch.setattr(HfEngine, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(made)
    assert len(completions(made)) == 1
    path.write_text(path.read_text() + '{"id": "0", "compl')  # kill -9 in the middle of a line
    run_benchmark(made)
    assert calls == [1, 2, 2, 2]  # the first wave was not repeated
    assert path.read_bytes() == whole
    run_benchmark(made)
    assert len(calls) == 4


def test_fingerprint_decides_on_reuse(config: Callable[..., Any]) -> None:
    run_benchmark(config())
    first = json.loads(results(config(), "gsm-8k.json").read_text())["fingerprint"]
    run_benchmark(config(valid_batch_size=3, grading_rule="authors"))
    assert json.loads(results(config(), "gsm-8k.json").read_text())["reused_completions"] == 5
    for change in ({"limit": 3}, {"max_new_tokens": 4}, {"test_precision": "bf16"}):
        run_benchmark(config(**change, overwrite=True))
        record = json.loads(results(config(), "gsm-8k.json").read_text())
        assert record["fingerprint"] != first and record["reused_completions"] == 0


def test_model_fingerprint_sees_weights(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert model_fingerprint(copy) == model_fingerprint(tiny_model)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(copy) != model_fingerprint(tiny_model)


def test_base_model(config: Callable[..., Any]) -> None:
    made = config(base=True)
    run_benchmark(made)
    assert results(made, "base-gsm-8k.json").is_file()


def test_torn_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"fingerpr')
    store = CompletionStore(path, {"a": 1}, overwrite=False)
    store.begin([], 3)
    store.append([Completion("0", "x \ud800", 2, False, "end token")])
    assert CompletionStore(path, {"a": 1}, overwrite=False).batch_size == 3
    assert CompletionStore(path, {"a": 1}, overwrite=False).done["0"].tokens == 2
    with pytest.raises(UsageError, match=r"holds answers made with another a: replace them .* with --overwrite"):
        CompletionStore(path, {"a": 2}, overwrite=False)
    assert CompletionStore(path, {"a": 1}, overwrite=False).done["0"].tokens == 2
    assert CompletionStore(path, {"a": 2}, overwrite=True).done == {}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "q.jsonl", "is empty"),
        ('{"question": "a", "answer": "1"}\n' * 6 + "{no\n", "q.jsonl", "line 7: not JSON"),
        ('{"question": "a"}\n', "q.jsonl", "line 1: the column 'answer' must hold text; the row has question"),
        ("{}", "q.json", "expected a list of objects"),
        ("[1]", "q.json", "entry 1: expected an object, got int"),
        ("x", "q.parquet", "as parquet"),
        ("x", "q.csv", "expected .jsonl, .json or .parquet"),
    ],
)
def test_bad_question_files(config: Callable[..., Any], tmp_path: Path, content: str, name: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        run_benchmark(config(test_file=str(tmp_path / name)))


def test_question_columns(tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    from sorsa.evaluation import find_benchmark

    for row in (
        {"problem": "p", "solution": "s"},
        {"instruction": "p", "output": "s"},
        {"problem": "p", "answer": "s"},
    ):
        (tmp_path / "q.json").write_text(json.dumps([row] * 3))
        made = tiny_config(test_dataset="math", test_file=str(tmp_path / "q.json"), limit=2)
        assert [one.gold for one in find_benchmark("math").load(made)] == ["s", "s"]


def test_order_of_refusals(tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="--allow-code-execution"):
        run_benchmark(tiny_config(test_dataset="humaneval"))
    with pytest.raises(UsageError, match="--train"):
        run_benchmark(tiny_config(test_dataset="gsm-8k"))
