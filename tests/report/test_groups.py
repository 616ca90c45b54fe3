"""Groups of seeds and the table of a comparison: the means, the interval, and what is left out."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from sorsa.evaluation.statistics import seeds_and_questions_interval, wilson_interval
from sorsa.report.groups import accuracy, by_comparison, comparison_table, final_loss, groups
from sorsa.report.sources import gather
from sorsa.report.tables import Estimate
from tests.report import conftest as made


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    """A comparison of two configurations with three seeds each, a candidate without a test for each."""
    made.fill_comparison(tmp_path, ["mini_lora", "mini_sorsa"])
    return gather(tmp_path, []).records


def test_groups_are_the_tested_runs_of_one_configuration(records: list[dict]) -> None:
    assert len(records) == 8
    found = groups(records)
    assert [(group.comparison, group.name, len(group.records)) for group in found] == [
        ("mini", "mini_lora", 3),
        ("mini", "mini_sorsa", 3),
    ]
    assert {record["training"]["seed"] for record in found[0].records} == {0, 1, 2}


def test_two_tested_learning_rates_are_two_groups(records: list[dict], tmp_path: Path) -> None:
    made.write_test(tmp_path / "comparison-mini" / "runs" / "mini_lora-lr0.002-seed0", "1" * 40)
    names = [group.name for group in groups(gather(tmp_path, []).records)]
    assert names == ["mini_lora, lr 0.002", "mini_lora, lr 0.004", "mini_sorsa"]


def test_the_row_of_a_group(records: list[dict]) -> None:
    table = comparison_table("mini", records)
    base, lora, sorsa = table.rows
    verdicts = [record["verdicts"]["gsm-8k"]["correct"] for record in groups(records)[1].records]
    spread = seeds_and_questions_interval([[letter == "1" for letter in row] for row in verdicts])
    shares = [row.count("1") / 40 for row in verdicts]
    assert sorsa["gsm-8k"].value == pytest.approx(statistics.fmean(shares))
    assert sorsa["gsm-8k"].interval == spread.interval_95
    assert sorsa["gsm-8k"].sd == pytest.approx(statistics.stdev(shares))
    assert sorsa["perplexity_after"].value == pytest.approx(22.0) and sorsa["perplexity_after"].sd == 1.0
    assert sorsa["perplexity_before"].value == 6.0
    assert sorsa["dSigma"].value == pytest.approx(0.21) and sorsa["dSigma"].sd == pytest.approx(0.01)
    assert sorsa["condition_merged"].value == pytest.approx(0.42)
    assert sorsa["effective_rank"] is None
    assert (sorsa["seeds"], sorsa["lr"], sorsa["method"], lora["method"]) == (3, 0.004, "sorsa", "lora")
    assert sorsa["seconds_per_step"].value == 0.5
    losses = [statistics.fmean(record["metrics"]["loss"][-10:]) for record in groups(records)[1].records]
    assert sorsa["loss"].value == pytest.approx(statistics.fmean(losses))
    assert (base["group"], base["gsm-8k"].value, base["perplexity_before"].value) == ("base model", 0.0, 6.0)
    assert {row["comparison"] for row in table.rows} == {"mini"}


def test_accuracy_of_one_seed_is_wilsons() -> None:
    one = accuracy([{"questions": "q", "correct": "0111"}])
    assert (one.value, one.interval, one.sd) == (0.75, wilson_interval(3, 4), None)


def test_accuracy_needs_the_same_questions_of_every_seed() -> None:
    same, other = {"questions": "q", "correct": "01"}, {"questions": "p", "correct": "01"}
    assert accuracy([same, same]).value == 0.5
    assert accuracy([same, other]) is None
    assert accuracy([same, None]) is None
    assert accuracy([]) is None


def test_a_perplexity_of_another_text_is_not_what_was_before(records: list[dict]) -> None:
    holder = next(record for record in records if "base-perplexity" in record["results"])
    holder["results"]["base-perplexity"]["text"] = {"sha256": "another"}
    assert comparison_table("mini", records).rows[1]["perplexity_before"] is None


def test_an_interval_without_end_is_none(records: list[dict]) -> None:
    holder = next(record for record in records if "base-perplexity" in record["results"])
    holder["results"]["base-perplexity"]["interval_95"] = [6.0, None]  # an overflow, as a record has it
    assert comparison_table("mini", records).rows[0]["perplexity_before"] == Estimate(6.0)


def test_a_mean_needs_every_seed(records: list[dict]) -> None:
    groups(records)[0].records[0]["drift"] = None
    rows = comparison_table("mini", records).rows
    assert rows[1]["dD"] is None and rows[2]["dD"] is not None


def test_a_diverged_run_has_no_final_loss(records: list[dict]) -> None:
    records[0]["metrics"]["loss"][-1] = None
    assert final_loss(records[0]) is None
    assert final_loss(records[0] | {"metrics": {}}) is None


def test_records_by_comparison(tmp_path: Path, records: list[dict]) -> None:
    made.write_run(tmp_path, "alone")
    found = by_comparison(gather(tmp_path, []).records)
    assert {name: len(own) for name, own in found.items()} == {"single runs": 1, "mini": 8}
