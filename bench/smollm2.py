"""LoRA, PiSSA and SORSA on SmolLM2-135M with GSM-8K's own training rows: equal steps, several seeds.

    python bench/smollm2.py --model SMOLLM2_DIR --train gsm8k_train.jsonl --test gsm8k_test.jsonl --text ENGLISH.txt

First a pilot: each method takes a few steps with the learning rates of one grid, and keeps the one with the lowest loss
of the last quarter. No row is read twice, so that the loss of a step is that of unseen rows. Then `--compare` runs all
seeds. --processes methods are at work at a time (set OMP_NUM_THREADS to its share of the cores). Everything lies under
--output and goes on where it was stopped. The text shows what was forgotten.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from sorsa.files import write_whole
from sorsa.run_folder import RunFolder, read_metrics

RUN = str(Path(__file__).resolve().parent.parent / "run.py")
METHODS = ("sorsa", "lora", "pissa")
LR_GRID = (2.5e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
LR_TRIED = (2, 7)  # of LR_GRID, by every method; a method whose best one lies at an end tries the next one too
GAMMA = 0.2083 * 64  # gamma / lr: the regularizer's weight in the paper's runs, 0.208
_CALCULATOR = re.compile(r"<<[^>]*>>")  # GSM-8K's notes for a calculator inside its solutions


def write_rows(source: Path, target: Path) -> None:
    """Write GSM-8K's rows in MetaMathQA's columns and with its last line."""
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        solution, _, number = _CALCULATOR.sub("", row["answer"]).partition("####")
        response = f"{solution.strip()}\nThe answer is: {number.strip()}"
        rows.append(json.dumps({"query": row["question"], "response": response}) + "\n")
    write_whole(target, "".join(rows))


def settings(args: argparse.Namespace, method: str, lr: float) -> dict[str, object]:
    """Return the settings of one method."""
    common = {"model": str(args.model), "local": True, "train_dataset": str(args.output / "rows.jsonl")}
    common |= {
        "peft": method,
        "rank": 16,
        "lr": lr,
        "seed": 0,
        "batch_size": args.batch_size,
        "accum_steps": 1,
        "length": 384,
    }
    common |= {"mix_precision": ["bf16"], "workers": 1, "max_steps": args.steps, "snapshots": 2}
    common |= {"test_dataset": "gsm-8k", "test_file": str(args.test), "limit": args.questions, "max_new_tokens": 200}
    common |= {"valid_batch_size": 16, "forgetting_file": str(args.text), "run_path": str(args.output)}
    return common | ({"gamma": float(f"{GAMMA * lr:.4g}")} if method == "sorsa" else {})


def pilot(args: argparse.Namespace, method: str, lr: float) -> float:
    """Return the mean loss of the last quarter of the pilot's steps."""
    name, folder = f"{method}-lr{lr:g}", args.output / "pilot"
    run = RunFolder(folder, name)
    if run.read_record().get("status") != "finished":
        changes = {"max_steps": args.pilot_steps, "snapshots": 0, "run_path": str(folder)}
        path = args.output / "pilot-configs" / f"{name}.yaml"
        write_whole(path, yaml.safe_dump(settings(args, method, lr) | changes))
        subprocess.run([sys.executable, RUN, "--name", name, "--config-dir", str(path.parent), "--train"], check=True)
    rows = read_metrics(run.metrics)
    return statistics.fmean(row["loss"] for row in rows[-len(rows) // 4 :])


def best_lr(args: argparse.Namespace, method: str) -> float:
    """Return the learning rate with the lowest loss, which lies at an end of those tried only where the grid ends."""
    low, high = LR_TRIED
    losses: dict[float, float] = {}
    while True:
        losses |= {lr: pilot(args, method, lr) for lr in LR_GRID[low:high] if lr not in losses}
        best = LR_GRID.index(min(losses, key=losses.__getitem__))
        if best == low > 0:
            low -= 1
        elif best == high - 1 < len(LR_GRID) - 1:
            high += 1
        else:
            print(f"{method}: loss by learning rate {dict(sorted(losses.items()))}", flush=True)
            return LR_GRID[best]


def main() -> None:
    """Prepare, choose, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "train", "test", "text"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2"))
    for name, number in (
        ("steps", 72),
        ("batch-size", 8),
        ("pilot-steps", 10),
        ("seeds", 3),
        ("questions", 64),
        ("processes", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=number)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    write_rows(args.train, args.output / "rows.jsonl")
    with ThreadPoolExecutor(args.processes) as pool:
        rates = list(pool.map(lambda method: best_lr(args, method), METHODS))
    files = []
    for method, lr in zip(METHODS, rates, strict=True):
        path = args.output / "configs" / f"smollm2_{method}.yaml"
        write_whole(path, yaml.safe_dump(settings(args, method, lr)))
        files.append(str(path))
    words = ["--compare", *files, "--seeds", str(args.seeds), "--processes", str(args.processes)]
    subprocess.run([sys.executable, RUN, *words], check=True)


if __name__ == "__main__":
    main()
