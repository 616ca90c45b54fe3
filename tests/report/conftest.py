"""Run folders and records as the product writes them, made without a training, and stand-ins for claims and figures."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

VERSIONS = {"sorsa": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0", "peft": "0.21.2", "fla-core": None}
ENVIRONMENT = {
    "versions": VERSIONS,
    "git": {"commit": "0123456789abcdef", "dirty": False},
    "host": {"name": "here", "cpu": "A CPU", "cpus": 2, "gpus": []},
}
SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" width="300pt" height="200pt" viewBox="0 0 300 200">'
    '<metadata>x</metadata><defs><clipPath id="p1"><rect width="300" height="200"/></clipPath>'
    '<path id="m1" d="M0 0L9 9"/></defs><g clip-path="url(#p1)"><use xlink:href="#m1" x="9" y="9"/>'
    '<image width="9" height="9" xlink:href="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlE'
    'QVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="/>'  # as a colour bar is drawn
    '<line x1="10" y1="190" x2="290" y2="10" stroke="black"/></g></svg>'
)


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, one a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def drift(dsigma: float, steps: Sequence[int] = (0, 10)) -> dict[str, Any]:
    """Return an analysis/drift.json with one matrix, whose dSigma grows to `dsigma`."""
    keys = ("dD", "dD_top", "condition_principal", "condition_merged", "orthonormality_U", "orthonormality_V")
    rows = [
        {"step": step, "dSigma": dsigma * step / steps[-1], "ties": 0, "effective_rank": None}
        | {key: 2 * dsigma for key in keys}
        for step in steps
    ]
    return {"schema": 1, "precision": "fp64", "mean": rows, "matrices": [{"name": "q", "layer": 0, "steps": rows}]}


def write_test(
    run: Path, right: str, dataset: str = "gsm-8k", kind: str = "merged", answers: Sequence[str] = (), **facts: Any
) -> None:
    """Write results/[base-]DATASET.json and .jsonl of a test.

    Args:
        run: The run's folder.
        right: A letter per question, 1 right and 0 wrong.
        dataset: The benchmark.
        kind: `merged` or `base`.
        answers: Texts of the first answers.
        **facts: Further columns of the result.
    """
    stem = dataset if kind == "merged" else f"{kind}-{dataset}"
    result = {
        "dataset": dataset,
        "source": "test.jsonl",
        "kind": kind,
        "rule": "ours",
        "accuracy": right.count("1") / len(right),
        "interval_95": [0.1, 0.9],
        "graded": len(right),
        "config": {"limit": None, "grading_rule": "ours", "decoding": "greedy", "stop_at_answer": True, "model": "m"},
        "environment": ENVIRONMENT,
    }
    rows = []
    for n, letter in enumerate(right):
        said = {"correct": letter == "1", "extracted": str(n), "reason": "", "how": None}
        text = answers[n] if n < len(answers) else f"{run.name} says {n}"
        row = {
            "index": n,
            "id": str(n),
            "prompt": f"Do it.\n\n### Q:\nHow many is {n}?\n\n### Response:",
            "gold": f"#### {n}",
        }
        rows.append(row | {"completion": text, **said, "verdicts": {"ours": said, "authors": said}})
    write_json(run / "results" / f"{stem}.json", result | facts)
    write_jsonl(run / "results" / f"{stem}.jsonl", rows)


def write_perplexity(run: Path, value: float, kind: str = "merged") -> None:
    """Write results/[base-]perplexity.json of a test."""
    stem = "perplexity" if kind == "merged" else f"{kind}-perplexity"
    facts = {
        "perplexity": value,
        "nll_per_token": math.log(value),
        "interval_95": [value - 1, value + 1],
        "text": {"sha256": "t"},
        "kind": kind,
    }
    write_json(run / "results" / f"{stem}.json", facts | {"dataset": "perplexity", "environment": ENVIRONMENT})
    write_jsonl(run / "results" / f"{stem}.jsonl", [{"window": 0, "tokens": 9, "nll": 1.0}])


def write_run(run_path: Path, name: str, peft: str = "sorsa", lr: float = 0.004, seed: int = 0, **facts: Any) -> Path:
    """Write the folder of a finished training without weights and return it; `facts` change its record.json."""
    run = run_path / name
    config = {"name": name, "peft": peft, "model": "m", "rank": 4, "lr": lr, "seed": seed, "truncation": "sample"}
    if peft == "sorsa":
        form = "squared" if "squared" in name else "frobenius"
        config |= {"gamma": 0.0 if "noreg" in name else 0.05, "regularizer_form": form, "regularizer_scaling": "as_run"}
    record = {"status": "finished", **ENVIRONMENT, "seed": seed, "config": config, "steps": 20, "steps_done": 20}
    record |= {"tokens": 1000, "seconds": 10.0, "trainable_parameters": 1234, "first_loss": 3.0, "last_loss": 0.5}
    write_json(run / "record.json", record | facts)
    noise = random.Random(f"{name}")
    rows = [
        {"step": n, "loss": 3 / n + 0.1 * noise.random(), "grad_norm": 1 / 3, "learning_rate": lr, "tokens": 50 * n}
        for n in range(1, 21)
    ]
    write_jsonl(run / "metrics.jsonl", rows)
    return run


def fill_comparison(run_path: Path, groups: Sequence[str], seeds: int = 3, questions: int = 40) -> Path:
    """Write comparison-mini with tested runs of some groups, analysed, with perplexities; and untested ones."""
    home = run_path / "comparison-mini"
    for index, group in enumerate(groups):
        peft = group.split("_")[1]
        for seed in range(seeds):
            run = write_run(home / "runs", f"{group}-lr0.004-seed{seed}", peft, seed=seed)
            luck = random.Random(f"{group} {seed}")
            write_test(run, "".join("01"[luck.random() < 0.3 + 0.05 * index] for _ in range(questions)))
            write_perplexity(run, 20.0 + index + seed)
            write_json(run / "analysis" / "drift.json", drift(0.1 * (index + 1) + 0.01 * seed))
        write_run(home / "runs", f"{group}-lr0.002-seed0", peft, lr=0.002)
    write_test(home / "runs" / f"{groups[0]}-lr0.004-seed0", "0" * questions, kind="base")
    write_perplexity(home / "base" / f"{groups[0]}-lr0.002-seed0", 6.0, "base")
    return home


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace the claims and the figures by quick ones; the value is what they were given, by the runs' names."""
    given: list[list[str]] = []

    def claims(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        given.append([record["name"] for record in records])
        row = {"claim": "converges faster", "measure": "loss", "against": "mini_lora", "n_seeds": 3}
        measured = {"difference": -0.25, "interval_95": [-0.5, -0.125], "holds": "yes", "text": "It is <lower>."}
        nothing = {"difference": None, "interval_95": None, "holds": "not measured", "text": "Nothing."}
        return [row | measured, row | nothing | {"claim": "forgets less", "measure": "perplexity", "n_seeds": 0}]

    def draw_all(records: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
        drawn = []
        for name in ("loss", "drift"):
            names = {kind: f"{name}.{kind}" for kind in ("svg", "png", "pdf")}
            for kind, file in names.items():
                (directory / file).write_text(SVG if kind == "svg" else kind, encoding="utf-8")
            drawn.append({"name": name, "title": f"The {name}", "caption": f"{len(records)} runs", **names})
        return drawn

    monkeypatch.setattr("sorsa.report.claims.claims", claims)
    monkeypatch.setattr("sorsa.report.figures.draw_all", draw_all)
    return given


@pytest.fixture
def make_report(tmp_path: Path, stand_ins: list[list[str]]) -> Callable[..., Path]:
    """A function that writes a report of run folders with the stand-ins and returns its folder."""
    from sorsa.report import report

    def make(run_path: Path, output: str = "report") -> Path:
        report(run_path, [], tmp_path / output)
        return tmp_path / output

    return make
