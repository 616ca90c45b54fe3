"""The table of all runs: what each was, cost and reached, and where, with which code and versions it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sorsa.report.groups import SINGLE, learning_rate
from sorsa.report.records import BASE
from sorsa.report.sources import PACKAGES
from sorsa.report.tables import Column, Estimate, Table, bounds


def runs_table(records: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each record.

    Args:
        records: All, tested or not.
    """
    stems = sorted({stem for record in records for stem in record["results"]}, key=lambda stem: (_rank(stem), stem))
    columns = [Column("run", "run"), Column("comparison", "comparison"), Column("status", "status")]
    columns += [Column("method", "method"), Column("model", "base model"), Column("rank", "rank", "plain")]
    columns += [Column("trainable_parameters", "trainable parameters", "count"), Column("lr", "learning rate", "rate")]
    columns += [Column("seed", "seed", "plain"), Column("steps", "steps", "count"), Column("tokens", "tokens", "count")]
    columns += [Column("seconds", "seconds", "seconds"), Column("last_loss", "last loss", "loss")]
    columns += [_result_column(stem, records) for stem in stems]
    columns += [Column("git", "commit"), Column("versions", "versions"), Column("host", "machine")]
    about = (
        "Every run that was read, also those that were only validated, stopped or diverged. Accuracies in percent with "
        "the 95% interval of their questions, perplexities with that of the text's windows; the last "
        f"loss is that of the last step. Made with {_commits(records)}."
    )
    return Table("runs", "Runs", about, tuple(columns), tuple(_row(record, stems) for record in records))


def _rank(stem: str) -> bool:
    """Return the order of results: those of the base model last."""
    return stem.startswith(BASE)


def _result_column(stem: str, records: Sequence[dict[str, Any]]) -> Column:
    """Return the column of a kind of result."""
    graded = any("accuracy" in record["results"].get(stem, {}) for record in records)
    return Column(stem, f"{stem}, %" if graded else stem, "percent" if graded else "number", ("interval",))


def _row(record: dict[str, Any], stems: Sequence[str]) -> dict[str, Any]:
    """Return the row of one run."""
    training = record["training"]
    test = next(iter(record["results"].values()), {})
    config = training.get("config") or {}
    facts = training if training.get("versions") else test.get("environment") or {}
    row = {
        "run": record["name"],
        "comparison": record["comparison"] or SINGLE,
        "status": training.get("status") or "only tested",
        "method": config.get("peft"),
        "model": config.get("model") or (test.get("config") or {}).get("model"),
        "rank": config.get("rank"),
        "lr": learning_rate(record),
        "steps": training.get("steps_done"),
        **{key: training.get(key) for key in ("trainable_parameters", "seed", "tokens", "seconds", "last_loss")},
        "git": commit(facts),
        "versions": _versions(facts.get("versions") or {}),
        "host": _host(facts.get("host") or {}),
    }
    return row | {stem: _score(record["results"].get(stem)) for stem in stems}


def _score(result: dict[str, Any] | None) -> Estimate | str | None:
    """Return what a test found, with its interval; in words where only some of the questions were asked."""
    value = (result or {}).get("accuracy", (result or {}).get("perplexity"))
    if value is None:
        return None
    limit = (result.get("config") or {}).get("limit")
    if limit:
        return f"{100 * value:.1f} (first {limit} questions)"
    return Estimate(value, bounds(result.get("interval_95")))


def commit(facts: dict[str, Any]) -> str | None:
    """Return the beginning of a git commit, and whether files differed from it; None where it was not recorded.

    Args:
        facts: With `git`, as `sorsa.run_folder.environment` gives it.
    """
    git = facts.get("git") or {}
    return f"{git['commit'][:7]}{', changed' if git.get('dirty') else ''}" if git.get("commit") else None


def _commits(records: Sequence[dict[str, Any]]) -> str:
    """Return how many runs were made with which code."""
    counts = Counter(commit(record["training"]) or "a commit that is not recorded" for record in records)
    return ", ".join(f"{name} ({count} run{'s' * (count > 1)})" for name, count in counts.items())


def _versions(versions: dict[str, str | None]) -> str | None:
    """Return the versions that decide about numbers."""
    return ", ".join(f"{name} {versions[name]}" for name in PACKAGES if versions.get(name)) or None


def _host(host: dict[str, Any]) -> str | None:
    """Return a machine's name, processor, cores and GPUs."""
    cores = f"{host['cpus']} cores" if host.get("cpus") else None
    gpus = [gpu.get("name") for gpu in host.get("gpus") or []]
    return ", ".join(filter(None, [host.get("name"), host.get("cpu"), cores, *gpus])) or None
