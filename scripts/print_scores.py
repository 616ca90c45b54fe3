"""Prints a run's score beside its base model's, both with 95% Wilson intervals: the end of scripts/demo.sh.

python scripts/print_scores.py runs/demo_sorsa_r16 gsm-8k
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sorsa.evaluation.statistics import wilson_interval

# What to try after a run of the demo, and after one of its RWKV6.
NEXT = {
    "llama": (
        ("demo_lora_r16 --train", "LoRA on the same model; then --merge and --test"),
        ("smollm2_sorsa_r16 --train", "a real model, from the hub"),
        ("llama2_sorsa_r128 --train", "the paper's run, on an 80 GB GPU"),
    ),
    "rwkv6": (
        ("demorwkv6_sorsa_r16 --test --engine rwkv --overwrite", "the same test in the runtime `rwkv`"),
        ("demo_sorsa_r16 --train", "a Llama on the same problems; then --merge and --test"),
        ("rwkv6_sorsa_r64 --train", "the paper's run, on an 80 GB GPU"),
    ),
}


def score(rows: Path) -> tuple[int, int]:
    """Return the numbers of right answers and of questions in a results/DATASET.jsonl."""
    verdicts = [json.loads(line)["correct"] for line in rows.read_text(encoding="utf-8").splitlines()]
    return sum(verdicts), len(verdicts)


def table(run: Path, dataset: str) -> str:
    """Return the lines of base and run.

    Args:
        run: A run folder in which both were tested.
        dataset: The benchmark's name.
    """
    merged = f"{run.name}, merged"
    width = max(24, len(merged) + 1)
    lines = [f"{dataset:<{width}}{'right':>7}{'of':>6}{'accuracy':>10}   95% interval"]
    for title, stem in (("base model", f"base-{dataset}"), (merged, dataset)):
        right, total = score(run / "results" / f"{stem}.jsonl")
        low, high = (100 * bound for bound in wilson_interval(right, total))
        lines.append(f"{title:<{width}}{right:>7}{total:>6}{100 * right / total:>9.1f}%   {low:.1f} to {high:.1f}%")
    return "\n".join(lines)


def main(run: Path, dataset: str) -> None:
    """Print the table, where everything is, and what to try next."""
    print(f"\n{table(run, dataset)}\n")
    print(f"run folder: {run.resolve()}")
    print("  metrics.jsonl (one row per step), adapter/ (PEFT), merged/ (Hugging Face), results/ (every question)\n")
    print("try next (after: source .venv/bin/activate)")
    steps = NEXT["rwkv6" if "rwkv6" in run.name else "llama"]
    width = max(len(command) for command, _ in steps)
    for command, what in steps:
        print(f"  python run.py --name {command:<{width}}   {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
