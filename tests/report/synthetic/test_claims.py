"""Claims on made-up records of which the truth is known: found, denied, left open, or said to be not measured."""

from __future__ import annotations

import copy
import math
import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from sorsa.report.claims import claims

MakeRecord = Callable[..., dict[str, Any]]
SEEDS = (42, 43, 44, 45)
PAIR = ("sorsa", "lora")


@pytest.fixture
def pair(make_record: MakeRecord) -> Callable[..., list[dict[str, Any]]]:
    """Return records of SORSA and one rival that differ in what the test says: name of a value -> (ours, theirs)."""

    def make(
        rival: str = "lora", seeds: tuple[int, ...] = SEEDS, **values: tuple[float, float]
    ) -> list[dict[str, Any]]:
        sides = [{name: value[side] for name, value in values.items()} for side in (0, 1)]
        ours = [make_record("sorsa", seed, **sides[0]) for seed in seeds]
        return ours + [make_record(rival, seed, **sides[1]) for seed in seeds]

    return make


def said(records: list[dict[str, Any]], claim: str, against: str = "LoRA") -> list[dict[str, Any]]:
    """Return the rows of one claim (its beginning) against one rival."""
    return [row for row in claims(records) if row["claim"].startswith(claim) and row["against"] == against]


CASES = [
    ("converges faster", "lora", "final_loss", 0.3, 0.5, 4),
    ("changes singular values less", "lora", "drift", 0.1, 0.2, 1),
    ("changes singular vectors less", "sorsa_noreg", "drift", 0.1, 0.2, 1),
    ("the regularizer (mean of norms)", "sorsa_noreg", "kappa", 8.0, 12.0, 1),
    ("more accurate", "lora", "accuracy", 0.8, 0.4, 1),
    ("forgets less", "lora", "nats", 1.3, 1.6, 1),
]


@pytest.mark.parametrize(("claim", "rival", "value", "better", "worse", "measures"), CASES)
def test_a_difference_is_found_in_its_direction(
    pair: Callable[..., list[dict[str, Any]]],
    claim: str,
    rival: str,
    value: str,
    better: float,
    worse: float,
    measures: int,
) -> None:
    against = {"lora": "LoRA", "sorsa_noreg": "SORSA, γ = 0"}[rival]
    found = said(pair(rival, **{value: (better, worse)}), claim, against)
    assert len(found) == measures and {row["holds"] for row in found} == {"yes"}
    for row in found:
        low, high = row["interval_95"]
        assert low < row["difference"] < high and row["n_seeds"] == len(SEEDS) and row["method"] == "SORSA"
    reversed_ = said(pair(rival, **{value: (worse, better)}), claim, against)
    assert {row["holds"] for row in reversed_ if not row["measure"].startswith("steps until")} == {"no"}
    same = said(pair(rival, **{value: (better, better)}), claim, against)
    assert "yes" not in {row["holds"] for row in same[:1]} and "no" not in {row["holds"] for row in same[:1]}


