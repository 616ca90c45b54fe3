"""Run records put in order: sets that may be compared, and in each one the groups of seeds of one method.

A *set* has one model, one training set and one test; records of two sets never meet in a figure or a claim. A *group*
is one method with its seeds, at one learning rate; what it is (`role`) is read from the settings its runs were trained
with, never from its name.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

Record = dict[str, Any]

SORSA, SQUARED, UNREGULARIZED = "sorsa", "sorsa_squared", "sorsa_noreg"
LABELS = {
    "full": "Full FT",
    "partial": "Partial FT",
    "lora": "LoRA",
    "dora": "DoRA",
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "adalora": "AdaLoRA",
    "osora": "OSoRA",
    "vera": "VeRA",
    SORSA: "SORSA",
    SQUARED: "SORSA, squared",
    UNREGULARIZED: "SORSA, γ = 0",
}
NAMED = ("model", "train_dataset", "test_file")  # a set's name
# What else has to be the same for runs to have seen the same tokens; in the name only where two sets differ in it.
ALSO = ("revision", "split", "length", "truncation", "epochs", "max_steps", "global_batch")


@dataclasses.dataclass(frozen=True)
class Group:
    """One method with its seeds.

    Args:
        name: The name of its configuration.
        role: `sorsa` (with the regularizer as a mean of norms), `sorsa_squared`, `sorsa_noreg` (gamma is 0), or the
            `--peft` of another method.
        label: What a reader calls it; no two groups of a set share one.
        lr: The learning rate of its runs.
        runs: Records of its finished runs, one per seed, ascending.
        left_out: Names of runs that are not among them: unfinished, diverged, of another learning rate (tried and not
            chosen), or of a seed that is there already.
    """

    name: str
    role: str
    label: str
    lr: float | None
    runs: tuple[Record, ...]
    left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Records that may be compared with each other.

    Args:
        name: Model, training data and test, for a reader.
        slug: A short form for file names, empty where there is only one set.
        groups: In the order of `LABELS`, each with at least one run.
        left_out: Names of all runs that no group uses.
    """

    name: str
    slug: str
    groups: tuple[Group, ...]
    left_out: tuple[str, ...]

    def of_role(self, role: str) -> tuple[Group, ...]:
        """Return the groups of one role; two where, say, SORSA ran with two ranks."""
        return tuple(group for group in self.groups if group.role == role)


def role_of(record: Record) -> str:
    """Return what a run's method is, from the settings it was trained with.

    Args:
        record: A run's record.
    """
    config = record["training"]["config"]
    if config["peft"] != SORSA:
        return config["peft"]
    if config.get("gamma") == 0:
        return UNREGULARIZED
    return SQUARED if config.get("regularizer_form") == "squared" else SORSA


def seed_of(record: Record) -> int:
    """Return the seed that a run was trained with."""
    return record["training"]["config"]["seed"]


def record_sets(records: Iterable[Record]) -> list[RecordSet]:
    """Return the sets of comparable records, by name.

    Args:
        records: Records of any models and data, in any order.
    """
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if (record["training"].get("config") or {}).get("peft"):  # else it was not trained here, but tested as it is
            found.setdefault(_key(record), []).append(record)
    names, slugs = _names(list(found)), _slugs(list(found))
    sets: list[RecordSet] = []
    for key, members in found.items():
        groups = _groups(members)
        used = {run["name"] for group in groups for run in group.runs}
        left_out = sorted(record["name"] for record in members if record["name"] not in used)
        sets.append(RecordSet(names[key], slugs[key], groups, tuple(left_out)))
    return sorted(sets, key=lambda one: one.name)


def _key(record: Record) -> tuple[str, ...]:
    """Return what tells the sets apart, as text (JSON has lists, which cannot be keys)."""
    training = record["training"]
    config = training["config"] | {"global_batch": training.get("global_batch")}
    config |= {"test_file": config.get("test_file") or config.get("test_dataset")}
    return tuple("" if config.get(name) is None else str(config[name]) for name in (*NAMED, *ALSO))


def _names(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return key -> name; sets that share model, data and test also say in what else they differ."""
    names = {}
    for key in keys:
        alike = [other for other in keys if other[: len(NAMED)] == key[: len(NAMED)]]
        more = [
            f"{setting} {value or 'none'}"
            for setting, value, *others in zip((*NAMED, *ALSO), key, *alike, strict=True)
            if len(set(others)) > 1
        ]
        names[key] = ", ".join([*filter(None, key[: len(NAMED)]), *more])
    return names


def _slugs(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return key -> short form of the model's name, numbered where two sets share it; empty for a single set."""
    if len(keys) == 1:
        return {keys[0]: ""}
    slugs, times = {}, Counter()
    for key in sorted(keys):
        slug = re.sub(r"[^A-Za-z0-9]+", "-", key[0]).strip("-").lower() or "model"
        times[slug] += 1
        slugs[key] = slug if times[slug] == 1 else f"{slug}-{times[slug]}"
    return slugs


def _groups(records: Sequence[Record]) -> tuple[Group, ...]:
    """Return the groups of one set, those of known roles in the order of `LABELS`, then the others."""
    by_name: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        by_name.setdefault((role_of(record), record["group"]), []).append(record)
    roles = Counter(role for (role, _), members in by_name.items() if any(map(_finished, members)))
    order = {role: index for index, role in enumerate(LABELS)}
    groups: list[Group] = []
    for (role, name), members in sorted(by_name.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])):
        label = LABELS.get(role, role)
        group = _group(name, role, label if roles[role] < 2 else f"{label} ({name})", members)
        if group.runs:
            groups.append(group)
    return tuple(groups)


def _group(name: str, role: str, label: str, records: Sequence[Record]) -> Group:
    """Return a group with its finished runs of one learning rate: the one with the most tested runs, then most runs.

    Learning rates that were tried and not chosen have one run each, and no test. Where several were tried and none is
    tested yet, none is chosen, and there are no runs.
    """
    by_lr: dict[float | None, dict[int, Record]] = {}
    for record in sorted(filter(_finished, records), key=lambda one: one["name"]):
        by_lr.setdefault(record["training"]["config"].get("lr"), {}).setdefault(seed_of(record), record)

    def tested(lr: float | None) -> int:
        return sum(any(not stem.startswith("base-") for stem in run["verdicts"]) for run in by_lr[lr].values())

    lr = max(by_lr, key=lambda lr: (tested(lr), len(by_lr[lr]), -(lr or 0.0)), default=None)
    chosen = bool(by_lr) and (len(by_lr) == 1 or tested(lr) > 0)
    runs = tuple(by_lr[lr][seed] for seed in sorted(by_lr[lr])) if chosen else ()
    used = {run["name"] for run in runs}
    left_out = sorted(record["name"] for record in records if record["name"] not in used)
    return Group(name, role, label, lr, runs, tuple(left_out))


def _finished(record: Record) -> bool:
    """Return whether a run was trained to its end; the others' last values are of another number of steps."""
    return record["training"].get("status") == "finished"
