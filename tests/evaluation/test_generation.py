"""A test's answers as a whole: waves, batch sizes, too little memory, two processes; the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sorsa.data.prompts import math_test_prompt
from sorsa.errors import UsageError
from sorsa.evaluation import batch_size, gsm8k, waves
from sorsa.evaluation import test as run_benchmark
from sorsa.evaluation.completions import CompletionStore
from sorsa.evaluation.hf_engine import HfEngine

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = [{"question": "How many? " + "eggs " * (n % 7), "answer": f"#### {n}"} for n in range(11)]


@pytest.fixture
def config(tiny_config: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """A merged run of the tiny model and a file with eleven questions: `config(**fields)`."""
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))

    def make(**fields: Any) -> Any:
        fields = {"test_dataset": "gsm-8k", "test_file": str(file), "max_new_tokens": 6} | fields
        made = tiny_config(**fields)
        if not (Path(made.run_path) / made.name / "merged").exists():
            shutil.copytree(tiny_model, Path(made.run_path) / made.name / "merged")
        return made

    return make


def results(made: Any, name: str = "") -> Path:
    return Path(made.run_path) / made.name / "results" / name


def files(made: Any) -> dict[str, bytes]:
    """The answers on the disk, without the score record, in which there are times."""
    return {path.name: path.read_bytes() for path in results(made).iterdir() if path.suffix == ".jsonl"}


def record(made: Any) -> dict[str, Any]:
    return json.loads(results(made, "gsm-8k.json").read_text())


def test_waves_are_cut_by_length_and_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waves.cut([3, 9, 3, 5]) == [[1, 3, 0, 2]]
    assert waves.cut([]) == []
    assert [len(wave) for wave in waves.cut([1] * 300)] == [100, 100, 100]
    monkeypatch.setattr(waves, "WAVE", 3)
    assert waves.cut([1, 2, 3, 4]) == [[3, 2], [1, 0]]


@pytest.mark.parametrize("moment", [1, 5, 9])
def test_an_interruption_leaves_no_trace_in_bf16(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr(waves, "WAVE", 4)
    made = config()
    run_benchmark(made)
    whole = files(made)
    shutil.rmtree(results(made))
    real, calls = HfEngine.answer, []

    def dies(engine: HfEngine, prompts: Any, limit: int, stop: Any, finished: Any) -> Any:
        def count(*args: Any) -> None:
            calls.append(1)
            if len(calls) == moment:
                raise KeyboardInterrupt
            finished(*args)

        return real(engine, prompts, limit, stop, count)

    monkeypatch.setattr(HfEngine, "answer", dies)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(made)
    there = results(made, "gsm-8k.completions.jsonl").read_text().splitlines()[1:]
    assert len(there) == {1: 0, 5: 3, 9: 7}[moment]  # waves of 3, 4 and 4
    with open(results(made, "gsm-8k.completions.jsonl"), "a") as stream:  # a wave that was torn after its first line
        stream.write(json.dumps({"id": "0", "completion": "wrong", "tokens": 1, "truncated": False, "ended": "x"}))
        stream.write('\n{"id": ')
    run_benchmark(made)
    assert files(made) == whole and record(made)["reused_completions"] == len(there)


def test_settings_that_change_answers_and_those_that_do_not(config: Callable[..., Any]) -> None:
    run_benchmark(config(valid_batch_size=2))
    run_benchmark(config(valid_batch_size=3))
    assert record(config())["reused_completions"] == 11 and record(config())["batch_size"] == 2
    with pytest.raises(UsageError, match="holds answers made with another stop_at_answer: replace them"):
        run_benchmark(config(stop_at_answer=False))
    run_benchmark(config(stop_at_answer=False, overwrite=True))
    assert record(config())["reused_completions"] == 0


def test_a_batch_size_found_is_taken_up_again(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waves, "WAVE", 4)
    seen: list[int] = []

    def answer(engine: HfEngine, prompts: Any, limit: int, stop: Any, finished: Any) -> list[list[int]]:
        seen.append(engine.batch_size)
        if engine.batch_size > 4:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        if len(seen) == 5:
            raise KeyboardInterrupt
        return [[70, 71]] * len(prompts)

    monkeypatch.setattr(HfEngine, "answer", answer)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config())
    assert seen == [32, 16, 8, 4, 4]  # made smaller within the first wave
    run_benchmark(config())
    assert seen[5:] == [4, 4] and record(config())["batch_size"] == 4


def test_too_little_memory_is_one_line(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*args: Any) -> None:
        raise torch.OutOfMemoryError("nothing left")

    monkeypatch.setattr(HfEngine, "answer", answer)
    with pytest.raises(UsageError, match="valid_batch_size = 7: out of memory; give a smaller one"):
        run_benchmark(config(valid_batch_size=7))
    with pytest.raises(UsageError, match="out of memory with a single question at a time: take a smaller --max-new"):
        run_benchmark(config())

    def broken(*args: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(HfEngine, "answer", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_benchmark(config())


def test_processes_that_do_not_share_a_folder_are_told_so(tmp_path: Path) -> None:
    store = CompletionStore(tmp_path / "c.jsonl", {}, overwrite=False)
    store.begin([], 1)
    with pytest.raises(UsageError, match="2 of 2 answers are missing; processes on several machines need a folder"):
        store.finish(["0", "1"])


def test_batch_size_from_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert [batch_size.rows_that_fit(10, free, cpu) for free in (0, 100, 200, 10**6)] == [1, 4, 8, 32]
    assert batch_size.rows_that_fit(10, 10**6, gpu) == waves.WAVE
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(batch_size, "_CGROUP", tmp_path)
    everything = batch_size.free_memory(cpu)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert batch_size.free_memory(cpu) == 2000 < everything


def test_a_model_with_another_cache_is_answered_by_generate(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = config(test_precision="fp32", valid_batch_size=3)
    run_benchmark(made)
    whole = files(made)
    shutil.rmtree(results(made))
    monkeypatch.setattr("sorsa.evaluation.hf_engine.rows_class", lambda model: None)
    with caplog.at_level("INFO"):
        run_benchmark(made)
    assert "LlamaForCausalLM keeps a cache of its own kind: every batch waits" in caplog.text
    assert files(made) == whole


def write_new_lines(folder: Path) -> None:
    """Let a model write a new line instead of a letter that it often writes: their rows change places."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = [0, *tokenizer(math_test_prompt(QUESTIONS[1]["question"]))["input_ids"]]
    output = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40, pad_token_id=1)
    often, line = int(output[0, len(prompt) :].mode().values), tokenizer.convert_tokens_to_ids("Ċ")
    with torch.no_grad():
        for weight in (model.lm_head.weight, model.model.embed_tokens.weight):
            weight[[often, line]] = weight[[line, often]]
    model.save_pretrained(folder)


