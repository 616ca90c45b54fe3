"""lm-eval on a small task file: the same scores merged and unmerged, our form of results, no code of the file run."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli, demo
from sorsa.errors import UsageError
from sorsa.evaluation import lm_eval_files
from sorsa.evaluation import test as run_benchmark
from sorsa.evaluation.compare_runs import compare_runs
from sorsa.evaluation.lm_eval_tasks import COMMONSENSE, task_names

pytest.importorskip("lm_eval")

TASK = """\
task: hens
dataset_path: json
dataset_kwargs:
  data_files: {test: rows.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 3
"""
ROWS = [
    {"question": f"{n} hens lay?", "choices": ["none", f"{n} eggs or so", "x" * n], "label": n % 3} for n in range(1, 8)
]


@pytest.fixture
def config(tiny_config: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A run of the tiny model with a task file and its data beside it: `config(**fields)`."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task/hens.yaml").write_text(TASK)
    (tmp_path / "task/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def make(**fields: Any) -> Any:
        defaults = {"test_dataset": "lm-eval:hens", "test_file": str(tmp_path / "task/hens.yaml")}
        return tiny_config(**defaults | {"test_precision": "fp32", "peft": "sorsa", "max_steps": 2} | fields)

    return make


def read(config: Any, stem: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = Path(config.run_path) / config.name / "results"
    rows = [json.loads(line) for line in (folder / f"{stem}.jsonl").read_text().splitlines()]
    return json.loads((folder / f"{stem}.json").read_text()), rows


def test_merged_equals_unmerged(
    config: Callable[..., Any], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sorsa.merging import merge
    from sorsa.training import train

    train(config(lr=0.05))
    merge(config())
    for kind in ({}, {"unmerged": True}, {"base": True}):
        run_benchmark(config(**kind))
    merged, rows = read(config(), "lm-eval-hens")
    unmerged, others = read(config(), "unmerged-lm-eval-hens")
    base, base_rows = read(config(), "base-lm-eval-hens")
    assert merged["graded"] == 7 and merged["rule"] == "acc" and set(merged["rules"]) == {"acc", "acc_norm"}
    assert merged["task_version"] == 3 and merged["settings"]["lm_eval"] and merged["kind"] == "merged"
    assert merged["accuracy"] == unmerged["accuracy"] == merged["lm_eval_results"]["acc,none"]
    assert merged["rules"]["acc_norm"]["accuracy"] == merged["lm_eval_results"]["acc_norm,none"]
    for one, other in zip(rows, others, strict=True):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-4)
    moved = [abs(a["log_likelihoods"][1] - b["log_likelihoods"][1]) for a, b in zip(rows, base_rows, strict=True)]
    assert min(moved) > 1e-3  # training did something, so that the equality above says something
    # the base model's log-likelihood of one choice, by hand
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    context, choice = tokenizer("Q: 3 hens lay?\nA:").input_ids, tokenizer(" 3 eggs or so").input_ids
    with torch.no_grad():
        logits = model(torch.tensor([context + choice])).logits[0].log_softmax(-1)
    by_hand = sum(float(logits[len(context) + index - 1, token]) for index, token in enumerate(choice))
    assert base_rows[2]["log_likelihoods"][1] == pytest.approx(by_hand, abs=1e-4)
    assert base_rows[2]["gold"] == "none" and base_rows[2]["prompt"] == "Q: 3 hens lay?\nA:"
    best = max(range(3), key=base_rows[2]["log_likelihoods"].__getitem__)
    assert base_rows[2]["extracted"] == ROWS[2]["choices"][best]
    assert "lm-eval-hens, rule acc_norm: " in capsys.readouterr().out
    found = compare_runs("base:tiny", "tiny", Path(config().run_path), "lm-eval:hens")["benchmarks"]["lm-eval:hens"]
    assert found["questions"] == 7 and found["warnings"] == []
    assert math.isclose(found["difference"]["value"], merged["accuracy"] - base["accuracy"], abs_tol=1e-12)
    words = ["--compare-runs", "base:tiny", "tiny", "--run-path", str(config().run_path), "--rule"]
    capsys.readouterr()
    assert cli.main([*words, "acc_norm"]) == 0 and "lm-eval:hens, rule acc_norm, 7 qu" in capsys.readouterr().out
    assert cli.main([*words, "authors"]) == 2
    assert "no verdicts by the rule 'authors', only by acc, acc_norm; name one of them" in capsys.readouterr().err
    run_benchmark(config(base=True, limit=2, valid_batch_size=1))
    assert read(config(), "base-lm-eval-hens")[0]["graded"] == 2


def test_rwkv6(config: Callable[..., Any]) -> None:
    """The shipped RWKV6, which is no model of lm-eval's or of transformers', one question at a time and in batches."""
    model = Path(demo.__file__).parent / "model_rwkv6"
    found = []
    for size in (1, 8):
        run_benchmark(config(base=True, model=str(model), valid_batch_size=size))
        found.append([row["log_likelihoods"] for row in read(config(), "base-lm-eval-hens")[1]])
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_question_file_of_the_configuration(config: Callable[..., Any]) -> None:
    with pytest.raises(
        UsageError, match=r"rows.jsonl': lm-eval reads a task file: .* --test-file '' .*configs/tiny.yaml"
    ):
        run_benchmark(config(base=True, test_file=str(Path(config().test_file).with_name("rows.jsonl"))))


def test_names() -> None:
    assert task_names("lm-eval:piqa,boolq,piqa") == ["piqa", "boolq"]
    assert task_names("lm-eval:commonsense,mine") == [*COMMONSENSE, "mine"] and len(COMMONSENSE) == 8
    with pytest.raises(UsageError, match=r"lm-eval needs the names of tasks: --test-dataset lm-eval:piqa,boolq"):
        task_names("lm-eval")


def test_lm_eval_knows_the_suite(config: Callable[..., Any]) -> None:
    """The first unknown name is reported, so the eight before it are known."""
    with pytest.raises(
        UsageError, match=r"lm-eval has no task 'winogrand'\. Did you mean 'winogrande'\? List them with"
    ):
        lm_eval_files.task_manager(config(test_file=None), [*COMMONSENSE, "winogrand"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label\n", "!function os.getcwd\n", r"runs Python code \(!function\): .*--allow-code-execution"),
        ("label\n", "!!python/name:os.getcwd\n", r"not a task file: could not determine a constructor"),
        ("task: hens", "task: geese", r"holds the task 'geese': name it with --test-dataset lm-eval:geese"),
        ("task: hens", "group: hens", r"it needs a line `task: NAME`"),
        ("task: hens", "task: hens\ninclude: other.yaml", r"`include` is not read here"),
        ("metric: acc_norm", "metric: some/script", r"metric 'some/script' is not one of acc, acc_norm, acc_bytes"),
        ("metric: acc_norm", "metric: acc\n    hf_evaluate: true", r"metric 'acc' is not one of"),
        ("  - metric: acc\n  - metric: acc_norm\n", "  5\n", r"`metric_list` must be a list, got int"),
        ("  data_files: {test: rows.jsonl}", "  5", r"`dataset_kwargs` must be a mapping, got int"),
        ("  data_files: {test: rows.jsonl}", "  [rows.jsonl]", r"`dataset_kwargs` must be a mapping, got list"),
        ("task: hens", "task: [", r"hens.yaml: not a task file"),
        ("rows.jsonl", "none.jsonl", r"cannot load hens of lm-eval: .*none\.jsonl.*; without a network"),
        ("output_type: multiple_choice", "output_type: loglikelihood", r"is of type loglikelihood, scored by acc"),
        ("{{question}}", "{{question.__class__.__mro__}}", r"cannot load hens of lm-eval: access to attribute"),
    ],
)  # fmt: skip
def test_bad_task_files(config: Callable[..., Any], tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TASK
    (tmp_path / "task/hens.yaml").write_text(TASK.replace(old, new))
    with pytest.raises(UsageError, match=message):
        run_benchmark(config(base=True))


def test_a_task_file_may_run_code_with_consent(config: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "task/helper.py").write_text("def text(doc):\n    return 'Well, ' + doc['question']\n")
    task = TASK.replace('"Q: {{question}}\\nA:"', "!function helper.text").replace(
        "rows.jsonl", f"{tmp_path}/task/rows.jsonl"
    )
    (tmp_path / "task/hens.yaml").write_text(task)
    run_benchmark(config(base=True, allow_code_execution=True, limit=1))
    assert read(config(), "base-lm-eval-hens")[1][0]["prompt"] == "Well, 1 hens lay?"


def test_a_missing_package_is_one_line(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"the package lm-eval is not installed in .*; pip install 'lm-eval>=0\.4"):
        run_benchmark(config(base=True))
    with pytest.raises(UsageError, match="lm-eval with engine = rwkv: only the engine hf gives likelihoods"):
        run_benchmark(config(base=True, engine="rwkv"))


def test_the_flag(config: Callable[..., Any]) -> None:
    from sorsa.config_values import check_benchmark

    assert check_benchmark("lm-eval:piqa,boolq") == []
    for bad in ("lm-eval:", "lm-eval:a,,b", "lm-eval:../x"):
        assert "must name tasks, as in lm-eval:piqa,boolq" in check_benchmark(bad)[0]
