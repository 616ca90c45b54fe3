"""The paper's tables as data: complete, consistent with the paper's own text, and each row has its configs."""

from __future__ import annotations

from collections import Counter

import pytest

from sorsa import paper
from sorsa.config_files import known_names
from sorsa.methods import METHODS

PEFT_ROWS = ["lora", "pissa", "adalora", "sorsa"]


def test_table_1_has_its_19_rows_in_order() -> None:
    rows = [(row.model, row.method) for row in paper.scores()]
    expected = [("llama2", method) for method in ["full", *PEFT_ROWS]] + [("rwkv6", method) for method in PEFT_ROWS]
    expected += [(model, method) for model in ("mistral", "gemma") for method in ["full", *PEFT_ROWS]]
    assert rows == expected and len(rows) == 19


@pytest.mark.parametrize(
    ("run", "benchmark", "percent"),
    [  # the numbers that section 6.2 repeats in its text
        ("llama2_sorsa_r128", "gsm-8k", 56.03),
        ("llama2_sorsa_r128", "math", 10.36),
        ("rwkv6_sorsa_r64", "gsm-8k", 45.87),
        ("rwkv6_sorsa_r64", "math", 11.32),
        ("rwkv6_adalora_r64", "gsm-8k", 33.28),
        ("mistral_sorsa_r64", "gsm-8k", 73.09),
        ("mistral_sorsa_r64", "math", 21.86),
        ("mistral_adalora_r64", "gsm-8k", 72.25),
        ("mistral_adalora_r64", "math", 21.06),
        ("gemma_adalora_r64", "gsm-8k", 78.99),
        ("gemma_adalora_r64", "math", 31.44),
        ("gemma_sorsa_r64", "gsm-8k", 78.09),
        ("gemma_sorsa_r64", "math", 29.52),
        ("gemma_sorsa_r64", "humaneval", 55.49),
        ("gemma_adalora_r64", "humaneval", 55.49),
    ],
)
def test_table_1_agrees_with_the_papers_text(run: str, benchmark: str, percent: float) -> None:
    assert paper.find_score(run).accuracy[benchmark] == percent


@pytest.mark.parametrize(("benchmark", "questions"), [("gsm-8k", 1319), ("math", 5000), ("humaneval", 164)])
def test_scores_are_shares_of_the_benchmarks_questions(benchmark: str, questions: int) -> None:
    # so most mistyped digits would be found; below 0.01 and not 0.005, because three GSM-8K scores are cut, not rounded
    shares = [100 * right / questions for right in range(questions + 1)]
    for row in paper.scores():
        nearest = min(abs(share - row.accuracy[benchmark]) for share in shares)
        assert nearest < 0.01 - 1e-9, row.run


def test_quoted_rows_are_those_of_the_pissa_paper() -> None:
    quoted = {(row.model, row.method) for row in paper.scores() if row.quoted}
    assert quoted == {(m, p) for m in ("llama2", "mistral", "gemma") for p in ("full", "lora", "pissa")}


def test_methods_of_one_model_train_equally_many_parameters() -> None:
    sizes = {(row.model, row.method == "full", row.million) for row in paper.scores()}
    assert len(sizes) == 7  # four models with adapters, three of them with full fine-tuning too


def test_find_score() -> None:
    assert paper.find_score("gemma_full").million == 8538
    assert paper.find_score("gemma_full_code") == paper.find_score("gemma_full")
    assert paper.find_score("rwkv6_full") is None


def test_tables_of_hyperparameters_are_complete() -> None:
    assert Counter(column.table for column in paper.training()) == {2: 4, 3: 6, 5: 4}
    assert Counter(column.table for column in paper.evaluation()) == {4: 6, 6: 4}
    common = {"mix_precision", "epochs", "batch_size", "length", "wd", "warmup", "lr", "grad_clip"}
    for column in paper.training():
        assert common <= column.settings.keys()
        assert ("gamma" in column.settings) == (column.method == "sorsa")
        assert ("rank" in column.settings) == (column.method != "partial")
    # every row of Table 1 that is not quoted has its hyperparameters in the paper, and no other
    tabled = {column.run for column in paper.training() if column.table != 2}
    assert tabled == {row.run for row in paper.scores() if not row.quoted}
    assert tabled == {column.run for column in paper.evaluation()}


def test_every_row_and_column_has_its_config() -> None:
    names = set(known_names())
    rows = [*paper.scores(), *paper.training(), *paper.evaluation()]
    assert {row.run for row in rows} <= names
    assert {row.run + paper.CODE_SUFFIX for row in paper.scores()} <= names
    assert {row.method for row in rows} <= METHODS.keys()
    assert {row.model for row in rows} == paper.model_titles().keys()
