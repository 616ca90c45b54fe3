"""Table 1: every row, ours only where it is the paper's run on the whole test set, the interval of the difference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sorsa import paper
from sorsa.evaluation.statistics import wilson_interval
from sorsa.report.records import collect
from sorsa.report.table1 import table1
from sorsa.report.tables import Estimate
from tests.report import conftest as made

# Table 3 of the paper for SORSA on Llama 2 7B
CONFIG = {
    **{"mix_precision": ["bf16", "tf32"], "epochs": 1.0, "length": 512, "wd": 0.0, "warmup": 0.03, "grad_clip": 1.0},
    **{"lr": 3e-5, "rank": 128, "gamma": 4e-4, "batch_size": 2, "max_steps": None, "peft": "sorsa", "seed": 42},
}
FACTS: dict[str, Any] = {"config": CONFIG, "trainable_parameters": 319_844_352, "global_batch": 128, "steps": 781}


def row_of(records: list[dict[str, Any]], run: str = "llama2_sorsa_r128") -> dict[str, Any]:
    """Return a run's row of the table."""
    return table1(records).rows[[row.run for row in paper.scores()].index(run)]


def record(tmp_path: Path, name: str, right: int, total: int, dataset: str = "gsm-8k", **facts: Any) -> dict[str, Any]:
    """Return the record of a run with so many right answers."""
    run = made.write_run(tmp_path, name, **(FACTS | facts))
    made.write_test(run, "1" * right + "0" * (total - right), dataset)
    return collect(run, None)


def test_without_records_every_score_is_not_run() -> None:
    table = table1([])
    assert len(table.rows) == 19
    assert all(row[f"{name}_ours"] == "not run" for row in table.rows for name in paper.BENCHMARKS)
    assert "Compared: 0 of 57 scores." in table.about
    papers = [[round(100 * row[f"{name}_paper"], 2) for name in paper.BENCHMARKS] for row in table.rows]
    assert papers == [list(row.accuracy.values()) for row in paper.scores()]
    assert [row["source"] == "quoted" for row in table.rows] == [row.quoted for row in paper.scores()]


def test_a_run_of_the_configuration_stands_beside_the_paper(tmp_path: Path) -> None:
    row = row_of([record(tmp_path, "llama2_sorsa_r128", 700, 1319)])
    ours, gap = row["gsm-8k_ours"], row["gsm-8k_difference"]
    assert (ours.value, ours.interval) == (700 / 1319, wilson_interval(700, 1319))
    assert gap.value == pytest.approx(700 / 1319 - 0.5603)
    (low, high), theirs = wilson_interval(739, 1319), 0.5603  # 739 / 1319 is 56.03%
    assert gap.interval[0] == pytest.approx(gap.value - math.hypot(ours.value - ours.interval[0], high - theirs))
    assert gap.interval[1] == pytest.approx(gap.value + math.hypot(ours.interval[1] - ours.value, theirs - low))
    assert -0.075 < gap.interval[0] < -0.065 and 0.005 < gap.interval[1] < 0.015
    assert (row["math_ours"], row["math_difference"]) == ("not run", None)


def test_humaneval_is_of_the_run_trained_on_code(tmp_path: Path) -> None:
    records = [record(tmp_path, "llama2_sorsa_r128", 82, 164, "humaneval")]
    assert row_of(records)["humaneval_ours"] == "not run"
    records.append(record(tmp_path, "llama2_sorsa_r128_code", 41, 164, "humaneval"))
    assert row_of(records)["humaneval_ours"].value == 0.25


def test_seeds_count_together(tmp_path: Path) -> None:
    records = [record(tmp_path, f"llama2_sorsa_r128-lr3e-05-seed{n}", 650 + 50 * n, 1319) for n in range(3)]
    ours = row_of(records)["gsm-8k_ours"]
    assert ours.value == pytest.approx(700 / 1319) and ours.sd == pytest.approx(50 / 1319)


@pytest.mark.parametrize(
    ("right", "total", "facts", "words"),
    [
        (10, 20, {}, "50.00 on 20 of 1319 questions"),
        (700, 1319, {"status": "interrupted"}, "53.07 without the record of its training"),
        (700, 1319, {"trainable_parameters": 315_840}, "53.07 with 315,840 trainable parameters"),
        (700, 1319, {"steps": 10}, "53.07 after 10 steps, not 781"),
        (
            700,
            1319,
            {"config": CONFIG | {"peft": "pissa"}},
            "53.07 with the method pissa",
        ),  # as in the release's script
        (700, 1319, {"config": CONFIG | {"lr": 1e-3}}, "53.07 with lr 0.001, not 3e-05"),
        (700, 1319, {"global_batch": 64}, "53.07 with batch_size 64, not 128"),
    ],
)
def test_another_run_is_shown_and_not_compared(
    tmp_path: Path, right: int, total: int, facts: dict[str, Any], words: str
) -> None:
    row = row_of([record(tmp_path, "llama2_sorsa_r128", right, total, **facts)])
    assert (row["gsm-8k_ours"], row["gsm-8k_difference"]) == (words, None)


def test_another_decoding_is_shown_and_not_compared(tmp_path: Path) -> None:
    one = record(tmp_path, "llama2_sorsa_r128", 700, 1319)
    one["results"]["gsm-8k"] |= {"precision": "fp32", "max_new_tokens": 64}
    assert row_of([one])["gsm-8k_ours"] == "53.07 with precision fp32, not bf16, max_new_tokens 64, not 1024"
    one["results"]["gsm-8k"] |= {"precision": "bf16", "max_new_tokens": 1024}
    assert isinstance(row_of([one])["gsm-8k_ours"], Estimate)


def test_a_whole_run_is_taken_before_a_part(tmp_path: Path) -> None:
    records = [record(tmp_path, f"llama2_sorsa_r128-lr3e-05-seed{n}", 10, 20 if n else 1319) for n in range(2)]
    assert isinstance(row_of(records)["gsm-8k_ours"], Estimate)


def test_the_configurations_themselves_are_the_papers(tmp_path: Path) -> None:
    from sorsa.config_files import load_config

    for row in paper.scores():
        config = load_config(row.run, "train", {})
        facts = {"config": config.settings(), "trainable_parameters": row.million * 10**6}
        facts |= {"global_batch": config.batch_size * config.accum_steps, "steps": paper.STEPS}
        found = row_of([record(tmp_path, row.run, 1000, 1319, **facts)], row.run)
        assert isinstance(found["gsm-8k_ours"], Estimate), (row.run, found["gsm-8k_ours"])
