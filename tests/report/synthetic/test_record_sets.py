"""Which records may be compared, and what is one method: read from settings, never from names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sorsa.report.record_sets import record_sets, role_of

MakeRecord = Callable[..., dict[str, Any]]


def test_roles_come_from_the_settings(make_record: MakeRecord) -> None:
    misnamed = {"group": "mini_lora"}
    assert role_of(make_record("sorsa", 0, **misnamed)) == "sorsa"
    assert role_of(make_record("sorsa_squared", 0, **misnamed)) == "sorsa_squared"
    assert role_of(make_record("sorsa_noreg", 0, **misnamed)) == "sorsa_noreg"
    assert role_of(make_record("sorsa_squared", 0, settings={"gamma": 0.0})) == "sorsa_noreg"
    assert role_of(make_record("pissa", 0, **misnamed)) == "pissa"


@pytest.mark.parametrize(
    "other",
    [
        {"model": "other/model"},
        {"train_dataset": "code"},
        {"test_file": None, "test_dataset": "math"},
        {"split": "[:10]"},
        {"max_steps": 7},
    ],
)
def test_models_and_data_are_never_mixed(make_record: MakeRecord, other: dict[str, Any]) -> None:
    records = [make_record("sorsa", 0), make_record("lora", 0, settings=other)]
    first, second = record_sets(records)
    assert first.name != second.name and first.slug != second.slug
    assert {len(one.groups) for one in (first, second)} == {1}
    (alone,) = record_sets(records[:1])
    assert alone.name == "demo/model, train.jsonl, test.jsonl" and alone.slug == ""


def test_sets_of_one_name_say_what_differs(make_record: MakeRecord) -> None:
    names = [one.name for one in record_sets([make_record("sorsa", 0, settings={"max_steps": n}) for n in (7, 8)])]
    assert [name.rpartition(", ")[2] for name in names] == ["max_steps 7", "max_steps 8"]


def test_only_finished_runs_of_the_chosen_rate(make_record: MakeRecord) -> None:
    chosen = [make_record("lora", seed) for seed in (1, 0)]
    tried = make_record("lora", 0, settings={"lr": 0.008}, verdicts={})
    running, diverged = make_record("lora", 2, status="running"), make_record("lora", 3, status="diverged")
    again = make_record("lora", 1, name="zzz")
    (one,) = record_sets([tried, running, *chosen, diverged, again])
    (group,) = one.groups
    assert [run["training"]["seed"] for run in group.runs] == [0, 1] and group.lr == 0.004
    assert group.left_out == one.left_out and len(group.left_out) == 4 and "zzz" in group.left_out


def test_a_method_whose_rate_is_not_chosen_yet_is_left_out(make_record: MakeRecord) -> None:
    """While a comparison is at work the rates of a grid are trained and none is tested: any curve would be a guess."""
    tried = [make_record("lora", 0, settings={"lr": lr}, verdicts={}) for lr in (0.002, 0.004)]
    tried[0]["verdicts"] = {"base-gsm-8k": {"questions": "q", "correct": "0"}}
    (one,) = record_sets([make_record("sorsa", 0), *tried])
    assert [group.role for group in one.groups] == ["sorsa"] and len(one.left_out) == 2
    (one,) = record_sets(tried[:1])  # the only rate: there is no choice
    assert [group.lr for group in one.groups] == [0.002]


def test_a_base_model_alone_is_no_method(make_record: MakeRecord) -> None:
    assert record_sets([make_record("sorsa", 0) | {"training": {}}]) == []


def test_two_groups_of_one_method_keep_their_names(make_record: MakeRecord) -> None:
    records = [make_record("sorsa", 0, group=f"r{rank}", settings={"rank": rank}) for rank in (16, 64)]
    (one,) = record_sets([*records, make_record("lora", 0)])
    assert [group.label for group in one.groups] == ["LoRA", "SORSA (r16)", "SORSA (r64)"]