def test_effects_are_in_the_text(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair("sorsa_noreg", kappa=(8.0, 16.0), accuracy=(0.75, 0.5), nats=(1.3, 1.4), final_loss=(0.4, 0.4))
    (kappa,) = said(records, "the regularizer (mean", "SORSA, γ = 0")
    factor = math.exp(kappa["difference"])
    assert 0.4 < factor < 0.6 and f"a factor of {factor:.4g} (95% " in kappa["text"]
    assert f", {factor - 1:+.1%};" in kappa["text"] and "Step 40, 2 matrices." in kappa["text"]
    (accuracy,) = said(records, "more accurate", "SORSA, γ = 0")
    assert " points (95% " in accuracy["text"] and "counts 4 and 4 seeds and 60 questions" in accuracy["text"]
    (forgot,) = said(records, "forgets less", "SORSA, γ = 0")
    assert "over the base model's" in forgot["measure"] and "times the other's" in forgot["text"]
    assert 0 < forgot["difference"] + 0.2 < 0.2  # nats per token: about 0.1 against 0.2 over the base's 1.2
    assert "Learning rates 0.004 and 0.004." in forgot["text"] and "paired over 4 seeds" in forgot["text"]


def test_the_number_of_comparisons_is_said(make_record: MakeRecord) -> None:
    records = [make_record(method, seed) for method in ("sorsa", "lora", "pissa", "dora") for seed in SEEDS]
    rows = claims(records)
    accuracies = [row for row in rows if row["claim"].startswith("more accurate") and row["interval_95"]]
    assert len(accuracies) == 3 and all("adjusted for 3 comparisons" in row["text"] for row in accuracies)
    others = [row for row in rows if row["interval_95"] and row not in accuracies]
    assert all(f"One of {len(others) + 3} intervals, not corrected" in row["text"] for row in others)


def test_one_seed_shows_nothing(pair: Callable[..., list[dict[str, Any]]]) -> None:
    rows = [row for row in claims(pair(seeds=(42,), accuracy=(1.0, 0.0))) if row["against"] == "LoRA"]
    assert {row["holds"] for row in rows} == {"not shown"}
    assert all(row["interval_95"] is None and row["n_seeds"] == 1 and row["difference"] is not None for row in rows)


def test_unequal_seeds_are_not_paired(make_record: MakeRecord) -> None:
    records = [make_record("sorsa", seed, final_loss=0.3) for seed in (1, 2, 3)]
    records += [make_record("lora", seed, final_loss=0.9) for seed in (1, 2)]
    rows = said(records, "converges faster")
    assert all("3 against 2 seeds" in row["text"] and row["n_seeds"] == 2 for row in rows)
    assert {row["holds"] for row in rows[:1]} <= {"yes", "not shown"}


def test_who_is_missing_is_not_measured(pair: Callable[..., list[dict[str, Any]]]) -> None:
    rows = claims(pair())
    missing = [row for row in rows if row["against"] in ("PiSSA", "Full FT", "Partial FT", "AdaLoRA")]
    assert missing and {row["holds"] for row in missing} == {"not measured"}
    assert all(
        row["difference"] is None and row["text"].startswith("Not measured: no finished run of") for row in missing
    )
    (squared,) = [row for row in rows if row["claim"].startswith("the regularizer (squared)")]
    assert squared["text"] == "Not measured: no finished run of SORSA, squared or SORSA, γ = 0."
    assert claims([record for record in pair() if record["group"] == "mini_lora"]) == []


def test_what_is_missing_is_not_measured(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair()
    for record in records[: len(SEEDS)]:
        record |= {"drift": None, "metrics": {}, "verdicts": {}, "results": {}}
    rows = [row for row in claims(records) if row["against"] == "LoRA"]
    assert {row["holds"] for row in rows} == {"not measured"} and len(rows) == 8


def test_other_questions_and_texts_are_not_compared(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair(accuracy=(0.9, 0.1), nats=(1.3, 1.6))
    for record in records[len(SEEDS) :]:
        record["verdicts"]["gsm-8k"] = record["verdicts"]["gsm-8k"] | {"questions": "others"}
        record["results"]["perplexity"] |= {"text": {"sha256": "another"}}
    for claim in ("more accurate", "forgets less"):
        (row,) = said(records, claim)
        assert row["holds"] == "not measured" and "same" in row["text"]


def test_without_the_base_perplexities_are_still_compared(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair(nats=(1.3, 1.6))
    (before,) = said(records, "forgets less")
    for record in records:
        del record["results"]["base-perplexity"]
    (row,) = said(records, "forgets less")
    assert row["difference"] == pytest.approx(before["difference"]) and "base model's is not known" in row["measure"]


def test_infinite_condition_numbers(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair("sorsa_noreg", kappa=(8.0, 12.0))
    for record in records:  # as LoRA's product, 0 at the start
        record["drift"]["matrices"][0]["steps"][0]["condition_principal"] = None
    (row,) = said(records, "the regularizer (mean", "SORSA, γ = 0")
    assert row["holds"] == "yes" and "2 matrices." in row["text"]
    worse = copy.deepcopy(records)
    worse[0]["drift"]["matrices"][1]["steps"][-1]["condition_principal"] = None
    (row,) = said(worse, "the regularizer (mean", "SORSA, γ = 0")
    assert row["holds"] == "not measured" and "1 of 2 matrices have no finite condition_principal" in row["text"]


def test_the_last_step_is_every_runs_last(pair: Callable[..., list[dict[str, Any]]]) -> None:
    records = pair("sorsa_noreg", kappa=(8.0, 12.0))
    for matrix in records[0]["drift"]["matrices"]:
        del matrix["steps"][-1]  # its snapshot was damaged and deleted
    for claim in ("the regularizer (mean", "changes singular vectors less"):
        (row,) = said(records, claim, "SORSA, γ = 0")
        assert row["holds"] == "not measured" and "at a last step that all runs have" in row["text"]


def test_a_loss_that_is_never_reached(pair: Callable[..., list[dict[str, Any]]]) -> None:
    *_, row = said(pair(final_loss=(0.9, 0.3)), "converges faster")
    assert row["measure"].startswith("steps until") and row["difference"] > 0 and row["holds"] != "yes"
    assert "4 of 4 seeds of SORSA never get there and count as the whole run" in row["text"]
    *_, row = said(pair(final_loss=(0.3, 0.9)), "converges faster")
    assert row["holds"] == "yes" and "never" not in row["text"]


def test_one_seed_that_never_arrives_is_enough_not_to_show_it(pair: Callable[..., list[dict[str, Any]]]) -> None:
    """It counts as the whole run, which is less than it would have needed: no difference is in its favour."""
    seeds = tuple(range(1, 9))
    records, late = pair(final_loss=(0.3, 0.9), seeds=seeds), pair(final_loss=(2.0, 0.9), seeds=seeds)
    records[0] = late[0]
    *_, row = said(records, "converges faster")
    assert row["interval_95"][1] < 0 and "1 of 8 seeds of SORSA never get there" in row["text"]
    assert row["holds"] == "not shown"


@pytest.mark.parametrize(
    "other",
    [{"rule": "authors"}, {"precision": "fp32"}, {"settings": {"prompts": "others"}}, {"source": "other.jsonl"}],
    ids=str,
)
def test_other_tests_of_as_many_questions_are_not_compared(
    pair: Callable[..., list[dict[str, Any]]], other: dict[str, Any]
) -> None:
    records = pair(accuracy=(0.9, 0.1))
    (row,) = said(records, "more accurate")
    assert row["holds"] == "yes"
    for record in records[: len(SEEDS)]:
        record["results"]["gsm-8k"] |= other
    (row,) = said(records, "more accurate")
    assert row["holds"] == "not measured" and "no verdicts of the same test" in row["text"]


def test_models_are_not_mixed(pair: Callable[..., list[dict[str, Any]]], make_record: MakeRecord) -> None:
    other = [make_record("lora", seed, settings={"model": "other"}, accuracy=0.0) for seed in SEEDS]
    rows = claims([*pair(accuracy=(0.5, 0.9)), *other])
    assert {row["set"] for row in rows} == {"demo/model, train.jsonl, test.jsonl"}
    (row,) = [row for row in rows if row["claim"] == "more accurate than LoRA"]
    assert row["holds"] == "no"


def test_convergence_is_measured_as_it_says(pair: Callable[..., list[dict[str, Any]]]) -> None:
    """Means of the loss over all 40 steps, the first 13 and the last 2; steps to the same seed's final loss."""
    records = pair(final_loss=(0.3, 0.5))
    sides = [[record["metrics"]["loss"] for record in records if record["group"] == f"mini_{name}"] for name in PAIR]
    for row, part in zip(said(records, "converges faster"), (slice(40), slice(13), slice(38, 40)), strict=False):
        ours, theirs = (statistics.fmean(statistics.fmean(loss[part]) for loss in side) for side in sides)
        assert row["difference"] == pytest.approx(ours - theirs), row["measure"]
    steps = [[], []]
    for losses in zip(*sides, strict=True):
        target = statistics.fmean(losses[1][38:])
        for index, loss in enumerate(losses):
            steps[index].append(next(t for t in range(2, 41) if statistics.fmean(loss[t - 2 : t]) <= target + 1e-9))
    *_, row = said(records, "converges faster")
    assert row["difference"] == pytest.approx(statistics.fmean(steps[0]) - statistics.fmean(steps[1]))
    assert row["text"].startswith(f"{statistics.fmean(steps[0]):.4g} (SORSA) against ")
    assert len({*steps[0]}) > 1  # another target for each seed, or the test says nothing


def test_accuracies_are_adjusted_for_their_number(make_record: MakeRecord) -> None:
    sides = {"sorsa": 0.6, "lora": 0.55, "pissa": 0.3, "full": 0.5}
    records = [make_record(name, seed, accuracy=value) for name, value in sides.items() for seed in SEEDS]
    rows = [row for row in claims(records) if row["claim"].startswith("more accurate") and row["n_seeds"]]
    pattern = r"(p [=<] [\d.]+), adjusted for 3 comparisons of accuracy \(Holm\) (p [=<] [\d.]+)\."
    found = [re.search(pattern, row["text"]).groups() for row in rows]
    raw, adjusted = ([float(text.split()[-1]) for text in side] for side in zip(*found, strict=True))
    order = sorted(range(3), key=raw.__getitem__)
    assert raw[order[0]] <= 0.001 and adjusted[order[0]] <= 0.003
    assert adjusted[order[1]] == pytest.approx(min(1, 2 * raw[order[1]]), rel=0.1)
    assert adjusted[order[2]] == pytest.approx(max(raw[order[2]], adjusted[order[1]]), rel=0.1)


def test_an_accuracy_holds_only_where_the_adjusted_p_value_says_so(make_record: MakeRecord) -> None:
    rivals = ("lora", "pissa", "full", "partial", "adalora", "dora", "olora")
    sides = {"sorsa": 0.6} | dict.fromkeys(rivals, 0.52)
    records = [make_record(name, seed, accuracy=value) for name, value in sides.items() for seed in SEEDS]
    rows = [row for row in claims(records) if row["claim"].startswith("more accurate")]
    clear = [row for row in rows if row["interval_95"][0] > 0]
    adjusted = [float(re.search(r"\(Holm\) p = ([\d.]+)\.", row["text"])[1]) for row in clear]
    assert min(adjusted) < 0.05 < max(adjusted)
    assert [row["holds"] for row in clear] == ["yes" if p < 0.05 else "not shown" for p in adjusted]


def test_a_perplexity_beyond_all_numbers(pair: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = said(pair(nats=(900.0, 1.5)), "forgets less")
    assert row["holds"] == "no" and "Perplexity is more than 1e300 times the other's." in row["text"]


def test_a_ratio_beyond_all_numbers(pair: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = said(pair("sorsa_noreg", kappa=(1e308, 1e-308)), "the regularizer (mean of norms)", "SORSA, γ = 0")
    assert row["holds"] == "no" and "a factor of more than 1e300 (95% more than 1e300 to" in row["text"]
    assert "%" not in row["text"].split("more than 1e300)")[1].split(";")[0]
