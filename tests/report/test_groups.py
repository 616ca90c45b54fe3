"""The table of a comparison: means over seeds and matrices, the interval, the base model, and what is left out."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from sorsa.evaluation.statistics import seeds_and_questions_interval, wilson_interval
from sorsa.report.groups import accuracy, by_comparison, comparison_table
from sorsa.report.measures import final_loss
from sorsa.report.sources import gather
from sorsa.report.tables import Estimate
from tests.report import conftest as made


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    """A comparison of two configurations with three seeds each, a candidate without a test for each."""
    made.fill_comparison(tmp_path, ["mini_lora", "mini_sorsa"])
    return gather(tmp_path, []).records


def of_group(records: list[dict], group: str) -> list[dict]:
    """Return the tested records of a group."""
    return [record for record in records if record["group"] == group and record["verdicts"]]


def test_the_rows_are_the_base_model_and_the_groups_of_tested_runs(records: list[dict]) -> None:
    assert len(records) == 8
    rows = comparison_table("mini", records).rows
    assert [(row["group"], row.get("seeds")) for row in rows] == [
        ("base model", None),
        ("mini_lora", 3),
        ("mini_sorsa", 3),
    ]
    assert {(row["comparison"], row["set"]) for row in rows} == {("mini", "m")}


def test_the_row_of_a_group(records: list[dict]) -> None:
    base, lora, sorsa = comparison_table("mini", records).rows
    own = of_group(records, "mini_sorsa")
    verdicts = [record["verdicts"]["gsm-8k"]["correct"] for record in own]
    spread = seeds_and_questions_interval([[letter == "1" for letter in row] for row in verdicts])
    shares = [row.count("1") / 40 for row in verdicts]
    assert sorsa["gsm-8k"].value == pytest.approx(statistics.fmean(shares))
    assert sorsa["gsm-8k"].interval == spread.interval_95
    assert sorsa["gsm-8k"].sd == pytest.approx(statistics.stdev(shares))
    assert sorsa["perplexity_after"].value == pytest.approx(22.0) and sorsa["perplexity_after"].sd == 1.0
    assert sorsa["perplexity_before"].value == 6.0
    assert (sorsa["seeds"], sorsa["lr"], sorsa["method"], lora["method"]) == (3, 0.004, "SORSA", "LoRA")
    assert sorsa["seconds_per_step"].value == 0.5
    assert sorsa["loss"].value == pytest.approx(statistics.fmean(map(final_loss, own)))
    assert (base["group"], base["gsm-8k"].value, base["perplexity_before"].value) == ("base model", 0.0, 6.0)


def test_the_weights_of_a_group(records: list[dict]) -> None:
    sorsa = comparison_table("mini", records).rows[2]
    assert sorsa["dSigma"].value == pytest.approx(0.21) and sorsa["dSigma"].sd == pytest.approx(0.01)
    assert "effective_rank" not in sorsa  # null in the analyses
    geometric = math.prod([0.4, 0.42, 0.44]) ** (1 / 3)  # one matrix: over seeds the mean is an ordinary one
    assert sorsa["condition_merged"].value == pytest.approx(0.42) != pytest.approx(geometric, rel=1e-6)
    assert sorsa["left_out"] is None


def test_condition_numbers_are_averaged_geometrically_and_infinite_ones_are_left_out(records: list[dict]) -> None:
    for record in of_group(records, "mini_sorsa"):
        (one,) = record["drift"]["matrices"]
        for name, condition in (("k", 8.0), ("v", None)):
            steps = [row | {"condition_merged": condition, "dSigma": 1.0} for row in one["steps"]]
            record["drift"]["matrices"].append(one | {"name": name, "steps": steps})
        one["steps"][-1]["condition_merged"] = 2.0
    row = comparison_table("mini", records).rows[2]
    assert row["condition_merged"].value == pytest.approx(4.0)  # sqrt(2 x 8)
    assert row["dSigma"].value == pytest.approx((0.21 + 1 + 1) / 3)
    assert row["left_out"] == "condition number merged: 1"
    assert comparison_table("mini", records).rows[1]["left_out"] is None


def test_no_mean_where_most_condition_numbers_are_infinite(records: list[dict]) -> None:
    """As of AdaLoRA, which cuts triplets: the mean of the one matrix that kept all would look like the best of all."""
    for record in of_group(records, "mini_sorsa"):
        (one,) = record["drift"]["matrices"]
        steps = [row | {"condition_principal": None} for row in one["steps"]]
        record["drift"]["matrices"] += [one | {"name": name, "steps": steps} for name in ("k", "v")]
    row = comparison_table("mini", records).rows[2]
    assert (row["condition_principal"], row["left_out"]) == ("none in 2 of 3", None)
    assert row["condition_merged"].value == pytest.approx(0.42)


def a_test(questions: str, correct: str, **facts: Any) -> dict[str, Any]:
    """Return what of a record says how it was tested."""
    verdicts = {"gsm-8k": {"questions": questions, "correct": correct}}
    return {"results": {"gsm-8k": {"dataset": "gsm-8k"} | facts}, "verdicts": verdicts}


def test_accuracy_of_one_seed_is_wilsons() -> None:
    one = accuracy([a_test("q", "0111")], "gsm-8k")
    assert (one.value, one.interval, one.sd) == (0.75, wilson_interval(3, 4), None)


def test_accuracy_needs_the_same_test_of_every_seed() -> None:
    same = a_test("q", "01")
    assert accuracy([same, same], "gsm-8k").value == 0.5
    for other in (a_test("p", "01"), a_test("q", "01", rule="authors"), a_test("q", "01", max_new_tokens=9)):
        assert accuracy([same, other], "gsm-8k") is None
    assert accuracy([same, same], "math") is None
    assert accuracy([], "gsm-8k") is None


@pytest.mark.parametrize("other", [{"text": {"sha256": "another"}}, {"windows": {"context": 9}}, {"precision": "fp16"}])
def test_a_perplexity_of_another_text_or_way_is_not_what_was_before(records: list[dict], other: dict) -> None:
    for record in records:
        record["results"]["base-perplexity"] |= other
    assert comparison_table("mini", records).rows[1]["perplexity_before"] is None


def test_an_interval_without_end_is_none(records: list[dict]) -> None:
    for record in records:
        record["results"]["base-perplexity"]["interval_95"] = [6.0, None]  # an overflow, as a record has it
    assert comparison_table("mini", records).rows[0]["perplexity_before"] == Estimate(6.0)


def test_a_mean_needs_every_seed(records: list[dict]) -> None:
    of_group(records, "mini_lora")[0]["drift"] = None
    rows = comparison_table("mini", records).rows
    assert "dD" not in rows[1] and rows[2]["dD"] is not None


def test_other_data_have_rows_of_their_own(records: list[dict]) -> None:
    for record in of_group(records, "mini_lora"):
        record["training"]["config"]["split"] = "[:9]"
    names = [(row["group"], row["set"]) for row in comparison_table("mini", records).rows]
    assert names == [  # which share the base model
        ("base model", "m, split [:9]"),
        ("mini_lora", "m, split [:9]"),
        ("base model", "m, split none"),
        ("mini_sorsa", "m, split none"),
    ]


def test_records_by_comparison(tmp_path: Path, records: list[dict]) -> None:
    made.write_run(tmp_path, "alone")
    found = by_comparison(gather(tmp_path, []).records)
    assert {name: len(own) for name, own in found.items()} == {"single runs": 1, "mini": 8}