def test_a_model_that_goes_on_is_stopped(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # a new line ends an answer here: the tiny model writes no sentence
    monkeypatch.setattr(gsm8k, "complete", lambda text, question: text.find("\n") + 1 or None)
    fields = {"test_precision": "fp32", "max_new_tokens": 40, "valid_batch_size": 3}
    write_new_lines(Path(config().run_path) / "tiny" / "merged")
    run_benchmark(config(stop_at_answer=False, **fields))
    whole = [json.loads(line) for line in files(config())["gsm-8k.jsonl"].splitlines()]
    run_benchmark(config(overwrite=True, **fields))
    rows = [json.loads(line) for line in files(config())["gsm-8k.jsonl"].splitlines()]
    for row, before in zip(rows, whole, strict=True):
        head, newline, _ = before["completion"].partition("\n")
        assert row["completion"] == head + newline
        assert row["ended"] == ("answer" if newline else before["ended"])
    assert record(config())["stopped_at_answer"] == sum(row["ended"] == "answer" for row in rows) > 0


def test_an_adapter_beside_its_base_answers_as_merged(config: Callable[..., Any], tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = config(test_precision="fp32", valid_batch_size=4, unmerged=True)
    folder = Path(made.run_path) / made.name
    torch.manual_seed(0)
    adapter = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), adapter)
    model.save_pretrained(folder / "adapter")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder / "adapter")
    run_benchmark(config(test_precision="fp32", valid_batch_size=4))
    before = files(made)["gsm-8k.jsonl"]
    model.merge_and_unload().save_pretrained(folder / "merged")
    run_benchmark(config(test_precision="fp32", valid_batch_size=4, overwrite=True))
    run_benchmark(made)
    assert files(made)["unmerged-gsm-8k.jsonl"] == files(made)["gsm-8k.jsonl"] != before


def test_two_processes_write_the_files_of_one(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(valid_batch_size=2, peft="lora")
    program = Path(made.run_path).parent / "program.py"  # a process of its own needs the small waves told
    program.write_text(
        "import sys\nfrom sorsa.cli import main\nfrom sorsa.evaluation import waves\nwaves.WAVE = 3\nsys.exit(main())\n"
    )
    (program.parent / "tiny.yaml").write_text("peft: lora\nbatch_size: 2\naccum_steps: 2\n")
    words = ["--test", "--name", "tiny", "--config-dir", str(program.parent), "--run-path", made.run_path, "--local"]
    words += ["--model", made.model, "--test-dataset", "gsm-8k", "--test-file", made.test_file]
    words += ["--max-new-tokens", "6", "--valid-batch-size", "2"]
    monkeypatch.setattr(waves, "WAVE", 3)
    run_benchmark(made)
    whole = files(made)
    lines = whole["gsm-8k.completions.jsonl"].splitlines(keepends=True)
    shutil.rmtree(results(made))
    results(made).mkdir()
    first = waves.cut([len(row["question"]) for row in QUESTIONS])[0]
    part = b"".join([lines[0], *(lines[1 + index] for index in first), lines[1]])  # left by a run of three processes
    results(made, "gsm-8k.completions.rank2.jsonl").write_bytes(part)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    done = subprocess.run(
        [*launcher, str(program), *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert files(made) == whole
    assert (record(made)["processes"], record(made)["reused_completions"]) == (2, len(first))
    assert done.stdout.count("rule ours") == 1
